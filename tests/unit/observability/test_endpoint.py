"""Metrics, health and log lines of a process as an operator's tools get them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.observability.metrics import FlowMetrics, Supervision
from gridtokenx_pipelines.observability.server import Endpoint, PortInUse
from streaming.process import Running


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_totals_are_set_and_a_replay_of_lower_ones_counts_nothing_twice() -> None:
    metrics = FlowMetrics("telemetry")
    metrics.batch(0, {("accepted", ""): 5, ("rejected", "replay"): 1}, 0.002)
    metrics.batch(1, {("accepted", ""): 7}, 0.002)
    metrics.batch(0, {("accepted", ""): 4, ("rejected", "replay"): 1}, 0.002)  # after a crash, from the last snapshot
    metrics.batch(0, {("accepted", ""): 5, ("rejected", "replay"): 1}, 0.002)
    endpoint = Endpoint(metrics.registry, {}, 0)
    try:
        code, text = get(endpoint.port, "/metrics")
        assert code == 200
        assert 'meter_readings_total{reason="",status="accepted"} 12.0\n' in text
        assert 'meter_readings_total{reason="replay",status="rejected"} 1.0\n' in text
        assert 'meter_processing_duration_seconds_count{flow="telemetry"} 4.0\n' in text
        assert get(endpoint.port, "/elsewhere")[0] == 404
    finally:
        endpoint.close()


def test_health_names_its_problems_with_503_until_they_are_gone(tmp_path: Path) -> None:
    problem: list[str | None] = ["no answer for 61 s"]
    endpoint = Endpoint(FlowMetrics("orders").registry, {"broker": lambda: problem[0], "fine": lambda: None}, 0)
    try:
        code, text = get(endpoint.port, "/health")
        assert (code, json.loads(text)) == (503, {"status": "problem", "problems": {"broker": "no answer for 61 s"}})
        problem[0] = None
        assert get(endpoint.port, "/health") == (200, '{"status": "ok"}\n')
        endpoint.write_to(tmp_path / "deep" / "endpoint.json")
        assert json.loads((tmp_path / "deep" / "endpoint.json").read_text())["port"] == endpoint.port
        with pytest.raises(PortInUse, match=f"metrics port was {endpoint.port} on 127.0.0.1, must be free"):
            Endpoint(FlowMetrics("orders").registry, {}, endpoint.port)
    finally:
        endpoint.close()


def test_a_supervisor_shows_which_flow_is_up_and_how_often_it_was_restarted() -> None:
    endpoint = Endpoint(Supervision(lambda: [("orders", True, 0), ("telemetry", False, 3)]).registry, {}, 0)
    try:
        text = get(endpoint.port, "/metrics")[1]
        assert 'stream_up{flow="orders"} 1.0\nstream_up{flow="telemetry"} 0.0\n' in text
        assert 'stream_restarts_total{flow="telemetry"} 3.0\n' in text
    finally:
        endpoint.close()


def test_log_lines_are_json_with_what_the_process_is_also_from_other_libraries_and_threads() -> None:
    program = """
import logging, threading, structlog
from gridtokenx_pipelines.observability import logs
logs.configure(flow="telemetry", run="abc", process=1)
structlog.get_logger("streaming.observe").info("epoch_closed", epoch="2026-01-27T12:00Z", partition=3)
work = threading.Thread(target=lambda: logging.getLogger("gridtokenx_pipelines.x").warning("broker: %s", "away"))
work.start(); work.join()
logging.getLogger("alembic").info("chatter of a library")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("streaming.run").exception("failed")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    shared = {"flow": "telemetry", "run": "abc", "process": 1}
    assert [{name: line[name] for name in shared} for line in lines] == [shared] * 3
    assert [(line["event"], line["level"], line["logger"]) for line in lines] == [
        ("epoch_closed", "info", "streaming.observe"),
        ("broker: away", "warning", "gridtokenx_pipelines.x"),
        ("failed", "error", "streaming.run"),
    ]
    assert (lines[0]["epoch"], lines[0]["partition"]) == ("2026-01-27T12:00Z", 3)
    assert lines[2]["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": 1}, "--index was 1, must be 0 to 0"),
        ({"addresses": ("a:1", "b:2"), "index": 2}, "--index was 2, must be 0 to 1"),
        ({"recovery_partitions": 3}, "--recovery-partitions was 3, must be 2"),
    ],
)
def test_a_way_of_running_that_contradicts_itself_or_the_store_is_refused(changes, words: str, tmp_path: Path) -> None:
    for part in (0, 1):
        (tmp_path / f"part-{part}.sqlite3").touch()
    with pytest.raises(ConfigError, match=words):
        Running(**{"recovery_dir": tmp_path, "recovery_partitions": 2} | changes).checked()

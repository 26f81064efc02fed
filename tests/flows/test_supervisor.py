"""The supervisor as a process: what it starts again, what it leaves for somebody, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SETTINGS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "SOLANA_RPC_URL": "http://127.0.0.1:1",
}


def start(folder: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gridtokenx_pipelines.cli", "stream", "supervise", *words]
    return subprocess.Popen(
        [*command, "--recovery", str(folder / "recovery"), "--metrics-port", "0"],
        env={**os.environ, **SETTINGS, "GRIDTOKENX_DATA_DIR": str(folder), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_flow_that_starting_again_can_t_help_waits_for_somebody_and_ends_the_supervisor_with_2(
    tmp_path: Path,
) -> None:
    store = tmp_path / "recovery" / "telemetry"
    store.mkdir(parents=True)
    for part in range(3):
        (store / f"part-{part}.sqlite3").touch()
    supervisor = start(tmp_path, "telemetry")
    _, errors = supervisor.communicate(timeout=60)
    assert supervisor.returncode == 2
    assert f"telemetry: --recovery-partitions was 1, must be 3, as {store} was made with" in errors
    assert [(each["event"], each["cluster"]) for each in events(errors)] == [
        ("started", "telemetry"),
        ("waits_for_somebody", "telemetry"),
    ]


def test_a_killed_process_takes_its_cluster_with_it_is_started_again_and_all_end_politely_without_a_broker(
    tmp_path: Path,
) -> None:
    supervisor = start(tmp_path, "price-guard", "--processes", "2")
    assert supervisor.stderr is not None
    try:
        first = json.loads(supervisor.stderr.readline())
        assert (first["event"], first["cluster"], len(first["pids"])) == ("started", "price-guard", 2)
        os.kill(first["pids"][0], signal.SIGKILL)
        restart, second = (json.loads(supervisor.stderr.readline()) for _ in range(2))
        assert (restart["event"], restart["codes"], restart["restarts"]) == ("restarts", [-9, None], 1)
        assert second["event"] == "started" and not set(second["pids"]) & set(first["pids"])
        assert not Path(f"/proc/{first['pids'][1]}").exists()
        endpoint = tmp_path / "recovery" / "price-guard" / "endpoint-1.json"
        deadline = time.monotonic() + 60
        while not endpoint.exists() or json.loads(endpoint.read_text())["pid"] != second["pids"][1]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(30) == 0, supervisor.stderr.read()
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stderr.close()


def test_wrong_options_end_with_2_and_say_what_is_right(tmp_path: Path) -> None:
    for words, said in (
        (("nonsense",), "'nonsense' is not one of 'telemetry', 'orders', 'price-guard'"),
        (("telemetry", "--processes", "0"), "0 is not in the range 1<=x<=64"),
        (("telemetry", "--snapshot-seconds", "-1"), "-1.0 is not in the range"),
    ):
        supervisor = start(tmp_path, *words)
        _, errors = supervisor.communicate(timeout=60)
        assert supervisor.returncode == 2
        assert said in errors

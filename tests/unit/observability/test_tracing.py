"""Traces cost nothing while off, follow from the epoch alone, and no header a meter may send does harm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx_pipelines.config import ConfigError, traces_from_env
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.observability.tracing import HEADER, Place, of_epoch, place_in


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tracing.configure(f"file://{tmp_path}", "test", 1_000_000)
    yield tmp_path
    tracing.configure("", "")


def spans(folder: Path) -> list[dict]:
    return [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]


def test_an_epochs_root_follows_from_its_number_alone() -> None:
    assert of_epoch(1_969_364) == of_epoch(1_969_364) != of_epoch(1_969_365)
    assert place_in([(HEADER, of_epoch(7).header)]) == of_epoch(7)


def test_a_span_lies_under_its_parent_and_a_root_has_the_address_it_was_promised(folder: Path) -> None:
    root = of_epoch(7)
    child = tracing.span("work", parent=root, started_ns=1, ended_ns=5, failed="why", meter_id="MEA-001")
    assert child is not None
    assert tracing.span("epoch", parent=None, place=root, links=[child]) == root
    work, epoch = spans(folder)
    assert work == {
        "name": "work",
        "service": "test",
        "trace_id": f"{root.trace_id:032x}",
        "span_id": f"{child.span_id:016x}",
        "parent_id": f"{root.span_id:016x}",
        "started_ns": 1,
        "ended_ns": 5,
        "failed": "why",
        "attributes": {"meter_id": "MEA-001"},
        "links": [],
    }
    assert (epoch["trace_id"], epoch["span_id"], epoch["parent_id"]) == (work["trace_id"], work["parent_id"], None)
    assert epoch["links"] == [f"{child.trace_id:032x}-{child.span_id:016x}"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"00-1-2-01",
        b"\xff\xfe",
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        b"00-" + b"g" * 32 + b"-1-01",
    ],
)
def test_a_header_that_is_no_place_is_none(value: bytes) -> None:
    assert place_in([("sig", b"x"), (HEADER, value)]) is None


@given(st.lists(st.tuples(st.sampled_from(["sig", HEADER]), st.binary(max_size=80))))
def test_no_header_raises(headers: list[tuple[str, bytes]]) -> None:
    found = place_in(headers)
    assert found is None or isinstance(found, Place)


def test_off_makes_no_span_samples_nothing_and_imports_no_library() -> None:
    assert tracing.span("work", parent=None) is None
    assert not tracing.is_sampled(b"x")
    code = (
        "import sys; from gridtokenx_pipelines.observability import tracing, stages; tracing.configure('', 'x');"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_spans_go_to_a_collector_and_one_that_is_not_there_harms_nobody() -> None:
    got: list[tuple[str, int]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, len(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "import sys; from gridtokenx_pipelines.observability import tracing;"
        "tracing.configure(sys.argv[1], 'test'); assert tracing.span('work', parent=tracing.of_epoch(7))"
    )
    address = f"http://127.0.0.1:{server.server_address[1]}"
    done = subprocess.run([sys.executable, "-c", code, address], check=False, timeout=60)
    assert done.returncode == 0
    server.shutdown()
    server.server_close()
    assert [path for path, size in got if size > 50] == ["/v1/traces"]


def test_a_target_that_is_none_is_refused_with_the_remedy() -> None:
    assert traces_from_env({"GRIDTOKENX_TRACES": "http://tempo:4318"}) == ("http://tempo:4318", 1_000)
    with pytest.raises(ConfigError, match=r"GRIDTOKENX_TRACES was 'tempo:4318', must be http\(s\)"):
        traces_from_env({"GRIDTOKENX_TRACES": "tempo:4318"})
    with pytest.raises(ConfigError, match="GRIDTOKENX_TRACES_PER_MILLION was '2000000'"):
        traces_from_env({"GRIDTOKENX_TRACES_PER_MILLION": "2000000"})

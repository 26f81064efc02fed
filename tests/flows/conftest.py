"""Fixtures of the flow tests: the metering world of the unit tests, and a broker in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "unit" / "metering")]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Bootstrap servers of a fresh mock broker."""
    port_file = tmp_path / "broker.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "gridtokenx_pipelines.messaging.mock_broker", "--port-file", str(port_file)]
    )
    deadline = time.monotonic() + 20
    while not port_file.exists():
        assert process.poll() is None and time.monotonic() < deadline, "the mock broker did not start"
        time.sleep(0.01)
    yield json.loads(port_file.read_text())["bootstrap_servers"]
    process.terminate()
    assert process.wait(10) == 0

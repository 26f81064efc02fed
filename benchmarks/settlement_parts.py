"""Where a range's time goes: seconds of each step, processor seconds of each process, the checks' share, imports.

Belongs here: measuring around runs of `settle_epoch`. Does not belong here: the market that is settled (settlement.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance

from gridtokenx_pipelines.settlement_service.inspections import clearing as result_inspection
from gridtokenx_pipelines.settlement_service.inspections import order_book as book_inspection

IMPORT_LIMIT, CHECKS_LIMIT = 3.0, 0.10
TICKS = os.sysconf("SC_CLK_TCK")
IMPORT = (
    "import time; c, w = time.process_time(), time.perf_counter(); import gridtokenx_pipelines.definitions; "
    "print(time.perf_counter() - w, time.process_time() - c)"
)


def import_seconds(times: int = 3) -> tuple[float, float]:
    """Least wall and processor seconds of importing the code location in a fresh interpreter."""
    found = []
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        found.append(tuple(map(float, done.stdout.split())))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def step_seconds(instance: DagsterInstance, run_ids: list[str]) -> dict[str, float]:
    """Wall seconds of each step, summed over the runs, in the order they ran."""
    seconds: dict[str, float] = {}
    for run_id in run_ids:
        started: dict[str, float] = {}
        for record in instance.all_logs(run_id):
            event = record.dagster_event
            if event is None or event.step_key is None:
                continue
            if event.event_type == DagsterEventType.STEP_START:
                started[event.step_key] = record.timestamp
            elif event.event_type == DagsterEventType.STEP_SUCCESS:
                took = record.timestamp - started[event.step_key]
                seconds[event.step_key] = seconds.get(event.step_key, 0.0) + took
    return seconds


@contextmanager
def inner_checks() -> Iterator[dict[str, float]]:
    """Wall seconds of the checks that run inside `clear_in_order`, before an epoch is committed."""
    seconds: dict[str, float] = {}
    named = (("order_book", book_inspection), ("clearing_results", result_inspection))
    before = {name: module.inspect for name, module in named}

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

        return run

    for name, module in named:
        module.inspect = timed(name, before[name])  # type: ignore[attr-defined]
    try:
        yield seconds
    finally:
        for name, module in named:
            module.inspect = before[name]  # type: ignore[attr-defined]


class Processors:
    """Processor seconds since it was made: this process, the local chain, Postgres with its workers."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._postgres = str(folder), _postmaster(folder)
        self._before = self._now()

    def since(self) -> dict[str, float]:
        """Seconds by process."""
        return {name: value - self._before[name] for name, value in self._now().items()}

    def _now(self) -> dict[str, float]:
        found = {"this process": time.process_time(), "local chain": 0.0, "Postgres": 0.0}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_text()
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it ended meanwhile
            own, ended = (sum(map(int, stat[place : place + 2])) / TICKS for place in (11, 13))
            if "localnet" in command and self._folder in command:
                found["local chain"] += own
            elif int(entry.name) == self._postgres:
                found["Postgres"] += own + ended  # workers that ended count with their parent
            elif int(stat[1]) == self._postgres:
                found["Postgres"] += own
        return found


def _postmaster(folder: Path) -> int:
    """Id of the database's first process."""
    for place in (folder, *folder.parents):
        for path in place.rglob("postmaster.pid"):
            return int(path.read_text().split()[0])
    raise RuntimeError(f"no Postgres under {folder} or above it; start it there first")


def rows(steps: dict[str, float], inner: dict[str, float], processors: dict[str, float], epochs: int) -> list[str]:
    """The report's lines: each step a row, the checks' share against its limit, the processors."""
    lines = [f"| 80 meters, an epoch: {step} | {seconds / epochs * 1e3:.1f} ms | |" for step, seconds in steps.items()]
    lines += [
        f"| 80 meters, an epoch: of that the checks of {name} | {seconds / epochs * 1e3:.1f} ms | |"
        for name, seconds in inner.items()
    ]
    checks = sum(seconds for step, seconds in steps.items() if step.endswith(("_checks", "_contract")))
    share = (checks + sum(inner.values())) / sum(steps.values())
    lines.append(f"| **checks, of the steps' time** | {share:.0%} | ≤ {CHECKS_LIMIT:.0%} |")
    each = ", ".join(f"{name} {seconds / epochs * 1e3:.0f}" for name, seconds in processors.items())
    return [*lines, f"| 80 meters, an epoch: processor milliseconds | {each} | |"]


def import_rows() -> list[str]:
    """The line on importing the code location."""
    wall, cpu = import_seconds()
    return [
        f"| **import of the Dagster code location** | {wall:.1f} s ({cpu:.1f} s of a core) | ≤ {IMPORT_LIMIT:.0f} s |"
    ]

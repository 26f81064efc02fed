"""What stands around a flow in its process: signals, recovery store, workers, endpoint, how it ends.

Belongs here: running a built flow. Does not belong here: building one (run.py) or restarting it (supervise.py). SIGTERM
and SIGINT let the flow finish its batch, snapshot, and end with code 0; after any other end it goes on from the last
snapshot. Codes: 1 it may be started again as it is, 2 only after somebody changed something.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main
from sqlalchemy.exc import DBAPIError

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.messaging.kafka import BrokerError, OffsetAgedOutError
from gridtokenx_pipelines.metering.state import StateVersionError
from gridtokenx_pipelines.observability import logs
from gridtokenx_pipelines.observability.metrics import FlowMetrics
from gridtokenx_pipelines.observability.server import DEFAULT_PORT, Endpoint, PortInUse

TRY_AGAIN, ASK_SOMEBODY = 1, 2
STALLED_SECONDS = 120.0  # records wait and none was processed for this long: unhealthy


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow runs: `workers` threads in each of `addresses` processes (one, if empty), this one at `index`.

    `recovery_partitions` is fixed when the store is made; `metrics_port` None takes 9464 or, if taken, any free one.
    """

    recovery_dir: Path
    snapshot_seconds: float = 1.0
    recovery_partitions: int = 1
    workers: int = 1
    addresses: tuple[str, ...] = ()
    index: int = 0
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = 0

    def checked(self) -> Running:
        """Itself; raises ConfigError for what contradicts itself or the store that is there."""
        processes = max(len(self.addresses), 1)
        if not 0 <= self.index < processes:
            raise ConfigError(
                "--index", self.index, f"0 to {processes - 1}", "give each process its own of --addresses"
            )
        there = len(list(self.recovery_dir.glob("part-*.sqlite3")))
        if there and there != self.recovery_partitions:
            raise ConfigError(
                "--recovery-partitions",
                self.recovery_partitions,
                f"{there}, as {self.recovery_dir} was made with",
                "give that number, or another folder: the topic is then replayed from its beginning",
            )
        return self


@contextlib.contextmanager
def endpoint_of(flow: str, running: Running, metrics: FlowMetrics) -> Iterator[dict[str, object]]:
    """Serve metrics and health; yields the checks, to which the flow adds its own. Raises ConfigError."""
    waiting = "records wait but none was processed for {:.0f} s"

    def stalled() -> str | None:
        idle = metrics.seconds_since_batch()
        return (
            waiting.format(idle) if idle > STALLED_SECONDS and metrics.gauge("meter_processing_queue_depth") else None
        )

    checks: dict = {"processing": stalled}
    try:
        endpoint = _endpoint(running, metrics, checks)
    except PortInUse as error:
        raise ConfigError("--metrics-port", running.metrics_port, "a free port", str(error)) from error
    endpoint.write_to(running.recovery_dir / f"endpoint-{running.index}.json")
    logs.bind(flow=flow)
    try:
        yield checks
    finally:
        endpoint.close()


def _endpoint(running: Running, metrics: FlowMetrics, checks: dict) -> Endpoint:
    if running.metrics_port is None:
        with contextlib.suppress(PortInUse):
            return Endpoint(metrics.registry, checks, DEFAULT_PORT, running.metrics_host)
    return Endpoint(metrics.registry, checks, running.metrics_port or 0, running.metrics_host)


def run(flow: Dataflow, running: Running) -> None:
    """Run until the sources end; from the last snapshot if there is one."""
    directory = running.recovery_dir
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w", encoding="ascii") as lock:
        # the processes of a cluster start at once, and one of them makes the store
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(directory.glob("*.sqlite3")):
            init_db_dir(directory, running.recovery_partitions)
    cluster_main(
        flow,
        list(running.addresses),
        running.index,
        epoch_interval=timedelta(seconds=running.snapshot_seconds),
        recovery_config=RecoveryConfig(str(directory)),
        worker_count_per_proc=running.workers,
    )


@contextlib.contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the sources end at it, so that the flow snapshots and returns."""
    stop = threading.Event()
    former = {wanted: signal.signal(wanted, lambda *_: stop.set()) for wanted in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for wanted, handler in former.items():
            signal.signal(wanted, handler)


def run_id() -> str:
    """A name for this start of the process, on all of its log lines."""
    return uuid4().hex[:12]


def named_end(error: BaseException) -> tuple[int, str] | None:
    """Code and words of an error that has a name here, however deep Bytewax wrapped it; None for an unknown one."""
    seen: BaseException | None = error
    while seen is not None:
        match seen:
            case OffsetAgedOutError() | StateVersionError() | ConfigError():
                return ASK_SOMEBODY, str(seen)
            case BrokerError():
                return TRY_AGAIN, str(seen)
            case DBAPIError():
                return TRY_AGAIN, f"Postgres: {str(seen.orig).strip()}; check the database"
        seen = seen.__cause__ or seen.__context__
    return None

"""Keeps flows running: a Bytewax cluster dies as a whole when one of its processes does, so it is restarted as one.

Belongs here: starting, watching, restarting, ending processes. Does not belong here: what they do. A flow that ends
with code 2 waits for somebody and is not started again; all others are, after a pause that grows while they keep dying.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.observability.metrics import Supervision
from gridtokenx_pipelines.observability.server import Endpoint, PortInUse
from streaming.process import ASK_SOMEBODY, ended_by_signals

LOG = structlog.get_logger(__name__)
FIRST_PAUSE, LONGEST_PAUSE, STEADY_SECONDS = 0.5, 30.0, 60.0
STOP_SECONDS, TURN_SECONDS = 30.0, 0.1
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1  # loaded here: a forked child must not load anything


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to keep running: each flow in `processes` processes, their common command-line `options`."""

    flows: tuple[str, ...]
    recovery_dir: Path
    processes: int = 1
    options: tuple[str, ...] = ()
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0

    def port(self, flow: str, index: int) -> int:
        """Metrics port of a process: those after the supervisor's own, in the order of the flows."""
        if not self.metrics_port:
            return 0
        return self.metrics_port + 1 + self.flows.index(flow) * self.processes + index


class FlowCluster:
    """One flow's processes; `turn` is called again and again and does what is due."""

    def __init__(self, flow: str, plan: Plan, env: Mapping[str, str]) -> None:
        self.flow, self._plan, self._env = flow, plan, env
        self.processes: list[subprocess.Popen[bytes]] = []
        self.restarts, self.waits_for_somebody = 0, False
        self._pause, self._due, self._started = FIRST_PAUSE, 0.0, 0.0

    @property
    def is_up(self) -> bool:
        """Whether all of its processes run."""
        return bool(self.processes) and all(process.poll() is None for process in self.processes)

    def health(self) -> str | None:
        """Words of what is wrong with it."""
        if self.waits_for_somebody:
            return "ended with code 2 and waits for somebody; its last line says for what"
        return None if self.is_up else f"down, {self.restarts} restarts so far"

    def turn(self) -> None:
        """Start what is due, end what is left of a broken cluster."""
        now = time.monotonic()
        if self.waits_for_somebody or self.is_up:
            return
        if self.processes:
            self._broken(now)
        elif now >= self._due:
            self._start(now)

    def _start(self, now: float) -> None:
        # the processes of one flow find each other on the loopback address, by ports of this start
        ports = [_free_port() for _ in range(self._plan.processes)] if self._plan.processes > 1 else []
        addresses = ";".join(f"127.0.0.1:{port}" for port in ports)
        for index in range(self._plan.processes):
            command = [sys.executable, "-m", "gridtokenx_pipelines.cli", "stream", self.flow]
            command += ["--recovery", str(self._plan.recovery_dir / self.flow), "--index", str(index)]
            command += ["--metrics-port", str(self._plan.port(self.flow, index)), *self._plan.options]
            if addresses:
                command += ["--addresses", addresses]
            self.processes.append(
                subprocess.Popen(  # noqa: S603 - our own command, no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **self._env},
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - prctl is async-signal-safe
                )
            )
        self._started = now
        LOG.info("started", cluster=self.flow, pids=[process.pid for process in self.processes])

    def _broken(self, now: float) -> None:
        codes = [process.poll() for process in self.processes]
        self._kill()
        self.processes = []
        if ASK_SOMEBODY in codes:
            self.waits_for_somebody = True
            LOG.error("waits_for_somebody", cluster=self.flow, codes=codes)
            return
        if now - self._started > STEADY_SECONDS:
            self._pause = FIRST_PAUSE
        self._due, self.restarts = now + self._pause, self.restarts + 1
        LOG.warning("restarts", cluster=self.flow, codes=codes, pause_seconds=self._pause, restarts=self.restarts)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM to all at once: a process that stopped alone would break its cluster before its snapshot."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def stop(self, deadline: float) -> bool:
        """Wait for a polite end until the deadline, then end it by force; whether it was polite."""
        for process in self.processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                LOG.error("killed", cluster=self.flow, pid=process.pid, after_seconds=STOP_SECONDS)
        polite = all(process.poll() == 0 for process in self.processes)
        self._kill()
        return polite


def supervise(plan: Plan, env: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT; 0 if all ended with their snapshot, 1 if not, 2 if a flow waits for somebody."""
    clusters = [FlowCluster(flow, plan, env) for flow in plan.flows]
    with ended_by_signals() as stop:
        endpoint = _endpoint(plan, clusters)
        try:
            _watch(clusters, stop)
        finally:
            for cluster in clusters:
                cluster.ask_to_stop()
            deadline = time.monotonic() + STOP_SECONDS
            polite = [cluster.stop(deadline) for cluster in clusters]
            endpoint.close()
    if any(cluster.waits_for_somebody for cluster in clusters):
        return ASK_SOMEBODY
    return 0 if all(polite) else 1


def _watch(clusters: list[FlowCluster], stop: threading.Event) -> None:
    while not stop.wait(TURN_SECONDS):
        for cluster in clusters:
            cluster.turn()
        if all(cluster.waits_for_somebody for cluster in clusters):
            return


def _endpoint(plan: Plan, clusters: list[FlowCluster]) -> Endpoint:
    registry = Supervision(lambda: [(cluster.flow, cluster.is_up, cluster.restarts) for cluster in clusters]).registry
    try:
        endpoint = Endpoint(
            registry, {each.flow: each.health for each in clusters}, plan.metrics_port, plan.metrics_host
        )
    except PortInUse as error:
        raise ConfigError("--metrics-port", plan.metrics_port, "a free port", str(error)) from error
    endpoint.write_to(plan.recovery_dir / "supervisor.json")
    return endpoint


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    # a supervisor ended by `kill -9` must not leave flows behind that its successor starts again beside them
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

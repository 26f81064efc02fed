"""The simulator as a process: web server, runner, and their end.

Belongs here: wiring and signals. Does not belong here: routes (api.py).
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from gridtokenx_pipelines.simulation.fleet.errors import SimulationError
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from gridtokenx_pipelines.simulation_cli.api import build_api
from gridtokenx_pipelines.simulation_cli.runner import Runner
from gridtokenx_pipelines.simulation_cli.sinks import sink_of


def serve_api(
    scenario: Scenario, target: str, cache_dir: Path, *, host: str, port: int, speed: float, start: bool
) -> None:
    """Serve until a signal; a run ends with its step.

    Raises SimulationError for a port in use, SinkError, ConfigError.
    """
    logging.getLogger("pandapower").setLevel(logging.WARNING)  # it tells which plotting libraries it lacks
    sink_of(target).close()  # a broker that isn't there is told now, not at the first start
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SimulationError(
                f"port {port} of {host} can't be used ({error.strerror}); choose another --port"
            ) from error
    runner = Runner(scenario, lambda: sink_of(target, append=True), speed=speed, cache_dir=cache_dir)
    if start:
        runner.start(None)
    server = _Server(uvicorn.Config(build_api(runner, scenario), host=host, port=port, log_level="warning"))

    def end(*_: object) -> None:
        server.should_exit = True

    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, end)
    try:
        server.run()
    finally:
        runner.close()


class _Server(uvicorn.Server):
    """Without uvicorn's own handlers: they end the process by the signal before the run could end with its step."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

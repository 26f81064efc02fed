"""A run in a thread of its own: started, paced, stopped and asked from others.

Belongs here: the thread, its lock and its clock. Does not belong here: HTTP (api.py), steps (simulation/fleet/). A run
that fails stays `failed` with its error until the next start; nothing is retried silently.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.simulation.fleet.engine import Simulator
from gridtokenx_pipelines.simulation.fleet.errors import SimulationError
from gridtokenx_pipelines.simulation.fleet.meter_faults import Fault
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from gridtokenx_pipelines.simulation.grids import UnknownGridError
from gridtokenx_pipelines.simulation.zones import ZonesError
from gridtokenx_pipelines.simulation_cli.sinks import Sink, SinkError
from gridtokenx_pipelines.simulation_cli.totals import Totals, stamp

LOG = logging.getLogger(__name__)
STOPPED, STARTING, RUNNING, FINISHED, FAILED = "stopped", "starting", "running", "finished", "failed"
LONGEST_NAP = 0.2


class RunError(RuntimeError):
    """An action that the run's state doesn't allow."""


class Runner:
    """One simulator at a time; every public method may be called from any thread."""

    def __init__(self, scenario: Scenario, sink: Callable[[], Sink], *, speed: float, cache_dir: Path | None) -> None:
        """`speed`: simulated seconds a second, 0: no brake."""
        self._default, self._sink, self._cache_dir = scenario, sink, cache_dir
        self._speed, self._steps = _speed(speed), 0
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._pause = threading.Event()
        self._state, self._error = STOPPED, ""
        self._simulator: Simulator | None = None
        self._totals = Totals()
        self._paced_from: tuple[float, int] = (0.0, 0)
        self._closed = False

    def start(self, scenario: Scenario | None, *, steps: int = 0, speed: float | None = None) -> None:
        """Begin a run, or go on with the stopped one if no scenario is given. Raises RunError, SimulationError."""
        with self._lock:
            if self._state in (STARTING, RUNNING):
                raise RunError(f"the simulation is {self._state}; stop it first")
            if self._thread is not None and self._thread.is_alive():
                raise RunError("the last step is still being played; ask again in a moment")
            if speed is not None:
                self._speed = _speed(speed)
            self._steps = steps
            going_on = scenario is None and self._simulator is not None and self._state == STOPPED
            chosen = (scenario or self._default).checked()
            self._state, self._error = STARTING, ""
            self._pause.clear()
            self._thread = threading.Thread(target=self._play, args=(None if going_on else chosen,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop after the step that is being played; the run can go on later. Raises RunError if nothing runs."""
        with self._lock:
            thread = self._thread
            if self._state not in (STARTING, RUNNING) or thread is None:
                raise RunError(f"the simulation is {self._state}; start it first")
            self._pause.set()
        thread.join()

    def set_speed(self, speed: float) -> None:
        """From now on; raises SimulationError for a negative one."""
        with self._lock:
            self._speed = _speed(speed)
            self._paced_from = (time.monotonic(), self._simulator.time if self._simulator else 0)

    def inject(self, fault: dict[str, Any]) -> dict[str, Any]:
        """A fault from `after` seconds of simulated time on, for `seconds`. Raises RunError, FaultError."""
        with self._lock:
            simulator = self._known()
            start = simulator.time + int(fault.pop("after", 0))
            made = Fault(start=start, end=start + int(fault.pop("seconds")), **fault)
            touched = simulator.inject(made)
            return {"kind": made.kind, "start": stamp(made.start), "end": stamp(made.end), "meters": touched}

    def state(self) -> dict[str, Any]:
        """What an operator sees."""
        with self._lock:
            simulator, last = self._simulator, self._totals.last
            found: dict[str, Any] = {"state": self._state, "error": self._error or None, "speed": self._speed}
            if simulator is None:
                return found
            return found | {
                "time": stamp(simulator.time),
                "scenario": msgspec.to_builtins(simulator.scenario),
                "network": simulator.network.name,
                "meters": len(simulator.fleet),
                "copies": simulator.fleet.copies,
                "backend": simulator.physics.prepared.backend if simulator.physics else None,
                "backlog": simulator.output.backlog,
                "faults": simulator.faults.active(simulator.time),
                "last_step": msgspec.to_builtins(last) if last else None,
                "totals": self._totals.document(),
            }

    def faults(self) -> list[dict[str, Any]]:
        """Faults on demand of this run, past and to come."""
        with self._lock:
            return [
                {
                    "kind": fault.kind,
                    "start": stamp(fault.start),
                    "end": stamp(fault.end),
                    "meters": int(mask.sum()),
                    "size": fault.size,
                }
                for fault, mask in self._known().faults.injected
            ]

    def meters(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Meters and what they last showed."""
        with self._lock:
            simulator = self._known()
            measured = simulator.measured
            found = []
            for place, member in enumerate(simulator.fleet.members[offset : offset + limit], start=offset):
                row: dict[str, Any] = {
                    "meter_id": member.meter_id,
                    "template": member.template.name,
                    "bus": member.bus,
                    "copy": member.copy,
                    "zone_id": member.zone_id,
                    "rating_w": int(simulator.ratings_w[place]),
                }
                if measured is not None:
                    row |= {
                        "production_wh": int(measured.production_wh[place]),
                        "consumption_wh": int(measured.consumption_wh[place]),
                        "voltage_v": float(measured.voltage_v[place]),
                        "current_a": float(measured.current_a[place]),
                        "power_factor": float(measured.power_factor[place]),
                        "quality": "good" if measured.solved[place] else "not_converged",
                    }
                found.append(row)
            return found

    def close(self) -> None:
        """End the thread, at the next step's end."""
        self._pause.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _known(self) -> Simulator:
        if self._simulator is None:
            raise RunError("nothing was started yet; start the simulation first")
        return self._simulator

    def _play(self, scenario: Scenario | None) -> None:
        sink: Sink | None = None
        try:
            sink = self._sink()
            if scenario is not None:
                if sink.partitions is not None:
                    scenario = msgspec.structs.replace(scenario, partitions=sink.partitions)
                simulator = Simulator(scenario, steps=self._steps, cache_dir=self._cache_dir)
                sink.take(simulator.registry())
                with self._lock:
                    self._simulator, self._totals = simulator, Totals()
            with self._lock:
                self._state = RUNNING
                self._paced_from = (time.monotonic(), self._known().time)
            finished = self._steps_of(sink)
            with self._lock:
                self._state = FINISHED if finished else STOPPED
        except Exception as error:  # whatever ends a run must be seen by who asks for its state
            known = isinstance(error, SimulationError | NetworkError | UnknownGridError | ZonesError | SinkError)
            LOG.error("the simulation failed: %s: %s", type(error).__name__, error, exc_info=not known)
            with self._lock:
                self._state, self._error = FAILED, f"{type(error).__name__}: {error}"
        finally:
            if sink is not None:
                sink.close()

    def _steps_of(self, sink: Sink) -> bool:
        simulator, played = self._known(), 0
        while not self._pause.is_set():
            with self._lock:
                step, events = simulator.advance()
                self._totals.add(step)
            if step.not_converged:
                LOG.warning("step %d: %d networks did not converge", step.number, len(step.not_converged))
            sink.take(events)
            played += 1
            if self._steps and played >= self._steps:
                sink.take(simulator.finish())
                return True
            self._wait(simulator.time)
        return False

    def _wait(self, simulated: int) -> None:
        """Until the wall clock has come as far as the simulated one at the current speed."""
        while not self._pause.is_set():
            with self._lock:
                speed, (wall, since) = self._speed, self._paced_from
            if not speed:
                return
            ahead = wall + (simulated - since) / speed - time.monotonic()
            if ahead <= 0:
                return
            self._pause.wait(min(ahead, LONGEST_NAP))


def _speed(speed: float) -> float:
    if not 0 <= speed < float("inf"):
        raise SimulationError(f"speed was {speed}, must be 0 (no brake) or more simulated seconds a second; correct it")
    return speed

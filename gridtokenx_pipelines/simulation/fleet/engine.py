"""The simulator: one step after another, from weather to signed bytes, with its books.

Belongs here: the order of things in a step and what an operator is told. Does not belong here: threads, HTTP, Kafka
(simulation_cli/). The same scenario gives the same events, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.simulation.fleet.accounts import Accounts, StepAccount
from gridtokenx_pipelines.simulation.fleet.devices import Batteries, is_dear
from gridtokenx_pipelines.simulation.fleet.errors import SimulationError
from gridtokenx_pipelines.simulation.fleet.inverters import generation
from gridtokenx_pipelines.simulation.fleet.measure import Measured, Meters
from gridtokenx_pipelines.simulation.fleet.meter_faults import Fault, Faults
from gridtokenx_pipelines.simulation.fleet.output import Output
from gridtokenx_pipelines.simulation.fleet.physics import Physics, StepPowers
from gridtokenx_pipelines.simulation.fleet.registration import registry
from gridtokenx_pipelines.simulation.fleet.scenario import SIMBENCH, Scenario, made
from gridtokenx_pipelines.simulation.messages import Event

Floats = NDArray[np.float64]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one step came to; times in seconds since 1970. `not_converged`: copies without a solution, by number."""

    number: int
    start: int
    end: int
    account: StepAccount
    readings: int
    not_converged: tuple[int, ...]
    unsettled: int
    flows: int
    lowest_pu: float
    highest_pu: float
    line_loading_percent: float
    trafo_loading_percent: float
    taps: tuple[int, ...]


class Simulator:
    """A fleet on its network; `advance` plays the next step."""

    def __init__(self, scenario: Scenario, *, steps: int = 0, cache_dir: Path | None = None, threads: int = 2) -> None:
        """`steps`: how many will be played, so that files are known to last. Raises SimulationError, grid's errors."""
        self.scenario = scenario.checked()
        self.network, self.fleet, self._sources = made(scenario, steps, cache_dir)
        self.number, self.time = 0, scenario.start
        self._copy = np.array([member.copy for member in self.fleet.members], np.int64)
        self.ratings_w = self.fleet.ratings_w(scenario.step_seconds)
        self.physics = (
            Physics(
                self.network,
                self.fleet,
                curve=scenario.curve,
                regulate=scenario.taps == "auto",
                backend=scenario.backend,
            )
            if scenario.power_flow
            else None
        )
        self._rated_va = np.array([member.template.rated_kva for member in self.fleet.members]) * 1_000
        factor = self.fleet.column("power_factor")
        self._tangent = np.sqrt(1 - factor**2) / factor
        self.batteries = Batteries(self.fleet)
        # SimBench's storages are part of the published feed-in already
        self._store = self.batteries.any and scenario.fleet != SIMBENCH
        produces = np.array([member.template.meter_type != "Grid" for member in self.fleet.members])
        self.accounts = Accounts(self.fleet.keys, self._copy, produces)
        nominal_kv = self.network.net.bus.vn_kv.astype(float).to_dict()
        nominal = np.array([nominal_kv[member.bus] for member in self.fleet.members])
        self.meters = Meters(self.fleet, self.accounts, self.ratings_w, nominal * 1_000 / np.sqrt(3))
        self.faults = Faults(self.fleet, scenario.faults)
        self.output = Output(
            self.fleet,
            network_id=scenario.network_id,
            partitions=scenario.partitions,
            block=scenario.block,
            sign=scenario.sign,
            power_flow=scenario.power_flow,
            threads=threads,
        )
        self._registers_at_start = self.accounts.registers_wh()
        self.measured: Measured | None = None
        self.powers: StepPowers | None = None

    def registry(self) -> Iterator[Event]:
        """What a pipeline must know of the fleet before its first reading."""
        production, consumption = self._registers_at_start
        return registry(
            self.fleet,
            self.ratings_w.tolist(),
            self.scenario.start // EPOCH_SECONDS,
            self.scenario.start,
            zip(production.tolist(), consumption.tolist(), strict=True),
        )

    def advance(self, *, emit: bool = True) -> tuple[Step, list[Event]]:
        """Play a step; the events are its ticks, then its readings, in order of arrival (none without `emit`)."""
        step_seconds, start = self.scenario.step_seconds, self.time
        end = start + step_seconds
        load, panels = self._sources.at(start)
        charge, discharge = np.zeros(len(load)), np.zeros(len(load))
        if self._store:
            local = start + step_seconds / 2 + self.scenario.site.utc_offset_hours * 3_600
            charge, discharge = self.batteries.wishes(load, panels, is_dear(local), step_seconds / 3_600)
        available = panels + discharge
        powers = self.physics.step(load, charge, available) if self.physics else self._nominal(load, charge, available)
        account = self.accounts.book(powers, step_seconds)
        if self._store:
            self._move_batteries(charge, discharge, available, powers, step_seconds / 3_600)
        effect = self.faults.at(end - 1)
        soc = self.batteries.soc_percent() if self._store else np.full(len(load), np.nan)
        self.measured = self.meters.read(self.accounts, powers, effect, soc, end=end, step_seconds=step_seconds)
        self.powers, self.number, self.time = powers, self.number + 1, end
        events: list[Event] = []
        readings: list[Event] = []
        if emit:
            every = self.scenario.tick_seconds
            # the run's first tick is its start: nothing can arrive before time is known
            first = start + 1 if self.number > 1 else start
            events += self.output.ticks(second for second in range(first, end + 1) if second % every == 0)
            readings = self.output.of_step(self.number, end, self.measured, effect)
            events += readings
        return self._told(start, account, powers, len(readings)), events

    def finish(self) -> list[Event]:
        """After the last step: what is held back, and the ticks that let its epoch close."""
        left = self.output.flush(self.time)
        return left + list(self.output.ticks((self.time + 30, self.time + 60)))

    def inject(self, fault: Fault) -> int:
        """A fault on demand; returns how many meters it touches. Raises FaultError."""
        return self.faults.inject(fault)

    def _move_batteries(
        self, charge: Floats, discharge: Floats, available: Floats, powers: StepPowers, hours: float
    ) -> None:
        """Charging happened as wished; of what inverters gave, the battery's share is its share of what they could."""
        known = powers.converged[self._copy]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(available > 0, powers.produced_w / available, 0.0)
        self.batteries.move(np.where(known, charge, 0.0), np.where(known, discharge * np.nan_to_num(share), 0.0), hours)

    def _nominal(self, load: Floats, charge: Floats, available: Floats) -> StepPowers:
        """Without a power flow: every voltage nominal, no losses, and readings that say so."""
        copies, ones = self.fleet.copies, np.ones(len(load))
        produced, reactive = generation(ones, available, self._rated_va, "off")
        draw = load + charge
        return StepPowers(
            load_w=draw,
            produced_w=produced,
            curtailed_w=available - produced,
            reactive_var=load * self._tangent - reactive,
            voltage_pu=ones,
            losses_w=np.zeros(copies),
            upstream_w=np.bincount(self._copy, draw - produced, copies),
            converged=np.ones(copies, np.bool_),
            settled=np.ones(copies, np.bool_),
            line_loading=np.zeros((copies, 0)),
            trafo_loading=np.zeros((copies, 0)),
            taps=np.zeros((copies, 0), np.int64),
            flows=0,
        )

    def _told(self, start: int, account: StepAccount, powers: StepPowers, readings: int) -> Step:
        def extreme(values: Floats, *, low: bool = False) -> float:
            known = values[np.isfinite(values)]
            return float(known.min() if low else known.max()) if known.size else 0.0

        return Step(
            number=self.number,
            start=start,
            end=self.time,
            account=account,
            readings=readings,
            not_converged=tuple(np.flatnonzero(~powers.converged).tolist()),
            unsettled=int((powers.converged & ~powers.settled).sum()),
            flows=powers.flows,
            lowest_pu=extreme(powers.voltage_pu, low=True),
            highest_pu=extreme(powers.voltage_pu),
            line_loading_percent=extreme(powers.line_loading),
            trafo_loading_percent=extreme(powers.trafo_loading),
            taps=tuple(powers.taps[0].tolist()),
        )


__all__ = ["SimulationError", "Simulator", "Step"]

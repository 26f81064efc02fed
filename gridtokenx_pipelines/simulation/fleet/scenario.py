"""What to simulate, as data, and the simulator that it makes.

Belongs here: the options with their bounds. Does not belong here: how they are given (simulation_cli/).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.simulation.fleet.demand import TemplateDemand
from gridtokenx_pipelines.simulation.fleet.errors import FleetError, SimulationError
from gridtokenx_pipelines.simulation.fleet.fleet import Fleet, fleet_from_file, fleet_of_templates
from gridtokenx_pipelines.simulation.fleet.inverters import CURVES, Curve
from gridtokenx_pipelines.simulation.fleet.meter_faults import FaultShares
from gridtokenx_pipelines.simulation.fleet.networks import ConnectedNetwork, load_network, require_known
from gridtokenx_pipelines.simulation.fleet.profiles import file_profiles, simbench_fleet
from gridtokenx_pipelines.simulation.fleet.templates import DEFAULT_MIX
from gridtokenx_pipelines.simulation.fleet.weather import Site, Weather, weather_table
from gridtokenx_pipelines.simulation.grids import LV_CODES

SIMBENCH, TEMPLATES = "simbench", "templates"
MAX_BLOCK: Final = 96

Floats = NDArray[np.float64]


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides a run's bytes. `fleet`: `simbench` (published profiles), `templates`, or a fleet file's path.

    start: seconds since 1970 on a quarter hour. copies 0: as many equal networks as the meters need. weather, profiles:
    paths of CSV files or empty. backend: of grid/power_flow.py.
    """

    network: str = "1-LV-urban6--2-sw"
    fleet: str = SIMBENCH
    meters: int = 0
    mix: dict[str, int] = msgspec.field(default_factory=lambda: dict(DEFAULT_MIX))
    copies: int = 0
    zones: int = 1
    seed: int = 1
    network_id: int = 3
    start: int = 1_781_456_400
    step_seconds: int = EPOCH_SECONDS
    block: int = 1
    sign: bool = True
    power_flow: bool = True
    taps: Literal["auto", "fixed"] = "auto"
    curve: Curve = "ieee1547"
    backend: str = "auto"
    site: Site = Site()
    weather: str = ""
    profiles: str = ""
    faults: FaultShares = FaultShares()
    partitions: int = 8
    tick_seconds: int = 30

    def checked(self) -> Scenario:
        """The scenario itself; raises SimulationError naming the option, its value and its bound."""
        whole = {
            "step_seconds": (self.step_seconds, 1, EPOCH_SECONDS),
            "block": (self.block, 1, MAX_BLOCK),
            "copies": (self.copies, 0, 10_000),
            "meters": (self.meters, 0, 1_000_000),
            "partitions": (self.partitions, 1, 1_000),
            "tick_seconds": (self.tick_seconds, 1, 30),
        }
        for name, (value, low, high) in whole.items():
            if not low <= value <= high:
                raise SimulationError(f"{name} was {value}, must be {low} to {high}; correct it")
        if EPOCH_SECONDS % self.step_seconds:
            raise SimulationError(
                f"step_seconds was {self.step_seconds}, must divide {EPOCH_SECONDS}, a step must end with every epoch"
            )
        if self.start % EPOCH_SECONDS or self.start < 0:
            raise SimulationError(f"start was {self.start} s, must be a quarter hour (UTC); choose one")
        if self.curve not in CURVES:
            raise SimulationError(f"curve was {self.curve!r}, must be one of {', '.join(CURVES)}; correct it")
        require_known(self.network)
        if self.fleet == SIMBENCH and self.network not in LV_CODES:
            raise FleetError(
                f"network was {self.network!r}: only SimBench grids have published profiles; choose one of them, "
                f"or fleet={TEMPLATES!r} or a fleet file"
            )
        return self


class Sources:
    """Load and panel power of a fleet at nominal voltage, by step."""

    def __init__(self, scenario: Scenario, fleet: Fleet, profiles: object | None) -> None:
        self._step, self._profiles = scenario.step_seconds, profiles
        self._pv_w = fleet.column("pv_kw") * 1_000
        if profiles is None:
            table = weather_table(Path(scenario.weather)) if scenario.weather else None
            if table is not None:
                table.require(scenario.start, scenario.start + EPOCH_SECONDS)
            self._table = table
            faces = sorted({(member.tilt, member.azimuth) for member in fleet.members})
            self._weather = Weather(scenario.site, fleet.seed, self._step, fleet.copies, faces=faces, table=table)
            self._cell = self._weather.cell_of(np.array([member.copy for member in fleet.members], np.int64))
            self._face = np.array([faces.index((member.tilt, member.azimuth)) for member in fleet.members], np.int64)
            self._demand = TemplateDemand(fleet, scenario.site)

    def at(self, step_start: int) -> tuple[Floats, Floats]:
        """(load, panels) in W, shape (members,). Raises ProfileGapError where a file ends."""
        if self._profiles is not None:
            found: tuple[Floats, Floats] = self._profiles.at(step_start)  # type: ignore[attr-defined]
            return found
        if self._table is not None:
            self._table.require(step_start, step_start + self._step)
        sky = self._weather.at(step_start)
        return self._demand.at(step_start, self._step), self._pv_w * sky.yield_kw[self._cell, self._face]


def made(scenario: Scenario, steps: int, cache_dir: Path | None = None) -> tuple[ConnectedNetwork, Fleet, Sources]:
    """Network, fleet and sources of a checked scenario for a run of `steps`; raises SimulationError by its kinds."""
    network = load_network(scenario.network, 1 if scenario.fleet == SIMBENCH else scenario.zones)
    profiles: object | None = None
    if scenario.fleet == SIMBENCH:
        fleet, profiles, _ = simbench_fleet(
            scenario.network, scenario.seed, scenario.zones, max(scenario.copies, 1), cache_dir
        )
    elif scenario.fleet == TEMPLATES:
        fleet = fleet_of_templates(
            network,
            scenario.meters or len(network.points) * max(scenario.copies, 1),
            scenario.seed,
            scenario.mix,
            copies=scenario.copies,
        )
    else:
        fleet = fleet_from_file(Path(scenario.fleet), network, scenario.seed, scenario.copies)
    if scenario.profiles:
        end = scenario.start + steps * scenario.step_seconds
        profiles, fleet = file_profiles(Path(scenario.profiles), fleet, scenario.start, end)
    return network, fleet, Sources(scenario, fleet, profiles)

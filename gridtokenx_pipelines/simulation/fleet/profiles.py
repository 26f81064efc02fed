"""Fleets with published or measured profiles instead of template shapes.

Belongs here: SimBench's households as fleet members with their year of quarter hours, profiles of a CSV file. Does not
belong here: template shapes (demand.py). A profile is power in W by time and member, for load and for panels.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.simulation.fleet.errors import ProfileError
from gridtokenx_pipelines.simulation.fleet.fleet import Fleet, Member, assembled
from gridtokenx_pipelines.simulation.fleet.tables import Table, read_table
from gridtokenx_pipelines.simulation.fleet.templates import Template
from gridtokenx_pipelines.simulation.grids import profile_row
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood, build_neighbourhood

Floats = NDArray[np.float64]
PANEL_SUFFIX = ":pv"


class Profiles(msgspec.Struct, frozen=True, kw_only=True):
    """Powers by quarter hour of the 2016 profile year (local time) and unit; `unit_of`: the unit of each member.

    Copies of a grid share units, so that a thousand of them need the memory of one.
    """

    load_w: NDArray[np.float32]
    panels_w: NDArray[np.float32]
    unit_of: NDArray[np.int64]

    def at(self, step_start: int) -> tuple[Floats, Floats]:
        """(load, panels) in W, shape (members,)."""
        row = profile_row(step_start // EPOCH_SECONDS)
        load, panels = (powers[row].astype(np.float64)[self.unit_of] for powers in (self.load_w, self.panels_w))
        return load, panels


class FileProfiles:
    """Profiles of a CSV: a column per member's `profile` (or id) with its load in kW, `NAME:pv` with its panels'."""

    def __init__(self, table: Table, fleet: Fleet) -> None:
        names = [member.profile or member.meter_id for member in fleet.members]
        for name, member in zip(names, fleet.members, strict=True):
            if not table.has(name) and not table.has(name + PANEL_SUFFIX):
                raise ProfileError(
                    f"{table.name} had no column {name}, nor {name}{PANEL_SUFFIX}, for meter {member.meter_id}; add one"
                )
        for column in table.names:
            if table.column(column).min() < 0:
                raise ProfileError(
                    f"{table.name}: column {column} had {table.column(column).min()} kW, must be 0 or more; "
                    f"put feed-in into {column}{PANEL_SUFFIX}"
                )
        self._table, self._names = table, names
        self._load = self._columns("")
        self._panels = self._columns(PANEL_SUFFIX)

    def _columns(self, suffix: str) -> Floats:
        length = len(self._table.column(self._table.names[0]))
        found = [
            self._table.column(name + suffix) if self._table.has(name + suffix) else np.zeros(length)
            for name in self._names
        ]
        return np.stack(found, axis=1) * 1_000

    def at(self, step_start: int) -> tuple[Floats, Floats]:
        """(load, panels) in W, that of the row in which the step begins."""
        row = (step_start - self._table.start) // self._table.every
        return self._load[row], self._panels[row]

    def highest_w(self) -> Floats:
        """The highest power of each member either way."""
        highest: Floats = np.maximum(self._load.max(axis=0), self._panels.max(axis=0))
        return highest


def file_profiles(path: Path, fleet: Fleet, start: int, end: int) -> tuple[FileProfiles, Fleet]:
    """Profiles of a file for a run of start … end (seconds), and the fleet with ratings that fit them.

    Raises ProfileGapError, ProfileError, or MeterRatingError where a fleet's own rating is below its profile.
    """
    table = read_table(path)
    table.require(start, end)
    profiles = FileProfiles(table, fleet)
    members = []
    for member, highest in zip(fleet.members, profiles.highest_w().tolist(), strict=True):
        needed = int(-(-highest * 1.25 // 100) * 100) + 500
        if member.rating_w and member.rating_w < highest:
            raise ProfileError(
                f"meter {member.meter_id}: rating_w was {member.rating_w}, its profile has {highest:.0f} W; raise it"
            )
        members.append(msgspec.structs.replace(member, rating_w=member.rating_w or needed))
    return profiles, assembled(members, fleet.copies, fleet.seed)


def simbench_fleet(
    grid: str, seed: int, zones: int, copies: int = 1, cache_dir: Path | None = None
) -> tuple[Fleet, Profiles, Neighbourhood]:
    """The households of a SimBench grid as a fleet, `copies` times; raises UnknownGridError, ZonesError."""
    neighbourhood = build_neighbourhood(grid, seed, zones, cache_dir=cache_dir)
    powers = neighbourhood.grid
    members, load, panels = [], [], []
    bus_of = {meter.meter_id: home.bus for home in neighbourhood.households for meter in home.meters}
    for copy in range(copies):
        for meter in neighbourhood.meters:
            peak_kw = float(powers.pv_milliwatt[:, list(meter.pv_columns)].sum(axis=1).max(initial=0)) / 1e6
            members.append(
                Member(
                    meter_id=meter.meter_id if copies == 1 else f"{meter.meter_id}-{copy + 1:04d}",
                    # nameplates are what the inverter needs; the load itself comes from the profile
                    template=Template(
                        name=meter.profile or "profile",
                        base_kwh=float(bool(meter.load_columns)) or (0.0 if peak_kw or meter.storage_columns else 1.0),
                        pv_kw=max(peak_kw, _peak_kw(powers.storage_milliwatt, meter.storage_columns)),
                    ),
                    bus=bus_of[meter.meter_id],
                    copy=copy,
                    zone_id=meter.zone_id,
                    # loads answer the voltage: a quarter above nominal covers constant impedance at 1.10 p.u.
                    rating_w=meter.rating_w * 5 // 4,
                    profile=meter.meter_id,
                )
            )
    fleet = assembled(members, copies, seed)
    for meter in neighbourhood.meters:
        load.append(powers.load_milliwatt[:, list(meter.load_columns)].sum(axis=1, dtype=np.int64))
        panels.append(
            powers.pv_milliwatt[:, list(meter.pv_columns)].sum(axis=1, dtype=np.int64)
            + powers.storage_milliwatt[:, list(meter.storage_columns)].sum(axis=1, dtype=np.int64)
        )
    place = {meter.meter_id: index for index, meter in enumerate(neighbourhood.meters)}
    profiles = Profiles(
        load_w=(np.stack(load, axis=1) / 1_000).astype(np.float32),
        panels_w=(np.stack(panels, axis=1) / 1_000).astype(np.float32),
        unit_of=np.array([place[member.profile] for member in fleet.members], np.int64),
    )
    return fleet, profiles, neighbourhood


def _peak_kw(milliwatt: NDArray[np.int32], columns: tuple[int, ...]) -> float:
    return float(milliwatt[:, list(columns)].sum(axis=1).max(initial=0)) / 1e6

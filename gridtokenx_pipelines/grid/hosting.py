"""Hosting capacity: how much more a zone carries before the first bound breaks.

Belongs here: the search for it on given states. Does not belong here: choosing the states, showing the result.

Method: the deterministic, most critical state method (Bollen and Rönnberg, "Hosting Capacity of the Power Grid for
Renewable Electricity Production and New Large Consumption Equipment", Energies 10(9), 2017): added power is spread over
all meters of the zone by their rating, at all states given, and the largest that is feasible in each of them by AC
power flow is the hosting capacity. Added production in the least loaded state and added load in the most loaded one are
what binds, and both are among the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.states import SLACK, W_PER_WH, Bounds, State, element_at, flow, margins

Floats = NDArray[np.float64]

STEPS: Final = 9  # halvings of the asked power, each one AC flow a state
ASKED_W: Final = 1_000_000  # per zone; a low-voltage grid carries less


class Hosting(msgspec.Struct, frozen=True, kw_only=True):
    """What a zone carries on top: W of production and of load, and what ends each."""

    zone_id: int
    production_w: int
    load_w: int
    production_ends: str
    load_ends: str


def hosting_capacity(case: GridCase, states: Sequence[State], bounds: Bounds | None = None) -> list[Hosting]:
    """Hosting capacity of every zone with meters, ascending, in all of the states."""
    bounds = bounds or Bounds()
    produced = np.array([state.produced_wh for state in states], np.float64) * W_PER_WH
    consumed = np.array([state.consumed_wh for state in states], np.float64) * W_PER_WH
    found = []
    for zone in sorted(set(case.meter_zone.tolist())):
        inside = np.where(case.meter_zone == zone, case.meter_rating_w, 0).astype(np.float64)
        weights = inside / inside.sum() if inside.sum() else (case.meter_zone == zone) / (case.meter_zone == zone).sum()
        results = [_most(case, (produced, consumed), weights, makes=makes, bounds=bounds) for makes in (True, False)]
        (production_w, production_ends), (load_w, load_ends) = results
        found.append(
            Hosting(
                zone_id=zone,
                production_w=production_w,
                load_w=load_w,
                production_ends=production_ends,
                load_ends=load_ends,
            )
        )
    return found


def _most(
    case: GridCase, powers: tuple[Floats, Floats], weights: Floats, *, makes: bool, bounds: Bounds
) -> tuple[int, str]:
    produced, consumed = powers
    low, high, ends = 0.0, float(ASKED_W), "nothing up to 1 MW"
    if _ends(case, powers, bounds) is not None:
        return 0, f"already {_ends(case, powers, bounds)}"
    for step in range(STEPS + 1):
        power = high if step == 0 else (low + high) / 2
        added = power * weights
        broken = _ends(case, (produced + added * makes, consumed + added * (not makes)), bounds)
        if broken is None:
            low = power
            if step == 0:
                return round(low), ends
        else:
            high, ends = power, broken
    return int(low), ends


def _ends(case: GridCase, powers: tuple[Floats, Floats], bounds: Bounds) -> str | None:
    result = flow(case, *powers)
    found = margins(result, bounds)
    step = int(found.min(axis=1).argmin())
    if found[step].min() >= -SLACK:
        return None
    return element_at(case, result, step, int(found[step].argmin()), bounds).words()

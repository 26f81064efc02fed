"""States of a network: from Wh of an epoch per meter to AC power flow and the bounds it breaks.

Belongs here: the way from integers to powers, and violations named by element. Does not belong here: what to do about
them (limits.py, feasibility.py). Powers are means of the epoch: Wh × 4 = W. Net energy has no reactive part, so
consumption is taken at each meter's own mean power factor where the case knows it (case.py), production at 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.power_flow import FlowResult

Floats = NDArray[np.float64]

W_PER_WH: Final = 3_600 // EPOCH_SECONDS
W_PER_MW: Final = 10**6
# solver noise: a bound that holds to this is held
SLACK: Final = 1e-6


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a state must keep: EN 50160's ±10 % and the ratings."""

    v_min_pu: float = 0.90
    v_max_pu: float = 1.10
    loading_percent: float = 100.0


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One bound broken: `kind` voltage, line, transformer or convergence; `margin` below 0 relative to the bound."""

    kind: str
    element: str
    value: float
    bound: float
    margin: float

    def words(self) -> str:
        """For people: the element, its value and the bound."""
        if self.kind == "convergence":
            return f"the power flow has no solution ({self.element})"
        if self.kind == "voltage":
            return f"bus {self.element} at {self.value:.4f} p.u., must be {_side(self)} {self.bound:.2f}"
        return f"{self.kind} {self.element} loaded {self.value:.1f} %, must be at most {self.bound:.0f} %"


def _side(violation: Violation) -> str:
    return "at least" if violation.value < violation.bound else "at most"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Produced and consumed Wh of an epoch per column of the case; `unplaced` meters had energy but no bus."""

    produced_wh: NDArray[np.int64]
    consumed_wh: NDArray[np.int64]
    unplaced: tuple[str, ...] = ()


def state_of(case: GridCase, energy_wh: Mapping[str, tuple[int, int]]) -> State:
    """From (production_wh, consumption_wh) by meter id; meters that are not in it count with 0."""
    columns = case.columns()
    produced, consumed = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.int64)
    unplaced = []
    for meter_id, (production_wh, consumption_wh) in sorted(energy_wh.items()):
        column = columns.get(meter_id)
        if column is None:
            unplaced.append(meter_id)
        else:
            produced[column], consumed[column] = production_wh, consumption_wh
    return State(produced_wh=produced, consumed_wh=consumed, unplaced=tuple(unplaced))


def flow(case: GridCase, produced_w: Floats, consumed_w: Floats) -> FlowResult:
    """AC power flow of powers in W, shapes (meters,) or (steps, meters); unsolved steps are flagged, not raised."""
    p = (consumed_w - produced_w) / W_PER_MW
    return case.network.solve(p, consumed_w * case.meter_tan_phi / W_PER_MW, strict=False)


def flow_of(case: GridCase, state: State) -> FlowResult:
    """AC power flow of an epoch's mean powers."""
    return flow(case, state.produced_wh * float(W_PER_WH), state.consumed_wh * float(W_PER_WH))


def margins(result: FlowResult, bounds: Bounds) -> Floats:
    """(steps, constraints): distance of every voltage and loading to its bound, relative; below 0 is broken.

    Columns: buses to the lower bound, buses to the upper, lines, transformers. −inf in a step without a solution.
    """
    span = bounds.v_max_pu - bounds.v_min_pu
    with np.errstate(invalid="ignore"):
        found = np.concatenate(
            [
                (result.vm_pu - bounds.v_min_pu) / span,
                (bounds.v_max_pu - result.vm_pu) / span,
                1 - result.line_loading_percent / bounds.loading_percent,
                1 - result.trafo_loading_percent / bounds.loading_percent,
            ],
            axis=1,
        )
    found = np.where(np.isnan(found), np.inf, found)  # buses out of service bind nothing
    found[~result.converged] = -np.inf
    return found


def worst(result: FlowResult, bounds: Bounds) -> Floats:
    """(steps,): the smallest margin of each step."""
    lowest: Floats = margins(result, bounds).min(axis=1)
    return lowest


def element_at(case: GridCase, result: FlowResult, step: int, place: int, bounds: Bounds) -> Violation:
    """The constraint in a column of `margins`, with its value in a step."""
    buses, lines = result.vm_pu.shape[1], result.line_loading_percent.shape[1]
    if not result.converged[step]:
        return Violation(kind="convergence", element="no voltages", value=math.nan, bound=math.nan, margin=-math.inf)
    margin = float(margins(result, bounds)[step, place])
    if place < 2 * buses:
        bus, bound = place % buses, bounds.v_min_pu if place < buses else bounds.v_max_pu
        value = float(result.vm_pu[step, bus])
        return Violation(kind="voltage", element=str(case.bus_name[bus]), value=value, bound=bound, margin=margin)
    place -= 2 * buses
    if place < lines:
        kind, element, value = "line", case.line_name[place], result.line_loading_percent[step, place]
    else:
        place -= lines
        kind, element, value = "transformer", case.trafo_name[place], result.trafo_loading_percent[step, place]
    return Violation(kind=kind, element=str(element), value=float(value), bound=bounds.loading_percent, margin=margin)


def violations(case: GridCase, result: FlowResult, step: int, bounds: Bounds) -> list[Violation]:
    """Every bound that a step breaks, worst first."""
    row = margins(result, bounds)[step]
    places = [int(place) for place in np.flatnonzero(row < -SLACK)]
    if not result.converged[step]:
        places = places[:1]
    return [
        element_at(case, result, step, place, bounds) for place in sorted(places, key=lambda place: (row[place], place))
    ]

"""A neighbourhood without its upstream grid: the network with a forming storage, and who gets energy in an epoch.

Belongs here: the island's power flow case, and the dispatch of storage, PV and loads to the Wh. Does not belong here:
its market and books (settlement_service/outage.py).

Upstream is lost by opening every branch at the slack buses. The largest storage forms the voltage (grid-forming
control; Rocabert, Luna, Blaabjerg and Rodríguez, "Control of Power Converters in AC Microgrids", IEEE Transactions on
Power Electronics 27(11), 2012): its bus becomes the slack at 1.0 p.u., and what it delivers is dispatched here, so the
flow only has to find the losses. Dispatch per epoch, in integers: production serves loads by priority class, 1 first,
inside a class all alike; storage gives what lacks and takes what is over, within its power and energy; what still lacks
is shed, what is still over is curtailed.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.admittance import ABSENT, Branches, Matrices
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.errors import IslandWithoutSlackError
from gridtokenx_pipelines.grid.power_flow import FlowResult
from gridtokenx_pipelines.grid.solvers import System, no_load_voltages
from gridtokenx_pipelines.grid.states import W_PER_WH, State, flow_of
from gridtokenx_pipelines.units import PARTS_PER_MILLION, ceil_div

Ints = NDArray[np.int64]

EFFICIENCY_PPM: Final = 950_000  # one way: a Wh through the storage and back is 0.9025 Wh
START_PERCENT: Final = 50
MOST_ROUNDS: Final = 6  # of dispatch and power flow until the losses are the flow's own


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """An island's epoch per column of the case, Wh: what registers would show, and what was wished for.

    `stored_wh`: energy in each storage at the end. `produced_wh` and `consumed_wh` include discharging and charging.
    """

    produced_wh: Ints
    consumed_wh: Ints
    served_wh: Ints
    shed_wh: Ints
    curtailed_wh: Ints
    charged_wh: Ints
    discharged_wh: Ints
    stored_wh: Ints
    loss_wh: int
    unserved_loss_wh: int


def island_case(case: GridCase) -> tuple[GridCase, str]:
    """The case without upstream, and the meter id of the storage that forms it.

    Raises IslandWithoutSlackError where there is no storage, or a meter hangs upstream of what was opened.
    """
    if not case.meter_storage_w.any():
        raise IslandWithoutSlackError(
            "the network had no storage, must have one to form an island; place a meter with a storage (grid prepare)"
        )
    former = int(np.lexsort((np.arange(len(case.meter_id)), -case.meter_storage_w))[0])
    matrices = _without_upstream(case.matrices, _place(case.matrices, int(case.meter_bus[former])))
    return dataclasses.replace(case, matrices=matrices), str(case.meter_id[former])


def _place(matrices: Matrices, bus: int) -> int:
    return int(matrices.bus_place[np.flatnonzero(matrices.bus_ids == bus)[0]])


def _without_upstream(matrices: Matrices, forming: int) -> Matrices:
    from scipy.sparse import csc_matrix, csr_matrix  # noqa: PLC0415 - only an island's epochs pay for it

    lost = np.isin(matrices.from_bus, matrices.system.ref) | np.isin(matrices.to_bus, matrices.system.ref)
    admittance = matrices.system.admittance.tolil(copy=True)
    sides = {"from": matrices.from_side.tolil(copy=True), "to": matrices.to_side.tolil(copy=True)}
    for branch in np.flatnonzero(lost).tolist():
        for side, bus in (("from", matrices.from_bus[branch]), ("to", matrices.to_bus[branch])):
            admittance[int(bus)] = admittance[int(bus)] - sides[side][branch]
            sides[side][branch] = 0
    dead = np.unique(matrices.system.ref)
    alive = np.setdiff1d(np.arange(len(matrices.system.start)), dead)
    ref = np.concatenate([[forming], dead]).astype(np.int64)
    start = np.ones(len(matrices.system.start), np.complex128)
    reduced = csc_matrix(admittance)
    start[alive] = no_load_voltages(reduced[alive][:, alive], start[alive], np.flatnonzero(alive == forming))
    reduced.sort_indices()
    place = np.where(np.isin(matrices.bus_place, dead), ABSENT, matrices.bus_place)
    return dataclasses.replace(
        matrices,
        system=System(
            admittance=reduced,
            start=start,
            ref=ref,
            pv=np.array([], np.int64),
            pq=np.setdiff1d(alive, [forming]).astype(np.int64),
            ppci={},
        ),
        bus_place=place,
        from_side=csr_matrix(sides["from"]),
        to_side=csr_matrix(sides["to"]),
        own=np.zeros_like(matrices.own),
        **{name: _closed(getattr(matrices, name), lost) for name in ("lines", "trafos", "trafo3w")},
    )


def _closed(branches: Branches, lost: NDArray[np.bool_]) -> Branches:
    row = branches.row.copy()
    opened = (row != ABSENT) & np.where(row == ABSENT, False, lost[row])
    row[opened] = ABSENT
    return dataclasses.replace(branches, row=row)


def first_stored(case: GridCase) -> Ints:
    """Energy in each storage when the outage begins: half."""
    return case.meter_storage_wh * START_PERCENT // 100


def dispatch(case: GridCase, wished: State, stored_wh: Ints) -> tuple[Dispatch, FlowResult]:
    """One epoch of the island: `wished` is what meters would produce and draw. Returns it with its AC flow.

    Losses are found by iterating dispatch and flow; a state without a solution has NaN voltages and the last losses.
    """
    loss_wh = 0
    for _ in range(MOST_ROUNDS):
        found = _dispatch(case, wished, stored_wh, loss_wh)
        result = flow_of(case, State(produced_wh=found.produced_wh, consumed_wh=found.consumed_wh))
        if not result.converged[0]:
            break
        again = math.ceil(round(float(result.loss_mw[0]) * 10**6 / W_PER_WH, 6))
        if again == loss_wh:
            break
        loss_wh = again
    return found, result


def _dispatch(case: GridCase, wished: State, stored_wh: Ints, loss_wh: int) -> Dispatch:
    produced, wanted = wished.produced_wh, wished.consumed_wh
    most = case.meter_storage_w // W_PER_WH
    can_give = np.minimum(most, stored_wh * EFFICIENCY_PPM // PARTS_PER_MILLION)
    room = np.maximum(case.meter_storage_wh - stored_wh, 0)
    can_take = np.minimum(most, room * PARTS_PER_MILLION // EFFICIENCY_PPM)
    supply = int(produced.sum()) + int(can_give.sum())
    left = max(supply - loss_wh, 0)
    served = np.zeros_like(wanted)
    for priority in sorted(set(case.meter_priority.tolist())):
        mine = np.where(case.meter_priority == priority, wanted, 0)
        share = spread(min(left, int(mine.sum())), mine)
        served += share
        left -= int(share.sum())
    balance = int(produced.sum()) - int(served.sum()) - loss_wh
    discharged = spread(min(max(-balance, 0), int(can_give.sum())), can_give)
    charged = spread(min(max(balance, 0), int(can_take.sum())), can_take)
    curtailed = spread(max(balance - int(charged.sum()), 0), produced)
    gained = charged * EFFICIENCY_PPM // PARTS_PER_MILLION
    spent = np.array([ceil_div(wh * PARTS_PER_MILLION, EFFICIENCY_PPM) for wh in discharged.tolist()], np.int64)
    return Dispatch(
        produced_wh=produced - curtailed + discharged,
        consumed_wh=served + charged,
        served_wh=served,
        shed_wh=wanted - served,
        curtailed_wh=curtailed,
        charged_wh=charged,
        discharged_wh=discharged,
        stored_wh=np.maximum(stored_wh + gained - spent, 0),
        loss_wh=loss_wh,
        unserved_loss_wh=max(-balance - int(discharged.sum()), 0),
    )


def spread(total: int, weights: Ints) -> Ints:
    """`total` over the weights in proportion, in whole Wh: what rounding leaves goes to the largest remainders.

    Nobody gets more than its weight as long as the total is not above their sum.
    """
    whole = int(weights.sum())
    if total <= 0 or whole == 0:
        return np.zeros_like(weights)
    parts = [divmod(total * weight, whole) for weight in weights.tolist()]
    found = np.array([part for part, _ in parts], np.int64)
    order = sorted(range(len(parts)), key=lambda place: (-parts[place][1], place))
    for place in order[: total - int(found.sum())]:
        found[place] += 1
    return found

"""Who traded with whom, for the record: filled buys laid along filled sells, in priority order, as columns.

Belongs here: pairing of Wh, also across lossy flows.
Does not belong here: prices and charges (nothing settles by pairs).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridtokenx_pipelines.market.kernel import Int64s
from gridtokenx_pipelines.market.mechanisms.outcome import Flow, Orders, Outcome, Pairs
from gridtokenx_pipelines.units import I64_MAX

Triple = tuple[Int64s, Int64s, Int64s]
NONE: Int64s = np.zeros(0, np.int64)


def pair_up(buys: Int64s, buy_wh: Int64s, sells: Int64s, sell_wh: Int64s) -> Triple:
    """(buy row, sell row, Wh) along both sides; whichever side is longer stays unpaired at its end."""
    if not len(buys) or not len(sells):
        return NONE, NONE, NONE
    buy_ends, sell_ends = np.cumsum(buy_wh), np.cumsum(sell_wh)
    volume = min(int(buy_ends[-1]), int(sell_ends[-1]))
    # two ascending columns merged by where each would stand in the other; equal ends count once
    ends = np.union1d(buy_ends, sell_ends)
    ends = ends[(ends > 0) & (ends <= volume)]
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    buyers = buys[np.searchsorted(buy_ends, starts, side="right")]
    sellers = sells[np.searchsorted(sell_ends, starts, side="right")]
    return buyers, sellers, ends - starts


def pair_by_priority(orders: Orders, filled: Int64s) -> Triple:
    """All filled buys along all filled sells, whatever their zones."""
    rows = orders.by_priority(np.flatnonzero(filled > 0))
    sells = orders.is_sell[rows]
    return pair_up(rows[~sells], filled[rows[~sells]], rows[sells], filled[rows[sells]])


def pairs_of(orders: Orders, outcome: Outcome) -> Pairs:
    """Pairs of a cleared book at the buyer's zone price: neighbours in a zone first, then along the flows.

    What exporting zones have left is shared out to importing zones of the same connected area, each seller's Wh
    scaled to what arrived, so that every buyer's Wh are paired to the last one and losses stay with the sellers.
    """
    if outcome.one_area:
        buy, sell, energy = pair_by_priority(orders, outcome.filled)
    else:
        buy, sell, energy = _pair_coupled(orders, outcome)
    zones = np.array(sorted(outcome.prices), np.int64)
    prices = np.array([outcome.prices[zone] or 0 for zone in zones.tolist()], np.int64)
    return Pairs(buy, sell, energy, prices[np.searchsorted(zones, orders.zone[buy])])


def _pair_coupled(orders: Orders, outcome: Outcome) -> Triple:
    rows = orders.by_priority(np.flatnonzero(outcome.filled > 0))
    sells, wh = orders.is_sell[rows], outcome.filled[rows]
    zones, zone = np.unique(orders.zone[rows], return_inverse=True)
    # places in `rows` stand for orders from here on: ascending places are falling priority
    left = wh.copy()
    local = _pair_groups(zone, sells, left, np.arange(len(rows)))
    _take(left, local)
    area = np.array(_areas(zones.tolist(), outcome.flows), np.int64)[zone]
    open_places = np.flatnonzero(left > 0)
    _scale(area[open_places], sells[open_places], left, open_places)
    across = _pair_groups(area, sells, left, open_places)
    buy, sell, energy = (np.concatenate(parts) for parts in zip(local, across, strict=True))
    order = np.lexsort((sell, buy))
    return rows[buy[order]], rows[sell[order]], energy[order]


def _pair_groups(group: Int64s, sells: np.ndarray, left: Int64s, places: Int64s) -> Triple:
    """Pair inside each group: both sides are cut to what the shorter one has, then all groups lie end to end."""
    sides = []
    for is_sell in (False, True):
        mine = places[sells[places] == is_sell]
        sides.append(mine[np.argsort(group[mine], kind="stable")])
    n_groups = int(group.max()) + 1 if len(group) else 0
    totals = np.zeros((2, n_groups), np.int64)
    for side, mine in enumerate(sides):
        np.add.at(totals[side], group[mine], left[mine])
    most = totals.min(axis=0)
    cut = []
    for side, mine in enumerate(sides):
        wh = left[mine]
        before = np.cumsum(wh) - wh
        starts = np.cumsum(totals[side]) - totals[side]
        cut.append(np.clip(most[group[mine]] - (before - starts[group[mine]]), 0, wh))
    return pair_up(sides[0], cut[0], sides[1], cut[1])


def _take(left: Int64s, made: Triple) -> None:
    np.subtract.at(left, made[0], made[2])
    np.subtract.at(left, made[1], made[2])


def _scale(area: Int64s, sells: np.ndarray, left: Int64s, places: Int64s) -> None:
    """In each area, scale what sellers have left to what arrives at its buyers."""
    for number in np.unique(area).tolist():
        here = area == number
        mine = places[here & sells]
        arrived, exported = int(left[places[here & ~sells]].sum()), int(left[mine].sum())
        if not arrived or not exported:
            continue
        ends = np.cumsum(left[mine])
        if arrived * exported <= I64_MAX:
            ends = ends * arrived // exported
        else:  # Python integers can't overflow
            ends = np.array([int(end) * arrived // exported for end in ends], np.int64)
        left[mine] = np.diff(ends, prepend=0)


def _areas(zones: Sequence[int], flows: list[Flow]) -> list[int]:
    """For each zone a number that it shares with zones that energy flowed to or from, directly or through others."""
    area = {zone: [zone] for zone in zones}
    for flow in flows:
        for end in (flow.from_zone, flow.to_zone):
            area.setdefault(end, [end])
        if flow.sent_wh and area[flow.from_zone] is not area[flow.to_zone]:
            joined = sorted(area[flow.from_zone] + area[flow.to_zone])
            for zone in joined:
                area[zone] = joined
    numbers = {members[0]: number for number, members in enumerate(sorted({tuple(each) for each in area.values()}))}
    return [numbers[area[zone][0]] for zone in zones]

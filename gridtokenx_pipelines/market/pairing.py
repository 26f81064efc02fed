"""Who traded with whom, for the record: filled buys laid along filled sells, in priority order, as columns.

Belongs here: pairing of Wh, also across lossy flows.
Does not belong here: prices and charges (nothing settles by pairs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.kernel import Int64s
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingCheckError, Flow, Orders, Outcome, Pairs
from gridtokenx_pipelines.market.parting import part
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
    ends = np.sort(np.concatenate([buy_ends, sell_ends]))
    first = np.ones(len(ends), np.bool_)
    np.not_equal(ends[1:], ends[:-1], out=first[1:])
    ends = ends[first & (ends > 0) & (ends <= volume)]
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    buyers = buys[np.searchsorted(buy_ends, starts, side="right")]
    sellers = sells[np.searchsorted(sell_ends, starts, side="right")]
    return buyers, sellers, ends - starts


class Laid(NamedTuple):
    """Pairs as places in `rows`, which stand in priority order; `area`: only pairs of one area can change partners."""

    rows: Int64s
    buy: Int64s
    sell: Int64s
    energy_wh: Int64s
    area: Int64s

    def to_rows(self) -> Triple:
        """Rows of the book that met, by the buy's priority, then the sell's."""
        order = np.lexsort((self.sell, self.buy))
        return self.rows[self.buy[order]], self.rows[self.sell[order]], self.energy_wh[order]


def pair_by_priority(orders: Orders, filled: Int64s) -> Laid:
    """All filled buys along all filled sells, whatever their zones."""
    rows = orders.by_priority(np.flatnonzero(filled > 0))
    sells, wh = orders.is_sell[rows], filled[rows]
    buys_at, sells_at = np.flatnonzero(~sells), np.flatnonzero(sells)
    pairs = pair_up(buys_at, wh[buys_at], sells_at, wh[sells_at])
    return Laid(rows, *pairs, np.zeros(len(pairs[0]), np.int64))


def pairs_of(orders: Orders, outcome: Outcome) -> Pairs:
    """Pairs of a cleared book at the buyer's zone price: neighbours in a zone first, then along the flows.

    What exporting zones have left is shared out to importing zones of the same connected area, each seller's Wh
    scaled to what arrived, so that every buyer's Wh are paired to the last one and losses stay with the sellers.
    Nobody is paired with itself.
    """
    laid = pair_by_priority(orders, outcome.filled) if outcome.one_area else _pair_coupled(orders, outcome)
    laid, own = part_own(orders, laid)
    if own:
        raise ClearingCheckError(
            f"{sum(own.values())} Wh would trade with their own wallet, must be 0; report the book"
        )
    buy, sell, energy = laid.to_rows()
    zones = np.array(sorted(outcome.prices), np.int64)
    prices = np.array([outcome.prices[zone] or 0 for zone in zones.tolist()], np.int64)
    return Pairs(buy, sell, energy, prices[np.searchsorted(zones, orders.zone[buy])])


def unpaired_own(orders: Orders, outcome: Outcome) -> dict[int, int]:
    """Wh by wallet number that could only be paired with the wallet's own, in a coupled outcome."""
    if orders.own_meet is None:
        return {}
    return part_own(orders, _pair_coupled(orders, outcome))[1]


def part_own(orders: Orders, laid: Laid) -> tuple[Laid, dict[int, int]]:
    """Wallets that met themselves change partners with others of their area (parting.py); orders keep their Wh.

    Also returns, by wallet, the Wh for which no others are left; these stay paired with themselves.
    """
    if orders.own_meet is None:
        return laid, {}
    wallet = orders.wallet[laid.rows] if orders.wallet is not None else laid.rows
    met = np.flatnonzero(wallet[laid.buy] == wallet[laid.sell])
    if not len(met):
        return laid, {}
    order = np.lexsort((laid.sell, laid.buy, laid.area))
    buy, sell, wh, area = (column[order] for column in (laid.buy, laid.sell, laid.energy_wh, laid.area))
    left: dict[int, int] = {}
    parts = []
    for places in np.split(np.arange(len(order)), np.flatnonzero(area[1:] != area[:-1]) + 1):
        pairs, own = part((buy[places], sell[places], wh[places]), wallet)
        parts.append((*pairs, np.full(len(pairs[0]), area[places[0]])))
        for number, amount in own.items():
            left[number] = left.get(number, 0) + amount
    return Laid(laid.rows, *(np.concatenate(columns) for columns in zip(*parts, strict=True))), left


def _pair_coupled(orders: Orders, outcome: Outcome) -> Laid:
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
    return Laid(rows, buy, sell, energy, area[buy])


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

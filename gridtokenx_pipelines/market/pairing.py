"""Who traded with whom, for the record: filled buys laid along filled sells, in priority order.

Belongs here: pairing of Wh, also across lossy flows.
Does not belong here: prices and charges (nothing settles by pairs).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gridtokenx_pipelines.market.mechanisms.outcome import Flow, Int64s, Orders, Outcome, Pair

BUY, SELL = 0, 1


def pair_up(buys: Int64s, buy_wh: Int64s, sells: Int64s, sell_wh: Int64s) -> Iterator[tuple[int, int, int]]:
    """(buy row, sell row, Wh) along both sides; whichever side is longer stays unpaired at its end."""
    buy_ends, sell_ends = np.cumsum(buy_wh), np.cumsum(sell_wh)
    volume = min(int(buy_wh.sum()), int(sell_wh.sum()))
    ends = np.union1d(buy_ends, sell_ends)
    ends = ends[(ends > 0) & (ends <= volume)]
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    buyers = buys[np.searchsorted(buy_ends, starts, side="right")]
    sellers = sells[np.searchsorted(sell_ends, starts, side="right")]
    return zip(buyers.tolist(), sellers.tolist(), (ends - starts).tolist(), strict=True)


def pairs_of(orders: Orders, outcome: Outcome) -> list[Pair]:
    """Pairs of a cleared book at the buyer's zone price: neighbours in a zone first, then along the flows.

    What exporting zones have left is shared out to importing zones of the same connected area, each seller's Wh
    scaled to what arrived, so that every buyer's Wh are paired to the last one and losses stay with the sellers.
    """
    filled, prices = outcome.filled, outcome.prices
    area = _areas(sorted(prices), outcome.flows)
    found: list[tuple[int, int, int]] = []
    left = filled.copy()
    if outcome.one_area:
        found += _pair_rows(orders, left, np.flatnonzero(filled > 0))
    for zone in sorted(prices):
        here = (orders.zone == zone) & (filled > 0)
        found += _pair_rows(orders, left, np.flatnonzero(here))
    for members in sorted({tuple(zones) for zones in area.values()}):
        rows = np.flatnonzero(np.isin(orders.zone, np.array(members)) & (left > 0))
        buys, sells = rows[orders.side[rows] == BUY], rows[orders.side[rows] == SELL]
        arrived, exported = int(left[buys].sum()), int(left[sells].sum())
        if not arrived or not exported:
            continue
        ends = [int(end) * arrived // exported for end in np.cumsum(left[sells])]  # Python integers can't overflow
        left[sells] = np.diff(np.array([0, *ends], np.int64))
        found += _pair_rows(orders, left, rows)
    return [Pair(buy, sell, wh, prices[int(orders.zone[buy])] or 0) for buy, sell, wh in sorted(found)]


def _pair_rows(orders: Orders, left: Int64s, rows: Int64s) -> list[tuple[int, int, int]]:
    buys, sells = rows[orders.side[rows] == BUY], rows[orders.side[rows] == SELL]
    made = list(pair_up(buys, left[buys], sells, left[sells]))
    for buy, sell, wh in made:
        left[buy] -= wh
        left[sell] -= wh
    return made


def _areas(zones: list[int], flows: list[Flow]) -> dict[int, list[int]]:
    """Zones that energy flowed between, directly or through others."""
    area = {zone: [zone] for zone in zones}
    for flow in flows:
        if flow.sent_wh and area[flow.from_zone] is not area[flow.to_zone]:
            joined = sorted(area[flow.from_zone] + area[flow.to_zone])
            for zone in joined:
                area[zone] = joined
    return area

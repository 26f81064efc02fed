"""Continuous matching of plain orders: nobody meets itself, no minimum, no cancel, no breaker. One loop, two heaps.

Belongs here: the case that nearly every book is, as fast as Python's own heaps are. Does not belong here: everything
else of a continuous session (continuous.py), which gives the same matches, only slower.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from gridtokenx_pipelines.market.kernel import Int64s, order_of
from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Pairs

NUMBER_BITS = 32
NUMBER = (1 << NUMBER_BITS) - 1


def match_plain(orders: Orders) -> Pairs:
    """Matches in the order in which they were made, each at the resting order's net limit."""
    rows = order_of(orders.keys(np.arange(len(orders.side))))
    limit = orders.limit[rows]
    levels, level = np.unique(limit, return_inverse=True)
    # a resting order's key: its level (of bids counted down), then when it arrived; less is better
    numbers = np.arange(len(rows))
    sells = orders.is_sell[rows]
    rank = np.where(sells, level, len(levels) - 1 - level)
    keys = (rank << NUMBER_BITS | numbers).tolist()
    # the worst key of the other side that an arriving order takes
    takes = (np.where(sells, len(levels) - level, level + 1) << NUMBER_BITS).tolist()
    made = _match(sells.tolist(), keys, takes, orders.wh[rows].tolist())
    resting, arriving, energy = (np.array(column, np.int64) for column in made)
    arrived_sells = sells[arriving] if len(arriving) else np.zeros(0, np.bool_)
    buy, sell = np.where(arrived_sells, resting, arriving), np.where(arrived_sells, arriving, resting)
    return Pairs(rows[buy], rows[sell], energy, limit[resting] if len(resting) else np.zeros(0, np.int64))


def _match(
    sells: list[bool], keys: list[int], takes: list[int], left: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Arrival numbers of the resting and the arriving order of each match, and its Wh."""
    bids: list[int] = []
    asks: list[int] = []
    resting: list[int] = []
    arriving: list[int] = []
    energy: list[int] = []
    for number, wh in enumerate(left):
        wants = wh
        mine, other = (asks, bids) if sells[number] else (bids, asks)
        worst = takes[number]
        while other and other[0] < worst:
            best = other[0] & NUMBER
            has = left[best]
            resting.append(best)
            arriving.append(number)
            if has > wants:
                energy.append(wants)
                left[best] = has - wants
                wants = 0
                break
            energy.append(has)
            heappop(other)
            wants -= has
            if not wants:
                break
        if wants:
            left[number] = wants
            heappush(mine, keys[number])
    return resting, arriving, energy


def filled_by(pairs: Pairs, n_rows: int) -> Int64s:
    """Wh filled per row."""
    filled = np.zeros(n_rows, np.int64)
    np.add.at(filled, pairs.buy, pairs.energy_wh)
    np.add.at(filled, pairs.sell, pairs.energy_wh)
    return filled

"""Continuous matching without minimums and breaker: one loop, two heaps, as fast as Python's own heaps are.

Belongs here: plain orders, and a second loop for books with own orders on both sides or orders that leave. Does not
belong here: everything else of a continuous session (continuous.py), which gives the same matches, only slower.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from gridtokenx_pipelines.market.kernel import Int64s, order_of
from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Pairs

NUMBER_BITS = 32
NUMBER = (1 << NUMBER_BITS) - 1


PASSES_PER_ROW = 20  # so often own orders may be passed over one by one; a session passes over a wallet at once
FOREVER = 2**63 - 1


def match_plain(orders: Orders) -> Pairs | None:
    """Matches in the order in which they were made, each at the resting order's net limit.

    None for a book in which wallets would pass over so many own orders that one by one takes too long.
    """
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
    book = sells.tolist(), keys, takes, orders.wh[rows].tolist()
    if orders.own_meet is None and orders.leaves_us is None:
        made = _match(*book)
    else:
        # only a wallet on both sides can meet itself; -1 and -2 are nobody's
        own = np.full(len(rows), -1) if orders.wallet is None or orders.own_meet is None else orders.wallet[rows]
        leaves = np.full(len(rows), FOREVER) if orders.leaves_us is None else orders.leaves_us[rows]
        me = np.where(own < 0, -2, own)
        watched = _match_watched(*book, own.tolist(), me.tolist(), leaves.tolist(), orders.time_us[rows].tolist())
        if watched is None:
            return None
        made = watched
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


def _match_watched(  # noqa: PLR0917 - columns of one table
    sells: list[bool],
    keys: list[int],
    takes: list[int],
    left: list[int],
    own: list[int],
    me: list[int],
    leaves: list[int],
    times: list[int],
) -> tuple[list[int], list[int], list[int]] | None:
    """As `_match`, own orders passed over and kept, orders that left dropped; None if it passes over too many."""
    bids: list[int] = []
    asks: list[int] = []
    resting: list[int] = []
    arriving: list[int] = []
    energy: list[int] = []
    passes = PASSES_PER_ROW * len(left)
    for number, wh in enumerate(left):
        now = times[number]
        if leaves[number] <= now:
            continue
        wants, mine = wh, me[number]
        here, other = (asks, bids) if sells[number] else (bids, asks)
        worst = takes[number]
        passed = []
        while other and other[0] < worst:
            best = other[0] & NUMBER
            if leaves[best] <= now:
                heappop(other)
                continue
            if own[best] == mine:
                passed.append(heappop(other))
                continue
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
        for key in passed:
            heappush(other, key)
        passes -= len(passed)
        if passes < 0:
            return None
        if wants:
            left[number] = wants
            heappush(here, keys[number])
    return resting, arriving, energy


def filled_by(pairs: Pairs, n_rows: int) -> Int64s:
    """Wh filled per row."""
    filled = np.zeros(n_rows, np.int64)
    np.add.at(filled, pairs.buy, pairs.energy_wh)
    np.add.at(filled, pairs.sell, pairs.energy_wh)
    return filled

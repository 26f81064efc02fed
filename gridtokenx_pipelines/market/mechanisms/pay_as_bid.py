"""Pay as bid: best bid meets best ask, each match at the (net) limit of the earlier order (domain §5).

Belongs here: who trades with whom at which price. Does not belong here: charges (charges.py, per order).

Own orders never meet: where the fills of one price can be paired so that nobody meets itself, they are. Otherwise each
bid by priority takes the best asks of other wallets. Either way a wallet with orders on one side only is filled at
least as far as in an auction that knew no wallets, and no two wallets are left that could still trade.
"""

from __future__ import annotations

import numpy as np

from gridtokenx_pipelines.market.kernel import Bools, Int64s, cross
from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Outcome, Pairs
from gridtokenx_pipelines.market.mechanisms.resting import NUMBER, NUMBER_BITS, RestingSide
from gridtokenx_pipelines.market.pairing import Triple, pair_by_priority, part_own
from gridtokenx_pipelines.market.rules import Network


def clear(orders: Orders, network: Network) -> Outcome:
    """All zones as one area; links are ignored. There is no zone price, each match has its own."""
    filled = cross(orders.is_sell, orders.limit, orders.wh, orders.keys).filled
    laid, own = part_own(orders, pair_by_priority(orders, filled))
    buy, sell, energy = laid.to_rows() if not own else _bid_by_bid(orders)
    if own:
        filled = np.zeros(len(orders.side), np.int64)
        np.add.at(filled, buy, energy)
        np.add.at(filled, sell, energy)
    earlier = np.where(_is_earlier(orders, buy, sell), buy, sell)
    pairs = Pairs(buy, sell, energy, orders.limit[earlier])
    return Outcome(filled, {zone.zone_id: None for zone in network.zones}, pairs=pairs, one_area=True)


def _bid_by_bid(orders: Orders) -> Triple:
    rows = orders.by_priority(np.arange(len(orders.side)))
    n_buys = int(np.count_nonzero(~orders.is_sell))
    wallet = orders.wallet.tolist() if orders.wallet is not None else list(range(len(rows)))
    left, limit, in_order = orders.wh.tolist(), orders.limit.tolist(), rows.tolist()
    asks = RestingSide()
    for number, row in enumerate(in_order[n_buys:], n_buys):
        asks.add(limit[row] << NUMBER_BITS | number, wallet[row])
    made: list[tuple[int, int, int]] = []
    for row in in_order[:n_buys]:
        passed: list[tuple[int, int]] = []
        while left[row] and (first := asks.first()) is not None:
            key, owner = first
            if key >> NUMBER_BITS > limit[row]:
                break
            if owner == wallet[row]:
                passed.append(asks.pass_over())
                continue
            ask = in_order[key & NUMBER]
            wh = min(left[row], left[ask])
            made.append((row, ask, wh))
            left[row] -= wh
            left[ask] -= wh
            if not left[ask]:
                asks.drop_first()
        asks.put_back(passed)
    buy, sell, energy = np.array(made, np.int64).reshape(-1, 3).T.copy()
    return buy, sell, energy


def _is_earlier(orders: Orders, first: Int64s, second: Int64s) -> Bools:
    """Whether the first row of each pair ranks before the second by time, then id."""
    earlier = np.zeros(len(first), np.bool_)
    level = np.ones(len(first), np.bool_)
    for one, other in zip(orders.keys(first), orders.keys(second), strict=True):
        earlier |= level & (one < other)
        level &= one == other
    return earlier

"""Pay as bid: best bid meets best ask, each match at the (net) limit of the earlier order (domain §5).

Belongs here: who trades with whom at which price. Does not belong here: charges (charges.py, per order).
"""

from __future__ import annotations

import numpy as np

from gridtokenx_pipelines.market.kernel import cross
from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Outcome, Pairs
from gridtokenx_pipelines.market.pairing import pair_by_priority
from gridtokenx_pipelines.market.rules import Network


def clear(orders: Orders, network: Network) -> Outcome:
    """All zones as one area; links are ignored. There is no zone price, each match has its own."""
    filled = cross(orders.is_sell, orders.limit, orders.wh, orders.keys).filled
    buy, sell, energy = pair_by_priority(orders, filled)
    earlier = np.where(_is_earlier(orders, buy, sell), buy, sell)
    pairs = Pairs(buy, sell, energy, orders.limit[earlier])
    return Outcome(filled, {zone.zone_id: None for zone in network.zones}, pairs=pairs, one_area=True)


def _is_earlier(orders: Orders, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the first row of each pair ranks before the second by time, then id."""
    earlier = np.zeros(len(first), np.bool_)
    level = np.ones(len(first), np.bool_)
    for one, other in zip(orders.keys(first), orders.keys(second), strict=True):
        earlier |= level & (one < other)
        level &= one == other
    return earlier

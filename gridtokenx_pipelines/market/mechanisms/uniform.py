"""Uniform price: one price for all, largest volume, an equilibrium price (domain §5).

Belongs here: the crossing of two priority-ordered sides. Does not belong here: zones coupled by links (zonal.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.mechanisms.outcome import Int64s, Orders, Outcome
from gridtokenx_pipelines.market.prices import rounded_midpoint
from gridtokenx_pipelines.market.rules import Network

BUY, SELL = 0, 1


class Crossing(NamedTuple):
    """Where two sides meet: Wh traded, price (None: none), and Wh filled per order of each side."""

    volume_wh: int
    price_uthb_per_kwh: int | None
    bought: Int64s
    sold: Int64s


def volume_of(bids: Int64s, bid_wh: Int64s, asks: Int64s, ask_wh: Int64s) -> int:
    """Largest volume at which the marginal bid is still at or above the marginal ask; sides in priority order."""
    if not len(bids) or not len(asks):
        return 0
    supply = np.concatenate([np.zeros(1, np.int64), np.cumsum(ask_wh)])
    at_or_below = supply[np.searchsorted(asks, bids, side="right")]
    return int(np.minimum(np.cumsum(bid_wh), at_or_below).max())


def fill(wh: Int64s, volume_wh: int) -> Int64s:
    """Wh per order when a side's orders are served in priority order up to the volume."""
    before = np.cumsum(wh) - wh
    served: Int64s = np.clip(volume_wh - before, 0, wh)
    return served


def cross(bids: Int64s, bid_wh: Int64s, asks: Int64s, ask_wh: Int64s) -> Crossing:
    """Largest volume and equilibrium price of two sides in priority order (bids falling, asks rising)."""
    volume = volume_of(bids, bid_wh, asks, ask_wh)
    bought, sold = fill(bid_wh, volume), fill(ask_wh, volume)
    if not volume:
        return Crossing(0, None, bought, sold)
    for limits, wh, filled in ((bids, bid_wh, bought), (asks, ask_wh, sold)):
        partly = np.flatnonzero((filled > 0) & (filled < wh))
        if len(partly):  # never on both sides: the volume ends at an order's end on one of them
            return Crossing(volume, int(limits[partly[0]]), bought, sold)
    in_bids, in_asks = int(np.count_nonzero(bought)), int(np.count_nonzero(sold))
    lowest, highest = int(asks[in_asks - 1]), int(bids[in_bids - 1])
    if in_bids < len(bids):
        lowest = max(lowest, int(bids[in_bids]))
    if in_asks < len(asks):
        highest = min(highest, int(asks[in_asks]))
    return Crossing(volume, int(rounded_midpoint(lowest, highest)), bought, sold)


def clear(orders: Orders, network: Network) -> Outcome:
    """All zones as one area; links are ignored."""
    buys, sells = orders.of_side(BUY), orders.of_side(SELL)
    result = cross(orders.limit[buys], orders.wh[buys], orders.limit[sells], orders.wh[sells])
    filled = np.zeros(len(orders.side), np.int64)
    filled[buys], filled[sells] = result.bought, result.sold
    return Outcome(filled, {zone.zone_id: result.price_uthb_per_kwh for zone in network.zones}, one_area=True)

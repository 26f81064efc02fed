"""Pay as bid: best bid meets best ask, each match at the (net) limit of the earlier order (domain §5).

Belongs here: who trades with whom at which price. Does not belong here: charges (charges.py, per order).
"""

from __future__ import annotations

import numpy as np

from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Outcome, Pair
from gridtokenx_pipelines.market.mechanisms.uniform import BUY, SELL, fill, volume_of
from gridtokenx_pipelines.market.pairing import pair_up
from gridtokenx_pipelines.market.rules import Network


def clear(orders: Orders, network: Network) -> Outcome:
    """All zones as one area; links are ignored. There is no zone price, each match has its own."""
    buys, sells = orders.of_side(BUY), orders.of_side(SELL)
    volume = volume_of(orders.limit[buys], orders.wh[buys], orders.limit[sells], orders.wh[sells])
    filled = np.zeros(len(orders.side), np.int64)
    filled[buys], filled[sells] = fill(orders.wh[buys], volume), fill(orders.wh[sells], volume)
    pairs = []
    for buy, sell, energy in pair_up(buys, filled[buys], sells, filled[sells]):
        earlier = min((buy, sell), key=lambda row: (int(orders.time_us[row]), orders.order_id[row]))
        pairs.append(Pair(buy, sell, energy, int(orders.limit[earlier])))
    return Outcome(filled, {zone.zone_id: None for zone in network.zones}, pairs=pairs, one_area=True)

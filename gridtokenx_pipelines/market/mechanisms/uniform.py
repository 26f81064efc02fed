"""Uniform price: one price for all, largest volume, an equilibrium price (domain §5).

Belongs here: all zones as one area. Does not belong here: the crossing itself (kernel.py), what own orders change
(selftrade.py), zones coupled by links (zonal.py).
"""

from __future__ import annotations

from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Outcome
from gridtokenx_pipelines.market.mechanisms.selftrade import cross_wallets
from gridtokenx_pipelines.market.rules import Network


def clear(orders: Orders, network: Network) -> Outcome:
    """All zones as one area; links are ignored."""
    result = cross_wallets(orders)
    return Outcome(result.filled, {zone.zone_id: result.price_uthb_per_kwh for zone in network.zones}, one_area=True)

"""Clearing mechanisms by name, each a pure function from a book's columns and a network to an outcome.

Belongs here: the registry, and which order types a mechanism takes. Does not belong here: frames and charges
(clearing.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gridtokenx_pipelines.market.mechanisms import continuous, pay_as_bid, uniform, zonal
from gridtokenx_pipelines.market.mechanisms.continuous import Breaker
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError, Orders, Outcome
from gridtokenx_pipelines.market.rules import Network

Mechanism = Callable[[Orders, Network], Outcome]
CONTINUOUS = "continuous"
AUCTIONS: dict[str, Mechanism] = {"zonal": zonal.clear, "uniform": uniform.clear, "pay_as_bid": pay_as_bid.clear}
MECHANISMS = (*AUCTIONS, CONTINUOUS)


def run(name: str, orders: Orders, network: Network, breaker: Breaker | None = None) -> Outcome:
    """Clear by a mechanism's name; `breaker` guards the continuous market. Orders that leave never reach an auction.

    Raises ClearingError for a name that is none, listing those there are, and for minimum quantities in an auction.
    """
    if name not in MECHANISMS:
        raise ClearingError(f"mechanism was {name!r}, must be one of {', '.join(MECHANISMS)}")
    if name == CONTINUOUS:
        return continuous.clear(orders, network, breaker)
    if orders.least_wh is not None:
        n_orders, most = int(np.count_nonzero(orders.least_wh)), int(orders.least_wh.max())
        raise ClearingError(
            f"{n_orders} orders had a minimum quantity (up to {most} Wh), must be 0 for mechanism {name}: its price "
            f"leaves one order partly filled; clear by {CONTINUOUS}, or drop min_wh"
        )
    if orders.leaves_us is None:
        return AUCTIONS[name](orders, network)
    stays = np.flatnonzero(orders.leaves_us == np.iinfo(np.int64).max)
    outcome = AUCTIONS[name](orders.at(stays), network)
    return outcome.in_book(stays, len(orders.side))

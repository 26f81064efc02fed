"""Clearing mechanisms by name, each a pure function from a book's columns and a network to an outcome.

Belongs here: the registry. Does not belong here: frames and charges (clearing.py).
"""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx_pipelines.market.mechanisms import pay_as_bid, uniform, zonal
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError, NotYetCleared, Orders, Outcome
from gridtokenx_pipelines.market.rules import Network

Mechanism = Callable[[Orders, Network], Outcome]


def _continuous(orders: Orders, network: Network) -> Outcome:
    raise NotYetCleared(
        "mechanism was 'continuous': it is settled by matching on chain as orders arrive and arrives with issue 6; "
        "choose zonal, uniform or pay_as_bid"
    )


MECHANISMS: dict[str, Mechanism] = {
    "zonal": zonal.clear,
    "uniform": uniform.clear,
    "pay_as_bid": pay_as_bid.clear,
    "continuous": _continuous,
}


def mechanism_named(name: str) -> Mechanism:
    """Mechanism of a name; raises ClearingError listing the names there are."""
    if name not in MECHANISMS:
        raise ClearingError(f"mechanism was {name!r}, must be one of {', '.join(MECHANISMS)}")
    return MECHANISMS[name]

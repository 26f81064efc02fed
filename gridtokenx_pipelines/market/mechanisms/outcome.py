"""What goes into and comes out of a clearing mechanism: integer columns in, fills, prices and flows out.

Belongs here: the shared types and errors. Does not belong here: any mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridtokenx_pipelines.market.rules import Link

Int64s = npt.NDArray[np.int64]


class ClearingError(ValueError):
    """A book, network or mechanism that can't be cleared: value, bound and remedy."""


class ClearingCheckError(ClearingError):
    """A result that does not check; it is never committed."""


class NotYetCleared(ClearingError):
    """A mechanism that is not settled by an auction here."""


class Orders(NamedTuple):
    """A book's columns in priority order within each side (0 buy, 1 sell); energies Wh, limits net, µTHB/kWh."""

    side: Int64s
    zone: Int64s
    wh: Int64s
    limit: Int64s
    time_us: Int64s
    order_id: list[bytes]

    def of_side(self, side: int) -> Int64s:
        """Row numbers of a side, in priority order."""
        return np.flatnonzero(self.side == side)


class Flow(NamedTuple):
    """Energy sent over a link in one direction (Wh); µTHB of link wheeling."""

    link: Link
    from_zone: int
    to_zone: int
    sent_wh: int
    delivered_wh: int
    wheeling_uthb: int


class Pair(NamedTuple):
    """Rows of the book that traded with each other: delivered Wh at a price."""

    buy: int
    sell: int
    energy_wh: int
    price_uthb_per_kwh: int


@dataclass(frozen=True)
class Outcome:
    """A mechanism's result: filled Wh per row of the book, price per zone (None: no trade), flows.

    `pairs` only where the mechanism itself decides who trades with whom, at which price (pay_as_bid). `one_area`: it
    looked at all zones as one, so buyers and sellers meet whatever their zones.
    """

    filled: Int64s
    prices: dict[int, int | None]
    flows: list[Flow] = field(default_factory=list)
    pairs: list[Pair] | None = None
    one_area: bool = False

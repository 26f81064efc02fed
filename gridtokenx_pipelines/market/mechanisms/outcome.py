"""What goes into and comes out of a clearing mechanism: integer columns in, fills, prices and flows out.

Belongs here: the shared types and errors. Does not belong here: any mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from gridtokenx_pipelines.market.kernel import Bools, Int64s, UInt64s, order_of, sortable
from gridtokenx_pipelines.market.names import are_distinct, ranks_of_names
from gridtokenx_pipelines.market.rules import Link

BUY, SELL = 0, 1
ID_BYTES = 16


class ClearingError(ValueError):
    """A book, network or mechanism that can't be cleared: value, bound and remedy."""


class ClearingCheckError(ClearingError):
    """A result that does not check; it is never committed."""


class Ids:
    """Order ids (binary), and the keys that rank those of some rows: few rows are ever asked for theirs."""

    def __init__(self, names: pl.Series) -> None:
        self.names = names
        self._halved = bool((names.bin.size() == ID_BYTES).all())

    @cached_property
    def _ranks(self) -> tuple[UInt64s, ...]:
        return ranks_of_names(self.names)

    def keys(self, rows: Int64s) -> tuple[UInt64s, ...]:
        """What ranks the rows, first key first: a 16-byte id in two halves, ids of other lengths by rank among all."""
        if not self._halved:
            return tuple(key[rows] for key in self._ranks)
        if not len(rows):
            return (np.zeros(0, np.uint64),) * 2
        some = self.names.gather(rows)
        halves = some.bin.reinterpret(dtype=pl.Array(pl.UInt64, 2), endianness="big").to_numpy()
        return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])

    def at(self, rows: Int64s) -> Ids:
        """Those of some rows, in the order given."""
        return Ids(self.names.gather(rows))

    def twice(self) -> int:
        """How many rows have an id that an earlier one has."""
        return 0 if are_distinct(self.names) else len(self.names) - self.names.n_unique()


@dataclass(frozen=True)
class Orders:
    """A book's columns, rows in any order: side (0 buy, 1 sell), zone, Wh, net limit in µTHB/kWh, time in µs.

    `ids`: what ranks orders of one limit and time. `wallet`: a number
    per wallet, of no meaning but equality. `own_meet`: rows of wallets that stand on both sides, None if none does.
    `least_wh`: fill at least this or nothing, `leaves_us`: when an order leaves again; None where no order says so.
    """

    side: Int64s
    zone: Int64s
    wh: Int64s
    limit: Int64s
    time_us: Int64s
    ids: Ids
    wallet: Int64s | None = None
    own_meet: Bools | None = None
    least_wh: Int64s | None = None
    leaves_us: Int64s | None = None

    @cached_property
    def is_sell(self) -> Bools:
        """The side as a mask."""
        return self.side.astype(np.bool_)

    def keys(self, rows: Int64s) -> list[UInt64s]:
        """What ranks rows of one net limit: time, then id."""
        return [sortable(self.time_us[rows]), *self.ids.keys(rows)]

    def at(self, rows: Int64s) -> Orders:
        """Some of the rows, in the order given."""
        changed: dict[str, Any] = {"ids": self.ids.at(rows)}
        for column in fields(self):
            value = getattr(self, column.name)
            if column.name != "ids" and value is not None:
                changed[column.name] = value[rows]
        return replace(self, **changed)

    def by_priority(self, rows: Int64s) -> Int64s:
        """The rows, buys then sells, each side by net limit, time and id."""
        sells = self.is_sell[rows]
        rank = np.where(sells, self.limit[rows], -self.limit[rows])
        low, high = (int(rank.min()), int(rank.max())) if len(rows) else (0, 0)
        times = self.time_us[rows]
        first, last = (int(times.min()), int(times.max())) if len(rows) else (0, 0)
        time_bits = (last - first).bit_length()
        if (high - low).bit_length() + time_bits < 63:  # one packed key instead of three
            packed = (sells.astype(np.int64) << np.int64(62)) | (rank - low << np.int64(time_bits)) | (times - first)
            keys = [packed.view(np.uint64)]
        else:
            keys = [sells.astype(np.uint64), sortable(rank), sortable(times)]
        found: Int64s = rows[order_of([*keys, *self.ids.keys(rows)])]
        return found


class Flow(NamedTuple):
    """Energy sent over a link in one direction (Wh); µTHB of link wheeling."""

    link: Link
    from_zone: int
    to_zone: int
    sent_wh: int
    delivered_wh: int
    wheeling_uthb: int


class Pairs(NamedTuple):
    """Rows of the book that traded with each other, as columns: delivered Wh at a price in µTHB/kWh."""

    buy: Int64s
    sell: Int64s
    energy_wh: Int64s
    price_uthb_per_kwh: Int64s


@dataclass(frozen=True)
class Outcome:
    """A mechanism's result: filled Wh per row of the book, price per zone (None: no trade), flows.

    `pairs` only where the mechanism itself decides who trades with whom, at which price (pay_as_bid). `one_area`: it
    looked at all zones as one, so buyers and sellers meet whatever their zones. `halts`: why the mechanism itself
    halted (continuous), `halted`: whether it was never resumed.
    """

    filled: Int64s
    prices: dict[int, int | None]
    flows: list[Flow] = field(default_factory=list)
    pairs: Pairs | None = None
    one_area: bool = False
    halts: tuple[str, ...] = ()
    halted: bool = False

    def in_book(self, rows: Int64s, n_rows: int) -> Outcome:
        """The same outcome as of a larger book, of which these rows took part."""
        filled = np.zeros(n_rows, np.int64)
        filled[rows] = self.filled
        pairs = self.pairs
        if pairs is not None:
            pairs = pairs._replace(buy=rows[pairs.buy], sell=rows[pairs.sell])
        return replace(self, filled=filled, pairs=pairs)

"""From a book's frame to the columns that mechanisms take, and what a book must be for that.

Belongs here: the checks of `clear`'s input, each refused by name. Does not belong here: limits of domain §4 on single
orders (intake.py, book.py), mechanisms.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.kernel import Int64s, UInt64s, exact_sum, order_of
from gridtokenx_pipelines.market.mechanisms.outcome import BUY, SELL, ClearingError, Orders
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.units import I64_MAX

ID_BYTES = 16
MOST_LIMIT_UTHB_PER_KWH = 10**12  # a million THB/kWh; prices beyond it are a mistake in units


def columns_of(book: pl.DataFrame, network: Network, *, positive_limits: bool) -> tuple[pl.DataFrame, Orders]:
    """The book with frames.BOOK's columns, and its columns as arrays, both in the rows' own order.

    Raises ClearingError for what can't be cleared: nulls, sides other than 0 and 1, unknown zones, ids given twice, a
    wallet on both sides or in two zones, Wh of 0 or less, limits of 0 or less (if `positive_limits`) or beyond bounds,
    Wh that add up beyond 64 bits.
    """
    book = frames.conform(book, frames.BOOK, "book")
    numbers = ["side", "zone_id", "covered_wh", "net_limit_uthb_per_kwh", "broker_us"]
    lacking = [name for name in ["order_id", "wallet", *numbers] if book[name].null_count()]
    if lacking:
        raise ClearingError(f"book has rows without {', '.join(lacking)}; give every order all of them")
    side, zone, wh, limit, time_us = (book[name].to_numpy() for name in numbers)
    _check_numbers(side, wh, limit, positive_limits=positive_limits)
    strange = set(np.unique(zone).tolist()) - {each.zone_id for each in network.zones}
    if strange:
        raise ClearingError(f"book names zones {sorted(strange)} that the network lacks; build it with this network")
    orders = Orders(side, zone, wh, limit, time_us, _ids(book["order_id"]))
    _check_ids(orders.ids)
    people = book.select("wallet", "side").unique().height, book.select("wallet", "zone_id").unique().height
    if people != (book["wallet"].n_unique(),) * 2:
        raise ClearingError("a wallet stands on both sides or in two zones of the book; one side and zone an epoch")
    return book, orders


def _check_numbers(side: Int64s, wh: Int64s, limit: Int64s, *, positive_limits: bool) -> None:
    if not len(side):
        return
    if int(side.min()) < BUY or int(side.max()) > SELL:
        raise ClearingError(f"side was {int(side.min())}…{int(side.max())}, must be 0 (buy) or 1 (sell)")
    if int(wh.min()) <= 0 or (positive_limits and int(limit.min()) <= 0):
        raise ClearingError("book has an order without covered Wh or with a net limit of 0 or less; drop it first")
    extreme = max(int(limit.max()), -int(limit.min()))
    if extreme > MOST_LIMIT_UTHB_PER_KWH:
        raise ClearingError(
            f"net limit was {extreme} µTHB/kWh away from 0, must be at most {MOST_LIMIT_UTHB_PER_KWH}; "
            "check the book's unit (µTHB per kWh)"
        )
    total = exact_sum(wh)
    if total > I64_MAX:
        raise ClearingError(f"book's Wh add up to {total}, must fit 64 bits ({I64_MAX}); check the unit, Wh")


def _ids(ids: pl.Series) -> tuple[UInt64s, ...]:
    """16-byte ids as the two halves that rank them; ids of other lengths by their rank among all."""
    sizes = ids.bin.size()
    if (sizes == ID_BYTES).all():
        if not len(ids):
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        halves = ids.bin.reinterpret(dtype=pl.Array(pl.UInt64, 2), endianness="big").to_numpy()
        return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])
    return (ids.rank("dense").cast(pl.UInt64).to_numpy(),)


def _check_ids(ids: tuple[UInt64s, ...]) -> None:
    order = order_of(ids)
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for key in ids:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    if same.any():
        n_ids = len(order) - int(np.count_nonzero(same))
        raise ClearingError(f"book has {len(order)} rows but {n_ids} order ids; each once")

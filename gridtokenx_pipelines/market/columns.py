"""From a book's frame to the columns that mechanisms take, and what a book must be for that.

Belongs here: the checks of `clear`'s input, each refused by name. Does not belong here: limits of domain §4 on single
orders (intake.py, book.py), mechanisms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.kernel import Bools, Int64s, UInt64s, exact_sum, places
from gridtokenx_pipelines.market.mechanisms.coupling import check_network
from gridtokenx_pipelines.market.mechanisms.outcome import BUY, SELL, ClearingError, Ids, Orders
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.units import BASIS_POINTS, I64_MAX, WH_PER_KWH

# Wh × µTHB/kWh: what they are worth in µTHB is a thousandth, which fees and VAT take times up to 10 000
MOST_OF_A_WALLET = I64_MAX * WH_PER_KWH // BASIS_POINTS
MOST_LIMIT_UTHB_PER_KWH = 10**12  # a million THB/kWh; prices beyond it are a mistake in units


class Columns(NamedTuple):
    """A book ready for a mechanism: the frame (its own row order), its arrays, and what frames of results need.

    `zone_place`: each row's zone as its place among the network's zones by id; `wallet_row`: a row of each wallet.
    """

    book: pl.DataFrame
    orders: Orders
    zone_place: Int64s
    wallet: Int64s
    wallet_row: Int64s


def columns_of(book: pl.DataFrame, network: Network, *, positive_limits: bool) -> Columns:
    """The book as columns.

    Raises ClearingError for what can't be cleared: nulls, sides other than 0 and 1, unknown zones, ids given twice, a
    wallet in two zones, Wh of 0 or less, limits of 0 or less (if `positive_limits`) or beyond bounds, a minimum above
    the order, energy or its worth that adds up beyond 64 bits, a network that can't be one. Optional columns: `min_wh`
    (fill at least this or nothing) and `cancelled_at_us` (when the order left again; null: it stays).
    """
    given = book
    check_network(network)
    book = frames.conform(book, frames.BOOK, "book")
    numbers = ["side", "zone_id", "covered_wh", "net_limit_uthb_per_kwh", "broker_us"]
    lacking = [name for name in ["order_id", "wallet", *numbers] if book[name].null_count()]
    if lacking:
        raise ClearingError(f"book has rows without {', '.join(lacking)}; give every order all of them")
    side, zone, wh, limit, time_us = (book[name].to_numpy() for name in numbers)
    _check_numbers(side, wh, limit, positive_limits=positive_limits)
    zone_place = _zone_places(zone, network)
    ids = Ids(book["order_id"])
    if twice := ids.twice():
        raise ClearingError(f"book has {book.height} rows but {book.height - twice} order ids; each once")
    wallet, order, starts = _groups(book["wallet"])
    both = np.zeros(0, np.bool_)
    if len(starts) < len(order):
        astray = _differ(zone[order], starts)
        if astray.any():
            name = book["wallet"][int(order[starts[np.argmax(astray)]])]
            raise ClearingError(f"wallet {name} stands in two zones of the book; give all its orders one of them")
        both = _differ(side[order], starts)
    _check_sums(book, wh, order, starts)
    orders = Orders(
        side,
        zone,
        wh,
        limit,
        time_us,
        ids,
        wallet,
        own_meet=both[wallet] if both.any() else None,
        least_wh=_least(given, wh),
        leaves_us=_leaves(given),
    )
    return Columns(book, orders, zone_place, wallet, order[starts])


def _differ(ordered: Int64s, starts: Int64s) -> Bools:
    """Whether the values of each group differ."""
    if not len(starts):
        return np.zeros(0, np.bool_)
    differ: Bools = np.minimum.reduceat(ordered, starts) != np.maximum.reduceat(ordered, starts)
    return differ


def _least(book: pl.DataFrame, wh: Int64s) -> Int64s | None:
    """Minimum Wh per row, None where no order has one."""
    if "min_wh" not in book.columns:
        return None
    least: Int64s = book["min_wh"].cast(pl.Int64).fill_null(0).to_numpy()
    wrong = np.flatnonzero((least < 0) | (least > wh))
    if len(wrong):
        row = int(wrong[0])
        raise ClearingError(
            f"order {book['order_id'][row].hex()} had min_wh {least[row]}, must lie in 0…{wh[row]}, its Wh; it could "
            "never be filled"
        )
    return least if least.any() else None


def _leaves(book: pl.DataFrame) -> Int64s | None:
    if "cancelled_at_us" not in book.columns or book["cancelled_at_us"].null_count() == book.height:
        return None
    return book["cancelled_at_us"].cast(pl.Int64).fill_null(I64_MAX).to_numpy()


def _zone_places(zone: Int64s, network: Network) -> Int64s:
    known, rows = np.array(sorted(each.zone_id for each in network.zones), np.int64), len(zone)
    if len(zone) and int(zone.min()) == int(zone.max()):  # one zone: a look at one row says where all are
        zone = zone[:1]
    place = places(zone, known)
    strange = np.unique(zone[known[place] != zone] if len(known) else zone).tolist()
    if strange:
        raise ClearingError(f"book names zones {strange} that the network lacks; build it with this network")
    return place if len(place) == rows else np.full(rows, place[0])


def _groups(names: pl.Series) -> tuple[Int64s, Int64s, Int64s]:
    """A number per distinct name; the rows ordered by it, and where each number's rows start among them.

    By sorted hashes, which are then compared as names; should two names share a hash, by sorting names.
    """
    key = names.hash().to_numpy()
    if _are_distinct(key):  # so are the names
        each = np.arange(len(key))
        return each, each, each
    order = np.argsort(key)
    first = np.concatenate([np.ones(min(len(order), 1), np.bool_), key[order][1:] != key[order][:-1]])
    ordered = names.gather(order)
    if not (first | (ordered == ordered.shift(1)).fill_null(False).to_numpy()).all():
        key = names.rank("dense").to_numpy()  # two names share a hash
        order = np.argsort(key, kind="stable")
        first = np.concatenate([np.ones(min(len(order), 1), np.bool_), key[order][1:] != key[order][:-1]])
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(first) - 1
    return number, order, np.flatnonzero(first)


def _are_distinct(keys: UInt64s) -> bool:
    ordered = np.sort(keys)
    return not (ordered[1:] == ordered[:-1]).any()


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


def _check_sums(book: pl.DataFrame, wh: Int64s, order: Int64s, starts: Int64s) -> None:
    """Every sum that clearing and charging make must fit 64 bits, or a wrong one would come out."""
    if not len(wh):
        return
    total = exact_sum(wh)
    prices = [book[name].to_numpy() for name in ("limit_uthb_per_kwh", "net_limit_uthb_per_kwh")]
    dearest = max(1, *(abs(int(edge)) for price in prices for edge in (price.min(), price.max())))
    if total > I64_MAX or total * dearest > I64_MAX * WH_PER_KWH:
        raise ClearingError(
            f"book had {total} Wh at up to {dearest} µTHB/kWh, its sums must fit 64 bits "
            f"(at most {min(I64_MAX, I64_MAX * WH_PER_KWH // dearest)} Wh at that price); split it"
        )
    if total * dearest > MOST_OF_A_WALLET:
        sums = np.add.reduceat(wh[order], starts)
        energy, row = int(sums.max()), int(order[starts[int(np.argmax(sums))]])
        if energy * dearest > MOST_OF_A_WALLET:
            raise ClearingError(
                f"wallet {book['wallet'][row]} had {energy} Wh at up to {dearest} µTHB/kWh, its sums must fit 64 bits "
                f"(at most {MOST_OF_A_WALLET // dearest} Wh at that price); split it over wallets"
            )

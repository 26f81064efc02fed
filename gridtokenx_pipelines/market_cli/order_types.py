"""What an order of a file says beyond its limit: a minimum quantity, when it was cancelled, which order it amends.

Belongs here: the fields min_wh, cancelled_at and replaces, and where a mechanism can't take them. Does not belong here:
how a mechanism treats them (market/mechanisms).

An amendment is a new order that names the one it replaces: that one leaves when the new one is placed, whose priority
is its own later time. What the former had traded by then stays.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from gridtokenx_pipelines.market_cli.book_files import RawBook
from gridtokenx_pipelines.market_cli.numbers import instants, whole_numbers
from gridtokenx_pipelines.market_cli.refusals import faults, marked
from gridtokenx_pipelines.units import I64_MAX

TAKES_MINIMUM = ("continuous",)
CANCELLED, MINIMUM, REPLACES = "cancelled_at_us", "min_wh", "replaces"


class Typed(NamedTuple):
    """Columns to stand beside the order's others (those that the file has), and the faults found in them."""

    columns: dict[str, pl.Series]
    faults: list[pl.DataFrame]


def order_types(raw: RawBook, wh: pl.Series, placed_at_us: pl.Series, mechanism: str) -> Typed:
    """The optional fields of every row; null where a row says nothing. `wh`, `placed_at_us`: null where at fault."""
    columns: dict[str, pl.Series] = {}
    found: list[pl.DataFrame] = []
    if "min_wh" in raw.columns:
        given = raw.columns["min_wh"]
        parsed = whole_numbers(
            given.fill_null("0" if given.dtype == pl.String else 0) if given.dtype != pl.Null else _zeros(len(given)),
            "min_wh",
            lowest=0,
            highest=I64_MAX,
            bound="whole Wh, 0 or missing for none",
            remedy="correct it",
        )
        least = parsed.values
        found += parsed.faults
        found += marked(least, least > wh, "min_wh", "at most the order's energy_wh", "it could never be filled")
        if mechanism not in TAKES_MINIMUM:
            bound = f"0 with {mechanism}, whose price leaves one order partly filled"
            found += marked(least, least > 0, "min_wh", bound, f"clear by {TAKES_MINIMUM[0]}, or drop it")
        columns[MINIMUM] = least
    if "cancelled_at" in raw.columns:
        given = raw.columns["cancelled_at"]
        parsed = instants(given, "cancelled_at", needed=False)
        found += parsed.faults
        early = parsed.values < placed_at_us
        found += marked(given, early, "cancelled_at", "at or after the order's placed_at", "correct either")
        columns[CANCELLED] = parsed.values
    if "replaces" in raw.columns:
        columns[REPLACES] = raw.columns["replaces"].cast(pl.String, strict=False)
    return Typed(columns, found)


def _zeros(n_rows: int) -> pl.Series:
    return pl.Series([0], dtype=pl.Int64).new_from_index(0, n_rows)


def amend(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Let replaced orders leave when the order that replaces them is placed; amendments of nothing are refused.

    `table`: sound rows with row, order_id, key, wallet, side, placed_at_us and perhaps cancelled_at_us, replaces.
    Returns it with cancelled_at_us, without the refused rows, and those.
    """
    if REPLACES not in table.columns or table[REPLACES].null_count() == table.height:
        return table, None
    if CANCELLED not in table.columns:
        table = table.with_columns(pl.lit(None, pl.Int64).alias(CANCELLED))
    place = {name: at for at, name in enumerate(table["order_id"].to_list())}
    leaves: list[int | None] = table[CANCELLED].to_list()
    columns = ("key", "wallet", "side", "placed_at_us", REPLACES)
    rows = table.select(columns).rows()
    refused: list[int] = []
    gone: set[int] = set()
    named = table.with_row_index("at").filter(pl.col(REPLACES).is_not_null()).sort("placed_at_us", "key")
    for at in named["at"].to_list():
        key, wallet, side, placed, name = rows[at]
        former = place.get(name)
        if former is None or former in gone:
            refused.append(at)
            gone.add(at)
            continue
        former_key, former_wallet, former_side, former_placed, _ = rows[former]
        left = leaves[former]
        still = left is None or left >= placed
        if (former_wallet, former_side) != (wallet, side) or (former_placed, former_key) >= (placed, key) or not still:
            refused.append(at)
            gone.add(at)
            continue
        leaves[former] = placed
        gone.add(former)  # an order is replaced once
    wrong = table[sorted(refused)]
    table = table.with_columns(pl.Series(CANCELLED, leaves, dtype=pl.Int64))
    bound = "the order_id of an earlier order of the same wallet and side that still stood"
    bad = faults(wrong["row"], wrong[REPLACES], REPLACES, bound, "correct it, or place a new order")
    return table.join(bad, on="row", how="anti", maintain_order="left"), bad

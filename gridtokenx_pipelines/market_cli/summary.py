"""What a person reads of a clearing: price, volume, who traded how much, per zone and over links.

Belongs here: tables and wording. Does not belong here: the JSON document (documents.py). Energy is in kWh and money in
THB, exact, as decimal strings.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market_cli.documents import one_price
from gridtokenx_pipelines.units import kwh, thb

BUY = 0
MOST_ROWS = 20


def table(title: str, *columns: str, left: int = 1) -> Table:
    """An empty table; the first `left` columns are words, the others numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        made.add_column(name, justify="left" if place < left else "right", overflow="fold")
    return made


def price_words(price: int | None) -> str:
    """A price for people; a dash where there is none."""
    return "–" if price is None else f"{thb(price)} THB/kWh"


def print_clearing(console: Console, result: ClearingResult, book: pl.DataFrame, ids: pl.DataFrame) -> None:
    """Print a clearing of a book (frames.BOOK); `ids` gives each key its order_id."""
    console.print(_overview(result, book))
    if result.zones.height > 1:
        console.print(_zones(result))
    if result.flows.height:
        console.print(_flows(result))
    if result.fills.height:
        console.print(_fills(result, book, ids))


def _overview(result: ClearingResult, book: pl.DataFrame) -> Table:
    sides = dict(book.group_by("side").len().iter_rows())
    filled = result.fills.join(book.select("order_id", "covered_wh"), on="order_id", how="left")
    whole = filled.filter(pl.col("filled_wh") == pl.col("covered_wh")).height
    made = table(f"Cleared by {result.mechanism}", "", "", left=1)
    made.show_header = False
    price = one_price(result)
    several = price is None and result.volume_wh > 0
    for name, words in (
        ("price", "several, see below" if several else price_words(price)),
        ("volume", f"{kwh(result.volume_wh)} kWh bought"),
        ("welfare", f"{thb(result.welfare_uthb)} THB"),
        ("orders", f"{sides.get(0, 0):,} to buy, {sides.get(1, 0):,} to sell"),
        ("filled", f"{whole:,} whole, {filled.height - whole:,} in part, {book.height - filled.height:,} not"),
        ("matches", f"{result.matches.height:,}"),
    ):
        made.add_row(name, words)
    for name, amount in (
        ("fees", int(result.traded["fee_uthb"].sum())),
        ("zone wheeling", int(result.traded["zone_wheeling_uthb"].sum())),
        ("link wheeling", result.link_wheeling_uthb),
        ("congestion rent", result.rent_uthb),
    ):
        if amount:
            made.add_row(name, f"{thb(amount)} THB")
    if result.lost_wh:
        made.add_row("lost on links", f"{kwh(result.lost_wh)} kWh")
    return made


def _zones(result: ClearingResult) -> Table:
    made = table("Zones", "zone", "price THB/kWh", "bought kWh", "sold kWh")
    for zone, price, bought, sold in result.zones.select(
        "zone_id", "price_uthb_per_kwh", "bought_wh", "sold_wh"
    ).iter_rows():
        made.add_row(str(zone), "–" if price is None else thb(price), kwh(bought), kwh(sold))
    return made


def _flows(result: ClearingResult) -> Table:
    made = table("Flows", "link", "from → to", "sent kWh", "delivered kWh", "wheeling THB", left=2)
    for link, start, end, sent, delivered, _, wheeling in result.flows.iter_rows():
        made.add_row(str(link), f"{start} → {end}", kwh(sent), kwh(delivered), thb(wheeling))
    return made


def _fills(result: ClearingResult, book: pl.DataFrame, ids: pl.DataFrame) -> Table:
    shown = (
        result.fills.join(
            book.select("order_id", "covered_wh", "limit_uthb_per_kwh", "net_limit_uthb_per_kwh"), on="order_id"
        )
        .join(ids.select(pl.col("key").alias("order_id"), given="order_id"), on="order_id")
        .sort("side", pl.col("net_limit_uthb_per_kwh") * (2 * pl.col("side") - 1), "order_id")
    )
    more = shown.height - MOST_ROWS
    made = table("Fills", "order", "side", "limit THB/kWh", "filled kWh", "of kWh", "price THB/kWh", left=2)
    for row in shown.head(MOST_ROWS).iter_rows(named=True):
        made.add_row(
            str(row["given"]),
            "buy" if row["side"] == BUY else "sell",
            thb(row["limit_uthb_per_kwh"]),
            kwh(row["filled_wh"]),
            kwh(row["covered_wh"]),
            thb(row["price_uthb_per_kwh"]),
        )
    if more > 0:
        made.caption = f"and {more:,} more; --json prints all"
    return made


def refusal_lines(reasons: Sequence[str]) -> list[str]:
    """At most so many reasons as a person reads."""
    more = len(reasons) - MOST_ROWS
    return [*reasons[:MOST_ROWS], *([f"… and {more:,} rows more"] if more > 0 else [])]

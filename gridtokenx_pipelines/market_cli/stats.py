"""Statistics of epochs as one document, and as tables for people.

Belongs here: which figures are shown together, and their words. Does not belong here: computing them
(market/analytics.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from rich.console import Console

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market import analytics
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.market_cli.folder import History
from gridtokenx_pipelines.market_cli.summary import table
from gridtokenx_pipelines.units import kwh, thb

MOST_PARTICIPANTS = 15
SIDES = ("buyers", "sellers")
WELFARE = ("buyers", "sellers", "fees", "zone_wheeling", "link_wheeling", "rent", "total")


def statistics(history: History, epochs: Sequence[int], network: Network) -> dict[str, Any]:
    """One document of integers: over all epochs, and by epoch where that is what is asked about.

    Depth is given for a single epoch; concentration over the whole span is that of the summed trades.
    """
    whole = history.traded.with_columns(epoch=pl.lit(epochs[0], pl.Int64))
    welfare = analytics.welfare_split(history.book, history.fills, history.traded, history.flows)
    found: dict[str, Any] = {
        "first_epoch": key_of(epochs[0]),
        "last_epoch": key_of(epochs[-1]),
        "epochs": len(epochs),
        "orders": history.book.height,
        "rejected": history.rejected.height,
        "bought_wh": int(history.zones["bought_wh"].sum()),
        "prices": analytics.prices(history.zones).to_dicts(),
        "price_bands": analytics.price_bands(history.zones).to_dicts(),
        "welfare_uthb": {name: int(welfare[f"{name}_uthb"].sum()) for name in WELFARE},
        "concentration": {
            SIDES[row.pop("side")]: {name: value for name, value in row.items() if name != "epoch"}
            for row in analytics.concentration(whole).to_dicts()
        },
        "congestion": analytics.congestion(history.flows, network).to_dicts(),
        "participants": analytics.participants(history.book, history.fills, history.traded).to_dicts(),
    }
    if len(epochs) == 1:
        found["depth"] = analytics.depth(history.book).drop("epoch").to_dicts()
        order = analytics.merit_order(history.book).drop("epoch").with_columns(pl.col("order_id").bin.encode("hex"))
        found["merit_order"] = order.to_dicts()
    else:
        found["by_epoch"] = _by_epoch(history, welfare).to_dicts()
    return found


def _by_epoch(history: History, welfare: pl.DataFrame) -> pl.DataFrame:
    """Per epoch: bought Wh, welfare, and the two concentrations."""
    shares = analytics.concentration(history.traded).pivot("side", index="epoch", values="hhi")
    for side, name in enumerate(SIDES):
        column = pl.col(str(side)) if str(side) in shares.columns else pl.lit(None, pl.Int64)
        shares = shares.with_columns(column.alias(f"hhi_{name}"))
    return (
        history.zones.group_by("epoch")
        .agg(pl.col("bought_wh").sum())
        .join(welfare.select("epoch", "total_uthb"), on="epoch", how="left")
        .join(shares.select("epoch", *(f"hhi_{name}" for name in SIDES)), on="epoch", how="left")
        .sort("epoch")
        .with_columns(pl.col("total_uthb").fill_null(0), key=pl.col("epoch").map_elements(key_of, pl.String))
    )


def print_statistics(console: Console, found: dict[str, Any]) -> None:
    """Print a document of `statistics`."""
    span = found["first_epoch"] if found["epochs"] == 1 else f"{found['first_epoch']} to {found['last_epoch']}"
    console.print(
        f"[bold]{span}[/bold]: {found['epochs']:,} epochs, {found['orders']:,} orders in books, "
        f"{found['rejected']:,} dropped, {kwh(found['bought_wh'])} kWh bought"
    )
    prices = table("Prices", "zone", "priced epochs", "lowest", "mean", "highest THB/kWh", "bought kWh", "sold kWh")
    for row in found["prices"]:
        levels = [row[f"{name}_uthb_per_kwh"] for name in ("lowest", "mean", "highest")]
        words = ["–" if level is None else thb(level) for level in levels]
        prices.add_row(
            str(row["zone_id"]),
            f"{row['priced_epochs']} of {row['epochs']}",
            *words,
            kwh(row["bought_wh"]),
            kwh(row["sold_wh"]),
        )
    bands = table("Price bands", "zone", "THB/kWh", "epochs", "bought kWh", left=2)
    for row in found["price_bands"]:
        band = f"{row['from_uthb_per_kwh'] / 1e6:.2f} – {row['to_uthb_per_kwh'] / 1e6:.2f}"
        bands.add_row(str(row["zone_id"]), band, f"{row['epochs']:,}", kwh(row["bought_wh"]))
    welfare = table("Welfare goes to", "", "THB")
    for name, amount in found["welfare_uthb"].items():
        welfare.add_row(name.replace("_", " "), thb(amount))
    shares = table("Concentration", "side", "participants", "largest", "HHI")
    for side, row in found["concentration"].items():
        shares.add_row(side, f"{row['participants']:,}", f"{row['largest_bp'] / 100:.1f} %", f"{row['hhi']:,}")
    console.print(prices, bands, welfare, shares)
    _print_guiding(console, found.get("guiding_prices", []))
    _print_links(console, found["congestion"])
    _print_participants(console, found["participants"])


def _print_guiding(console: Console, rows: list[dict[str, Any]]) -> None:
    """Reference prices and tariffs as the span they took; they settle nothing but the tariffs."""
    if not rows:
        return
    made = table("Guiding prices", "", "lowest", "highest THB/kWh")
    for name, words in (
        ("reference", "reference price, 3.00 × (1 + 0.25 × demand / supply)"),
        ("display", "reference price for display, 5.00 ± 0.50"),
        ("tariff", "retail tariff"),
        ("feed_in", "feed-in tariff"),
    ):
        values = [row[f"{name}_uthb_per_kwh"] for row in rows]
        made.add_row(words, thb(min(values)), thb(max(values)))
    console.print(made)


def _print_links(console: Console, links: list[dict[str, Any]]) -> None:
    if not links:
        return
    made = table("Links", "link", "from → to", "used h", "full h", "sent kWh", "lost kWh", "highest use", left=2)
    for row in links:
        made.add_row(
            str(row["link_id"]),
            f"{row['from_zone']} → {row['to_zone']}",
            f"{row['used_minutes'] / 60:g}",
            f"{row['full_minutes'] / 60:g}",
            kwh(row["sent_wh"]),
            kwh(row["lost_wh"]),
            f"{row['highest_use_bp'] / 100:.1f} %",
        )
    console.print(made)


def _print_participants(console: Console, people: list[dict[str, Any]]) -> None:
    columns = ("wallet", "orders", "whole/part/not", "bought kWh", "sold kWh", "earned − paid THB", "busiest hour")
    made = table("Participants who traded most", *columns)
    ranked = sorted(people, key=lambda row: (-row["bought_wh"] - row["sold_wh"], row["wallet"]))
    for row in ranked[:MOST_PARTICIPANTS]:
        made.add_row(
            f"{row['wallet'][:8]}…",
            f"{row['orders']:,}",
            "/".join(f"{row[name]:,}" for name in ("whole", "partly", "unfilled")),
            kwh(row["bought_wh"]),
            kwh(row["sold_wh"]),
            thb(row["proceeds_uthb"] - row["cost_uthb"]),
            "–" if row["busiest_hour"] is None else f"{row['busiest_hour']:02d}:00",
        )
    if len(ranked) > MOST_PARTICIPANTS:
        made.caption = f"and {len(ranked) - MOST_PARTICIPANTS:,} more; --json has all"
    console.print(made)

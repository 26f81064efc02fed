"""The commands of `gridtokenx market`.

Belongs here: options and their bounds. Does not belong here: the work, which each command imports when it runs. Exit
codes: 0 done, 1 a book, a row or a question had no answer, 2 usage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

READABLE = click.Path(path_type=Path, exists=True, dir_okay=False)
MECHANISMS = ("uniform", "pay_as_bid", "continuous", "zonal")


@click.group()
def market() -> None:
    """Clear books from files, explain an order, draw the curves, statistics."""


@market.command()
@click.argument("book", type=READABLE)
@click.option("--mechanism", type=click.Choice(MECHANISMS), help="Default: zonal with --network, else uniform.")
@click.option("--network", type=READABLE, help="Zones and links (JSON).")
@click.option("--charges", type=READABLE, help="Fee and zone wheeling (JSON); none without it.")
@click.option(
    "--limits",
    default="market",
    show_default=True,
    type=click.Choice(["market", "none"]),
    help="none: no price band, tick or order limits.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing else; a .jsonl gives one result a line.")
def clear(**options: object) -> None:
    """Clear the orders of BOOK: .json, .jsonl (a book a line), .csv or .parquet.

    Fields: order_id, side (buy, sell, 0, 1), energy_wh, limit_price (µTHB/kWh), placed_at (µs or ISO 8601), zone_id,
    wallet; the last three may be missing. Exit code 1 if a book or a row was refused.
    """
    from gridtokenx_pipelines.market_cli.clear import Options, run_clear  # noqa: PLC0415 - polars is a second

    sys.exit(run_clear(Options(**options)))  # type: ignore[arg-type] # click has checked them

"""The commands of `gridtokenx market`.

Belongs here: options and their bounds. Does not belong here: the work, which each command imports when it runs. Exit
codes: 0 done, 1 a book, a row or a question had no answer, 2 usage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

DATA_DIR = click.option(
    "--data-dir",
    default=Path(".gridtokenx/demo"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a demo or a service.",
)
DATABASE = click.option("--database-url", envvar="DATABASE_URL", help="Default: the folder's own database.")
READABLE = click.Path(path_type=Path, exists=True, dir_okay=False)
MECHANISMS = ("uniform", "pay_as_bid", "continuous", "zonal")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})  # the same alone and under `gridtokenx`
def market() -> None:
    """Clear books from files, explain an order, draw the curves, statistics."""


@market.command()
@click.argument("book", type=READABLE)
@click.option("--mechanism", type=click.Choice(MECHANISMS), help="Default: zonal with --network, else uniform.")
@click.option("--network", type=READABLE, help="Zones and links (JSON).")
@click.option("--charges", type=READABLE, help="Rates, or versions of them by epoch (JSON); none without it.")
@click.option("--epoch", help="Epoch of a book that names none; says which version of the charges holds.")
@click.option("--certificates", type=READABLE, help="Certificates that sells may name (JSON); shown with --json.")
@click.option("--breaker", is_flag=True, help="continuous: halt at a price 10 % off any of the minute before.")
@click.option("--resumed-at", multiple=True, help="continuous: an operator resumed then (µs or ISO 8601); repeatable.")
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

    Fields: order_id, side (buy, sell, 0, 1), energy_wh, limit_price (µTHB/kWh), and if need be placed_at (µs or ISO
    8601), zone_id, wallet, min_wh, cancelled_at, replaces, certificate_id. Exit code 1 if a book or a row was refused.
    """
    from gridtokenx_pipelines.market_cli.clear import options_of, run_clear  # noqa: PLC0415 - polars is a second

    sys.exit(run_clear(options_of(options)))


@market.command()
@click.argument("order_id")
@click.argument("epoch")
@DATA_DIR
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")
def explain(order_id: str, epoch: str, data_dir: Path, database_url: str | None, as_json: bool) -> None:
    """Say in words why an order was or wasn't filled.

    ORDER_ID: hexadecimal, its beginning is enough where only one order has it. EPOCH: 2026-01-27T12:00Z or a number.
    """
    from gridtokenx_pipelines.market_cli.look import run_explain  # noqa: PLC0415

    sys.exit(run_explain(order_id, epoch, data_dir, database_url, as_json=as_json))


@market.command()
@click.argument("epoch")
@DATA_DIR
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="FILE.svg or FILE.png; default market-EPOCH.svg."
)
def plot(epoch: str, data_dir: Path, output: Path | None) -> None:
    """Draw the supply and demand curves of EPOCH with the price, zone by zone."""
    from gridtokenx_pipelines.market_cli.look import run_plot  # noqa: PLC0415

    sys.exit(run_plot(epoch, data_dir, output))


@market.command()
@click.argument("epoch", required=False)
@DATA_DIR
@DATABASE
def resume(epoch: str | None, data_dir: Path, database_url: str | None) -> None:
    """Let a market that its circuit breaker halted trade again.

    From EPOCH on (2026-01-27T12:00Z or a number; default: the next one to be cleared) prices are compared only with
    those of epochs from there on. What was halted stays halted: surplus credited, deficits billed, no trades.
    """
    from gridtokenx_pipelines.market_cli.resume import run_resume  # noqa: PLC0415

    sys.exit(run_resume(epoch, data_dir, database_url))


@market.command()
@click.argument("when", required=False)
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")
def stats(when: str | None, data_dir: Path, as_json: bool) -> None:
    """Prices, depth, welfare, concentration, congestion and participants of an epoch, a day (UTC) or all of it.

    WHEN: 2026-01-27T12:00Z, an epoch's number, or a day such as 2026-01-27.
    """
    from gridtokenx_pipelines.market_cli.look import run_stats  # noqa: PLC0415

    sys.exit(run_stats(when, data_dir, as_json=as_json))

"""The summary a person reads in the terminal: rich tables of a demo's result.

Belongs here: layout and wording. Does not belong here: computing the result (demo/), or `--json`, which prints the
same result as it is. Energy is shown in kWh and money in THB, exact, as decimal strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gridtokenx_pipelines.report.data import Savings
from gridtokenx_pipelines.units import kwh, thb

ENERGY_WORDS = {
    "produced": "produced",
    "consumed": "consumed",
    "traded": "traded between neighbours",
    "minted": "minted as GRID",
    "burned": "burned",
    "residual": "residual, from the supplier",
}


def print_summary(result: Mapping[str, Any], savings: Savings | None = None, console: Console | None = None) -> None:
    """Print the result of a demo (the document of `demo.json`). Raises KeyError for a result that lacks a part."""
    console = console or Console()
    console.print(summary(result, savings))


def summary(result: Mapping[str, Any], savings: Savings | None = None) -> Group:
    """The summary as something rich prints."""
    proof = _proof(result["ledger_proof"])
    parts = [
        _title(result),
        _energy(result["energy_wh"]),
        _prices(result["price_uthb_per_kwh"]),
        *([_savings(savings)] if savings is not None else []),
        _readings(result["readings"]),
        _chain(result),
        proof,
    ]
    return Group(*parts)


def _table(title: str, *columns: tuple[str, str]) -> Table:
    has_header = any(name for name, _ in columns[1:])
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.show_header = has_header
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type] # "left" or "right"
    return table


def _title(result: Mapping[str, Any]) -> Panel:
    closes = all(row["difference"] == 0 for row in result["ledger_proof"])
    verdict = (
        Text("every conservation law closes to 0", style="bold green")
        if closes
        else Text("a conservation law does NOT close", style="bold red")
    )
    line = Text.assemble(
        (f"{result['epochs_settled']} epochs settled", "bold"),
        f" on grid {result['grid']}, seed {result['seed']}: ",
        verdict,
    )
    return Panel(line, expand=False, border_style="green" if closes else "red")


def _energy(energy_wh: Mapping[str, int]) -> Table:
    table = _table("Energy", ("", "left"), ("kWh", "right"))
    for name, amount in energy_wh.items():
        table.add_row(ENERGY_WORDS.get(name, name), kwh(amount))
    return table


def _prices(prices: Mapping[str, Mapping[str, int | None]]) -> Table:
    table = _table("Price, THB per kWh", ("zone", "left"), ("lowest", "right"), ("mean", "right"), ("highest", "right"))
    for zone, price in prices.items():
        table.add_row(str(zone), *(_price(price.get(which)) for which in ("min", "mean", "max")))
    return table


def _price(value: int | float | None) -> str:
    return "no trade" if value is None else thb(round(value))


def _savings(savings: Savings) -> Table:
    table = _table("Better off than without trading", ("", "left"), ("THB", "right"))
    table.add_row("buyers, against the retail tariff", thb(savings.buyers_uthb))
    table.add_row("sellers, against the feed-in tariff", thb(savings.sellers_uthb))
    table.add_row("together", thb(savings.total_uthb), style="bold")
    return table


def _readings(readings: Mapping[str, Any]) -> Table:
    table = _table("Readings", ("", "left"), ("", "right"))
    table.add_row("sent", f"{readings['sent']:,}")
    table.add_row("accepted", f"{readings['accepted']:,}")
    for reason, count in sorted(readings["rejected"].items(), key=lambda item: (-item[1], item[0])):
        table.add_row(f"refused: {reason.replace('_', ' ')}", f"{count:,}")
    table.add_row("late corrections, resettled", f"{readings['corrections']:,}")
    return table


def _chain(result: Mapping[str, Any]) -> Table:
    chain = result["chain"]
    table = _table("Chain and time", ("", "left"), ("", "right"))
    table.add_row("transactions", f"{chain['transactions']:,}")
    table.add_row("compute units", f"{chain['compute_units']:,}")
    table.add_row("compute units per trader and epoch", f"{chain['compute_units_per_trader']:,.0f}")
    table.add_row("epochs with a final root", f"{len(result['roots']):,}")
    for stage, seconds in result["seconds"].items():
        table.add_row(f"{stage.replace('_', ' ')}, seconds", f"{seconds:,.1f}")
    return table


def _proof(proof: list[Mapping[str, Any]]) -> Table:
    table = _table(
        "Ledger proof, in Wh and µTHB", ("law", "left"), ("left", "right"), ("right", "right"), ("difference", "right")
    )
    for row in proof:
        style = "green" if row["difference"] == 0 else "bold red"
        difference = Text(f"{row['difference']:,}", style=style)
        table.add_row(str(row["law"]), f"{row['left']:,}", f"{row['right']:,}", difference)
    return table

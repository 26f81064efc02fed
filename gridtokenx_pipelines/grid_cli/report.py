"""`gridtokenx grid report`: the grid operator's report as a table, JSON, or files.

Belongs here: showing. Does not belong here: computing (settlement_service/grid_report.py), pages (grid_pages.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from gridtokenx_pipelines.grid_cli.folder import GridFolder, words_of_span
from gridtokenx_pipelines.settlement_service.grid_day import hosting_between, report_between, states_between
from gridtokenx_pipelines.settlement_service.grid_pages import as_document, write
from gridtokenx_pipelines.units import kwh, thb


def show(
    data_dir: Path,
    database_url: str | None,
    span: tuple[str | None, str | None],
    *,
    as_json: bool,
    output: Path | None,
) -> int:
    """Print or write the report; 1 if nothing was metered."""
    folder = GridFolder(data_dir, database_url)
    first, last = folder.span(*span)
    with folder.connection() as connection:
        try:
            found = report_between(connection, folder.case, folder.market.network, first, last)
        except LookupError as error:
            click.echo(f"grid: {error}", err=True)
            return 1
        hosting = hosting_between(states_between(connection, folder.case, first, last), folder.case)
    document = as_document(found, hosting)
    if output is not None:
        for path in write(output, f"Grid report {words_of_span(first, last)}", found, hosting):
            click.echo(str(path), err=as_json)
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif output is None:
        _tables(document, words_of_span(first, last))
    return 0


def _tables(document: dict[str, list[dict[str, object]]], span: str) -> None:
    console = Console(width=150 if not sys.stdout.isatty() else None)
    zones = _table(
        f"Zones (0: shared), kWh, {span}",
        ("day", "zone", "generation", "load", "exchange", "losses", "violations", "to curtail", "p.u."),
    )
    for row in document["zones"]:
        energies = [kwh(int(str(row[f"{name}_wh"]))) for name in ("generation", "load", "exchange", "loss")]
        pu = "–" if row["lowest_pu"] is None else f"{row['lowest_pu']:.3f}…{row['highest_pu']:.3f}"
        cells = (str(row["day"]), str(row["zone_id"]), *energies, str(row["violations"]))
        zones.add_row(*cells, kwh(int(str(row["to_curtail_wh"]))), pu)
    console.print(zones)
    worst = _table("Worst hours", ("epoch", "margin %", "violations", "element"))
    for row in document["worst"]:
        worst.add_row(str(row["epoch"]), str(row["margin_percent"]), str(row["violations"]), str(row["what"]))
    console.print(worst)
    links = _table("Links", ("day", "link", "sent kWh", "delivered kWh", "wheeling THB", "rent THB"))
    for row in document["links"]:
        money = [thb(int(str(row[name]))) for name in ("wheeling_uthb", "rent_uthb")]
        energies = [kwh(int(str(row[name]))) for name in ("sent_wh", "delivered_wh")]
        links.add_row(str(row["day"]), f"{row['link_id']}: {row['link']}", *energies, *money)
    console.print(links)


def _table(title: str, names: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="left" if name in ("day", "epoch", "link", "element", "zone") else "right")
    return table

"""`gridtokenx grid hosting`: hosting capacity by zone.

Belongs here: showing. Does not belong here: computing (grid/hosting.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from gridtokenx_pipelines.grid_cli.folder import GridFolder, words_of_span
from gridtokenx_pipelines.settlement_service.grid_day import hosting_between, states_between


def show(data_dir: Path, database_url: str | None, span: tuple[str | None, str | None], *, as_json: bool) -> int:
    """Print what each zone carries on top of what was metered; 1 if nothing was."""
    folder = GridFolder(data_dir, database_url)
    first, last = folder.span(*span)
    with folder.connection() as connection:
        states = states_between(connection, folder.case, first, last)
    if not states:
        click.echo(f"grid: no net energy of {words_of_span(first, last)}; name epochs that were metered", err=True)
        return 1
    found = hosting_between(states, folder.case)
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(found), indent=2) + "\n")
        return 0
    table = Table(title=f"Hosting capacity in all {len(states)} epochs, {words_of_span(first, last)}")
    for name in ("zone", "PV kW", "ends with", "load kW", "ends with"):
        table.add_column(name, justify="right" if name.endswith("kW") else "left")
    for each in found:
        powers = f"{each.production_w / 1_000:.1f}", f"{each.load_w / 1_000:.1f}"
        table.add_row(str(each.zone_id), powers[0], each.production_ends, powers[1], each.load_ends)
    Console(width=160 if not sys.stdout.isatty() else None).print(table)
    return 0

"""`gridtokenx grid island`: declare that the upstream grid is lost or back, show it, plan an epoch without it.

Belongs here: gathering and showing. Does not belong here: the rules of a declaration (settlement_service/island.py),
the dispatch (grid/island.py). Set-points are for whoever steers storages and switches; nothing here switches anything.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.grid.island import dispatch
from gridtokenx_pipelines.grid.states import Bounds, violations
from gridtokenx_pipelines.grid_cli.folder import GridFolder
from gridtokenx_pipelines.market_cli.numbers import epoch_number
from gridtokenx_pipelines.settlement_service.grid_day import states_between
from gridtokenx_pipelines.settlement_service.island import IslandRefused, declare
from gridtokenx_pipelines.store import island as store
from gridtokenx_pipelines.store.epochs import last_cleared_epoch
from gridtokenx_pipelines.units import kwh


def say(data_dir: Path, database_url: str | None, what: str, epoch: str | None, *, who: str, why: str) -> int:
    """Declare it; 1 and the bound in words where it doesn't fit."""
    folder = GridFolder(data_dir, database_url)
    try:
        number = None if epoch is None else epoch_number(epoch)
        with folder.connection() as connection:
            said = declare(connection.engine, folder.case, what, epoch=number, who=who, why=why, at=datetime.now(UTC))
    except (IslandRefused, ValueError) as error:
        click.echo(f"grid: {error}", err=True)
        return 1
    click.echo(said.words())
    return 0


def show(data_dir: Path, database_url: str | None, *, as_json: bool) -> int:
    """Declarations in order, and what holds for the next epoch to clear."""
    folder = GridFolder(data_dir, database_url)
    with folder.connection() as connection:
        declared = store.events(connection)
        following = last_cleared_epoch(connection) + 1
    now = bool(store.islanded(declared, [following]))
    events = [{**row, "epoch": key_of(row["epoch"])} for row in declared.iter_rows(named=True)]
    if as_json:
        document = {"declared": events, "next_epoch": key_of(following), "island": now}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    table = Table("from", "upstream grid", "who", "why")
    for row in events:
        table.add_row(*(str(row[name]) for name in ("epoch", "what", "who", "why")))
    Console(width=120 if not sys.stdout.isatty() else None).print(table)
    click.echo(f"{key_of(following)}, the next to clear, runs {'as an island' if now else 'on the upstream grid'}")
    return 0


def plan(data_dir: Path, database_url: str | None, epoch: str | None, stored_percent: int, *, as_json: bool) -> int:
    """Set-points per meter; 1 if there is no state, no island can form, or it would break a bound."""
    folder = GridFolder(data_dir, database_url)
    first, last = folder.span(None, epoch)
    with folder.connection() as connection:
        states = states_between(connection, folder.case, first if epoch else last, last)
    if not states:
        click.echo(f"grid: no net energy of {key_of(last)}; name an epoch that was metered", err=True)
        return 1
    at = max(states)
    try:
        case, former = folder.case.island
    except NetworkError as error:
        click.echo(f"grid: {error}", err=True)
        return 1
    done, flow = dispatch(case, states[at], case.meter_storage_wh * stored_percent // 100)
    broken = [each.words() for each in violations(case, flow, 0, Bounds())]
    moved = done.charged_wh + done.discharged_wh + done.shed_wh + done.curtailed_wh
    rows: list[dict[str, Any]] = [
        {
            "meter_id": str(case.meter_id[column]),
            "priority": int(case.meter_priority[column]),
            "serve_wh": int(done.served_wh[column]),
            "shed_wh": int(done.shed_wh[column]),
            "curtail_wh": int(done.curtailed_wh[column]),
            "charge_wh": int(done.charged_wh[column]),
            "discharge_wh": int(done.discharged_wh[column]),
        }
        for column in np.flatnonzero(moved).tolist()
    ]
    total = {
        "state_of": key_of(at),
        "forming": former,
        "served_wh": int(done.served_wh.sum()),
        "shed_wh": int(done.shed_wh.sum()),
        "loss_wh": done.loss_wh,
        "violations": broken,
    }
    if as_json:
        sys.stdout.write(json.dumps({**total, "set_points": rows}, indent=2) + "\n")
        return 1 if broken else 0
    table = Table(title=f"An epoch like {key_of(at)} as an island; {former} forms the voltage (kWh)")
    for name in ("meter", "class", "serve", "shed", "curtail", "charge", "discharge"):
        table.add_column(name, justify="left" if name == "meter" else "right")
    for row in rows:
        table.add_row(row["meter_id"], str(row["priority"]), *(kwh(row[name]) for name in list(row)[2:]))
    Console(width=120 if not sys.stdout.isatty() else None).print(table)
    click.echo(
        f"served {kwh(int(done.served_wh.sum()))} kWh, shed {kwh(int(done.shed_wh.sum()))} kWh, losses "
        f"{kwh(done.loss_wh)} kWh; {'; '.join(broken) or 'every voltage and loading within its bounds'}"
    )
    return 1 if broken else 0

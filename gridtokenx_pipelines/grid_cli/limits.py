"""`gridtokenx grid limits`: stored limits as a table, and the operator's override for one epoch.

Belongs here: showing. Does not belong here: computing limits (settlement_service/network.py).
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import polars as pl
from rich.console import Console
from rich.table import Table

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid_cli.folder import GridFolder, words_of_span
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.settlement_service.island import source_at
from gridtokenx_pipelines.store import audit
from gridtokenx_pipelines.store import grid as store
from gridtokenx_pipelines.store.epochs import statuses
from gridtokenx_pipelines.store.island import is_island
from gridtokenx_pipelines.units import kwh

MOST_ROWS = 200
CLEARED = ("cleared", "halted", "settled")


def show(data_dir: Path, database_url: str | None, span: tuple[str | None, str | None], *, as_json: bool) -> int:
    """Print the limits of the epochs; 1 if there are none."""
    folder = GridFolder(data_dir, database_url)
    first, last = folder.span(*span)
    with folder.connection() as connection:
        limits = store.limits_between(connection, first, last)
        states = store.states_between(connection, first, last)
    if states.is_empty():
        click.echo(f"grid: no limits are stored for {words_of_span(first, last)}; materialise grid_limits", err=True)
        return 1
    joined = limits.join(states.select("epoch", "source", "lowest_pu", "highest_pu", "repairs"), on="epoch")
    if as_json:
        rows = [{**row, "epoch": key_of(row["epoch"])} for row in joined.iter_rows(named=True)]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    table = Table(title=f"Limits of links, kWh per epoch, {words_of_span(first, last)}")
    for name in ("epoch", "link", "forward", "backward", "loss %", "what binds forward", "cut to", "state p.u."):
        table.add_column(name, justify="left" if name in ("epoch", "link", "what binds forward") else "right")
    for row in joined.head(MOST_ROWS).iter_rows(named=True):
        cut = [row[f"cleared_{way}_wh"] for way in ("forward", "backward")]
        same = cut == [row[f"capacity_{way}_wh"] for way in ("forward", "backward")]
        table.add_row(
            key_of(row["epoch"]),
            f"{row['link_id']}: {row['from_zone']} → {row['to_zone']}",
            kwh(row["capacity_forward_wh"]),
            kwh(row["capacity_backward_wh"]),
            f"{row['loss_ppm'] / 10_000:.3f}",
            row["binding_forward"],
            "" if same else " / ".join(map(kwh, cut)),
            "–" if row["lowest_pu"] is None else f"{row['lowest_pu']:.3f}…{row['highest_pu']:.3f}",
        )
    Console(width=170 if not sys.stdout.isatty() else None).print(table)
    if joined.height > MOST_ROWS:
        click.echo(f"… and {joined.height - MOST_ROWS} rows more; --day, --epoch or --json shows them")
    return 0


def override(data_dir: Path, database_url: str | None, epoch: str) -> int:
    """Store the network file's own capacities for one epoch that has not cleared; 1 if it has. Audited."""
    folder = GridFolder(data_dir, database_url)
    number, _ = folder.span(None, epoch)
    with folder.connection() as connection:
        if statuses(connection, number, number).get(number) in CLEARED:
            click.echo(f"grid: epoch {key_of(number)} has cleared, its limits stay; name one that has not", err=True)
            return 1
        source = source_at("operator", islanded=is_island(connection, number))
        store.save(
            connection, _given_state(number, folder.case.fingerprint, source), _given(number, folder.market.network)
        )
        detail: dict[str, object] = {"epoch": number, "source": "operator"}
        audit.append(connection, at=datetime.now(UTC), who="operator", what="grid_limits_given", detail=detail)
        connection.commit()
    click.echo(f"epoch {key_of(number)} will be cleared over the capacities of zones.json")
    return 0


def _given_state(epoch: int, fingerprint: str, source: str) -> store.GridState:
    return store.GridState(
        epoch=epoch,
        state_epoch=epoch - 1,
        source=source,
        case_fingerprint=fingerprint,
        converged=True,
        lowest_pu=None,
        highest_pu=None,
        line_percent=None,
        trafo_percent=None,
        loss_wh=0,
        violations="[]",
        unplaced=0,
    )


def _given(epoch: int, network: Network) -> list[store.LimitRow]:
    return [
        store.LimitRow(
            epoch=epoch,
            link_id=link.link_id,
            from_zone=link.from_zone,
            to_zone=link.to_zone,
            capacity_forward_wh=link.capacity_forward_wh,
            capacity_backward_wh=link.capacity_backward_wh,
            loss_ppm=link.loss_ppm,
            binding_forward="the network file's own limit, by the operator",
            binding_backward="the network file's own limit, by the operator",
        )
        for link in network.links
    ]


def frame_of(limits: pl.DataFrame) -> pl.DataFrame:
    """Limits with the key of their epoch, for documents."""
    return limits.with_columns(epoch=pl.col("epoch").map_elements(key_of, return_dtype=pl.String))

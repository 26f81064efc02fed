"""The commands of `gridtokenx settle`.

Belongs here: options, tables for people, exit codes (0 done, 1 refused or differs, 2 usage). Does not belong here: what
is done (settlement_service/). The environment says which market, as for every process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec
import polars as pl

from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.epochs import epoch_of_key, key_of
from gridtokenx_pipelines.settlement_service import (
    disputes,
    movements,
    reconcile,
    resettlement,
    retention,
    stuck,
    taking_back,
    voids,
)
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.store import disputes as dispute_store
from gridtokenx_pipelines.store import runs as run_store
from gridtokenx_pipelines.store import voids as void_store
from gridtokenx_pipelines.units import thb

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def settle() -> None:
    """Decide disputes, see runs and debts, resume and reconcile the settlement."""


@contextmanager
def _services() -> Iterator[Services]:
    try:
        with open_services(Settings.from_env()) as services:
            yield services
    except ChainError as error:
        click.echo(f"chain: {error}", err=True)
        sys.exit(1)


def _epoch(value: str) -> int:
    try:
        return epoch_of_key(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _show(frame: pl.DataFrame, as_json: bool, nothing: str) -> None:
    if as_json:
        click.echo(json.dumps(frame.to_dicts(), default=str))
    elif frame.is_empty():
        click.echo(nothing)
    else:
        with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
                       tbl_width_chars=200, fmt_str_lengths=80):  # fmt: skip
            click.echo(str(frame))


@settle.command()
@click.option("--case", "case_id", required=True, help="Your case number; the same case is decided once.")
@click.option("--meter", "meter_id", required=True, help="Meter whose register is corrected.")
@click.option("--boundary", required=True, help="Epoch that begins at the corrected boundary, 2026-06-14T17:15Z.")
@click.option(
    "--production",
    "production_delta_wh",
    default=0,
    type=int,
    help="Wh that the production register is to read more there.",
)
@click.option(
    "--consumption",
    "consumption_delta_wh",
    default=0,
    type=int,
    help="Wh that the consumption register is to read more there.",
)
@click.option("--reason", required=True, help="Why, for the record.")
@click.option("--by", "decided_by", required=True, help="Who decided.")
@click.option("--now", is_flag=True, help="Resettle at once; else the correction sensor does within half a minute.")
def dispute(boundary: str, now: bool, **given: str | int) -> None:
    """Decide a dispute: a corrected register, booked as a resettlement run that names the case."""
    epoch = _epoch(boundary)
    with _services() as services:
        try:
            new = disputes.decide(services, disputes.Decision(boundary_epoch=epoch, **given))  # type: ignore[arg-type]
        except disputes.DisputeRefused as error:
            click.echo(f"refused: {error}", err=True)
            sys.exit(1)
        click.echo(f"case {given['case_id']}: {'decided' if new else 'was decided so before'}")
        if now:
            resettlement.resettle_epochs(services, [epoch])
            with services.engine.connect() as connection:
                found = (
                    dispute_store.disputes(connection).filter(pl.col("case_id") == given["case_id"]).row(0, named=True)
                )
            run = f"run with seq {found['booked_seq']}" if found["booked_seq"] else "no run: nothing moves"
            click.echo(
                f"{found['status']}, x = {found['x_wh']} Wh, {run}{': ' + found['answer'] if found['answer'] else ''}"
            )


@settle.command("disputes")
@json_option
def list_disputes(as_json: bool) -> None:
    """All decided disputes and what became of them."""
    with _services() as services, services.engine.connect() as connection:
        _show(dispute_store.disputes(connection), as_json, "no dispute was decided")


@settle.command()
@click.option("--epoch", "key", help="Only runs of this epoch.")
@click.option("--last", default=50, show_default=True, type=click.IntRange(1), help="At most so many, the newest.")
@json_option
def runs(key: str | None, last: int, as_json: bool) -> None:
    """Runs with their number, kind, state and cause."""
    with _services() as services, services.engine.connect() as connection:
        found = run_store.runs(connection, None if key is None else _epoch(key), last)
        shown = found.with_columns(pl.col("epoch").map_elements(key_of, return_dtype=pl.String))
        _show(shown, as_json, "no run is booked")


@settle.command()
@json_option
def debts(as_json: bool) -> None:
    """Who owes the supplier: every credit of theirs pays it first."""
    with _services() as services, services.engine.connect() as connection:
        found = run_store.debts(connection)
        if not as_json and found.height:
            found = found.with_columns(debt_thb=pl.col("debt_uthb").map_elements(thb, return_dtype=pl.String))
        _show(found, as_json, "nobody owes anything")


@settle.command()
def follow() -> None:
    """Book what moved on the chain outside of runs: deposits, withdrawals, matches, on-chain orders."""
    with _services() as services:
        found = movements.follow(services)
    click.echo(f"booked {found.booked or 'nothing'}; {found.requests} withdrawals asked for")
    click.echo("chain and ledger have the same totals" if found.caught_up else "more is confirmed and not final yet")


@settle.command()
def resume() -> None:
    """Bring every open run to its end; what the chain has already is not sent again."""
    with _services() as services:
        for each in stuck.find(services, 0):
            click.echo(each.words)
        done = stuck.resume(services)
    click.echo(f"{len(done.epochs)} epochs brought to their end, {done.reopened} runs opened again, "
               f"{done.stamped} receipts became final")  # fmt: skip


@settle.command()
@click.argument("key", metavar="EPOCH")
@click.option("--run", type=click.IntRange(0), help="Which run; else the first open one of the epoch.")
@click.option("--reason", help="Why, for the record. [required without --dry-run]")
@click.option("--by", "decided_by", default="authority", show_default=True, help="Who decided.")
@click.option("--dry-run", is_flag=True, help="Only say what would be void and taken back.")
@json_option
def void(key: str, run: int | None, reason: str | None, decided_by: str, dry_run: bool, as_json: bool) -> None:  # noqa: PLR0917 - options
    """Void a stuck run with the authority's key, 24 h after its epoch's gate.

    All epochs booked after a stuck one are void with it: no trades, their energy is settled by a late run. The ledger
    takes the bookings back. The same command again ends what a crash left half done.
    """
    if not dry_run and not (reason or "").strip():
        raise click.UsageError("--reason is missing: a void stays on record; say why, or look first with --dry-run")
    decision = taking_back.Decision(epoch=_epoch(key), run=run, reason=reason or "", decided_by=decided_by)
    with _services() as services:
        try:
            done = voids.void(services, decision, dry_run=dry_run)
        except taking_back.VoidRefused as error:
            click.echo(f"refused: {error}", err=True)
            sys.exit(1)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(done) | {"dry_run": dry_run}))
        return
    for line in done.words:
        click.echo(line)
    click.echo("dry run: nothing was sent, nothing was booked" if dry_run else "bring the late run to the chain with "
               "`gridtokenx settle resume`, unless the sensors do")  # fmt: skip


@settle.command("voids")
@json_option
def list_voids(as_json: bool) -> None:
    """Every voided run: why, by whom, and what it had been booked as."""
    with _services() as services, services.engine.connect() as connection:
        found = void_store.voids(connection).with_columns(
            pl.col("epoch").map_elements(key_of, return_dtype=pl.String),
            kind=pl.col("kind").replace_strict({1: "initial", 2: "late", 3: "resettlement"}, return_dtype=pl.String),
        )
        _show(found, as_json, "nothing was ever voided")


@settle.command("keep-house")
def keep_house() -> None:
    """Give old chain rent back, compact old partitions."""
    with _services() as services:
        kept = retention.keep_house(services)
    click.echo(
        f"{kept.closed} epochs closed, {kept.lamports} lamports returned; {kept.days} days compacted from "
        f"{kept.files_before} to {kept.files_after} files"
    )


@settle.command("reconcile")
@click.option("--dry-run", is_flag=True, help="Only say what differs.")
@json_option
def reconcile_command(dry_run: bool, as_json: bool) -> None:
    """Bring a restored database and a chain that is ahead of it together, paying nothing twice."""
    with _services() as services:
        found = reconcile.reconcile(services, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"consistent": found.consistent, "steps": found.steps}, default=str))
    else:
        for step in found.steps:
            click.echo(step)
        click.echo("database and chain agree" if found.consistent else "database and chain differ")
    sys.exit(0 if found.consistent else 1)

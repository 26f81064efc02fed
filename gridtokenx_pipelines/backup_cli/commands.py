"""`gridtokenx backup …` and `gridtokenx restore …`.

Belongs here: options, tables for people, exit codes (0 done, 1 refused or not whole, 2 usage or configuration). Does
not belong here: the work (backups/).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from gridtokenx_pipelines.backups import catalogue, files, influx, keys, postgres, service
from gridtokenx_pipelines.backups.catalogue import BASE, INCREMENT, PARTS, BackupError, Record
from gridtokenx_pipelines.config import Settings

CONTEXT = {"help_option_names": ["-h", "--help"]}
FOLDER = click.option(
    "--backup-dir", envvar="GRIDTOKENX_BACKUP_DIR", required=True, help="Folder of the backups.",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)  # fmt: skip
NAME = click.option("--name", default=None, help="Backup, as `gridtokenx backup list` names it; else the newest.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
TARGET = click.option(
    "--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to restore into."
)


@click.group(context_settings=CONTEXT)
def backup() -> None:
    """Take, list, verify and drop backups of Postgres, archive, keys and InfluxDB."""


@click.group(context_settings=CONTEXT)
def restore() -> None:
    """Put a backup back; nothing that is in use is ever written over."""


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except BackupError as error:
        click.echo(f"backup: {error}", err=True)
        sys.exit(1)


@backup.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File of the private key.")
def key(out: Path) -> None:
    """Make the pair that keys are sealed to; the private file belongs elsewhere, offline."""
    with _refusals():
        public = keys.new_pair(out)
    click.echo(f"GRIDTOKENX_BACKUP_RECIPIENT={public}")
    click.echo(f"private key in {out}: take it off this machine; without it no key backup can be opened", err=True)


@backup.command()
@click.option("--kind", default=BASE, show_default=True, type=click.Choice([BASE, INCREMENT]), help="Of Postgres.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this part; may be repeated.")
@JSON
def run(kind: str, parts: tuple[str, ...], as_json: bool) -> None:
    """Take a backup now, of every part that is configured."""
    settings = Settings.from_env()
    with _refusals():
        wanted = parts or (PARTS if kind == BASE else service.HOURLY_PARTS)
        outcome = service.back_up(settings, datetime.now(UTC), kind, wanted)
    if as_json:
        click.echo(json.dumps({"taken": msgspec.to_builtins(outcome.taken), "wrong": outcome.wrong}))
    else:
        _table(outcome.taken)
    for part, words in outcome.wrong.items():
        click.echo(f"backup: {part}: {words}", err=True)
    sys.exit(1 if outcome.wrong else 0)


@backup.command(name="list")
@FOLDER
@JSON
def show(backup_dir: Path, as_json: bool) -> None:
    """All whole backups, oldest first."""
    found = catalogue.records(backup_dir)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
    elif found:
        _table(found)
    else:
        click.echo("no backups yet")


@backup.command()
@FOLDER
@click.option("--part", default=None, type=click.Choice(PARTS))
def verify(backup_dir: Path, part: str | None) -> None:
    """Read every backup and compare it with its hashes."""
    whole, wrong = service.verify(backup_dir, part)
    for words in wrong:
        click.echo(words)
    click.echo(f"{whole} backups read, {len(wrong)} differences")
    sys.exit(1 if wrong else 0)


@backup.command()
@FOLDER
@click.option("--keep-days", envvar="GRIDTOKENX_BACKUP_KEEP_DAYS", default=90, show_default=True,
              type=click.IntRange(1, 3650))  # fmt: skip
def prune(backup_dir: Path, keep_days: int) -> None:
    """Drop what is older, unless a younger backup builds on it; the newest of each part stays."""
    dropped, swept = service.prune(backup_dir, datetime.now(UTC), keep_days)
    for record in dropped:
        click.echo(f"dropped {record.part}/{record.name}")
    click.echo(f"{len(dropped)} backups dropped, {swept} bytes of files that none of the others lists")


@backup.command()
@NAME
@JSON
def rehearse(name: str | None, as_json: bool) -> None:
    """Restore Postgres into a throw-away folder, start it, ask it."""
    settings = Settings.from_env()
    with _refusals():
        found = service.rehearse(settings, name)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
        return
    click.echo(f"{' + '.join(found.backups)}: answered after {found.seconds} s")
    for question, answer in found.answers.items():
        click.echo(f"  {question:<16}{answer}")


@restore.command(name="postgres")
@FOLDER
@NAME
@TARGET
@click.option("--wal", default=None, type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="Folder of archived log: replay it at the first start.")  # fmt: skip
@click.option("--until", default=None, help="Point in time to stop the replay at, 2026-11-22T09:30:00Z.")
def restore_postgres(backup_dir: Path, name: str | None, target: Path, wal: Path | None, until: str | None) -> None:
    """Make a data folder that Postgres 18 starts on, then `gridtokenx settle reconcile` with the chain."""
    try:
        moment = datetime.fromisoformat(until) if until else None
    except ValueError as error:
        raise click.BadParameter(f"{until!r} is no time; write 2026-11-22T09:30:00Z", param_hint="--until") from error
    if moment is not None and moment.tzinfo is None:
        raise click.BadParameter(f"{until!r} has no offset; add Z for UTC", param_hint="--until")
    with _refusals():
        chain = postgres.restore(backup_dir, name, target.resolve(), wal=wal, until=moment)
    click.echo(f"{' + '.join(record.name for record in chain)} restored to {target}")


@restore.command(name="files")
@FOLDER
@NAME
@TARGET
def restore_files(backup_dir: Path, name: str | None, target: Path) -> None:
    """Write archive, frames and market files below a data folder."""
    with _refusals():
        record, count = files.restore(backup_dir, name, target.resolve())
    click.echo(f"{record.name}: {count} files restored to {target}")


@restore.command(name="keys")
@FOLDER
@NAME
@TARGET
@click.option("--private-key", required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="File that `gridtokenx backup key` made.")  # fmt: skip
def restore_keys(backup_dir: Path, name: str | None, target: Path, private_key: Path) -> None:
    """Open the sealed keys into an empty folder."""
    with _refusals():
        record, count = keys.restore(backup_dir, name, private_key, target)
    click.echo(f"{record.name}: {count} keys restored to {target}")


@restore.command(name="influxdb")
@FOLDER
@NAME
@click.option("--url", envvar="INFLUXDB_URL", required=True)
@click.option("--token", envvar="INFLUXDB_TOKEN", required=True, help="Operator token; better by the environment.")
@click.option("--replace", is_flag=True, help="Drop a bucket of the same name, with all its points.")
def restore_influxdb(backup_dir: Path, name: str | None, url: str, token: str, replace: bool) -> None:
    """Make the buckets with all their points again; then `gridtokenx influx apply` makes the tasks."""
    with _refusals():
        record = influx.restore(backup_dir, name, influx.Server(url, token), replace=replace)
    click.echo(f"{record.name}: buckets {record.facts['buckets']} restored")


def _table(found: tuple[Record, ...] | list[Record]) -> None:
    for record in found:
        facts = ", ".join(f"{name} {value}" for name, value in record.facts.items() if name != "recipient")
        click.echo(f"{record.part:<9} {record.name:<26} {record.bytes:>13,} bytes  {facts}")

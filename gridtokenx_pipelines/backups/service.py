"""What a daily and an hourly backup consist of, checking and dropping: the settings' parts, one after another.

Belongs here: which part is taken when. Does not belong here: how a part is taken. A part that fails stops none of the
others; it is named at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from gridtokenx_pipelines.backups import catalogue, files, influx, keys, postgres, rehearsal
from gridtokenx_pipelines.backups.catalogue import BASE, INCREMENT, PARTS, BackupError, Record
from gridtokenx_pipelines.config import Settings

# below the data folder: what can't be made again from the chain or the broker, and what says how it was made
FOLDERS = ("archive", "frames", "pages", "statements", "rules.json", "zones.json", "grid.npz", "demo-state.json")
# keys and InfluxDB change seldom or are made again from the archive: once a day
HOURLY_PARTS = ("postgres", "files")


class Outcome(msgspec.Struct, frozen=True):
    """What was taken, and what went wrong by part."""

    taken: tuple[Record, ...]
    wrong: dict[str, str]


def folder_of(settings: Settings) -> Path:
    """The backup folder. Raises BackupError where none is configured."""
    if settings.backup_dir is None:
        raise BackupError("GRIDTOKENX_BACKUP_DIR was empty, must be an absolute folder on another disk; set it")
    return settings.backup_dir


def database_of(settings: Settings) -> str:
    """Address by which the database is backed up."""
    return settings.backup_database_url or settings.database_url


def parts_of(settings: Settings, parts: Sequence[str] = PARTS) -> list[str]:
    """Those of the parts that these settings have: InfluxDB only where there is one."""
    return [part for part in parts if part != influx.PART or (settings.influxdb_url and settings.influxdb_token)]


def back_up(settings: Settings, at: datetime, kind: str = BASE, parts: Sequence[str] = PARTS) -> Outcome:
    """Take the parts. Raises BackupError where no folder is configured; a part's own failure stands in the outcome."""
    root = folder_of(settings)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    how: dict[str, Callable[[], Record]] = {
        "postgres": lambda: postgres.back_up(root, database_of(settings), at, kind),
        "files": lambda: files.back_up(root, settings.data_dir, FOLDERS, at),
        "keys": lambda: keys.back_up(root, settings.keys_dir, keys.recipient_of(settings.backup_recipient), at),
        "influxdb": lambda: influx.back_up(root, influx.Server(settings.influxdb_url, settings.influxdb_token), at),
    }
    taken, wrong = [], {}
    for part in parts_of(settings, parts):
        try:
            taken.append(how[part]())
        except (BackupError, OSError) as error:
            wrong[part] = str(error)
    return Outcome(tuple(taken), wrong)


def hourly(settings: Settings, at: datetime) -> Outcome:
    """An increment of Postgres, and the files that are new."""
    return back_up(settings, at, INCREMENT, HOURLY_PARTS)


def verify(root: Path, part: str | None = None) -> tuple[int, list[str]]:
    """How many backups were read whole, and everything that differs."""
    found = catalogue.records(root, part)
    checks = {files.PART: files.check}
    wrong = [words for record in found for words in checks.get(record.part, catalogue.check)(root, record)]
    return len(found), wrong


def prune(root: Path, now: datetime, keep_days: int) -> tuple[list[Record], int]:
    """Drop what retention doesn't keep; returns the backups and how many bytes of files nobody lists any more."""
    doomed = catalogue.expired(catalogue.records(root), now, keep_days)
    catalogue.drop(root, doomed)
    return doomed, files.sweep(root)


def rehearse(settings: Settings, name: str | None = None) -> rehearsal.Rehearsed:
    """Restore Postgres aside, start it, ask it. Raises BackupError."""
    # asked as the database's own user: the one that copies may read no table
    parts = urlsplit(settings.database_url)
    return rehearsal.rehearse(
        folder_of(settings), name=name, database=unquote(parts.path.lstrip("/")), role=parts.username or ""
    )

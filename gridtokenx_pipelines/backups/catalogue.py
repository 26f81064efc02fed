"""What backups there are: one folder each with a `backup.json`, and which of them retention drops.

Belongs here: names, records, the pure rule of retention. Does not belong here: the content of a part. A folder without
its `backup.json` is one that a crash left half made: it counts as nothing and is dropped.

    <backup folder>/<part>/20261122T020000Z-base/{backup.json, …}
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

PARTS = ("postgres", "files", "keys", "influxdb")
BASE, INCREMENT = "base", "increment"
RECORD = "backup.json"
_STAMP = "%Y%m%dT%H%M%SZ"
_CHUNK = 1 << 20


class BackupError(RuntimeError):
    """A backup or restore that can't be made: what, and the remedy."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backup of one part. `files`: sha256 by name; `parent`: the backup that an increment builds on."""

    part: str
    name: str
    kind: str
    at: datetime
    bytes: int
    files: dict[str, str]
    parent: str = ""
    facts: dict[str, str] = {}


def name_of(at: datetime, kind: str) -> str:
    """`20261122T020000Z-base`. Raises ValueError for a naive time."""
    if at.tzinfo is None:
        raise ValueError(f"time was {at}, must carry its offset")
    return f"{at.astimezone(UTC).strftime(_STAMP)}-{kind}"


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def new_folder(root: Path, part: str, name: str) -> Path:
    """An empty folder for a backup. Raises BackupError if that backup is there already."""
    folder = root / part / name
    if (folder / RECORD).exists():
        raise BackupError(f"backup {part}/{name} is there already; one a second, run it again")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def seal(folder: Path, record: Record) -> Record:
    """Count and hash the folder's files, then write its record: from here on the backup exists."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = msgspec.structs.replace(
        record,
        bytes=record.bytes + sum(path.stat().st_size for path in files),
        files={str(path.relative_to(folder)): sha256_of(path) for path in files},
    )
    temporary = folder / f".{RECORD}.tmp"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1))
    os.replace(temporary, folder / RECORD)
    return whole


def records(root: Path, part: str | None = None) -> list[Record]:
    """All whole backups, oldest first."""
    found = [
        msgspec.json.decode(path.read_bytes(), type=Record)
        for each in ([part] if part else PARTS)
        for path in (root / each).glob(f"*/{RECORD}")
    ]
    return sorted(found, key=lambda record: (record.at, record.part, record.name))


def newest(found: Iterable[Record], part: str, name: str | None = None) -> Record:
    """The newest backup of a part, or the one of that name. Raises BackupError where there is none."""
    mine = [record for record in found if record.part == part and name in {None, record.name}]
    if not mine:
        wanted = f"{part} backup {name}" if name else f"{part} backup"
        raise BackupError(f"there is no {wanted}; `gridtokenx backup list` shows what there is")
    return mine[-1]


def chain_of(found: Sequence[Record], record: Record) -> list[Record]:
    """The base and all increments that `record` needs, in order. Raises BackupError for a missing link."""
    by_name = {each.name: each for each in found if each.part == record.part}
    chain = [record]
    while chain[0].parent:
        parent = by_name.get(chain[0].parent)
        if parent is None:
            raise BackupError(
                f"backup {chain[0].name} builds on {chain[0].parent}, which is gone; take a later or an earlier one"
            )
        chain.insert(0, parent)
    return chain


def expired(found: Sequence[Record], now: datetime, keep_days: int) -> list[Record]:
    """Backups older than `keep_days` that no younger one builds on; the newest of a part is never among them."""
    horizon = now - timedelta(days=keep_days)
    kept: set[tuple[str, str]] = set()
    for part in {record.part for record in found}:
        mine = [record for record in found if record.part == part]
        for record in (each for each in mine if each.at >= horizon or each is mine[-1]):
            kept |= {(part, each.name) for each in chain_of(found, record)}
    return [record for record in found if (record.part, record.name) not in kept]


def check(root: Path, record: Record) -> list[str]:
    """What differs from the record: files that are missing or changed. Empty: the backup is whole."""
    folder = root / record.part / record.name
    wrong = []
    for name, digest in record.files.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{record.part}/{record.name}: {name} is missing")
        elif sha256_of(path) != digest:
            wrong.append(f"{record.part}/{record.name}: {name} was changed since it was backed up")
    return wrong


def drop(root: Path, doomed: Iterable[Record]) -> None:
    """Remove backups: the record first, so that a crash in between leaves no half backup that looks whole."""
    for record in doomed:
        folder = root / record.part / record.name
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

"""Archive, frames and market files: each content once, by its hash; a backup is the list of what was where.

Belongs here: walking, storing, restoring, dropping contents nobody lists any more. Does not belong here: which folders
(service.py). Files that end in `.tmp` are being written and are left out; they come with the next backup.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from gridtokenx_pipelines.backups import catalogue
from gridtokenx_pipelines.backups.catalogue import BASE, BackupError, Record

PART, OBJECTS, LISTING = "files", "objects", "listing.json"


class Entry(msgspec.Struct, frozen=True):
    """A file: path below the folder that was backed up, content, size and time of its last change."""

    path: str
    sha256: str
    size: int
    modified_ns: int


def listing(root: Path, record: Record) -> list[Entry]:
    """The files of a backup."""
    return msgspec.json.decode((root / PART / record.name / LISTING).read_bytes(), type=list[Entry])


def back_up(root: Path, source: Path, names: Sequence[str], at: datetime) -> Record:
    """Store what is new below `source`/name for each name; unchanged files (size, time) are not even read."""
    found = catalogue.records(root, PART)
    known = {entry.path: entry for entry in listing(root, found[-1])} if found else {}
    entries, added = [], 0
    for path in _files(source, names):
        try:
            entry, written = _store(root, source, path, known)
        except FileNotFoundError:
            continue  # compacted or renamed meanwhile: its content stands in another file, and in the next backup
        entries.append(entry)
        added += written
    name = catalogue.name_of(at, BASE)
    folder = catalogue.new_folder(root, PART, name)
    (folder / LISTING).write_bytes(msgspec.json.encode(entries))
    facts = {"files": str(len(entries)), "size": str(sum(entry.size for entry in entries)), "added": str(added)}
    return catalogue.seal(folder, Record(part=PART, name=name, kind=BASE, at=at, bytes=added, files={}, facts=facts))


def _files(source: Path, names: Sequence[str]) -> Iterable[Path]:
    for name in names:
        start = source / name
        if start.is_file():
            yield start
        yield from sorted(path for path in start.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))


def _store(root: Path, source: Path, path: Path, known: dict[str, Entry]) -> tuple[Entry, int]:
    stat, relative = path.stat(), str(path.relative_to(source))
    before = known.get(relative)
    if before is not None and (before.size, before.modified_ns) == (stat.st_size, stat.st_mtime_ns):
        return before, 0
    digest = catalogue.sha256_of(path)
    entry = Entry(relative, digest, stat.st_size, stat.st_mtime_ns)
    target = _object(root, digest)
    if target.exists():
        return entry, 0
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{uuid.uuid4().hex}.tmp")
    shutil.copyfile(path, temporary)
    if catalogue.sha256_of(temporary) != digest:
        temporary.unlink()
        raise BackupError(f"{path} changed while it was copied; run the backup again")
    os.replace(temporary, target)
    return entry, stat.st_size


def _object(root: Path, digest: str) -> Path:
    return root / PART / OBJECTS / digest[:2] / digest


def check(root: Path, record: Record) -> list[str]:
    """Contents that are missing or changed."""
    wrong = catalogue.check(root, record)
    if wrong:
        return wrong
    for entry in listing(root, record):
        path = _object(root, entry.sha256)
        if not path.is_file() or catalogue.sha256_of(path) != entry.sha256:
            wrong.append(f"{record.part}/{record.name}: the content of {entry.path} is missing or changed")
    return wrong


def restore(root: Path, name: str | None, target: Path) -> tuple[Record, int]:
    """Write all files of a backup below `target`; returns how many. A file that is there already with other content is
    refused, so that nothing newer is lost. Raises BackupError."""
    record = catalogue.newest(catalogue.records(root, PART), PART, name)
    wrong = check(root, record)
    if wrong:
        raise BackupError(f"{wrong[0]}; restore another one, `gridtokenx backup verify` says which are whole")
    entries = listing(root, record)
    for entry in entries:
        path = target / entry.path
        if path.exists() and catalogue.sha256_of(path) != entry.sha256:
            raise BackupError(f"{path} is there with another content; restore into an empty folder")
    for entry in entries:
        path = target / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.restore.tmp")
        shutil.copyfile(_object(root, entry.sha256), temporary)
        os.utime(temporary, ns=(entry.modified_ns, entry.modified_ns))
        os.replace(temporary, path)
    return record, len(entries)


def sweep(root: Path) -> int:
    """Drop contents that no backup lists any more; returns how many bytes."""
    kept = {entry.sha256 for record in catalogue.records(root, PART) for entry in listing(root, record)}
    dropped = 0
    for path in (root / PART / OBJECTS).glob("*/*"):
        if path.name not in kept:
            dropped += path.stat().st_size
            path.unlink()
    return dropped

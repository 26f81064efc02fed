"""The audit log: who did what, append-only, each row chained to the one before by its hash.

Belongs here: SQL on `audit_logs` and the hash. Does not belong here: deciding what is worth a row, or the clock (the
caller gives the time). The table itself refuses updates and deletes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
from sqlalchemy import Connection, text

GENESIS = bytes(32)
AUDIT_LOCK = 0x6175_6469_746C_6F67  # "auditlog"


def entry_hash(
    previous: bytes, *, entry_id: int, at: datetime, who: str, what: str, detail: Mapping[str, Any]
) -> bytes:
    """sha256(previous ‖ canonical JSON of the entry); `detail` holds what JSON can (energies and money as integers)."""
    entry = [entry_id, at.astimezone(UTC).isoformat(timespec="microseconds"), who, what, detail]
    return sha256(previous + json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).digest()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry to be appended; `at` with its zone, `detail` of strings and integers."""

    at: datetime
    who: str
    what: str
    detail: Mapping[str, Any]


def append(connection: Connection, *, at: datetime, who: str, what: str, detail: Mapping[str, Any]) -> int:
    """Append one entry; returns its id. Raises ValueError for a time without zone or a detail JSON can't hold."""
    return append_all(connection, [Entry(at=at, who=who, what=what, detail=detail)])


def append_all(connection: Connection, entries: Sequence[Entry]) -> int:
    """Append entries in their order, none where one raises as `append` does; returns the last id, 0 of none."""
    if not entries:
        return 0
    written = [_written(entry) for entry in entries]
    # one writer at a time, or two rows would name the same predecessor
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AUDIT_LOCK})
    last = connection.execute(text("SELECT id, hash FROM audit_logs ORDER BY id DESC LIMIT 1")).one_or_none()
    entry_id, previous = (0, GENESIS) if last is None else (int(last[0]), bytes(last[1]))
    rows = []
    for entry, detail in zip(entries, written, strict=True):
        entry_id += 1
        hashed = entry_hash(
            previous, entry_id=entry_id, at=entry.at, who=entry.who, what=entry.what, detail=json.loads(detail)
        )
        rows.append((entry_id, entry.at, entry.who, entry.what, detail, previous, hashed))
        previous = hashed
    columns = zip(*rows, strict=True)
    connection.execute(
        text(
            "INSERT INTO audit_logs (id, at, who, what, detail, previous_hash, hash) "
            "SELECT id, at, who, what, CAST(detail AS JSONB), previous, hash FROM unnest(CAST(:id AS bigint[]), "
            "CAST(:at AS timestamptz[]), CAST(:who AS text[]), CAST(:what AS text[]), CAST(:detail AS text[]), "
            "CAST(:previous AS bytea[]), CAST(:hash AS bytea[])) AS e (id, at, who, what, detail, previous, hash) "
            "ORDER BY id"
        ),
        {
            name: list(values)
            for name, values in zip(("id", "at", "who", "what", "detail", "previous", "hash"), columns, strict=True)
        },
    )
    return entry_id


def _written(entry: Entry) -> str:
    if entry.at.tzinfo is None:
        raise ValueError(f"time of {entry.what!r} was {entry.at.isoformat()} without zone; give UTC")
    try:
        return json.dumps(entry.detail, sort_keys=True)
    except TypeError as error:
        raise ValueError(
            f"detail of {entry.what!r} can't be written as JSON ({error}); give strings and integers"
        ) from error


def first_broken(connection: Connection) -> int | None:
    """Id of the first entry that doesn't follow from the one before, None if the whole chain holds."""
    previous, expected = GENESIS, 1
    rows = connection.execute(
        text("SELECT id, at, who, what, detail, previous_hash, hash FROM audit_logs ORDER BY id"),
        execution_options={"stream_results": True},
    )
    for entry_id, at, who, what, detail, claimed, found in rows:
        wanted = entry_hash(previous, entry_id=entry_id, at=at, who=who, what=what, detail=detail)
        if entry_id != expected or claimed != previous or found != wanted:
            return int(entry_id)
        previous, expected = found, expected + 1
    return None

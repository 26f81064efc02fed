"""The audit log: who did what, append-only, each row chained to the one before by its hash.

Belongs here: SQL on `audit_logs` and the hash. Does not belong here: deciding what is worth a row, or the clock (the
caller gives the time). The table itself refuses updates and deletes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, text

GENESIS = bytes(32)
AUDIT_LOCK = 0x6175_6469_746C_6F67  # "auditlog"


def entry_hash(
    previous: bytes, *, entry_id: int, at: datetime, who: str, what: str, detail: Mapping[str, Any]
) -> bytes:
    """sha256(previous ‖ canonical JSON of the entry); `detail` holds what JSON can (energies and money as integers)."""
    entry = [entry_id, at.astimezone(UTC).isoformat(timespec="microseconds"), who, what, detail]
    return sha256(previous + json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).digest()


def append(connection: Connection, *, at: datetime, who: str, what: str, detail: Mapping[str, Any]) -> int:
    """Append one entry; returns its id. Raises ValueError for a time without zone or a detail JSON can't hold."""
    if at.tzinfo is None:
        raise ValueError(f"time of {what!r} was {at.isoformat()} without zone; give UTC")
    try:
        written = json.dumps(detail, sort_keys=True)
    except TypeError as error:
        raise ValueError(f"detail of {what!r} can't be written as JSON ({error}); give strings and integers") from error
    # one writer at a time, or two rows would name the same predecessor
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AUDIT_LOCK})
    last = connection.execute(text("SELECT id, hash FROM audit_logs ORDER BY id DESC LIMIT 1")).one_or_none()
    entry_id, previous = (1, GENESIS) if last is None else (int(last[0]) + 1, bytes(last[1]))
    connection.execute(
        text(
            "INSERT INTO audit_logs (id, at, who, what, detail, previous_hash, hash) "
            "VALUES (:id, :at, :who, :what, CAST(:detail AS JSONB), :previous, :hash)"
        ),
        {
            "id": entry_id,
            "at": at,
            "who": who,
            "what": what,
            "detail": written,
            "previous": previous,
            "hash": entry_hash(previous, entry_id=entry_id, at=at, who=who, what=what, detail=json.loads(written)),
        },
    )
    return entry_id


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

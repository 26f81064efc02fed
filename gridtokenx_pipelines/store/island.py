"""When the upstream grid was lost and when it returned, by epoch.

Belongs here: SQL on `island_events`, and which epochs are an island's. Does not belong here: who may declare what when
(settlement_service/island.py). The table is append-only; the audit log tells the same (`logged`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store.postgres import read_frame

LOST: Final = "lost"
RETURNED: Final = "returned"
AUDITED_AS: Final = "island_declared"
EVENTS: Final = {"epoch": pl.Int64, "what": pl.String, "who": pl.String, "why": pl.String}


def events(connection: Connection) -> pl.DataFrame:
    """All declarations, EVENTS, ascending by the epoch from which each acts."""
    return read_frame(connection, f"SELECT {', '.join(EVENTS)} FROM island_events ORDER BY epoch", schema=EVENTS)  # noqa: S608


def add(connection: Connection, *, epoch: int, what: str, who: str, why: str, at: datetime) -> None:
    """One declaration more; the caller has seen that it follows from those before."""
    connection.execute(
        text("INSERT INTO island_events (epoch, what, who, why, declared_at) VALUES (:epoch, :what, :who, :why, :at)"),
        {"epoch": epoch, "what": what, "who": who, "why": why, "at": at},
    )


def islanded(declared: pl.DataFrame, epochs: Iterable[int]) -> frozenset[int]:
    """Those of the epochs that are an island's: the last declaration at or before each says `lost`."""
    ordered = list(declared.sort("epoch").select("epoch", "what").iter_rows())
    found, place, lost = set(), 0, False
    for epoch in sorted(set(epochs)):
        while place < len(ordered) and ordered[place][0] <= epoch:
            lost = ordered[place][1] == LOST
            place += 1
        if lost:
            found.add(epoch)
    return frozenset(found)


def is_island(connection: Connection, epoch: int) -> bool:
    """Whether the epoch runs without the upstream grid."""
    return bool(islanded(events(connection), [epoch]))


def logged(connection: Connection) -> pl.DataFrame:
    """The declarations as the audit log tells them, EVENTS."""
    return read_frame(
        connection,
        "SELECT (detail->>'epoch')::bigint AS epoch, detail->>'what' AS what, who, detail->>'why' AS why "
        "FROM audit_logs WHERE what = :what ORDER BY 1",
        {"what": AUDITED_AS},
        EVENTS,
    )

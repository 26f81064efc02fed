"""Dead letters: the refused records, whole, found by topic, reason and meter.

Belongs here: SQL on `dead_letters`. Does not belong here: why a record is refused (metering/, market/), or sending one
again (readings_cli/dead_letters.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.store.postgres import read_frame, upsert

SCHEMA = {
    "topic": pl.String,
    "partition": pl.Int64,
    "offset": pl.Int64,
    "reason_code": pl.Int64,
    "reason": pl.String,
    "detail": pl.String,
    "key": pl.Binary,
    "value": pl.Binary,
    "headers": pl.String,
    "broker_us": pl.Int64,
    "meter_id": pl.String,
}
COUNTS = {"topic": pl.String, "reason_code": pl.Int64, "reason": pl.String, "letters": pl.Int64, "replayed": pl.Int64}
KEY = ("topic", "partition", "offset")


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters; None or 0: any. `waiting`: only those never sent again."""

    topic: str | None = None
    reason: str | None = None
    meter_id: str | None = None
    place: tuple[str, int, int] | None = None
    waiting: bool = False
    limit: int = 0


class DeadLetterRow(msgspec.Struct, frozen=True, kw_only=True):
    """One letter with where it came from: topic, partition and the offset in `raw`."""

    topic: str
    partition: int
    raw: Raw
    reason_code: int
    reason: str
    detail: str
    meter_id: str | None
    replays: int
    replayed_us: int | None

    @property
    def place(self) -> str:
        """topic/partition/offset, as people name it."""
        return f"{self.topic}/{self.partition}/{self.raw.offset}"


def save_letters(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> int:
    """Insert letters in bulk, tuples in the order of `SCHEMA`, headers as JSON; one that is there is kept."""
    frame = pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
    return upsert(connection, "dead_letters", frame, KEY, update=False)


def count_letters(connection: Connection, wanted: Filter) -> pl.DataFrame:
    """How many by topic and reason (`COUNTS`), most first."""
    where, bound = _where(wanted)
    return read_frame(
        connection,
        "SELECT topic, reason_code, reason, count(*) AS letters, count(*) FILTER (WHERE replays > 0) AS replayed "  # noqa: S608
        f"FROM dead_letters WHERE {where} GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC, 2",
        bound,
        COUNTS,
    )


def letters(connection: Connection, wanted: Filter) -> list[DeadLetterRow]:
    """The letters themselves in the order they came."""
    where, bound = _where(wanted)
    limit = " LIMIT :limit" if wanted.limit else ""
    found = connection.execute(
        text(
            'SELECT topic, partition, "offset", broker_us, value, headers, key, reason_code, reason, detail, meter_id, '  # noqa: S608
            f"replays, replayed_us FROM dead_letters WHERE {where} "
            f'ORDER BY broker_us, topic, partition, "offset"{limit}'
        ),
        bound,
    )
    return [
        DeadLetterRow(
            topic=row.topic,
            partition=row.partition,
            raw=Raw(
                row.offset,
                row.broker_us or 0,
                row.value or b"",
                tuple((name, bytes.fromhex(value)) for name, value in row.headers or ()),
                row.key,
            ),
            reason_code=row.reason_code,
            reason=row.reason,
            detail=row.detail or "",
            meter_id=row.meter_id,
            replays=row.replays,
            replayed_us=row.replayed_us,
        )
        for row in found
    ]


def mark_replayed(connection: Connection, sent: Sequence[DeadLetterRow], at_us: int) -> None:
    """Note that letters were sent to their topic again."""
    if sent:
        connection.execute(
            text(
                "UPDATE dead_letters SET replays = replays + 1, replayed_us = :at "
                'WHERE topic = :topic AND partition = :partition AND "offset" = :offset'
            ),
            [
                {"at": at_us, "topic": each.topic, "partition": each.partition, "offset": each.raw.offset}
                for each in sent
            ],
        )


def _where(wanted: Filter) -> tuple[str, dict[str, Any]]:
    parts, bound = ["TRUE"], {}
    for name in ("topic", "reason", "meter_id"):
        if (value := getattr(wanted, name)) is not None:
            parts.append(f"{name} = :{name}")
            bound[name] = value
    if wanted.place is not None:
        parts.append('(topic, partition, "offset") = (:at_topic, :at_partition, :at_offset)')
        bound |= dict(zip(("at_topic", "at_partition", "at_offset"), wanted.place, strict=True))
    if wanted.waiting:
        parts.append("replays = 0")
    if wanted.limit:
        bound["limit"] = wanted.limit
    return " AND ".join(parts), bound

"""Halts of continuous trading, and the outbox of what the topics are still to be told.

Belongs here: SQL on `market_halts` and `market_outbox`. Does not belong here: the events themselves
(settlement_service/events.py), the rule of the halt (market/price_guard.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection, text

from gridtokenx_pipelines.market.price_guard import Halt


class OpenHalt(msgspec.Struct, frozen=True, kw_only=True):
    """A halt that nobody has ended."""

    partition: int
    offset: int
    trade_id: str
    halted_at_us: int
    price_uthb_per_kwh: int
    reference_uthb_per_kwh: int


def save_halt(connection: Connection, partition: int, halt: Halt) -> None:
    """Keep a halt; one that is there stays as it is, resumed or not."""
    connection.execute(
        text(
            'INSERT INTO market_halts (partition, "offset", trade_id, halted_at_us, price_uthb_per_kwh, '
            "reference_uthb_per_kwh) VALUES (:partition, :offset, :trade, :at, :price, :reference) "
            "ON CONFLICT DO NOTHING"
        ),
        {
            "partition": partition,
            "offset": halt.offset,
            "trade": halt.trade_id,
            "at": halt.halted_at_us,
            "price": halt.price_uthb_per_kwh,
            "reference": halt.reference_uthb_per_kwh,
        },
    )


def open_halts(connection: Connection) -> list[OpenHalt]:
    """Halts in force, oldest first."""
    rows = connection.execute(
        text(
            'SELECT partition, "offset", trade_id, halted_at_us, price_uthb_per_kwh, reference_uthb_per_kwh '
            "FROM market_halts WHERE resumed_at_us IS NULL ORDER BY halted_at_us, partition"
        )
    )
    return [OpenHalt(**row._mapping) for row in rows]


def end_halts(connection: Connection, partition: int, before_offset: int, at_us: int, who: str) -> int:
    """End the partition's halts at offsets before a resumption's; returns how many it ended."""
    done = connection.execute(
        text(
            "UPDATE market_halts SET resumed_at_us = :at, resumed_by = :who "
            'WHERE partition = :partition AND "offset" < :before AND resumed_at_us IS NULL'
        ),
        {"partition": partition, "before": before_offset, "at": at_us, "who": who},
    )
    return done.rowcount


def announce(connection: Connection, number: int, event: str, document: bytes | None = None) -> None:
    """Note, in the transaction that makes it so, that the topics must be told; again is the same."""
    connection.execute(
        text(
            "INSERT INTO market_outbox (event, number, document) VALUES (:event, :number, :document) "
            "ON CONFLICT DO NOTHING"
        ),
        {"number": number, "event": event, "document": document},
    )


def announce_all(connection: Connection, numbers: Sequence[int], event: str) -> None:
    """Note each of these numbers, as `announce` does one without a document."""
    connection.execute(
        text(
            "INSERT INTO market_outbox (event, number) SELECT :event, number "
            "FROM unnest(CAST(:numbers AS bigint[])) AS number ON CONFLICT DO NOTHING"
        ),
        {"numbers": list(numbers), "event": event},
    )


def unpublished(connection: Connection, limit: int) -> list[tuple[str, int, bytes | None]]:
    """(event, number, document) still to tell, in order; locked, so that two publishers don't tell the same at once."""
    rows = connection.execute(
        text(
            "SELECT event, number, document FROM market_outbox WHERE published_at IS NULL ORDER BY event, number "
            "LIMIT :limit FOR UPDATE SKIP LOCKED"
        ),
        {"limit": limit},
    )
    return [(str(event), int(number), document) for event, number, document in rows]


def mark_published(connection: Connection, told: list[tuple[str, int, bytes | None]], at: datetime) -> None:
    """These were acknowledged by the broker."""
    if told:
        connection.execute(
            text("UPDATE market_outbox SET published_at = :at WHERE event = :event AND number = :number"),
            [{"at": at, "event": event, "number": number} for event, number, _ in told],
        )

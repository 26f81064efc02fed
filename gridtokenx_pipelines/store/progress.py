"""How far the flows have come, and so which epochs are complete.

Belongs here: SQL on `stream_progress` and `stream_counts`.
Does not belong here: what moves a watermark (ticks only: metering/, market/).
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Engine, text

FLOWS = ("telemetry", "orders")


def save_progress(
    connection: Connection,
    flow: str,
    partition: int,
    *,
    partitions: int,
    watermark_us: int | None = None,
    closed_epoch: int | None = None,
    offset: int | None = None,
) -> None:
    """Write a partition's progress; a replay's lower values never take it back (except `partitions`)."""
    connection.execute(
        text(
            'INSERT INTO stream_progress AS old (flow, partition, partitions, watermark_us, closed_epoch, "offset") '
            "VALUES (:flow, :partition, :partitions, :watermark, :closed, :offset) "
            "ON CONFLICT (flow, partition) DO UPDATE SET partitions = EXCLUDED.partitions, "
            "watermark_us = GREATEST(old.watermark_us, EXCLUDED.watermark_us), "
            "closed_epoch = GREATEST(old.closed_epoch, EXCLUDED.closed_epoch), "
            '"offset" = GREATEST(old."offset", EXCLUDED."offset")'
        ),
        {
            "flow": flow,
            "partition": partition,
            "partitions": partitions,
            "watermark": watermark_us,
            "closed": closed_epoch,
            "offset": offset,
        },
    )


def save_counts(connection: Connection, flow: str, partition: int, totals: Mapping[tuple[str, str], int]) -> None:
    """Write a partition's records by (status, reason) since its beginning; a replay's lower totals change nothing."""
    if not totals:
        return
    connection.execute(
        text(
            "INSERT INTO stream_counts AS old (flow, partition, status, reason, records) "
            "VALUES (:flow, :partition, :status, :reason, :records) ON CONFLICT (flow, partition, status, reason) "
            "DO UPDATE SET records = GREATEST(old.records, EXCLUDED.records)"
        ),
        [
            {"flow": flow, "partition": partition, "status": status, "reason": reason, "records": records}
            for (status, reason), records in sorted(totals.items())
        ],
    )


def complete_through(engine: Engine) -> int | None:
    """The last complete epoch: closed by every telemetry partition, its gate passed in every orders partition.

    None while a partition of either flow has not reported or closed anything yet.
    """
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT flow, count(*) = max(partitions) AND count(closed_epoch) = count(*), min(closed_epoch) "
                "FROM stream_progress WHERE flow IN ('telemetry', 'orders') GROUP BY flow"
            )
        ).fetchall()
    if len(rows) < len(FLOWS) or not all(whole for _, whole, _ in rows):
        return None
    return min(int(closed) for _, _, closed in rows)

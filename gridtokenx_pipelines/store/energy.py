"""Net energy and corrections as the flow wrote them, and what has been booked of them.

Belongs here: SQL on `net_energy` and `corrections`. Does not belong here: how they are computed (metering/) or booked
(settlement/). Rows are keyed, so the flow may write them again after a crash: what is there stays.
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store.postgres import read_frame, upsert

NET_ENERGY = {
    "meter_id": pl.String,
    "wallet": pl.String,
    "zone_id": pl.Int64,
    "epoch": pl.Int64,
    "revision": pl.Int64,
    "production_start_wh": pl.Int64,
    "consumption_start_wh": pl.Int64,
    "production_end_wh": pl.Int64,
    "consumption_end_wh": pl.Int64,
    "production_wh": pl.Int64,
    "consumption_wh": pl.Int64,
    "net_wh": pl.Int64,
    "readings": pl.Int64,
    "estimated": pl.Boolean,
    "missing": pl.Boolean,
    "first_seq": pl.Int64,
    "last_seq": pl.Int64,
    "late": pl.Boolean,
    "booked_epoch": pl.Int64,
}
CORRECTIONS = {
    "meter_id": pl.String,
    "wallet": pl.String,
    "boundary_epoch": pl.Int64,
    "revision": pl.Int64,
    "production_delta_wh": pl.Int64,
    "consumption_delta_wh": pl.Int64,
    "seq": pl.Int64,
    "timestamp_us": pl.Int64,
}
NET_COLUMNS = ", ".join(NET_ENERGY)
CORRECTION_COLUMNS = ", ".join(CORRECTIONS)


def save_net_energy(connection: Connection, rows: pl.DataFrame) -> int:
    """Insert net energy; a (meter, epoch, revision) that is there is kept. Returns the new rows."""
    return upsert(connection, "net_energy", rows.select(*NET_ENERGY), ("meter_id", "epoch", "revision"), update=False)


def save_corrections(connection: Connection, rows: pl.DataFrame) -> int:
    """Insert corrections; a (meter, boundary, revision) that is there is kept. Returns the new rows."""
    key = ("meter_id", "boundary_epoch", "revision")
    return upsert(connection, "corrections", rows.select(*CORRECTIONS), key, update=False)


def on_time(connection: Connection, epoch: int) -> pl.DataFrame:
    """Revision 0 of an epoch, one row per meter, missing ones flagged: what its run 0 is about."""
    return read_frame(
        connection,
        f"SELECT {NET_COLUMNS} FROM net_energy WHERE epoch = :epoch AND revision = 0 ORDER BY meter_id",  # noqa: S608
        {"epoch": epoch},
        NET_ENERGY,
    )


def latest(connection: Connection, epoch: int) -> pl.DataFrame:
    """The latest revision of each meter's row of an epoch."""
    return read_frame(
        connection,
        f"SELECT DISTINCT ON (meter_id) {NET_COLUMNS} FROM net_energy WHERE epoch = :epoch "  # noqa: S608
        "ORDER BY meter_id, revision DESC",
        {"epoch": epoch},
        NET_ENERGY,
    )


def late_rows(connection: Connection, booked_epoch: int) -> pl.DataFrame:
    """Catch-up rows that are booked with `booked_epoch` after its run 0, by meter and epoch.

    Those of voided epochs, on time or late, count too: as what they are, but with the epoch that books them.
    """
    columns = ", ".join("n." + name for name in NET_ENERGY if name != "booked_epoch")
    return read_frame(
        connection,
        f"SELECT {columns}, CAST(:epoch AS BIGINT) AS booked_epoch FROM net_energy n "  # noqa: S608 - our own names
        "LEFT JOIN voided_epochs v ON v.epoch = n.booked_epoch WHERE NOT n.missing "
        "AND (v.booked_epoch = :epoch OR n.booked_epoch = :epoch AND v.epoch IS NULL AND n.revision > 0) "
        "ORDER BY n.meter_id, n.epoch",
        {"epoch": booked_epoch},
        NET_ENERGY,
    )


def voided_between(connection: Connection, first: int, last: int) -> dict[int, int]:
    """Voided epochs of the range → the epoch that their energy is booked with; also those booked in the range."""
    rows = connection.execute(
        text(
            "SELECT epoch, booked_epoch FROM voided_epochs WHERE epoch BETWEEN :first AND :last "
            "OR booked_epoch BETWEEN :first AND :last ORDER BY epoch"
        ),
        {"first": first, "last": last},
    )
    return {int(epoch): int(booked) for epoch, booked in rows}


def corrections_waiting(connection: Connection, through_epoch: int) -> pl.DataFrame:
    """Corrections not booked, recorded or rejected yet, of boundaries up to and including `through_epoch`.

    A waiting revision comes with the rejected ones of its boundary: it says what differs from them, and what counts is
    what differs from the last booked register.
    """
    return read_frame(
        connection,
        f"SELECT {CORRECTION_COLUMNS} FROM corrections c WHERE boundary_epoch <= :through "  # noqa: S608
        "AND (booked_seq IS NULL OR status = 'rejected' AND EXISTS (SELECT FROM corrections w WHERE w.booked_seq IS "
        "NULL AND (w.meter_id, w.boundary_epoch) = (c.meter_id, c.boundary_epoch))) "
        "ORDER BY boundary_epoch, meter_id, revision",
        {"through": through_epoch},
        CORRECTIONS,
    )


def conclude_corrections(connection: Connection, outcomes: pl.DataFrame, seq: int | None, epoch: int | None) -> None:
    """Write a judgement's outcomes; `seq` and `epoch` are those of the run that books the `booked` ones.

    Raises ValueError if some are booked without a run.
    """
    if seq is None and "booked" in outcomes["status"]:
        raise ValueError("corrections are marked booked without a run; book them first")
    for row in outcomes.iter_rows(named=True):
        booked = row["status"] == "booked"
        connection.execute(
            text(
                "UPDATE corrections SET status = :status, x_wh = :x, reason = :reason, booked_seq = :seq, "
                "booked_run_epoch = :epoch, concluded_after = (SELECT max(seq) FROM runs) "
                "WHERE meter_id = :meter AND boundary_epoch = :boundary "
                "AND revision = :revision AND (booked_seq IS NULL OR status = 'rejected')"
            ),
            {
                "status": row["status"],
                "x": row["x_wh"],
                "reason": row["reason"],
                "seq": seq if booked else 0,
                "epoch": epoch if booked else None,
                "meter": row["meter_id"],
                "boundary": row["boundary_epoch"],
                "revision": row["revision"],
            },
        )


def settled_registers(connection: Connection, meter_id: str) -> dict[int, tuple[int, int]]:
    """Registers (Wh) at a meter's boundaries by the epoch that starts there, with every correction, no estimates."""
    rows = connection.execute(
        text(
            "WITH newest AS (SELECT DISTINCT ON (epoch) epoch + 1 AS boundary, production_end_wh, consumption_end_wh, "
            "missing, estimated FROM net_energy WHERE meter_id = :meter ORDER BY epoch, revision DESC), "
            "moved AS (SELECT boundary_epoch, sum(production_delta_wh) AS production, "
            "sum(consumption_delta_wh) AS consumption FROM corrections WHERE meter_id = :meter GROUP BY 1) "
            "SELECT boundary, production_end_wh + COALESCE(production, 0), "
            "consumption_end_wh + COALESCE(consumption, 0) FROM newest LEFT JOIN moved ON boundary_epoch = boundary "
            "WHERE NOT missing AND NOT estimated ORDER BY 1"
        ),
        {"meter": meter_id},
    )
    return {int(boundary): (int(production), int(consumption)) for boundary, production, consumption in rows}


def refused_offsets(connection: Connection, topic: str, partition: int, first: int, last: int) -> dict[int, int]:
    """Reason codes of a partition's dead letters by offset, first…last both included."""
    rows = connection.execute(
        text(
            'SELECT "offset", reason_code FROM dead_letters WHERE topic = :topic AND partition = :partition '
            'AND "offset" BETWEEN :first AND :last'
        ),
        {"topic": topic, "partition": partition, "first": first, "last": last},
    )
    return {int(offset): int(code) for offset, code in rows}

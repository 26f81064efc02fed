"""Disputes that an operator decided: each is a correction of a meter's registers at one boundary, with who and why.

Belongs here: SQL on `disputes` and their rows in `corrections`. Does not belong here: what a correction moves.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store.postgres import read_frame

# above every revision that readings give: a decision must never take the place of a late reading, nor it of one
FIRST_REVISION = 1_000_000
DISPUTES = {
    "case_id": pl.String,
    "meter_id": pl.String,
    "boundary_epoch": pl.Int64,
    "revision": pl.Int64,
    "production_delta_wh": pl.Int64,
    "consumption_delta_wh": pl.Int64,
    "reason": pl.String,
    "decided_by": pl.String,
    "status": pl.String,
    "x_wh": pl.Int64,
    "booked_seq": pl.Int64,
    "answer": pl.String,
}


def decide(
    connection: Connection,
    *,
    case_id: str,
    meter_id: str,
    wallet: str,
    boundary_epoch: int,
    production_delta_wh: int,
    consumption_delta_wh: int,
    reason: str,
    decided_by: str,
    decided_at: datetime,
) -> bool:
    """Keep a decision and its correction, once per case; False if the same case is decided already, the same way.

    Raises ValueError if the case was decided another way.
    """
    given = (meter_id, boundary_epoch, production_delta_wh, consumption_delta_wh)
    found = connection.execute(
        text(
            "SELECT meter_id, boundary_epoch, production_delta_wh, consumption_delta_wh FROM disputes "
            "WHERE case_id = :case"
        ),
        {"case": case_id},
    ).one_or_none()
    if found is not None:
        if tuple(found) == given:
            return False
        raise ValueError(f"case {case_id!r} was decided as {tuple(found)}; decide another case to change it again")
    connection.execute(text("LOCK TABLE disputes IN EXCLUSIVE MODE"))
    key = {"meter": meter_id, "boundary": boundary_epoch, "first": FIRST_REVISION}
    revision = connection.execute(
        text(
            "SELECT coalesce(max(revision), :first) + 1 FROM disputes WHERE meter_id = :meter "
            "AND boundary_epoch = :boundary"
        ),
        key,
    ).scalar_one()
    values = {
        "case": case_id,
        "meter": meter_id,
        "boundary": boundary_epoch,
        "revision": revision,
        "production": production_delta_wh,
        "consumption": consumption_delta_wh,
        "reason": reason,
        "by": decided_by,
        "at": decided_at,
        "wallet": wallet,
    }
    connection.execute(
        text(
            "INSERT INTO disputes (case_id, meter_id, boundary_epoch, revision, production_delta_wh, "
            "consumption_delta_wh, reason, decided_by, decided_at) VALUES (:case, :meter, :boundary, :revision, "
            ":production, :consumption, :reason, :by, :at)"
        ),
        values,
    )
    connection.execute(
        text(
            "INSERT INTO corrections (meter_id, wallet, boundary_epoch, revision, production_delta_wh, "
            "consumption_delta_wh) VALUES (:meter, :wallet, :boundary, :revision, :production, :consumption)"
        ),
        values,
    )
    return True


def disputes(connection: Connection) -> pl.DataFrame:
    """All decisions with what became of them, by case."""
    return read_frame(
        connection,
        "SELECT d.case_id, d.meter_id, d.boundary_epoch, d.revision, d.production_delta_wh, d.consumption_delta_wh, "
        "d.reason, d.decided_by, c.status, c.x_wh, c.booked_seq, c.reason AS answer FROM disputes d "
        "JOIN corrections c USING (meter_id, boundary_epoch, revision) ORDER BY d.case_id",
        schema=DISPUTES,
    )


def cause_of(connection: Connection, outcomes: pl.DataFrame) -> str:
    """What a resettlement run is booked for, from the corrections that it books: cases by id, late readings counted."""
    booked = outcomes.filter(pl.col("status") == "booked")
    cases = connection.execute(
        text(
            "SELECT case_id FROM disputes WHERE (meter_id, boundary_epoch, revision) IN "
            "(SELECT * FROM unnest(CAST(:meters AS TEXT[]), CAST(:boundaries AS BIGINT[]), "
            "CAST(:revisions AS BIGINT[]))) ORDER BY case_id"
        ),
        {
            "meters": booked["meter_id"].to_list(),
            "boundaries": booked["boundary_epoch"].to_list(),
            "revisions": booked["revision"].to_list(),
        },
    )
    named = [f"dispute {case}" for (case,) in cases]
    late = booked.height - len(named)
    return ", ".join([*named, *([f"{late} corrections of late readings"] if late else [])])

"""Runs and debts as an operator wants to see them.

Belongs here: reading SQL on `runs` and `balances`. Does not belong here: booking (ledger.py).
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.store.postgres import read_frame

RUNS = {
    "seq": pl.Int64,
    "epoch": pl.Int64,
    "run": pl.Int64,
    "kind": pl.String,
    "status": pl.String,
    "cause": pl.String,
    "wallets": pl.Int64,
    "billed_uthb": pl.Int64,
    "refund_uthb": pl.Int64,
    "booked_at": pl.String,
}


def runs(connection: Connection, epoch: int | None, last: int) -> pl.DataFrame:
    """The newest runs (of an epoch, or of all) in the order of seq."""
    return read_frame(
        connection,
        """
        SELECT r.seq, r.epoch, r.run, (ARRAY['initial', 'late', 'resettlement'])[r.kind] AS kind, r.status, r.cause,
            count(s.wallet)::bigint AS wallets, coalesce(sum(s.billed_uthb), 0)::bigint AS billed_uthb,
            coalesce(sum(s.refund_uthb), 0)::bigint AS refund_uthb,
            to_char(r.booked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS booked_at
        FROM (SELECT * FROM runs WHERE CAST(:epoch AS BIGINT) IS NULL OR epoch = :epoch ORDER BY seq DESC LIMIT :last) r
        LEFT JOIN settlements s USING (seq)
        GROUP BY r.seq, r.epoch, r.run, r.kind, r.status, r.cause, r.booked_at ORDER BY r.seq
        """,
        {"epoch": epoch, "last": last},
        RUNS,
    )


def debts(connection: Connection) -> pl.DataFrame:
    """Wallets that owe the supplier, the most first; since_seq is the first run of the present debt."""
    return read_frame(
        connection,
        """
        SELECT b.owner, b.debt_uthb, (SELECT min(s.seq) FROM settlements s WHERE s.wallet = b.owner
            AND s.debt_after_uthb > 0 AND s.seq > coalesce((SELECT max(z.seq) FROM settlements z
                WHERE z.wallet = b.owner AND z.debt_after_uthb = 0), 0)) AS since_seq
        FROM balances b WHERE b.debt_uthb > 0 ORDER BY b.debt_uthb DESC, b.owner
        """,
        schema={"owner": pl.String, "debt_uthb": pl.Int64, "since_seq": pl.Int64},
    )

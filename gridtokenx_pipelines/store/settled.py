"""What the chain confirmed, and what the ledger says after its last finalised run: the two sides of receipts.

Belongs here: SQL over `outbox`, `blockchain_transactions`, and finalised runs' entries. Does not belong here: sending
(chain/outbox_store.py), comparing with the chain.
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.store.postgres import read_frame

RECEIPTS = {
    "epoch": pl.Int64,
    "kind": pl.Int64,
    "run": pl.Int64,
    "step": pl.String,
    "idx": pl.Int64,
    "signature": pl.String,
    "slot": pl.Int64,
    "fee_lamports": pl.Int64,
    "compute_units": pl.Int64,
    "status": pl.String,
    "commitment": pl.String,
}
OUTBOX = {
    **{name: RECEIPTS[name] for name in ("epoch", "kind", "run", "step", "idx", "signature")},
    "status": pl.String,
    "attempts": pl.Int64,
    "error": pl.String,
}


def receipts_between(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Receipts of all transactions of these epochs, by epoch, run, slot, step and index."""
    return read_frame(
        connection,
        f"SELECT {', '.join(RECEIPTS)} FROM blockchain_transactions WHERE epoch BETWEEN :first AND :last "  # noqa: S608
        "ORDER BY epoch, run, slot, step, idx",
        {"first": first, "last": last},
        RECEIPTS,
    )


def outbox_between(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """What the outbox says of these epochs' transactions, without their bytes."""
    return read_frame(
        connection,
        f"SELECT {', '.join(OUTBOX)} FROM outbox WHERE epoch BETWEEN :first AND :last "  # noqa: S608
        "ORDER BY epoch, run, step, idx",
        {"first": first, "last": last},
        OUTBOX,
    )


def balances_as_finalised(connection: Connection) -> pl.DataFrame:
    """Each household after its last finalised run and the deposits since: owner, last_epoch (null: none), balances."""
    return read_frame(
        connection,
        """
        WITH last AS (
            SELECT DISTINCT ON (s.wallet) s.wallet, s.seq, s.epoch,
                s.grid_after_wh, s.thbc_after_uthb, s.debt_after_uthb
            FROM settlements s JOIN runs r USING (seq) WHERE r.status = 'finalised' ORDER BY s.wallet, s.seq DESC
        ), since AS (
            SELECT d.owner, sum(d.amount_uthb - d.debt_repaid_uthb) AS cash, sum(d.debt_repaid_uthb) AS repaid
            FROM deposits d LEFT JOIN last ON last.wallet = d.owner
            WHERE d.after_seq >= coalesce(last.seq, 0) GROUP BY d.owner
        )
        SELECT b.owner, last.epoch AS last_epoch, coalesce(last.grid_after_wh, 0) AS grid_wh,
            (coalesce(last.thbc_after_uthb, 0) + coalesce(since.cash, 0))::bigint AS thbc_uthb,
            (coalesce(last.debt_after_uthb, 0) - coalesce(since.repaid, 0))::bigint AS debt_uthb
        FROM balances b LEFT JOIN last ON last.wallet = b.owner LEFT JOIN since ON since.owner = b.owner
        ORDER BY b.owner
        """,
        schema={"owner": pl.String, **dict.fromkeys(("last_epoch", "grid_wh", "thbc_uthb", "debt_uthb"), pl.Int64)},
    )


def meters_as_finalised(connection: Connection) -> pl.DataFrame:
    """Each meter's sums over finalised runs: meter_id, last_epoch, production, consumption, minted, deficit (Wh)."""
    names = ("last_epoch", "production_wh", "consumption_wh", "minted_wh", "deficit_wh")
    return read_frame(
        connection,
        """
        SELECT m.meter_id, max(m.epoch) AS last_epoch, sum(m.production_delta_wh)::bigint AS production_wh,
            sum(m.consumption_delta_wh)::bigint AS consumption_wh, sum(m.surplus_wh)::bigint AS minted_wh,
            sum(m.deficit_wh)::bigint AS deficit_wh
        FROM meter_settlements m JOIN runs r USING (seq) WHERE r.status = 'finalised' GROUP BY m.meter_id
        ORDER BY m.meter_id
        """,
        schema={"meter_id": pl.String, **dict.fromkeys(names, pl.Int64)},
    )

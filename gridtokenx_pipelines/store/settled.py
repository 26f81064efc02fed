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
        ), moved AS (
            SELECT owner, after_seq, amount_uthb AS cash, 0 AS grid FROM deposits
            UNION ALL SELECT owner, after_seq, cash_uthb, grid_wh FROM chain_movements
        ), since AS (
            SELECT m.owner, sum(m.cash) AS cash, sum(m.grid) AS grid
            FROM moved m LEFT JOIN last ON last.wallet = m.owner
            WHERE m.after_seq >= coalesce(last.seq, 0) GROUP BY m.owner
        ), stands AS (
            SELECT b.owner, last.epoch AS last_epoch,
                coalesce(last.grid_after_wh, 0) + coalesce(since.grid, 0) AS grid,
                -- cash less debt: one of the two is 0, as every credit pays debt first
                coalesce(last.thbc_after_uthb, 0) - coalesce(last.debt_after_uthb, 0) + coalesce(since.cash, 0) AS net
            FROM balances b LEFT JOIN last ON last.wallet = b.owner LEFT JOIN since ON since.owner = b.owner
        )
        SELECT s.owner, s.last_epoch, s.grid::bigint AS grid_wh, greatest(s.net, 0)::bigint AS thbc_uthb,
            greatest(-s.net, 0)::bigint AS debt_uthb
        FROM stands s
        ORDER BY s.owner
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

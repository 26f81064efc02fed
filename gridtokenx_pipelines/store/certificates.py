"""What sells locked of certificates, and what passed to buyers: append-only rows, written with the epoch's clearing.

Belongs here: SQL on `certificate_locks` and `certificate_passes`. Does not belong here: locking and passing on
(market/certificates.py), the certificates themselves (the chain's).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.certificates import PASSED, Locks
from gridtokenx_pipelines.store.postgres import copy_in, read_frame

LOCK_ROWS: frames.Schema = {
    "epoch": pl.Int64,
    "order_id": pl.Binary,
    "certificate_id": pl.Binary,
    "locked_wh": pl.Int64,
    "reason_code": pl.Int64,
    "reason": pl.String,
}


def write(connection: Connection, epoch: int, locks: Locks, passed: pl.DataFrame) -> None:
    """Write an epoch's locks and what passed, once: a lock is never changed or taken back."""
    backed = locks.locked.with_columns(reason_code=pl.lit(0, pl.Int64), reason=pl.lit(""))
    unbacked = locks.unbacked.with_columns(locked_wh=pl.lit(0, pl.Int64))
    for table, rows in (
        ("certificate_locks", pl.concat([backed, unbacked.select(backed.columns)])),
        ("certificate_passes", passed),
    ):
        if rows.height:
            copy_in(connection, table, rows.with_columns(epoch=pl.lit(epoch, pl.Int64)))


def passed_wh(connection: Connection, certificates: Sequence[bytes]) -> dict[bytes, int]:
    """Wh of each certificate that passed to buyers so far; those of which nothing did are left out.

    What passed in an epoch that was voided is free again.
    """
    rows = read_frame(
        connection,
        "SELECT certificate_id, sum(energy_wh)::bigint AS wh FROM certificate_passes p "
        "WHERE certificate_id = ANY(:ids) AND NOT EXISTS (SELECT FROM voided_epochs v WHERE v.epoch = p.epoch) "
        "GROUP BY certificate_id",
        {"ids": list(certificates)},
        {"certificate_id": pl.Binary, "wh": pl.Int64},
    )
    return dict(rows.iter_rows())


def locks_of(connection: Connection, epoch: int) -> pl.DataFrame:
    """An epoch's locks (LOCK_ROWS) by order id."""
    sql = f"SELECT {', '.join(LOCK_ROWS)} FROM certificate_locks WHERE epoch = :epoch ORDER BY order_id"  # noqa: S608
    return read_frame(connection, sql, {"epoch": epoch}, dict(LOCK_ROWS))


def passed_between(connection: Connection, wallet: str, first: int, last: int) -> pl.DataFrame:
    """What passed from or to a wallet in the epochs first…last (market.certificates.PASSED and epoch)."""
    names = ", ".join(("epoch", *PASSED))
    return read_frame(
        connection,
        f"SELECT {names} FROM certificate_passes p "  # noqa: S608
        "WHERE NOT EXISTS (SELECT FROM voided_epochs v WHERE v.epoch = p.epoch) "
        "AND epoch BETWEEN :first AND :last AND :wallet IN (seller, buyer) "
        "ORDER BY epoch, sell_order_id, buy_order_id",
        {"first": first, "last": last, "wallet": wallet},
        {"epoch": pl.Int64, **PASSED},
    )

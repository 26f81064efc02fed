"""Signed orders: what the intake wrote, what a book takes, what became of them.

Belongs here: SQL on `orders`. Does not belong here: judging an order (market/intake.py) or building a book. An order is
known by its wallet, epoch and nonce, which the wallet alone can use and only once; anybody can copy an order id.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.settlement.batches import SignedOrder
from gridtokenx_pipelines.store.postgres import copy_in, read_frame, upsert

ORDERS = {
    "order_id": pl.Binary,
    "wallet": pl.String,
    "zone_id": pl.Int64,
    "meter_id": pl.String,
    "side": pl.Int64,
    "energy_wh": pl.Int64,
    "limit_uthb_per_kwh": pl.Int64,
    "epoch": pl.Int64,
    "nonce": pl.Int64,
    "placed_at_us": pl.Int64,
    "certificate_id": pl.Binary,
    "is_mandate": pl.Boolean,
    "broker_us": pl.Int64,
}


def save_orders(connection: Connection, orders: pl.DataFrame) -> int:
    """Insert orders; a (wallet, epoch, nonce) that is there is kept, whatever comes later. Returns the new rows."""
    return upsert(connection, "orders", orders, ("wallet", "epoch", "nonce"), update=False)


def cancel(connection: Connection, key: tuple[str, int, int], cancelled_at_us: int) -> bool:
    """Mark the pending order of key (wallet, epoch, nonce) cancelled; False if there is none."""
    wallet, epoch, nonce = key
    result = connection.execute(
        text(
            "UPDATE orders SET status = 'cancelled', cancelled_at_us = :at "
            "WHERE wallet = :wallet AND epoch = :epoch AND nonce = :nonce AND status = 'pending'"
        ),
        {"wallet": wallet, "epoch": epoch, "nonce": nonce, "at": cancelled_at_us},
    )
    return result.rowcount == 1


def orders_of(connection: Connection, epoch: int) -> pl.DataFrame:
    """Orders that an epoch's book is made from, by id and wallet: not cancelled, nor rejected (by an operator)."""
    return read_frame(
        connection,
        "SELECT order_id, wallet, zone_id, meter_id, side, energy_wh, limit_uthb_per_kwh, epoch, nonce, placed_at_us, "
        "certificate_id, is_mandate, broker_us FROM orders WHERE epoch = :epoch "
        "AND status NOT IN ('cancelled', 'rejected') ORDER BY order_id, wallet",
        {"epoch": epoch},
        ORDERS,
    )


def signed_orders(connection: Connection, epoch: int) -> tuple[SignedOrder, ...]:
    """The signed bytes of an epoch's filled orders, as `plan_run` takes them."""
    rows = connection.execute(
        text(
            "SELECT o.wallet, o.message, o.signature FROM fills f JOIN orders o USING (epoch, wallet, order_id) "
            "WHERE f.epoch = :epoch AND o.message IS NOT NULL AND o.status NOT IN ('cancelled', 'rejected') "
            "ORDER BY o.wallet, o.order_id"
        ),
        {"epoch": epoch},
    )
    return tuple(
        SignedOrder(wallet=wallet, message=message, signature=signature) for wallet, message, signature in rows
    )


def conclude(connection: Connection, epoch: int, fills: pl.DataFrame, rejected: pl.DataFrame) -> None:
    """After clearing: orders of the epoch become filled, partly filled or expired, or rejected by the book.

    `fills` as cleared; `rejected` as the book gives them, with their reason; mandates' orders, in either, have no row.
    """
    conclude_all(connection, {epoch: (fills, rejected)})


def conclude_all(connection: Connection, cleared: Mapping[int, tuple[pl.DataFrame, pl.DataFrame]]) -> None:
    """Conclude the orders of each epoch by its fills and its rejected orders, as `conclude` does one epoch's."""
    sql = "SELECT DISTINCT epoch FROM orders WHERE epoch = ANY(:epochs)"
    epochs = connection.execute(text(sql), {"epochs": list(cleared)}).scalars().all()
    if not epochs:
        return
    connection.exec_driver_sql(
        "CREATE TEMP TABLE IF NOT EXISTS concluded (epoch BIGINT, order_id BYTEA, wallet TEXT, nonce BIGINT, "
        "filled_wh BIGINT, reason TEXT) ON COMMIT DROP"
    )
    connection.exec_driver_sql("TRUNCATE concluded")
    of = {epoch: pl.lit(epoch, pl.Int64).alias("epoch") for epoch in epochs}
    filled = [cleared[epoch][0].select(of[epoch], "order_id", "wallet", "filled_wh") for epoch in epochs]
    copy_in(connection, "concluded", pl.concat(filled))
    own = [
        cleared[epoch][1].filter(~pl.col("is_mandate")).select(of[epoch], "order_id", "wallet", "nonce", "reason")
        for epoch in epochs
    ]
    copy_in(connection, "concluded", pl.concat(own))
    connection.execute(
        text(
            "UPDATE orders o SET reason = c.reason, status = CASE WHEN c.reason IS NOT NULL THEN 'rejected' "
            "WHEN c.filled_wh IS NULL THEN 'expired' WHEN c.filled_wh >= o.energy_wh THEN 'filled' "
            "ELSE 'partly_filled' END "
            "FROM orders mine LEFT JOIN concluded c ON (c.epoch, c.wallet, c.order_id) = "
            "(mine.epoch, mine.wallet, mine.order_id) AND coalesce(c.nonce, mine.nonce) = mine.nonce "
            "WHERE (o.wallet, o.epoch, o.nonce) = (mine.wallet, mine.epoch, mine.nonce) "
            "AND o.epoch = ANY(:epochs) AND o.status NOT IN ('cancelled', 'rejected')"
        ),
        {"epochs": list(epochs)},
    )

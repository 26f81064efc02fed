"""What became of an order id: rows of any epoch, and refused records that hold its bytes.

Belongs here: SQL that looks for one id. Does not belong here: the books' orders (store/orders.py), wording.
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.store.postgres import read_frame

TRACE = {"epoch": pl.Int64, "wallet": pl.String, "status": pl.String, "reason": pl.String}
REFUSAL = {"reason": pl.String, "detail": pl.String}


def orders_with_id(connection: Connection, order_id: bytes) -> pl.DataFrame:
    """Columns of TRACE, by epoch and wallet; an id may have been used by several wallets."""
    return read_frame(
        connection,
        "SELECT epoch, wallet, status, reason FROM orders WHERE order_id = :id ORDER BY epoch, wallet",
        {"id": order_id},
        TRACE,
    )


def refused_records_with(connection: Connection, order_id: bytes) -> pl.DataFrame:
    """Columns of REFUSAL: dead letters of the topic `orders` whose bytes hold the id, in arrival order."""
    return read_frame(
        connection,
        "SELECT reason, detail FROM dead_letters WHERE topic = 'orders' AND position(:id in value) > 0 "
        'ORDER BY broker_us, partition, "offset"',
        {"id": order_id},
        REFUSAL,
    )

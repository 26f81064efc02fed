"""Orders that are in no book of an epoch: cancelled, of another epoch, refused by the intake, or never seen.

Belongs here: asking the database about an order id, and saying what it knows. Does not belong here: orders of a book
(explain.py), SQL (store/order_traces.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market_cli.explain import REFUSED, Explanation
from gridtokenx_pipelines.store.clearing import EpochRow, read_epoch
from gridtokenx_pipelines.store.order_traces import orders_with_id, refused_records_with
from gridtokenx_pipelines.store.postgres import engine

CANCELLED, UNKNOWN = "cancelled", "unknown"


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection to the database of a URL, closed at the end."""
    made = engine(url, pool_size=1)
    try:
        with made.connect() as connection:
            yield connection
    finally:
        made.dispose()


def epoch_row(url: str, epoch: int) -> EpochRow | None:
    """The epoch's own row."""
    with connected(url) as connection:
        return read_epoch(connection, epoch)


def trace(url: str, order_id: bytes, epoch: int) -> Explanation:
    """What the tables know of an order that is in no book of the epoch."""
    with connected(url) as connection:
        orders = orders_with_id(connection, order_id)
        refused = refused_records_with(connection, order_id) if orders.is_empty() else pl.DataFrame()
    verdict, words = _orders(orders, epoch) if orders.height else _refused(refused)
    return Explanation(order_id=order_id.hex(), epoch=key_of(epoch), verdict=verdict, words=words)


def _orders(orders: pl.DataFrame, epoch: int) -> tuple[str, list[str]]:
    here = orders.filter(pl.col("epoch") == epoch).to_dicts()
    if not here:
        others = ", ".join(key_of(other) for other in orders["epoch"].unique(maintain_order=True))
        return UNKNOWN, [f"the order is for another epoch: {others}; ask for that one"]
    row = here[0]
    match row["status"]:
        case "cancelled":
            return CANCELLED, [f"its wallet, {row['wallet']}, cancelled it before the gate"]
        case "rejected":
            return REFUSED, [f"it was refused: {row['reason']}"]
        case status:
            return UNKNOWN, [f"the order is {status}, and in no book of this epoch: has the epoch been cleared?"]


def _refused(refused: pl.DataFrame) -> tuple[str, list[str]]:
    if refused.is_empty():
        return UNKNOWN, ["no such order was ever received; check the id"]
    return REFUSED, [f"the intake refused it: {reason} ({detail})" for reason, detail in refused.iter_rows()]

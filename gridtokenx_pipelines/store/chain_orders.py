"""Orders placed on chain, as rows of the epoch's book.

Belongs here: SQL on `chain_orders` and their rows in `orders`. Does not belong here: reading slots
(settlement_service/movements.py). Such an order has no signed message: its slot on the chain is what proves it.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store.postgres import read_frame

SLOT_PLACED = 2
# above the nonces of signed orders (0–49), which the same wallet may use for the same epoch
FIRST_NONCE = 1_000


def save(connection: Connection, **order: object) -> bool:
    """Keep an order (number, wallet, slot, epoch, side, limit_uthb_per_kwh, energy_wh, placed_at_us, order_id) once.

    It stands in the book by the wallet's first meter: energy of a wallet is netted over its meters anyway.
    """
    names = ", ".join(order)
    marks = ", ".join(f":{name}" for name in order)
    new = connection.execute(
        text(f"INSERT INTO chain_orders ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"),  # noqa: S608 - ours
        order,
    )
    if not new.rowcount:
        return False
    connection.execute(
        text(
            "INSERT INTO orders (order_id, wallet, zone_id, meter_id, side, energy_wh, limit_uthb_per_kwh, epoch, "
            "nonce, placed_at_us, broker_us, is_mandate) SELECT :order_id, :wallet, m.zone_id, m.meter_id, :side, "
            ":energy_wh, :limit_uthb_per_kwh, :epoch, :first + :number, :placed_at_us, :placed_at_us, FALSE "
            "FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT meter_id, zone_id FROM meters WHERE wallet = :wallet "
            "AND status = 'active' ORDER BY meter_id LIMIT 1) m ON TRUE ON CONFLICT DO NOTHING"
        ),
        {**order, "first": FIRST_NONCE},
    )
    return True


def of_open_epochs(connection: Connection) -> pl.DataFrame:
    """number, wallet, epoch of the pending on-chain orders whose epoch has not cleared."""
    return read_frame(
        connection,
        "SELECT c.number, c.wallet, c.epoch FROM chain_orders c JOIN orders o ON o.wallet = c.wallet "
        "AND o.epoch = c.epoch AND o.order_id = c.order_id WHERE o.status = 'pending' AND NOT EXISTS "
        "(SELECT FROM market_epochs m WHERE m.epoch = c.epoch AND m.status IN ('cleared', 'halted', 'settled')) "
        "ORDER BY c.number",
        schema={"number": pl.Int64, "wallet": pl.String, "epoch": pl.Int64},
    )


def refresh(connection: Connection, orders: pl.DataFrame, left_wh: Mapping[int, int]) -> None:
    """Set what is left of these orders by number; one without a slot was cancelled, matched or added to another."""
    for number, _, _ in orders.iter_rows():
        energy = left_wh.get(number, 0)
        connection.execute(
            text(
                "UPDATE orders o SET energy_wh = CASE WHEN :energy > 0 THEN :energy ELSE o.energy_wh END, "
                "status = CASE WHEN :energy > 0 THEN o.status ELSE 'cancelled' END FROM chain_orders c "
                "WHERE c.number = :number AND o.wallet = c.wallet AND o.epoch = c.epoch AND o.order_id = c.order_id "
                "AND o.status = 'pending'"
            ),
            {"number": number, "energy": energy},
        )


def order_ids(connection: Connection, epoch: int) -> list[bytes]:
    """Ids of the epoch's on-chain orders: filled ones of them have no leaf under the clearing root."""
    rows = connection.execute(text("SELECT order_id FROM chain_orders WHERE epoch = :epoch"), {"epoch": epoch})
    return [bytes(order_id) for (order_id,) in rows]

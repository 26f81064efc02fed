"""Stored orders against the bytes that wallets signed: signature, and every column that the bytes state.

Belongs here: which orders a book may be made from, and what is wrong with the others. Does not belong here: the book.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from gridtokenx_pipelines.audit.compare import shown
from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.market.base58 import decode_wallet
from gridtokenx_pipelines.market.frames import ORDERS
from gridtokenx_pipelines.market.orders import NO_CERTIFICATE, OrderError, OrderReject, decode_order, meter_hash, verify

SIGNED_FIELDS: Final = (
    "order_id",
    "side",
    "energy_wh",
    "limit_uthb_per_kwh",
    "epoch",
    "nonce",
    "placed_at_us",
)
# refusals that the book itself makes: such an order goes into the book's inputs again
BY_THE_BOOK: Final = frozenset(
    reason.name.lower()
    for reason in (
        OrderReject.METER_MISSING,
        OrderReject.METER_NOT_OWNED,
        OrderReject.ZONE_UNKNOWN,
        OrderReject.ORDER_ID_USED,
        OrderReject.SELF_TRADE,
        OrderReject.NET_BID_NOT_POSITIVE,
        OrderReject.NOT_COVERED,
    )
)


def verified_orders(stored: pl.DataFrame, network_id: int) -> tuple[pl.DataFrame, list[Finding]]:
    """Orders (frames.ORDERS) with the fields their signed bytes state, and findings on rows that say otherwise.

    `stored`: table `orders`, cancelled ones included. A row whose signature fails is a finding and no order; a row
    without bytes (a mandate's order has none) is taken as it is.
    """
    found: list[Finding] = []
    rows = []
    for given in stored.sort("epoch", "wallet", "nonce").iter_rows(named=True):
        row = given
        if given["message"] is not None:
            stated = _stated(given, network_id, found)
            if stated is None:
                continue
            row = given | stated
        live = row["status"] != "cancelled" and (row["status"] != "rejected" or row["reason"] in BY_THE_BOOK)
        if live:
            rows.append({name: row[name] for name in ORDERS})
    return pl.DataFrame(rows, schema=dict(ORDERS), orient="row"), found


def _stated(row: dict[str, Any], network_id: int, found: list[Finding]) -> dict[str, Any] | None:
    name = f"orders wallet={row['wallet']} nonce={row['nonce']}"
    epoch: int = row["epoch"]
    try:
        wallet = decode_wallet(row["wallet"])
        signed = verify(bytes(row["message"]), bytes(row["signature"] or b""), wallet)
        order = decode_order(bytes(row["message"]))
    except (OrderError, ValueError) as error:
        found.append(Finding(epoch=epoch, stage="orders", what=name, detail=f"signed bytes: {error}"))
        return None
    if not signed:
        detail = "the signature is not the wallet's over these bytes: message, signature or wallet was changed"
        found.append(Finding(epoch=epoch, stage="orders", what=name, detail=detail))
        return None
    stated: dict[str, Any] = {each: getattr(order, each) for each in SIGNED_FIELDS}
    stated |= {"certificate_id": order.certificate_id}
    compared = {**stated, "market": order.market, "network": order.network_id}
    stored = {**row, "network": network_id}
    if row["certificate_id"] == NO_CERTIFICATE:
        stored["certificate_id"] = None
    if row["meter_id"] is None or meter_hash(row["meter_id"]) != order.meter_hash:
        compared["meter_id"] = f"the meter with hash {order.meter_hash.hex()[:16]}…"
    for column, value in compared.items():
        if stored[column] != value:
            found.append(
                Finding(
                    epoch=epoch,
                    stage="orders",
                    what=name,
                    detail=f"{column} was {shown(stored[column])}, the signed bytes say {shown(value)}",
                    stored=shown(stored[column]),
                    recomputed=shown(value),
                )
            )
    return stated

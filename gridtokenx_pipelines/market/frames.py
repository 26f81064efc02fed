"""Schemas of the market's frames (docs/reference/contract.md), one place for names and types.

Belongs here: columns with their polars types, and making or checking a frame against them.
Does not belong here: what the values mean together (book.py, clearing.py, checks.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

Schema = Mapping[str, type[pl.DataType]]

# `broker_us` is the intake's broker time, which priority goes by (domain §4); a mandate's is its on-chain time.
ORDERS: Schema = {
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
BOOK: Schema = {**ORDERS, "covered_wh": pl.Int64, "net_limit_uthb_per_kwh": pl.Int64}
BOOK_REJECTED: Schema = {**ORDERS, "reason_code": pl.Int64, "reason": pl.String}
MANDATES: Schema = {
    "wallet": pl.String,
    "effective_epoch": pl.Int64,
    "end_epoch": pl.Int64,
    "sell_min_uthb_per_kwh": pl.Int64,
    "buy_max_uthb_per_kwh": pl.Int64,
    "max_wh": pl.Int64,
    "buy_back": pl.Boolean,
    "set_at_us": pl.Int64,
}
FILLS: Schema = {
    "order_id": pl.Binary,
    "wallet": pl.String,
    "zone_id": pl.Int64,
    "side": pl.Int64,
    "filled_wh": pl.Int64,
    "price_uthb_per_kwh": pl.Int64,
    "is_mandate": pl.Boolean,
}
MATCHES: Schema = {
    "match_id": pl.Int64,
    "buy_order_id": pl.Binary,
    "sell_order_id": pl.Binary,
    "buyer": pl.String,
    "seller": pl.String,
    "energy_wh": pl.Int64,
    "price_uthb_per_kwh": pl.Int64,
}
ZONES: Schema = {
    "zone_id": pl.Int64,
    "price_uthb_per_kwh": pl.Int64,
    "zone_wheeling_uthb_per_kwh": pl.Int64,
    "bought_wh": pl.Int64,
    "sold_wh": pl.Int64,
}
FLOWS: Schema = {
    "link_id": pl.Int64,
    "from_zone": pl.Int64,
    "to_zone": pl.Int64,
    "sent_wh": pl.Int64,
    "delivered_wh": pl.Int64,
    "lost_wh": pl.Int64,
    "wheeling_uthb": pl.Int64,
}
TRADED: Schema = {
    "wallet": pl.String,
    "zone_id": pl.Int64,
    "traded_wh": pl.Int64,
    "cost_uthb": pl.Int64,
    "energy_cost_uthb": pl.Int64,
    "zone_wheeling_uthb": pl.Int64,
    "value_uthb": pl.Int64,
    "fee_uthb": pl.Int64,
    "proceeds_uthb": pl.Int64,
}


def frame(schema: Schema, rows: Iterable[Mapping[str, Any]] = ()) -> pl.DataFrame:
    """Frame of the schema from rows (none: an empty frame with the right types)."""
    return pl.DataFrame(list(rows), schema=dict(schema), orient="row")


def conform(given: pl.DataFrame, schema: Schema, name: str) -> pl.DataFrame:
    """The frame's columns of the schema, cast to its types. Raises ValueError naming the columns that lack."""
    lacking = [column for column in schema if column not in given.columns]
    if lacking:
        raise ValueError(f"frame {name} lacks {', '.join(lacking)}; it must have {', '.join(schema)}")
    return given.select(pl.col(column).cast(kind) for column, kind in schema.items())

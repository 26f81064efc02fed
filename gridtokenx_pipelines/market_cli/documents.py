"""A clearing as the JSON document that `market clear --json` prints.

Belongs here: its fields. Does not belong here: reading, clearing, tables for people (summary.py). Order ids come out
as they went in; every number is an integer; `price_uthb_per_kwh` is null where there is no one price.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market_cli.refusals import Refusal


def document(result: ClearingResult, ids: pl.DataFrame, *, with_charges: bool) -> dict[str, Any]:
    """The result; `ids` gives each key its order_id. Charges per wallet are in it where any were asked for."""
    given = dict(ids.select("key", "order_id").iter_rows())
    found: dict[str, Any] = {
        "price_uthb_per_kwh": one_price(result),
        "volume_wh": result.volume_wh,
        "fills": [
            {"order_id": given[key], "filled_wh": filled, "price_uthb_per_kwh": price}
            for key, filled, price in result.fills.select("order_id", "filled_wh", "price_uthb_per_kwh").iter_rows()
        ],
        "matches": [
            row | {"buy_order_id": given[row["buy_order_id"]], "sell_order_id": given[row["sell_order_id"]]}
            for row in result.matches.iter_rows(named=True)
        ],
        "zones": result.zones.to_dicts(),
        "flows": result.flows.to_dicts(),
    }
    if with_charges:
        found["charges"] = result.traded.to_dicts()
    return found


def one_price(result: ClearingResult) -> int | None:
    """The price of all trades; None where there were none, or where zones or matches have different ones."""
    traded = result.zones.filter((pl.col("bought_wh") > 0) | (pl.col("sold_wh") > 0))
    prices = {*traded["price_uthb_per_kwh"].to_list(), *result.matches["price_uthb_per_kwh"].to_list()}
    prices.discard(None)  # zones have no price where each match has its own
    return prices.pop() if len(prices) == 1 else None


def refused(refusals: list[Refusal]) -> list[dict[str, Any]]:
    """Refused rows with their reasons."""
    return [
        {
            "line": each.line,
            "row": each.row,
            "order_id": each.order_id,
            "field": each.field,
            "value": each.value,
            "bound": each.bound,
            "reason": each.reason,
        }
        for each in refusals
    ]

"""A clearing as the JSON document that `market clear --json` prints.

Belongs here: its fields. Does not belong here: reading, clearing, tables for people (summary.py). Order ids come out
as they went in; every number is an integer; `price_uthb_per_kwh` is null where there is no one price.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.market.charges import vat_report
from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market_cli.refusals import Refusal


def document(
    result: ClearingResult,
    ids: pl.DataFrame,
    *,
    book_id: Any,
    vat_bp: int | None,
    refusals: list[Refusal],
    extra: Mapping[str, Any] | None = None,
) -> Iterator[bytes]:
    """The pieces of the document. `ids` gives each key its order_id; `vat_bp` None: no charges per wallet in it.

    `extra`: keys that only some clearings have, with what can be written as JSON.
    """
    head = {} if book_id is None else {"book_id": book_id}
    head |= {"price_uthb_per_kwh": one_price(result), "volume_wh": result.volume_wh}
    yield msgspec.json.encode(head)[:-1]
    given = ids.rename({"order_id": "given"})
    fills = result.fills.join(given, left_on="order_id", right_on="key", how="left", maintain_order="left")
    lists = {
        "fills": fills.select(pl.col("given").alias("order_id"), "filled_wh", "price_uthb_per_kwh"),
        "matches": _named(result.matches, given),
        "zones": result.zones,
        "flows": result.flows,
    }
    if vat_bp is not None:
        lists["charges"] = result.traded.join(
            vat_report(result.traded, vat_bp), on="wallet", how="left", maintain_order="left"
        )
    for name, frame in lists.items():
        # a million rows as Python objects would take ten times as long, and a gigabyte
        yield f',"{name}":'.encode() + frame.write_json().encode()
    for name, value in (extra or {}).items():
        yield f',"{name}":'.encode() + msgspec.json.encode(value)
    if refusals:
        yield b',"refused":' + msgspec.json.encode(refused(refusals))
    yield b"}\n"


def _named(matches: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    for name in ("buy_order_id", "sell_order_id"):
        matches = (
            matches.join(given, left_on=name, right_on="key", how="left", maintain_order="left")
            .with_columns(pl.col("given").alias(name))
            .drop("given")
        )
    return matches


def one_price(result: ClearingResult) -> int | None:
    """The price of all trades; None where there were none, or where zones or matches have different ones."""
    traded = result.zones.filter((pl.col("bought_wh") > 0) | (pl.col("sold_wh") > 0))
    prices = {*traded["price_uthb_per_kwh"].unique(), *result.matches["price_uthb_per_kwh"].unique()}
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

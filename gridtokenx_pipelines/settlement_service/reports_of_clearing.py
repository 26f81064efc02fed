"""What an operator sees of a book and a clearing without opening a log.

Belongs here: facts and small tables of an epoch. Does not belong here: how they are shown (assets/render.py).
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.market.book import Book
from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.store.clearing import EpochRow
from gridtokenx_pipelines.units import kwh, thb


def report_of_book(epoch: int, book: Book, root: bytes, *, changed: bool) -> EpochReport:
    """Orders, mandates, what is bid and offered by zone, what was dropped and why."""
    sides = pl.col("side").replace_strict({0: "buy", 1: "sell"}, return_dtype=pl.String)
    depth = (
        book.frame.group_by("zone_id", sides.alias("side"))
        .agg(
            pl.len().alias("orders"),
            pl.sum("energy_wh").alias("asked_wh"),
            pl.sum("covered_wh"),
            (pl.col("limit_uthb_per_kwh").min() / 1_000_000).alias("lowest_thb"),
            (pl.col("limit_uthb_per_kwh").max() / 1_000_000).alias("highest_thb"),
        )
        .sort("zone_id", "side")
    )
    reasons = book.rejected.group_by("reason").agg(pl.len().alias("orders")).sort("reason")
    mandates = int(book.frame["is_mandate"].sum())
    return EpochReport(
        epoch=epoch,
        changed=changed,
        facts={
            "orders": book.frame.height - mandates,
            "mandate_orders": mandates,
            "rejected": book.rejected.height,
            "covered_kwh": kwh(int(book.frame["covered_wh"].sum())),
            "root": root.hex(),
        },
        tables={"depth": depth, "rejected_by_reason": reasons},
    )


def report_of_result(row: EpochRow, result: ClearingResult, *, changed: bool) -> EpochReport:
    """Price by zone, volume, participants, welfare, flows, root."""
    zones = result.zones.with_columns(price_thb_per_kwh=pl.col("price_uthb_per_kwh") / 1_000_000)
    prices = {
        f"price_zone_{zone}_thb_per_kwh": None if price is None else thb(price)
        for zone, price in result.zones.select("zone_id", "price_uthb_per_kwh").iter_rows()
    }
    return EpochReport(
        epoch=row.epoch,
        changed=changed,
        facts={
            **prices,
            "volume_kwh": kwh(result.volume_wh),
            "participants": int((result.traded["traded_wh"] != 0).sum()),
            "welfare_thb": thb(result.welfare_uthb),
            "fees_thb": thb(int(result.traded["fee_uthb"].sum())),
            "congestion_rent_thb": thb(result.rent_uthb),
            "lost_kwh": kwh(result.lost_wh),
            "halted": result.halted,
            "seq": row.seq,
            "root": None if row.result_root is None else row.result_root.hex(),
            "fingerprint": row.fingerprint,
        },
        tables={"zones": zones, "flows": result.flows},
    )

"""The published tables of a day, from its epochs' frozen frames, and their Great Expectations validation.

Belongs here: gathering, writing, validating a day. Does not belong here: contracts (quality/), anything an epoch's
settlement waits for: importing Great Expectations alone takes seconds.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from gridtokenx_pipelines.epochs import EPOCH_SECONDS, key_of
from gridtokenx_pipelines.quality.contract import Contract
from gridtokenx_pipelines.quality.contracts import (
    DAILY_CONTRACTS,
    DAILY_MARKET,
    DAILY_METERING,
    DAILY_SETTLEMENT,
    NET_ENERGY,
    PARTICIPANTS,
    ZONES,
)
from gridtokenx_pipelines.quality.expectations import Outcome, validate
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services

PAGES: Final = "pages"
BY_NAME: Final = {contract.name: contract for contract in DAILY_CONTRACTS}
AFTER: Final = ("grid_after_wh", "thbc_after_uthb", "debt_after_uthb")


class NothingSettled(RuntimeError):
    """No epoch of the day has the frames a daily table is made of."""


def date_of(epoch: int) -> str:
    """UTC day of an epoch."""
    return datetime.fromtimestamp(epoch * EPOCH_SECONDS, UTC).strftime("%Y-%m-%d")


def metering(rows: pl.DataFrame, day: str) -> pl.DataFrame:
    """Each meter's day from its latest rows."""
    newest = rows.sort("revision").unique(["meter_id", "epoch"], keep="last", maintain_order=True)
    return (
        newest.group_by("meter_id")
        .agg(
            pl.col("wallet", "zone_id").last(),
            pl.col("production_wh", "consumption_wh", "net_wh").sum(),
            pl.len().cast(pl.Int64).alias("epochs"),
            pl.col("missing").sum().cast(pl.Int64).alias("missing_epochs"),
            pl.col("estimated").sum().cast(pl.Int64).alias("estimated_epochs"),
            pl.col("readings").sum(),
        )
        .with_columns(date=pl.lit(day))
        .select(list(DAILY_METERING.schema))
        .sort("meter_id")
    )


def settlement(rows: pl.DataFrame, day: str) -> pl.DataFrame:
    """Each wallet's day: amounts summed, balances as the last epoch left them (`rows` in epoch order)."""
    summed = [name for name in PARTICIPANTS.schema if name not in {"wallet", "zone_id", *AFTER}]
    return (
        rows.group_by("wallet", maintain_order=True)
        .agg(pl.col("zone_id").last(), pl.col(summed).sum(), pl.col(AFTER).last())
        .with_columns(date=pl.lit(day))
        .select(list(DAILY_SETTLEMENT.schema))
        .sort("wallet")
    )


def write(services: Services, name: str, days: Sequence[tuple[str, Sequence[int]]]) -> list[EpochReport]:
    """Write the daily table of each day from its settled epochs. Raises NothingSettled naming what to run first."""
    source, make = _SOURCES[name]
    reports = []
    for day, epochs in days:
        parts = [
            services.parquet.read(source.asset, epoch, source.frame).with_columns(epoch=pl.lit(epoch, pl.Int64))
            for epoch in epochs
            if services.parquet.exists(source.asset, epoch, source.frame)
        ]
        if not parts:
            raise NothingSettled(f"{name} of {day}: no epoch has {source.asset}; run settle_epoch on that day first")
        table = make(pl.concat(parts), day)
        path = services.parquet.path(name, epochs[0], "rows")
        changed = not path.is_file() or not services.parquet.read(name, epochs[0], "rows").equals(table)
        if changed:
            services.parquet.write(name, epochs[0], "rows", table)
        facts = {"rows": table.height, "epochs": len(parts), "first_epoch": key_of(epochs[0]), "file": str(path)}
        reports.append(
            EpochReport(epoch=epochs[0], changed=changed, facts=facts, tables={"first_rows": table.head(10)})
        )
    return reports


def inspect(services: Services, name: str, day: str, first_epoch: int, pages: Path) -> tuple[list[Outcome], Path]:
    """Validate a day's table; its data docs pages are built anew. Returns the outcomes and the page."""
    contract = BY_NAME[name]
    frame = services.parquet.read(name, first_epoch, "rows")
    folder = pages / "quality" / name / day
    outcomes = validate(contract, frame, run_name=day, pages=folder)
    _index(pages / "quality")
    return outcomes, folder / "index.html"


def _index(root: Path) -> None:
    """One page that leads to each table's and day's data docs."""
    found = sorted(page.relative_to(root) for page in root.glob("*/*/index.html"))
    items = "".join(
        f'<li><a href="{html.escape(str(page))}">{html.escape(page.parts[0])} {html.escape(page.parts[1])}</a></li>'
        for page in found
    )
    (root / "index.html").write_text(
        "<!doctype html><meta charset=utf-8><title>Data docs</title>"
        f"<h1>Data docs by table and day</h1><ul>{items}</ul>"
    )


def _market(rows: pl.DataFrame, day: str) -> pl.DataFrame:
    return rows.with_columns(date=pl.lit(day)).select(list(DAILY_MARKET.schema)).sort("epoch", "zone_id")


_SOURCES: Final[dict[str, tuple[Contract, Callable[[pl.DataFrame, str], pl.DataFrame]]]] = {
    DAILY_METERING.name: (NET_ENERGY, metering),
    DAILY_MARKET.name: (ZONES, _market),
    DAILY_SETTLEMENT.name: (PARTICIPANTS, settlement),
}


def pages_of(services: Services) -> Path:
    """Where pages for people lie: beside the frames."""
    return services.parquet.root.parent / PAGES

"""Stage 5: what each participant and the operator earned, paid and owe for an epoch.

Belongs here: statements from the ledger's entries, all runs of the epoch together. Does not belong here: booking.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store.epochs import statuses
from gridtokenx_pipelines.units import BASIS_POINTS, kwh, thb, value_ceil_expr, value_floor_expr

ASSET = "epoch_statement"
SUMMED = (
    "net_wh",
    "traded_wh",
    "minted_wh",
    "burned_wh",
    "residual_wh",
    "cost_uthb",
    "fee_uthb",
    "zone_wheeling_uthb",
    "proceeds_uthb",
    "billed_uthb",
    "paid_to_supplier_uthb",
    "debt_repaid_uthb",
    "debt_delta_uthb",
    "bought_back_wh",
    "buy_back_uthb",
    "refund_uthb",
    "returned_uthb",
)
AFTER = ("grid_after_wh", "thbc_after_uthb", "debt_after_uthb")


def participants_statement(entries: pl.DataFrame, rules: Rules, epoch: int) -> pl.DataFrame:
    """One row per wallet: what its runs of the epoch add up to, VAT inside the charges, saved against the tariffs.

    `saved_uthb`: what bought energy would have cost at the retail tariff, and sold energy earned at feed-in, less what
    it did cost and earn.
    """
    bought, sold = pl.col("traded_wh").clip(lower_bound=0), (-pl.col("traded_wh")).clip(lower_bound=0)
    charges = pl.col("fee_uthb") + pl.col("zone_wheeling_uthb") + pl.col("billed_uthb")
    tariff, feed_in = rules.tariff_uthb_per_kwh(epoch), rules.feed_in_uthb_per_kwh
    return (
        entries.sort("seq")
        .group_by("wallet", maintain_order=True)
        .agg(pl.col("zone_id").last(), pl.col(SUMMED).sum(), pl.col(AFTER).last())
        .with_columns(
            vat_uthb=charges * rules.vat_bp // (BASIS_POINTS + rules.vat_bp),
            saved_uthb=value_ceil_expr(bought, pl.lit(tariff))
            - pl.col("cost_uthb")
            + pl.col("proceeds_uthb")
            - value_floor_expr(sold, pl.lit(feed_in)),
        )
        .sort("wallet")
    )


def write(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Write `participants` and `operator` of each epoch; writing again gives the same frames until a resettlement."""
    with services.engine.connect() as connection:
        entries = ledger.wallet_entries(connection, epochs[0], epochs[-1])
        cleared = statuses(connection, epochs[0], epochs[-1])
    reports = []
    for epoch in epochs:
        if epoch not in cleared:
            raise ValueError(f"epoch {key_of(epoch)} has no run in the ledger; clear it first")
        # no entry is no fault: an epoch in which every meter was missing settles empty
        mine = entries.filter(pl.col("epoch") == epoch)
        people = participants_statement(mine, services.rules, epoch)
        operator = people.select(pl.col(*SUMMED, "vat_uthb", "saved_uthb").sum())
        changed = _write_if_new(services, epoch, "participants", people)
        changed = _write_if_new(services, epoch, "operator", operator) or changed
        reports.append(_report(epoch, people, operator.row(0, named=True), services, changed=changed))
    return reports


def _write_if_new(services: Services, epoch: int, name: str, frame: pl.DataFrame) -> bool:
    if services.parquet.exists(ASSET, epoch, name) and services.parquet.read(ASSET, epoch, name).equals(frame):
        return False
    services.parquet.write(ASSET, epoch, name, frame)
    return True


def _report(
    epoch: int, people: pl.DataFrame, operator: dict[str, int], services: Services, *, changed: bool
) -> EpochReport:
    shown = people.select(
        "wallet",
        "zone_id",
        *[
            (pl.col(name) / unit).alias(title)
            for title, name, unit in (
                ("net kWh", "net_wh", 1_000),
                ("traded kWh", "traded_wh", 1_000),
                ("paid THB", "cost_uthb", 1_000_000),
                ("earned THB", "proceeds_uthb", 1_000_000),
                ("supplier's bill THB", "billed_uthb", 1_000_000),
                ("buy-back THB", "buy_back_uthb", 1_000_000),
                ("saved THB", "saved_uthb", 1_000_000),
                ("debt THB", "debt_after_uthb", 1_000_000),
            )
        ],
    )
    return EpochReport(
        epoch=epoch,
        changed=changed,
        facts={
            "participants": people.height,
            "saved_thb": thb(operator["saved_uthb"]),
            "billed_thb": thb(operator["billed_uthb"]),
            "residual_kwh": kwh(operator["residual_wh"]),
            "bought_back_kwh": kwh(operator["bought_back_wh"]),
            "fees_thb": thb(operator["fee_uthb"]),
            "statement": services.parquet.path(ASSET, epoch, "participants").as_posix(),
        },
        tables={"participants_table": shown},
    )

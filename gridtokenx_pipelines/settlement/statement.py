"""What each participant's runs of an epoch add up to: energy, charges, the VAT inside them, balances after.

Belongs here: sums of wallet entries, VAT (domain §6), savings against the tariffs. Does not belong here: periods,
files, links (settlement_service/statements.py, settlement_service/period.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.units import BASIS_POINTS, floor_div_expr, value_ceil_expr, value_floor_expr

SUMMED: Final = (
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
AFTER: Final = ("grid_after_wh", "thbc_after_uthb", "debt_after_uthb")
CHARGES: Final = ("fee_uthb", "zone_wheeling_uthb", "billed_uthb")


def rates_of(rules: Mapping[int, Rules]) -> pl.DataFrame:
    """Each epoch's tariff and feed-in price (µTHB/kWh) and VAT rate."""
    rows = [(epoch, r.tariff_uthb_per_kwh(epoch), r.feed_in_uthb_per_kwh, r.vat_bp) for epoch, r in rules.items()]
    return pl.DataFrame(rows, schema=dict.fromkeys(("epoch", "tariff", "feed_in", "vat_bp"), pl.Int64), orient="row")


def vat_expr(charge: str) -> pl.Expr:
    """The VAT that a charge includes, ⌊charge × rate / (1 + rate)⌋, with the rate in column `vat_bp`."""
    return floor_div_expr(pl.col(charge) * pl.col("vat_bp"), BASIS_POINTS + pl.col("vat_bp"))


def participants(entries: pl.DataFrame, rules: Mapping[int, Rules]) -> pl.DataFrame:
    """One row per epoch and wallet: SUMMED over its runs, AFTER its last one, `vat_uthb`, `saved_uthb`.

    VAT is that of each charge of each run, rounded down one by one; a refund gives back what its bill included.
    `saved_uthb`: what bought energy would have cost at the retail tariff, and sold energy earned at feed-in, less what
    it did cost and earn. It may be negative: a limit binds nobody to the tariffs.
    """
    rated = entries.join(rates_of(rules), on="epoch", how="left")
    vat = pl.sum_horizontal(*(vat_expr(charge) for charge in CHARGES)) - vat_expr("refund_uthb")
    bought, sold = pl.col("traded_wh").clip(lower_bound=0), (-pl.col("traded_wh")).clip(lower_bound=0)
    return (
        rated.with_columns(vat_uthb=vat)
        .sort("seq")
        .group_by("epoch", "wallet", maintain_order=True)
        .agg(
            pl.col("zone_id").last(),
            pl.col(SUMMED).sum(),
            pl.col(AFTER).last(),
            pl.col("vat_uthb").sum(),
            pl.col("tariff", "feed_in").last(),
        )
        .with_columns(
            saved_uthb=value_ceil_expr(bought, pl.col("tariff"))
            - pl.col("cost_uthb")
            + pl.col("proceeds_uthb")
            - value_floor_expr(sold, pl.col("feed_in")),
        )
        .drop("tariff", "feed_in")
        .sort("epoch", "wallet")
    )


def operators(people: pl.DataFrame) -> pl.DataFrame:
    """One row per epoch: the sums over all participants."""
    return people.group_by("epoch").agg(pl.col(*SUMMED, "vat_uthb", "saved_uthb").sum()).sort("epoch")

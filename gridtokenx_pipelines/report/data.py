"""The data of a report: the contract's frames as they stand in the tables, and what the plots derive from them.

Belongs here: `ReportData`, per-epoch sums, savings. Does not belong here: drawing (svg.py, sections.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.units import value_ceil_uthb, value_floor_uthb

ZONE_COLUMNS = ("epoch", "zone_id", "price_uthb_per_kwh", "bought_wh", "sold_wh")
NET_COLUMNS = (
    "meter_id", "wallet", "epoch", "revision", "missing", "booked_epoch", "production_wh", "consumption_wh",
    "production_end_wh", "consumption_end_wh",
)  # fmt: skip
ENTRY_COLUMNS = (
    "seq", "epoch", "run", "wallet", "net_wh", "traded_wh", "minted_wh", "deficit_wh", "burned_wh", "residual_wh",
    "billed_uthb", "cost_uthb", "proceeds_uthb", "fee_uthb", "bought_back_wh", "buy_back_uthb", "refund_uthb",
    "grid_after_wh", "thbc_after_uthb", "debt_after_uthb",
)  # fmt: skip
TRANSACTION_COLUMNS = ("epoch", "compute_units")


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a report shows. Frames have the contract's columns, more do no harm.

    result: the demo's result (`demo.json`). zones: `zone_results`. net_energy: all rows, missing ones included.
    wallet_entries: `settlements`, all runs. transactions: `blockchain_transactions`. household: (name, wallet) of the
    one whose day is shown. Construction raises ValueError naming a column that a frame lacks.
    """

    result: Mapping[str, Any]
    zones: pl.DataFrame
    net_energy: pl.DataFrame
    wallet_entries: pl.DataFrame
    transactions: pl.DataFrame
    household: tuple[str, str]
    rules: Rules = Rules()

    def __post_init__(self) -> None:
        for name, columns in (
            ("zones", ZONE_COLUMNS),
            ("net_energy", NET_COLUMNS),
            ("wallet_entries", ENTRY_COLUMNS),
            ("transactions", TRANSACTION_COLUMNS),
        ):
            lacking = [column for column in columns if column not in getattr(self, name).columns]
            if lacking:
                raise ValueError(f"frame {name} lacked {', '.join(lacking)}; give the contract's columns")
        if self.zones.is_empty():
            raise ValueError("frame zones had no rows, must have at least one settled epoch; settle one first")

    @property
    def epochs(self) -> list[int]:
        """All epochs between the first and the last with a result, ascending."""
        numbers = self.zones["epoch"]
        return list(range(int(numbers.min()), int(numbers.max()) + 1))  # type: ignore[arg-type] # never empty

    @property
    def zone_ids(self) -> list[int]:
        """Zones, ascending."""
        return sorted(self.zones["zone_id"].unique().to_list())


def balance_by_epoch(data: ReportData) -> pl.DataFrame:
    """Per epoch in Wh: produced, consumed, traded, minted, burned, residual, own (production used at home).

    Energy of a meter that was missing counts in the epoch that booked it, as in the ledger, so that the columns add
    up: consumed = own + burned + residual, apart from what resettlements shifted.
    """
    metered = (
        data.net_energy.filter(~pl.col("missing"))
        .group_by(pl.col("booked_epoch").alias("epoch"))
        .agg(produced_wh=pl.sum("production_wh"), consumed_wh=pl.sum("consumption_wh"))
    )
    booked = data.wallet_entries.group_by("epoch").agg(
        traded_wh=pl.col("traded_wh").clip(lower_bound=0).sum(),
        minted_wh=pl.sum("minted_wh"),
        deficit_wh=pl.sum("deficit_wh"),
        burned_wh=pl.sum("burned_wh"),
        residual_wh=pl.sum("residual_wh"),
    )
    every = pl.DataFrame({"epoch": data.epochs}, schema={"epoch": pl.Int64})
    joined = every.join(metered, on="epoch", how="left").join(booked, on="epoch", how="left").fill_null(0)
    own = (pl.col("consumed_wh") - pl.col("burned_wh") - pl.col("residual_wh")).clip(lower_bound=0)
    return joined.with_columns(own_wh=own).sort("epoch")


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """What trading was worth in µTHB: to buyers against the retail tariff, to sellers against the feed-in tariff."""

    buyers_uthb: int
    sellers_uthb: int

    @property
    def total_uthb(self) -> int:
        """Both together."""
        return self.buyers_uthb + self.sellers_uthb


def savings(wallet_entries: pl.DataFrame, rules: Rules) -> Savings:
    """Savings of a frame's trades (columns epoch, traded_wh, cost_uthb, proceeds_uthb)."""
    buyers = sellers = 0
    columns = wallet_entries.select("epoch", "traded_wh", "cost_uthb", "proceeds_uthb")
    for epoch, traded_wh, cost_uthb, proceeds_uthb in columns.iter_rows():
        if traded_wh > 0:
            buyers += value_ceil_uthb(traded_wh, rules.tariff_uthb_per_kwh(epoch)) - cost_uthb
        elif traded_wh < 0:
            sellers += proceeds_uthb - value_floor_uthb(-traded_wh, rules.at(epoch).feed_in_uthb_per_kwh)
    return Savings(buyers_uthb=buyers, sellers_uthb=sellers)


def busiest_household(wallet_entries: pl.DataFrame, names: Mapping[str, str]) -> tuple[str, str]:
    """(name, wallet) of the household that sold and bought the most, the more even the better: the one worth showing.

    `names`: name by wallet. Raises ValueError if it is empty.
    """
    if not names:
        raise ValueError("names had no household, must have at least one")
    sums = wallet_entries.group_by("wallet").agg(
        sold=(-pl.col("traded_wh")).clip(lower_bound=0).sum(), bought=pl.col("traded_wh").clip(lower_bound=0).sum()
    )
    traded = {wallet: (sold, bought) for wallet, sold, bought in sums.iter_rows()}

    def rank(wallet: str) -> tuple[int, int, str]:
        sold, bought = traded.get(wallet, (0, 0))
        return min(sold, bought), sold + bought, names[wallet]

    wallet = max(names, key=rank)
    return names[wallet], wallet


def household_day(data: ReportData) -> pl.DataFrame:
    """Per epoch of the household in Wh and µTHB: registers since the start, net, traded, residual, balances after.

    Columns: epoch, production_wh and consumption_wh (cumulative), net_wh, traded_wh, residual_wh, cost_uthb,
    proceeds_uthb, billed_uthb, buy_back_uthb, refund_uthb, thbc_after_uthb, grid_after_wh, debt_after_uthb.
    """
    _, wallet = data.household
    every = pl.DataFrame({"epoch": data.epochs}, schema={"epoch": pl.Int64})
    metered = (
        data.net_energy.filter((pl.col("wallet") == wallet) & ~pl.col("missing"))
        .group_by("epoch")
        .agg(pl.sum("production_wh", "consumption_wh"))
    )
    sums = ("net_wh", "traded_wh", "residual_wh", "cost_uthb", "proceeds_uthb", "billed_uthb", "buy_back_uthb")
    afters = ("thbc_after_uthb", "grid_after_wh", "debt_after_uthb")
    booked = (
        data.wallet_entries.filter(pl.col("wallet") == wallet)
        .sort("seq")
        .group_by("epoch")
        .agg(pl.sum(*sums, "refund_uthb"), pl.last(*afters))
    )
    joined = every.join(metered, on="epoch", how="left").join(booked, on="epoch", how="left").sort("epoch")
    return joined.with_columns(
        pl.col("production_wh", "consumption_wh").fill_null(0).cum_sum(),
        pl.col(*sums, "refund_uthb").fill_null(0),
        pl.col(*afters).forward_fill().backward_fill().fill_null(0),
    )

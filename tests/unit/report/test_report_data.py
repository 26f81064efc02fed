from __future__ import annotations

import msgspec
import polars as pl
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.report.data import (
    ReportData,
    Savings,
    balance_by_epoch,
    busiest_household,
    household_day,
    savings,
)

ON_PEAK, OFF_PEAK = epoch_of_key("2026-06-15T05:00Z"), epoch_of_key("2026-06-14T17:00Z")


def test_savings_compare_with_the_tariffs_of_the_epoch():
    entries = pl.DataFrame(
        {
            "epoch": [ON_PEAK, OFF_PEAK, ON_PEAK, ON_PEAK],
            "traded_wh": [1_500, 1_000, -2_000, 0],
            "cost_uthb": [4_800_000, 2_600_000, 0, 0],
            "proceeds_uthb": [0, 0, 5_940_000, 0],
        }
    )
    # 1.5 kWh at 4.10 are 6.15, 1 kWh at 2.58: trading cost 2 satang more; 2 kWh at 2.20 are 4.40
    assert savings(entries, Rules()) == Savings(buyers_uthb=1_350_000 - 20_000, sellers_uthb=1_540_000)


def test_the_balance_of_every_epoch_adds_up(morning: ReportData):
    balance = balance_by_epoch(morning)
    assert balance["epoch"].to_list() == morning.epochs
    closes = pl.col("own_wh") + pl.col("burned_wh") + pl.col("residual_wh") == pl.col("consumed_wh")
    assert balance.select(closes.all()).item()
    energy = morning.result["energy_wh"]
    totals = balance.sum().row(0, named=True)
    assert {name: totals[f"{name}_wh"] for name in energy} == energy
    assert energy["traded"] > 0


def test_the_busiest_household_is_one_that_trades_both_ways(morning: ReportData):
    entries = pl.DataFrame({"wallet": ["a", "b", "c", "b"], "traded_wh": [900, 50, -800, -60]})
    assert busiest_household(entries, {"a": "H1", "b": "H2", "c": "H3"}) == ("H2", "b")
    assert busiest_household(entries.clear(), {"a": "H1"}) == ("H1", "a")
    with pytest.raises(ValueError, match="names had no household"):
        busiest_household(entries, {})


def test_a_households_day_follows_its_registers_and_its_account(morning: ReportData):
    day = household_day(morning)
    _, wallet = morning.household
    mine = morning.net_energy.filter((pl.col("wallet") == wallet) & ~pl.col("missing"))
    assert day["epoch"].to_list() == morning.epochs
    assert day["production_wh"][-1] == mine["production_wh"].sum()
    assert day["consumption_wh"][-1] == mine["consumption_wh"].sum()
    last = morning.wallet_entries.filter(pl.col("wallet") == wallet).sort("seq")["thbc_after_uthb"][-1]
    assert day["thbc_after_uthb"][-1] == last


def test_a_frame_without_a_needed_column_is_refused_by_name(morning: ReportData):
    with pytest.raises(ValueError, match="frame zones lacked bought_wh; give the contract's columns"):
        msgspec.structs.replace(morning, zones=morning.zones.drop("bought_wh"))
    with pytest.raises(ValueError, match="frame zones had no rows"):
        msgspec.structs.replace(morning, zones=morning.zones.clear())

"""Contracts, warnings and daily tables as an operator runs them: through Dagster's jobs, on a settled market."""

from __future__ import annotations

import dagster as dg
import polars as pl
from sqlalchemy import text

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.instance import QUIET
from gridtokenx_pipelines.store.parquet import ParquetStore
from tests.assets.market_day import FIRST, seed
from tests.assets.test_dagster_runs import Site, last_evaluation, site, verdicts

__all__ = ["site"]  # the fixture, found by its name
DAY = "2026-03-02"
EPOCHS = 2


def frames(of: Site) -> ParquetStore:
    return ParquetStore(f"{of.settlement.environment['GRIDTOKENX_DATA_DIR']}/frames")


def run_day(of: Site) -> dg.ExecuteInProcessResult:
    job = of.definitions.resolve_job_def("publish_day")
    return job.execute_in_process(instance=of.instance, partition_key=DAY, run_config=QUIET, raise_on_error=False)


def test_a_day_is_published_validated_watched_and_a_broken_table_is_named(site: Site) -> None:
    seed(site.engine, EPOCHS)
    assert site.run(FIRST, FIRST + EPOCHS - 1).success
    for asset in ("net_energy", "order_book", "clearing_results", "epoch_statement"):
        assert verdicts(site.instance, asset, "contract") == {
            key_of(FIRST): "SUCCEEDED",
            key_of(FIRST + 1): "SUCCEEDED",
        }

    # statistics look at settled epochs, block nothing and say what they saw
    with site.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO latest_readings (meter_id, zone_id, seq, timestamp_us, production_wh, consumption_wh, "
                "voltage_v) VALUES ('MEA-001', 1, 1, 1, 1, 1, 260.5)"
            )
        )
    assert site.run(FIRST, FIRST + EPOCHS - 1, job="watch_quality").success
    seen = last_evaluation(site.instance, "net_energy", "voltage_outliers")
    assert (seen.passed, seen.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "260.5" in str(seen.metadata["failing_rows"].value)
    assert verdicts(site.instance, "clearing_results", "price_against_its_history") == {
        key_of(FIRST): "SUCCEEDED",
        key_of(FIRST + 1): "SUCCEEDED",
    }

    # a day: three tables, each validated, pages built
    assert run_day(site).success
    store = frames(site)
    meters = store.read("daily_metering", FIRST - 20, "rows")
    assert meters.select("date", "meter_id", "epochs", "missing_epochs").rows()[0] == (DAY, "MEA-000", EPOCHS, 0)
    market = store.read("daily_market", FIRST - 20, "rows")
    assert market.select("epoch", "zone_id").rows() == [(FIRST, 1), (FIRST, 2), (FIRST + 1, 1), (FIRST + 1, 2)]
    statement = store.read("daily_settlement", FIRST - 20, "rows")
    by_epoch = pl.concat(store.read("epoch_statement", epoch, "participants") for epoch in (FIRST, FIRST + 1))
    assert statement["cost_uthb"].sum() == by_epoch["cost_uthb"].sum() > 0
    pages = store.root.parent / "pages" / "quality"
    assert f"daily_market/{DAY}/index.html" in (pages / "index.html").read_text()
    assert (pages / "daily_market" / DAY / "index.html").is_file()
    passed = last_evaluation(site.instance, "daily_settlement", "cost_uthb_range")
    assert (passed.passed, passed.severity) == (True, dg.AssetCheckSeverity.ERROR)

    # a frame that somebody changed: the epoch's contract blocks, the day's suite shows key and value
    participants = store.read("epoch_statement", FIRST, "participants")
    store.write("epoch_statement", FIRST, "participants", participants.with_columns(fee_uthb=pl.lit(-7, pl.Int64)))
    day = run_day(site)
    assert day.success  # nothing follows a daily table: its checks report and stop nobody
    bad = last_evaluation(site.instance, "daily_settlement", "fee_uthb_range")
    assert bad.passed is False
    assert {row["wallet"] for row in bad.metadata["failing_rows"].value} <= set(participants["wallet"])
    assert bad.metadata["failing_days"].value == [DAY]


def test_a_day_without_settled_epochs_is_refused_with_the_remedy(site: Site) -> None:
    result = run_day(site)
    assert result.success is False
    (first, *_) = [event for event in result.all_events if event.is_step_failure]
    assert "run settle_epoch on that day first" in str(first.step_failure_data.error)


def test_a_frame_out_of_its_contract_blocks_what_follows(site: Site) -> None:
    seed(site.engine, 1)
    with site.engine.begin() as connection:
        # a trigger of another time let a register through that no meter reaches
        connection.execute(
            text("UPDATE net_energy SET production_end_wh = production_end_wh + 9007199254740993 - production_end_wh")
        )
    outcome = site.run(FIRST, FIRST)
    assert outcome.success is False
    found = {each.check: each.detail for each in outcome.failed_checks}
    assert "net_energy.production_end_wh: must be 0 … 9,007,199,254,740,992 Wh" in found["contract"]
    assert site.scalar("SELECT count(*) FROM market_epochs") == 0

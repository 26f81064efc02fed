"""The job as schedule, sensor and demo run it: real Postgres for Dagster and the domain, a real local chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import polars as pl
import pytest
from sqlalchemy import Engine, text

from gridtokenx_pipelines import schedules, sensors
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.definitions import build_definitions
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.instance import RangeOutcome, fail_abandoned_runs, open_instance, run_range
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.store import energy
from gridtokenx_pipelines.store.postgres import engine
from tests.assets.market_chain import bring_up, settings
from tests.assets.market_day import FIRST, close_flows, frame, meter_id, net_rows, seed, wallet

EPOCHS = 8
# Dagster's own price of one more epoch in a range, with room for a busy machine; it was 0.06 s when this was written
MOST_SECONDS_AN_EPOCH = 0.25


class Site(NamedTuple):
    """A running market: its database, Dagster's instance and definitions bound to it."""

    engine: Engine
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    settlement: Settlement

    def run(self, first: int, last: int, job: str = "settle_epoch") -> RangeOutcome:
        return run_range(self.instance, first, last, definitions=self.definitions, job=job)

    def scalar(self, sql: str) -> object:
        with self.engine.connect() as connection:
            return connection.execute(text(sql)).scalar_one()


@pytest.fixture
def site(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Site]:
    url = new_database()
    with LocalnetProcess(tmp_path / "localnet", slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        configured = settings(tmp_path / "data", url, localnet.url)
        settlement = Settlement(environment=configured.as_env())
        made = engine(url)
        with open_instance(configured) as instance:
            yield Site(made, instance, build_definitions(settlement=settlement), settlement)
        made.dispose()


def test_a_range_settles_shows_itself_per_partition_and_changes_nothing_the_second_time(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    seed(site.engine, EPOCHS)
    capfd.readouterr()
    outcome = site.run(FIRST, FIRST + EPOCHS - 1)
    assert (outcome.success, outcome.failed_checks, outcome.error) == (True, (), None)
    assert capfd.readouterr() == ("", "")
    assert site.scalar("SELECT count(*) FROM market_epochs WHERE status = 'settled'") == EPOCHS

    shown = metadata(site.instance, "clearing_results")
    assert sorted(shown) == [key_of(FIRST + offset) for offset in range(EPOCHS)]
    first = shown[key_of(FIRST)]
    assert {"price_zone_1_thb_per_kwh", "volume_kwh", "participants", "welfare_thb", "root", "zones"} <= set(first)
    assert first["unchanged"].value is False
    assert {"transactions", "compute_units", "compute_units_per_trader", "by_step", "seconds"} <= set(
        metadata(site.instance, "settlement_receipts")[key_of(FIRST + 7)]
    )
    assert first["root"].value != shown[key_of(FIRST + 1)]["root"].value

    for asset, check in (("net_energy", "zone_balance_plausible"), ("clearing_results", "price_in_band_or_halted")):
        assert verdicts(site.instance, asset, check) == {
            key_of(FIRST + offset): "SUCCEEDED" for offset in range(EPOCHS)
        }

    sent = site.scalar("SELECT count(*) FROM blockchain_transactions")
    # the same range again: everything is found done, so what it takes is Dagster's own price (this process's seconds of
    # a processor: on a busy machine the clock on the wall says nothing)
    started = time.process_time()
    assert site.run(FIRST, FIRST).success
    one = time.process_time() - started
    started = time.process_time()
    assert site.run(FIRST, FIRST + EPOCHS - 1).success
    eight = time.process_time() - started
    assert site.scalar("SELECT count(*) FROM blockchain_transactions") == sent
    again = metadata(site.instance, "clearing_results")
    assert all(each["unchanged"].value is True for each in again.values())
    assert {key: each["root"].value for key, each in again.items()} == {
        key: each["root"].value for key, each in shown.items()
    }
    assert eight - one < (EPOCHS - 1) * MOST_SECONDS_AN_EPOCH

    # a correction of the second boundary: its sensor asks for one run, which books only the difference
    correct(site.engine, meter=3, production=30)
    request = evaluate_sensor(site, sensors.correction_sensor)
    assert [(each.partition_key, each.run_key) for each in request] == [(key_of(FIRST + 1), f"{key_of(FIRST + 1)}/1")]
    assert site.run(FIRST + 1, FIRST + 1, job="resettle_epoch").success
    assert site.scalar("SELECT status FROM corrections") == "booked"
    assert site.scalar("SELECT count(*) FROM runs WHERE kind = 3 AND status = 'finalised'") == 1
    assert evaluate_sensor(site, sensors.correction_sensor) == []


def test_a_bad_epoch_blocks_what_follows_and_shows_the_failing_rows(site: Site) -> None:
    rows = [row for row in net_rows(3) if (row["meter_id"], row["epoch"]) != (meter_id(2), FIRST + 1)]
    seed(site.engine, 3, rows)
    outcome = site.run(FIRST, FIRST + 2)
    assert outcome.success is False
    (bad,) = [each for each in outcome.failed_checks if each.check == "every_active_meter_present_or_missing"]
    assert (bad.asset, bad.detail[:20]) == ("net_energy", f"{key_of(FIRST + 1)}: 1")
    assert site.scalar("SELECT count(*) FROM market_epochs") == 0
    evaluation = last_evaluation(site.instance, "net_energy", "every_active_meter_present_or_missing")
    assert "MEA-002" in str(evaluation.metadata["failing_rows"].value)
    assert evaluation.metadata["epochs_failed"].value == 1
    assert verdicts(site.instance, "net_energy", "every_active_meter_present_or_missing") == {
        key_of(FIRST): "SUCCEEDED",
        key_of(FIRST + 1): "FAILED",
        key_of(FIRST + 2): "SUCCEEDED",
    }

    # the row arrives: the same range settles
    with site.engine.begin() as connection:
        energy.save_net_energy(connection, frame([row for row in net_rows(3) if row["meter_id"] == meter_id(2)]))
    # but an order that no intake would let through is in the third book: the first two are committed, nothing after
    with site.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO orders (order_id, wallet, zone_id, meter_id, side, energy_wh, limit_uthb_per_kwh, epoch, "
                "nonce, placed_at_us, broker_us) VALUES (decode(repeat('ab', 16), 'hex'), :wallet, 1, 'MEA-002', 0, "
                "10, 9000000, :epoch, 0, 5, 5)"
            ),
            {"wallet": wallet(2), "epoch": FIRST + 2},
        )
    outcome = site.run(FIRST, FIRST + 2)
    assert [(each.asset, each.check) for each in outcome.failed_checks] == [("order_book", "limits_of_the_domain")]
    assert outcome.error is not None
    assert "stopped before 2026-03-02T05:30Z, nothing of it committed; 2 epochs before it are" in outcome.error
    assert site.scalar("SELECT string_agg(status, ',') FROM market_epochs") == "cleared,cleared"
    assert site.scalar("SELECT count(*) FROM blockchain_transactions") == 0

    with site.engine.begin() as connection:
        connection.execute(text("UPDATE orders SET status = 'rejected'"))
    assert site.run(FIRST, FIRST + 2).success
    assert site.scalar("SELECT count(*) FROM market_epochs WHERE status = 'settled'") == 3


def test_sensor_and_schedule_ask_for_complete_epochs_in_order_and_for_none_while_a_run_goes_on(site: Site) -> None:
    assert evaluate_sensor(site, sensors.completion_sensor) == []
    seed(site.engine, 2)
    (request,) = evaluate_sensor(site, sensors.completion_sensor)
    assert request.run_key == f"{key_of(FIRST)}...{key_of(FIRST + 1)}"
    assert request.tags["dagster/asset_partition_range_end"] == key_of(FIRST + 1)
    (scheduled,) = evaluate_schedule(site)
    assert scheduled.run_key == request.run_key

    assert site.run(FIRST, FIRST + 1).success
    assert evaluate_sensor(site, sensors.completion_sensor) == []
    with site.engine.begin() as connection:
        energy.save_net_energy(connection, frame(net_rows(3)))
    close_flows(site.engine, FIRST + 2)
    (request,) = evaluate_sensor(site, sensors.completion_sensor)
    assert (request.run_key, request.partition_key) == (key_of(FIRST + 2), key_of(FIRST + 2))

    busy = dg.DagsterRun("settle_epoch", tags={"gridtokenx/market": "main"}, status=dg.DagsterRunStatus.STARTED)
    site.instance.add_run(busy)
    assert evaluate_sensor(site, sensors.completion_sensor) == []
    assert evaluate_schedule(site) == []


def test_a_run_whose_process_was_killed_gives_the_market_free_again(site: Site) -> None:
    seed(site.engine, 1)
    killed = dg.DagsterRun("settle_epoch", tags={"gridtokenx/market": "main"}, status=dg.DagsterRunStatus.STARTED)
    site.instance.add_run(killed)
    assert evaluate_sensor(site, sensors.completion_sensor) == []
    assert [fail_abandoned_runs(site.instance) for _ in range(2)] == [1, 0]
    assert site.instance.get_run_by_id(killed.run_id).status == dg.DagsterRunStatus.FAILURE
    assert len(evaluate_sensor(site, sensors.completion_sensor)) == 1


def test_a_further_correction_of_a_boundary_starts_another_run(site: Site) -> None:
    seed(site.engine, 2)
    assert site.run(FIRST, FIRST + 1).success
    keys = []
    for revision in (1, 2):
        correct(site.engine, meter=0, production=40, revision=revision)
        (request,) = evaluate_sensor(site, sensors.correction_sensor)
        keys.append(request.run_key)
        with site.engine.begin() as connection:
            connection.execute(text("UPDATE corrections SET status = 'recorded', booked_seq = 0"))
    assert keys == [f"{key_of(FIRST + 1)}/1", f"{key_of(FIRST + 1)}/2"]


def metadata(instance: dg.DagsterInstance, asset: str) -> dict[str, dict[str, dg.MetadataValue]]:  # type: ignore[type-arg]
    """Latest metadata of an asset per partition key."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=1_000).records
    found = {}
    for record in reversed(records):
        materialization = record.asset_materialization
        assert materialization is not None
        found[str(materialization.partition)] = dict(materialization.metadata)
    return found


def last_evaluation(instance: dg.DagsterInstance, asset: str, check: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    event = record.event.dagster_event
    assert event is not None
    return event.asset_check_evaluation_data


def verdicts(instance: dg.DagsterInstance, asset: str, check: str) -> dict[str, str]:
    """Status of a check per partition key, as the UI's partition view reads it."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    found = instance.event_log_storage.get_asset_check_partition_info([key])
    return {str(each.partition_key): each.latest_execution_status.name for each in found if each.partition_key}


def evaluate_sensor(site: Site, sensor: dg.SensorDefinition) -> list[dg.RunRequest]:
    with dg.build_sensor_context(
        instance=site.instance, definitions=site.definitions, resources={"settlement": site.settlement}
    ) as context:
        data = sensor.evaluate_tick(context)
    return list(data.run_requests or ())


def evaluate_schedule(site: Site) -> list[dg.RunRequest]:
    with dg.build_schedule_context(instance=site.instance, resources={"settlement": site.settlement}) as context:
        data = schedules.catch_up_schedule.evaluate_tick(context)
    return list(data.run_requests or ())


def correct(made: Engine, *, meter: int, production: int, revision: int = 1) -> None:
    row = {
        "meter_id": meter_id(meter),
        "wallet": wallet(meter),
        "boundary_epoch": FIRST + 1,
        "revision": revision,
        "production_delta_wh": production,
        "consumption_delta_wh": 0,
        "seq": 14,
        "timestamp_us": 1,
    }
    with made.begin() as connection:
        energy.save_corrections(connection, pl.DataFrame([row], schema=energy.CORRECTIONS, orient="row"))

"""The whole asset graph as a snapshot: a change of it is seen, and decided, in this file."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from gridtokenx_pipelines.definitions import build_definitions
from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.partitions import EPOCHS, epochs_of, range_tags

SETTLEMENT_CHECKS = {
    "net_energy": {
        "every_active_meter_present_or_missing",
        "registers_continue_the_epoch_before",
        "zone_balance_plausible",
        "nothing_above_rating",
    },
    "order_book": {
        "limits_of_the_domain",
        "covered_by_balance",
        "no_double_order_id",
        "book_root_recomputed",
    },
    "clearing_results": {
        "energy_balances_to_the_wh",
        "money_balances_to_the_uthb",
        "nobody_worse_than_the_limit",
        "price_in_band_or_halted",
        "equals_independent_recomputation",
    },
    "mint_instructions": {
        "minted_minus_deficit_equals_net",
        "every_fill_in_exactly_one_batch",
        "batches_fit_a_transaction",
        "every_leaf_is_under_its_root",
    },
    "settlement_receipts": {
        "every_batch_confirmed",
        "chain_balances_equal_the_ledger",
        "sums_are_zero",
    },
}
GRAPH = {
    "net_energy": (set(), {"polars", "postgres", "parquet"}),
    "order_book": ({"net_energy"}, {"polars", "postgres", "parquet"}),
    "clearing_results": ({"order_book"}, {"polars", "postgres", "parquet"}),
    "mint_instructions": ({"net_energy", "clearing_results"}, {"polars", "postgres"}),
    "settlement_receipts": ({"mint_instructions"}, {"solana", "postgres"}),
    "epoch_statement": ({"net_energy", "clearing_results", "settlement_receipts"}, {"polars", "parquet"}),
    "resettlement_receipts": ({"settlement_receipts"}, {"solana", "postgres"}),
}


def graph(definitions: dg.Definitions) -> dg.AssetGraph:
    return definitions.resolve_asset_graph()


def test_the_asset_graph_is_as_decided() -> None:
    assets = graph(build_definitions())
    found = {
        key.to_user_string(): (
            {parent.to_user_string() for parent in assets.get(key).parent_keys},
            set(assets.get(key).kinds),
        )
        for key in assets.get_all_asset_keys()
    }
    assert found == GRAPH


def test_every_asset_is_partitioned_by_epoch_runs_ranges_at_once_and_has_an_owner_and_a_description() -> None:
    assets = graph(build_definitions())
    for key in assets.get_all_asset_keys():
        node = assets.get(key)
        assert node.partitions_def == EPOCHS
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        assert node.owners == ["team:settlement"]
        assert node.group_name == "settlement"
        assert node.description


def test_every_stage_has_its_checks_and_each_blocks() -> None:
    assets = graph(build_definitions())
    found: dict[str, set[str]] = {}
    for key in assets.asset_check_keys:
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
        assert assets.get_check_spec(key).blocking, key
    assert found == SETTLEMENT_CHECKS


def test_jobs_schedules_and_sensors_are_as_decided() -> None:
    definitions = build_definitions()
    spine = {
        key.to_user_string() for key in definitions.resolve_job_def("settle_epoch").asset_layer.selected_asset_keys
    }
    assert spine == set(GRAPH) - {"resettlement_receipts"}
    late = {
        key.to_user_string() for key in definitions.resolve_job_def("resettle_epoch").asset_layer.selected_asset_keys
    }
    assert late == {"resettlement_receipts"}
    for name in ("settle_epoch", "resettle_epoch"):
        assert definitions.resolve_job_def(name).tags["gridtokenx/market"] == "main"
    (schedule,) = definitions.schedules or ()
    assert (schedule.name, schedule.cron_schedule) == ("catch_up_schedule", "3,18,33,48 * * * *")
    sensors = {sensor.name: sensor.minimum_interval_seconds for sensor in definitions.sensors or ()}
    assert sensors == {"completion_sensor": 10, "correction_sensor": 30}


def test_importing_the_definitions_reads_no_environment_and_warns_of_nothing() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::DeprecationWarning:gridtokenx_pipelines",
            "-c",
            "import gridtokenx_pipelines.definitions",
        ],
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of the resources: settlement"):
        build_definitions(settlment=None)


def test_a_key_off_the_quarter_hour_is_refused() -> None:
    assert epochs_of(["2026-03-02T05:15Z", "2026-03-02T05:00Z"]) == [1_969_364, 1_969_365]
    with pytest.raises(ValueError, match="must lie on a quarter hour"):
        epochs_of(["2026-03-02T05:07Z"])


def test_a_range_outside_the_partitions_is_refused_with_the_remedy() -> None:
    early, first = epoch_of_key("2025-12-31T23:45Z"), epoch_of_key("2026-01-01T00:00Z")
    with pytest.raises(ValueError, match="start the demo at an earlier --start, or wait"):
        range_tags(early, first)
    with pytest.raises(ValueError, match="must not lie before the first"):
        range_tags(first, early)

"""The whole asset graph as a snapshot: a change of it is seen, and decided, in this file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from gridtokenx_pipelines.definitions import build_definitions
from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.partitions import DAYS, EPOCHS, epochs_of, range_tags
from gridtokenx_pipelines.quality.catalogue import CONTRACT, MARKET_WARNINGS, METERING_WARNINGS, NOTES
from gridtokenx_pipelines.quality.contracts import DAILY_CONTRACTS
from gridtokenx_pipelines.quality.expectations import check_names

DOCS = Path(__file__).resolve().parents[2] / "docs"
SETTLEMENT_CHECKS = {
    "net_energy": {
        "every_active_meter_present_or_missing",
        "registers_continue_the_epoch_before",
        "zone_balance_plausible",
        "nothing_above_rating",
        CONTRACT,
    },
    "grid_limits": {"power_flow_converged", "capacities_not_negative"},
    "order_book": {
        "limits_of_the_domain",
        "covered_by_balance",
        "no_double_order_id",
        "book_root_recomputed",
        CONTRACT,
    },
    "clearing_results": {
        "energy_balances_to_the_wh",
        "money_balances_to_the_uthb",
        "nobody_worse_than_the_limit",
        "price_in_band_or_halted",
        "equals_independent_recomputation",
        "feasible_in_ac_power_flow",
        CONTRACT,
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
    "epoch_statement": {CONTRACT},
}
WARNING_CHECKS = {"net_energy": set(METERING_WARNINGS), "clearing_results": set(MARKET_WARNINGS)}
AUDIT_CHECKS = {"audit_report": {"equals_its_recomputation"}}
DAILY_CHECKS = {each.name: set(check_names(each)) for each in DAILY_CONTRACTS}
GRAPH = {
    "net_energy": (set(), {"polars", "postgres", "parquet"}),
    "grid_limits": ({"net_energy"}, {"lightsim2grid", "postgres"}),
    "order_book": ({"net_energy", "grid_limits"}, {"polars", "postgres", "parquet"}),
    "clearing_results": ({"order_book"}, {"polars", "postgres", "parquet"}),
    "mint_instructions": ({"net_energy", "clearing_results"}, {"polars", "postgres"}),
    "settlement_receipts": ({"mint_instructions"}, {"solana", "postgres"}),
    "epoch_statement": ({"net_energy", "clearing_results", "settlement_receipts"}, {"polars", "parquet"}),
    "resettlement_receipts": ({"settlement_receipts"}, {"solana", "postgres"}),
    "audit_report": ({"settlement_receipts", "epoch_statement"}, {"polars", "solana", "parquet"}),
    "daily_metering": ({"net_energy"}, {"polars", "parquet"}),
    "daily_market": ({"clearing_results"}, {"polars", "parquet"}),
    "daily_settlement": ({"epoch_statement"}, {"polars", "parquet"}),
    "daily_grid": ({"net_energy", "clearing_results"}, {"lightsim2grid", "plotly"}),
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


def test_every_asset_is_partitioned_runs_ranges_at_once_and_has_an_owner_and_a_description() -> None:
    assets = graph(build_definitions())
    for key in assets.get_all_asset_keys():
        node = assets.get(key)
        daily = key.to_user_string().startswith("daily_")
        assert node.partitions_def == (DAYS if daily else EPOCHS)
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        assert node.owners
        group = "audit" if key.to_user_string() == "audit_report" else "settlement"
        assert node.group_name == ("daily" if daily else group)
        assert node.description


def test_tables_show_their_columns_with_units_and_where_each_comes_from() -> None:
    metadata = graph(build_definitions()).get(dg.AssetKey("daily_metering")).metadata
    schema = {column.name: column for column in metadata["dagster/column_schema"].columns}
    assert schema["production_wh"].description == "produced [Wh]"
    assert schema["epochs"].constraints.other == ["1 … 96"]
    lineage = metadata["dagster/column_lineage"]
    assert lineage.deps_by_column["production_wh"] == [
        dg.TableColumnDep(asset_key=dg.AssetKey("net_energy"), column_name="production_wh")
    ]


def test_every_stage_has_its_checks_and_each_blocks() -> None:
    assets = graph(build_definitions())
    found: dict[str, set[str]] = {}
    for key in assets.asset_check_keys:
        asset = key.asset_key.to_user_string()
        found.setdefault(asset, set()).add(key.name)
        assert assets.get_check_spec(key).blocking == (key.name in SETTLEMENT_CHECKS.get(asset, ())), key
    stages = {name: SETTLEMENT_CHECKS[name] | WARNING_CHECKS.get(name, set()) for name in SETTLEMENT_CHECKS}
    assert found == {**stages, **AUDIT_CHECKS, **DAILY_CHECKS}


def test_every_check_says_what_it_says_whose_it_is_and_what_helps() -> None:
    assets = graph(build_definitions())
    for key in assets.asset_check_keys:
        spec = assets.get_check_spec(key)
        assert spec.description, key
        assert spec.metadata["owner"].startswith("team:")
        page = DOCS / spec.metadata["runbook"].split("/", 1)[1].split("#")[0]
        assert page.is_file(), page
    noted = {(key.asset_key.to_user_string(), key.name) for key in assets.asset_check_keys}
    assert set(NOTES) <= noted


def test_settling_waits_for_no_statistics_and_watching_runs_nothing_else() -> None:
    definitions = build_definitions()
    steps = {
        name: {node.name for node in definitions.resolve_job_def(name).graph.nodes}
        for name in ("settle_epoch", "watch_quality")
    }
    assert steps["watch_quality"] == {"metering_warnings", "market_warnings"}
    assert not steps["settle_epoch"] & steps["watch_quality"]


MOVING = {
    "net_energy",
    "order_book",
    "clearing_results",
    "mint_instructions",
    "settlement_receipts",
    "resettlement_receipts",
}


def test_jobs_schedules_and_sensors_are_as_decided() -> None:
    definitions = build_definitions()
    spine = {
        key.to_user_string() for key in definitions.resolve_job_def("settle_epoch").asset_layer.selected_asset_keys
    }
    assert spine == {name for name in GRAPH if not name.startswith("daily_")} - {
        "resettlement_receipts",
        "audit_report",
    }
    late = {
        key.to_user_string() for key in definitions.resolve_job_def("resettle_epoch").asset_layer.selected_asset_keys
    }
    assert late == {"resettlement_receipts"}
    looked_at = {
        key.to_user_string() for key in definitions.resolve_job_def("audit_epochs").asset_layer.selected_asset_keys
    }
    assert looked_at == {"audit_report"}
    # an audit moves nothing, so it waits for no settlement, and none waits for it
    assert "gridtokenx/market" not in definitions.resolve_job_def("audit_epochs").tags
    for name in ("settle_epoch", "resettle_epoch"):
        assert definitions.resolve_job_def(name).tags["gridtokenx/market"] == "main"
    schedules = {schedule.name: schedule.cron_schedule for schedule in definitions.schedules or ()}
    assert schedules == {
        "catch_up_schedule": "3,18,33,48 * * * *",
        "quality_schedule": "7,22,37,52 * * * *",
        "daily_schedule": "0 1 * * *",
        "retention_schedule": "40 1 * * *",
        "daily_backup_schedule": "0 2 * * *",
        "hourly_backup_schedule": "0 0,1,3-23 * * *",
        "restore_rehearsal_schedule": "30 3 * * 0",
    }
    sensors = {sensor.name: sensor.minimum_interval_seconds for sensor in definitions.sensors or ()}
    assert sensors == {
        "completion_sensor": 10,
        "correction_sensor": 30,
        "chain_sensor": 30,
        "stuck_settlement_sensor": 60,
        "failure_sensor": 30,
    }


def test_whatever_moves_the_market_waits_in_one_pool_with_one_place_even_a_backfill_from_the_ui() -> None:
    definitions = build_definitions()
    moving = {key for key in graph(definitions).materializable_asset_keys if key.to_user_string() in MOVING}
    pools = {asset.op.pool for asset in definitions.assets or () if set(asset.keys) & moving}  # type: ignore[union-attr]
    assert pools == {"market"}
    assert definitions.resolve_job_def("resume_stuck_settlement").graph.nodes[0].definition.pool == "market"
    limits = yaml.safe_load((DOCS.parent / "dagster.yaml").read_text())["concurrency"]["pools"]
    assert limits == {"granularity": "run", "default_limit": 1}


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

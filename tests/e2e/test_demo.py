"""The whole demo as a user runs it, short: settled, proven, the same after `kill -9`, and clear about bad options."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gridtokenx_pipelines.stack import folder_lock
from tests.chaos.kill_demo import DemoRuns, differences, killed_run, share_cache

pytestmark = pytest.mark.slow
EPOCHS = 8
# a small grid by day, so that there is a surplus to trade; other than the demo's own, so that two grids are tried
OPTIONS = ("--grid", "1-LV-rural1--2-sw", "--start", "2026-06-15T03:00Z", "--epochs", str(EPOCHS), "--seed", "5")
WRONG_USE = 2


@pytest.fixture(scope="module")
def spans_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spans")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, spans_folder: Path) -> DemoRuns:
    """Every tenth reading of it is traced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDTOKENX_TRACES", f"file://{spans_folder}")
        patch.setenv("GRIDTOKENX_TRACES_PER_MILLION", "100000")
        return DemoRuns(tmp_path_factory.mktemp("demo") / "undisturbed", *OPTIONS, hash_seed=1)


@pytest.fixture(scope="module")
def ended(undisturbed: DemoRuns) -> tuple[dict[str, Any], float]:
    """Its result as printed, and the seconds it took."""
    return undisturbed.finish()


def test_every_epoch_settles_and_every_law_closes_to_zero(undisturbed, ended):
    result, _ = ended
    assert json.loads(undisturbed.output.read_text()) == result, "--json prints what is written"
    assert undisturbed.output.with_suffix(".html").stat().st_size > 10_000
    assert set(result) >= {"seed", "grid", "epochs_settled", "readings", "energy_wh", "price_uthb_per_kwh", "chain"}
    assert result["epochs_settled"] == len(result["roots"]) == EPOCHS
    assert {row["law"]: row["difference"] for row in result["ledger_proof"] if row["difference"]} == {}
    assert {row["law"].partition(":")[0] for row in result["ledger_proof"]} == {"chain", "database", "chain = database"}
    energy = result["energy_wh"]
    assert energy["produced"] > 0 and energy["consumed"] > 0 and energy["traded"] > 0 and energy["minted"] > 0
    assert result["readings"]["corrections"] > 0
    assert len(result["readings"]["rejected"]) >= 5


def test_one_readings_trace_leads_from_its_meter_to_the_transaction_that_settles_it(ended, spans_folder):
    spans = [json.loads(line) for path in spans_folder.iterdir() for line in path.read_text().splitlines()]
    closed = [span for span in spans if span["name"] == "telemetry.epoch_closed" and span["links"]]
    settled = {span["trace_id"] for span in spans if span["name"] == "epoch"}
    assert len(settled) == EPOCHS
    closing = next(span for span in closed if span["trace_id"] in settled)
    by_id = {span["span_id"]: span for span in spans}
    in_flow = by_id[closing["links"][0].split("-")[1]]
    at_meter = by_id[in_flow["parent_id"]]
    assert (at_meter["name"], in_flow["name"]) == ("meter.reading", "telemetry.reading")
    assert (at_meter["service"], in_flow["service"]) == ("demo", "telemetry-flow")
    assert at_meter["attributes"]["meter_id"] == in_flow["attributes"]["meter_id"]
    assert in_flow["attributes"]["epoch"] == closing["attributes"]["epoch"]
    # one trace from the meter to the chain
    whole = [span for span in spans if span["trace_id"] == at_meter["trace_id"]]
    assert {"meter.reading", "telemetry.reading", "telemetry.epoch_closed", "net_energy", "clearing_results"} <= {
        span["name"] for span in whole
    }
    steps = {span["attributes"]["step"] for span in whole if span["name"] == "transaction"}
    assert {"commit", "settle", "finalize"} <= steps
    assert all(span["started_ns"] <= span["ended_ns"] for span in spans)
    refused = [span for span in spans if span["name"] == "telemetry.reading" and span["failed"]]
    assert refused, "a refused reading's trace ends with its reason"


def test_a_killed_demo_ends_as_an_undisturbed_one_in_another_process(undisturbed, ended):
    expected, seconds = ended
    killed = DemoRuns(undisturbed.data_dir.with_name("killed"), *OPTIONS, hash_seed=2)
    share_cache(undisturbed.data_dir, killed.data_dir)
    found = killed_run(killed, random.Random(EPOCHS), kills=1, seconds=seconds)  # noqa: S311 - a moment to kill at
    assert differences(expected, found) == []
    assert differences(undisturbed.chain_state(), killed.chain_state()) == []


@pytest.fixture
def refused(undisturbed, ended):
    """Words of a run of the ended demo's folder that is refused, which must not touch what is there."""

    def run(*arguments: str) -> str:
        before = undisturbed.output.stat().st_mtime_ns
        done = subprocess.run(
            [*undisturbed.command, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == WRONG_USE, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert undisturbed.output.stat().st_mtime_ns == before
        return done.stderr

    return run


def test_another_demo_on_the_folder_is_refused_with_the_remedy(refused):
    assert "its seed differs" in refused("--seed", "6")


def test_a_demo_beside_one_that_runs_on_the_folder_is_refused(undisturbed, refused):
    with folder_lock(undisturbed.data_dir):
        assert f"is in use by process {os.getpid()}" in refused()


def test_a_port_in_use_and_an_unknown_grid_are_named(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert f"port {taken.getsockname()[1]} for the local chain" in refused(
            "--rpc-port", str(taken.getsockname()[1])
        )
    assert "--grid was 'atlantis'" in refused("--grid", "atlantis")


def test_a_folder_that_no_demo_made_is_refused(refused, tmp_path: Path):
    (tmp_path / "mine.txt").touch()
    assert "it holds mine.txt" in refused("--data-dir", str(tmp_path), "--fresh")
    assert (tmp_path / "mine.txt").exists()

"""Stages and transactions of a settlement in structured logs and in the epoch's trace, through a real Dagster run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.observability import tracing
from tests.assets.market_day import FIRST, seed
from tests.assets.test_dagster_runs import Site, site

__all__ = ["site"]  # the fixture, found by its name
STAGES = {
    "net_energy",
    "grid_limits",
    "clearing_results",
    "mint_instructions",
    "settlement_receipts",
    "epoch_statement",
}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The process as a container runs it: logs in JSON, traces into files; put back afterwards."""
    monkeypatch.setenv("GRIDTOKENX_LOG", "json")
    monkeypatch.setenv("GRIDTOKENX_TRACES", f"file://{tmp_path}/spans")
    root, ours = logging.getLogger(), logging.getLogger("gridtokenx_pipelines")
    before = list(root.handlers), root.level, ours.level
    yield tmp_path / "spans"
    root.handlers[:], _, _ = before
    root.setLevel(before[1])
    ours.setLevel(before[2])
    tracing.configure("", "")


def test_every_stage_and_transaction_is_logged_with_epoch_run_and_batch_and_lies_in_the_epochs_trace(
    watched: Path, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    seed(site.engine, 1)
    outcome = site.run(FIRST, FIRST)
    assert outcome.success
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    told = [line for line in lines if line["event"] == "stage_done"]
    assert {line["stage"] for line in told} == STAGES
    assert {line["epoch"] for line in told} == {key_of(FIRST)}
    assert {line["dagster_run"] for line in lines} == {outcome.run_id}
    ended = [line for line in lines if line["event"] == "transaction_ended"]
    stored = site.scalar("SELECT count(*) FROM blockchain_transactions")
    assert len(ended) == stored > 0
    assert {line["status"] for line in ended} == {"ok"}
    assert all({"epoch", "run", "kind", "step", "batch", "signature", "slot"} <= set(line) for line in ended)

    spans = [json.loads(line) for path in watched.iterdir() for line in path.read_text().splitlines()]
    root = tracing.of_epoch(FIRST)
    (epoch,) = [span for span in spans if span["name"] == "epoch"]
    assert (epoch["trace_id"], epoch["span_id"]) == (f"{root.trace_id:032x}", f"{root.span_id:016x}")
    assert {span["name"] for span in spans} == {*STAGES, "epoch", "transaction"}
    assert {span["trace_id"] for span in spans} == {epoch["trace_id"]}
    assert {span["parent_id"] for span in spans} == {epoch["span_id"], None}
    signatures = {span["attributes"]["signature"] for span in spans if span["name"] == "transaction"}
    assert signatures == {line["signature"] for line in ended}


def test_a_stage_that_fails_says_why(watched: Path, site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    assert site.run(FIRST, FIRST).success is False  # no flow has closed anything
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (failed,) = [line for line in lines if line["event"] == "stage_failed"]
    assert failed["stage"] == "net_energy"
    assert failed["error"].startswith("EpochNotReady: epoch was 2026-03-02T05:00Z, must be complete")
    (span,) = [json.loads(line) for path in watched.iterdir() for line in path.read_text().splitlines()]
    assert span["failed"] == failed["error"]

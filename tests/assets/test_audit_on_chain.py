"""Audits of a settled market: what is found ok, what is named, and what a third party needs nothing of ours for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.audit import dossier
from gridtokenx_pipelines.audit.findings import DIFFERS, NEVER_RAN, NOT_SETTLED, OK, PARTLY
from gridtokenx_pipelines.audit.proofs import ProofError
from gridtokenx_pipelines.audit_cli.verify import verify_dossier, verify_trade
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.definitions import build_definitions
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.instance import open_instance, run_range
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import (
    energy,
    periods,
    provenance,
    receipts,
    statement_files,
    statements,
)
from gridtokenx_pipelines.settlement_service.audits import files, trades
from gridtokenx_pipelines.settlement_service.audits.service import AuditRefused, Outcome, audit_range
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store.archive import SignedArchive
from tests.assets.audited_market import EPOCHS, FIRST, settings_of, settled_market
from tests.assets.market_day import wallet

LAST = FIRST + EPOCHS - 1


@pytest.fixture(scope="module")
def market(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Four epochs from signed readings to the chain, settled and sealed, and one more that only cleared."""
    with settled_market(new_database(), tmp_path_factory.mktemp("audited")) as services:
        yield services


def found(outcome: Outcome) -> list[str]:
    return [f"{each.stage}: {each.what}: {each.detail}" for verdict in outcome.verdicts for each in verdict.findings]


def test_what_was_settled_equals_its_recomputation_and_the_audit_writes_nothing(market: Services) -> None:
    before = counts(market)
    outcome = audit_range(market, FIRST, LAST)
    assert found(outcome) == []
    assert [each.verdict for each in outcome.verdicts] == [OK] * EPOCHS
    assert outcome.gathered.replay.signatures > 100
    assert len(outcome.plans) >= EPOCHS
    assert counts(market) == before


def counts(services: Services) -> dict[str, int]:
    tables = ("runs", "settlements", "outbox", "blockchain_transactions", "audit_logs", "seals", "market_epochs")
    with services.engine.connect() as connection:
        return {t: connection.execute(text(f"SELECT count(*) FROM {t}")).scalar_one() for t in tables}  # noqa: S608


def test_any_part_of_the_range_can_be_audited_alone(market: Services) -> None:
    outcome = audit_range(market, FIRST + 1, FIRST + 2)
    assert (found(outcome), [each.verdict for each in outcome.verdicts]) == ([], [OK, OK])


def test_epochs_that_never_ran_or_are_not_settled_are_named(market: Services) -> None:
    outcome = audit_range(market, FIRST - 1, LAST + 2)
    assert [each.verdict for each in outcome.verdicts] == [NEVER_RAN, *[OK] * EPOCHS, NOT_SETTLED, NEVER_RAN]
    assert "0 of 1 runs finalised" in outcome.verdicts[-2].detail


def test_an_epoch_with_an_open_run_is_partly_settled(market: Services) -> None:
    with market.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET status = 'booked' WHERE epoch = :e AND run = 1"), {"e": FIRST + 1})
    try:
        (verdict,) = audit_range(market, FIRST + 1, FIRST + 1).verdicts
    finally:
        with market.engine.begin() as connection:
            connection.execute(text("UPDATE runs SET status = 'finalised' WHERE epoch = :e"), {"e": FIRST + 1})
    # the chain has it finalised: what the database forgot is a difference, how far it is stands in its words
    assert verdict.verdict in (PARTLY, DIFFERS)


def test_a_range_that_is_none_is_refused(market: Services) -> None:
    with pytest.raises(AuditRefused, match="must not lie before the first"):
        audit_range(market, LAST, FIRST)
    with pytest.raises(AuditRefused, match="at most 35040"):
        audit_range(market, FIRST, FIRST + 40_000)


def test_a_dossier_verifies_with_the_chain_alone(market: Services, tmp_path: Path) -> None:
    outcome = audit_range(market, FIRST, LAST)
    path, page = files.write(market, outcome, datetime.now(UTC), tmp_path / "d.json")
    document = dossier.read(path.read_bytes())
    with ChainClient(market.client.rpc_url) as client:
        checks = verify_dossier(document, client)
    assert [each for each in checks if not each.holds] == []
    assert {"signature and digests", "chain", "operator", "counts", "roots and headers"} <= {c.what for c in checks}
    assert "None: every value, root and balance equals its recomputation" in page.read_text()


def test_a_trade_is_proven_and_an_edited_proof_is_refused(market: Services) -> None:
    document = trades.prove(market, f"{FIRST}/1")
    assert [each for each in verify_trade(document, market.client) if not each.holds] == []
    for edit in (
        lambda d: d["trade"].update(energy_wh=d["trade"]["energy_wh"] + 1),
        lambda d: d["trade"].update(buyer=d["trade"]["seller"]),
        lambda d: d["settled"]["buyer"].update(traded_wh=1),
        lambda d: d["result"]["siblings"].reverse(),
        lambda d: d.pop("settled"),
    ):
        edited = json.loads(json.dumps(document))
        edit(edited)
        assert [each.what for each in verify_trade(edited, market.client) if not each.holds]


@pytest.mark.parametrize(
    ("trade", "words"),
    [
        ("2026-03-02T05:00Z/999", "none is 999"),
        ("2025-03-02T05:00Z/1", "was never cleared"),
        ("rubbish", "must be EPOCH/MATCH"),
    ],
)
def test_an_unknown_trade_is_named(market: Services, trade: str, words: str) -> None:
    with pytest.raises(ProofError, match=words):
        trades.prove(market, trade)


def test_materialising_a_settled_epoch_again_changes_nothing_and_says_so(market: Services) -> None:
    before = counts(market)
    epochs = list(range(FIRST, LAST + 1))
    reports = [energy.collect(market, epochs), receipts.settle_epochs(market, epochs), statements.write(market, epochs)]
    assert [[each.changed for each in stage] for stage in reports] == [[False] * EPOCHS] * 3
    assert counts(market) == before


def test_a_households_statement_runs_to_the_ledgers_and_the_chains_balance(market: Services, tmp_path: Path) -> None:
    for index in range(6):
        made = periods.of_wallet(market, wallet(index), FIRST, LAST)
        assert made["proof"]["running"] == made["proof"]["ledger"]
        moved = made["totals"]
        assert made["closing"]["net_uthb"] - made["opening"]["net_uthb"] == (
            moved["proceeds_uthb"]
            + moved["buy_back_uthb"]
            + moved["refund_uthb"]
            - moved["energy_cost_uthb"]
            - moved["zone_wheeling_uthb"]
            - moved["billed_uthb"]
            - moved["returned_uthb"]
            + sum(each["cash_uthb"] for each in made["deposits"])
        )
        assert {each["run"] for each in made["lines"]} >= {0}
        assert all(each["transaction"] for each in made["lines"])
        paths = statement_files.write(made, tmp_path, market.client.rpc_url)
        assert [path.suffix for path in paths] == [".json", ".csv", ".html"]
        assert made["lines"][0]["transaction"] in paths[2].read_text()
    runs = [
        (each["kind"], each["run"])
        for index in (1, 3)
        for each in periods.of_wallet(market, wallet(index), FIRST, LAST)["lines"]
    ]
    assert {("late", 1), ("resettlement", 1)} <= set(runs)


def test_statements_of_periods_side_by_side_continue_each_other(market: Services) -> None:
    whole = periods.of_wallet(market, wallet(0), FIRST, LAST)
    parts = [periods.of_wallet(market, wallet(0), FIRST + a, FIRST + b) for a, b in ((0, 1), (2, 3))]
    assert parts[0]["opening"] == whole["opening"]
    assert parts[0]["closing"] == parts[1]["opening"]
    assert parts[1]["closing"] == whole["closing"]
    assert [*parts[0]["lines"], *parts[1]["lines"]] == whole["lines"]


def test_vat_is_that_of_each_charge_rounded_down_by_itself(market: Services) -> None:
    line = periods.of_wallet(market, wallet(4), FIRST, FIRST)["lines"][0]
    assert line["vat_bill_uthb"] == line["billed_uthb"] * 700 // 10_700
    assert line["vat_wheeling_uthb"] == line["zone_wheeling_uthb"] * 700 // 10_700


def test_the_operators_statement_adds_up_to_the_markets_accounts(market: Services) -> None:
    made = periods.of_operator(market, FIRST, LAST + 1)
    totals, accounts = made["totals"], made["accounts"]
    assert accounts["platform_thbc_uthb"] == totals["fee_uthb"]
    earned = totals["zone_wheeling_uthb"] + totals["link_wheeling_uthb"] + totals["rent_uthb"]
    assert accounts["grid_operator_thbc_uthb"] == 500_000_000 + earned
    assert totals["imbalance_wh"] == totals["residual_wh"] - totals["bought_back_wh"]


def test_a_stranger_has_no_statement(market: Services) -> None:
    with pytest.raises(periods.UnknownParticipant, match="is no participant"):
        periods.of_wallet(market, "nobody", FIRST, LAST)


def test_a_stage_says_what_it_was_made_from_and_an_upstream_that_does_not_fit_is_refused_by_name(
    market: Services,
) -> None:
    made = provenance.facts(market, "clearing_results", FIRST)
    assert set(made) == {"inputs_fingerprint", "code_fingerprint", "rules_fingerprint"}
    provenance.require_fit(market, "clearing_results", [FIRST])
    path = market.parquet.path("order_book", FIRST, "book")
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    try:
        with pytest.raises(provenance.Unfit, match=r"upstream order_book/book has fingerprint .* restore that file"):
            provenance.require_fit(market, "clearing_results", [FIRST])
        path.unlink()
        with pytest.raises(provenance.Unfit, match="is not there; materialise order_book for that epoch"):
            provenance.present(market, "clearing_results", FIRST)
    finally:
        path.write_bytes(whole)


def test_frames_and_archive_put_together_by_day_are_still_what_was_sealed(market: Services) -> None:
    market.parquet.compact(FIRST // 96 * 96)
    archive = SignedArchive(market.parquet.root.parent)
    assert archive.compact("2026-03-02") > 0
    outcome = audit_range(market, FIRST, LAST)
    assert found(outcome) == []
    assert outcome.counts[OK] == EPOCHS


@pytest.mark.slow
def test_a_range_of_audit_report_runs_as_one_run_with_a_verdict_an_epoch(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    """A range of the asset as the one run that its backfill policy makes of it: the same step a backfill ends in."""
    with settled_market(new_database(), tmp_path) as services:
        environment = settings_of(services, tmp_path / "data")
        definitions = build_definitions(settlement=Settlement(environment=environment.as_env()))
        with open_instance(environment) as instance:
            outcome = run_range(instance, FIRST, LAST, definitions=definitions, job="audit_epochs")
            assert (outcome.success, outcome.failed_checks) == (True, ())
            runs = instance.get_runs()
            assert len(runs) == 1
            shown = {
                record.partition_key: record.asset_materialization.metadata
                for record in instance.fetch_materializations(dg.AssetKey("audit_report"), limit=20).records
            }
        assert sorted(shown) == [key_of(epoch) for epoch in range(FIRST, LAST + 1)]
        assert {each["verdict"].value for each in shown.values()} == {OK}
        assert len(list((tmp_path / "data" / "dossiers").glob("*.json"))) == 1

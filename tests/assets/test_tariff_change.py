"""A tariff that changes between two epochs, end to end on the local chain: one source of truth, equal everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import polars as pl
import pytest
from click.testing import CliRunner

from gridtokenx_pipelines.audit.findings import OK
from gridtokenx_pipelines.chain.state import read_epochs
from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.frames import ZONES
from gridtokenx_pipelines.market.rule_book import Change, RuleBook
from gridtokenx_pipelines.settlement_service import rates_in_force, receipts
from gridtokenx_pipelines.settlement_service.audits.service import audit_range
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audited, ledger
from gridtokenx_pipelines.units import value_ceil_uthb
from tests.assets.audited_market import EPOCHS, FIRST, settled_market

CHANGED = FIRST + 2
RUN = list(range(FIRST, FIRST + EPOCHS))
BOOK = RuleBook(
    changes=(
        Change(
            effective_epoch=CHANGED,
            fee_bp=250,
            tariff_on_peak_uthb_per_kwh=4_500_000,
            feed_in_uthb_per_kwh=2_000_000,
            zone_wheeling_uthb_per_kwh={1: 130_000},
        ),
    )
)


def adopt(services: Services, rules: RuleBook, epoch: int) -> None:
    """What the authority does: governance takes over what the rules file says of the epoch."""
    data = services.parquet.root.parent
    path = data / f"rules-{epoch}.json"
    path.write_bytes(msgspec.json.encode(rules))
    words = ["chain", "admin", "set-params", str(path), "--from-epoch", str(epoch), "--send"]
    key = ["--key", str(data / "keys" / "authority.json"), "--rpc-url", services.client.rpc_url]
    result = CliRunner().invoke(cli, [*words, *key])
    assert result.exit_code == 0, result.output


def refused_then_adopted(services: Services) -> None:
    """Before governance adopts the change the market refuses the epoch, and only that; afterwards it takes all."""
    rates_in_force.require_equal(services, RUN[:2])
    with pytest.raises(rates_in_force.RatesDiffer, match=f"fee_bp of {key_of(CHANGED)} was 250 in rules.json, must be"):
        rates_in_force.require_equal(services, RUN)
    services.client.airdrop(services.authority.pubkey, 10**9)
    adopt(services, BOOK, CHANGED)
    rates_in_force.require_equal(services, RUN)


@pytest.fixture(scope="module")
def market(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Four settled epochs, from the third on under other rates, and a resettlement over the change."""
    folder = tmp_path_factory.mktemp("changed")
    with settled_market(new_database(), folder, BOOK, refused_then_adopted) as services:
        yield services


def test_each_epoch_is_settled_by_the_rates_in_force_in_it_on_chain_and_off(market: Services) -> None:
    accounts = read_epochs(market.client, RUN)
    names = ("fee_bp", "tariff", "feed_in", "schedule_version")
    assert [tuple(accounts[epoch][name] for name in names) for epoch in RUN] == [(100, 4_100_000, 2_200_000, 1)] * 2 + [
        (250, 4_500_000, 2_000_000, 2)
    ] * 2
    with market.engine.connect() as connection:
        entries = ledger.wallet_entries(connection, RUN[0], RUN[-1]).filter(pl.col("run") == 0)
        zones = audited.between(connection, "zone_results", {"epoch": pl.Int64, **ZONES}, RUN[0], RUN[-1])
    for epoch, residual_wh, billed_uthb in entries.select("epoch", "residual_wh", "billed_uthb").iter_rows():
        assert billed_uthb == value_ceil_uthb(residual_wh, 4_100_000 if epoch < CHANGED else 4_500_000)
    assert entries["residual_wh"].sum() > 0
    wheeling = zones.filter(pl.col("zone_id") == 1).sort("epoch")["zone_wheeling_uthb_per_kwh"].to_list()
    assert wheeling == [100_000, 100_000, 130_000, 130_000]
    assert [f"{one.check}: {one.failing}" for one in failed(receipts.inspect_epochs(market, RUN))] == []


@pytest.mark.parametrize("first", [FIRST, FIRST + 1, CHANGED, CHANGED + 1])
def test_an_audit_goes_by_the_rates_then_in_force_wherever_it_begins(market: Services, first: int) -> None:
    outcome = audit_range(market, first, RUN[-1])
    assert [f"{one.what}: {one.detail}" for each in outcome.verdicts for one in each.findings] == []
    assert [each.verdict for each in outcome.verdicts] == [OK] * (RUN[-1] - first + 1)


def test_a_rules_file_that_lost_its_changes_is_refused_and_audits_still_know_them(market: Services) -> None:
    forgetful = Services(**{**vars(market), "rules": RuleBook()})
    with pytest.raises(rates_in_force.RatesDiffer, match=r"was 100 in rules\.json, must be 250 as on chain"):
        rates_in_force.require_equal(forgetful, [CHANGED])
    outcome = audit_range(forgetful, CHANGED, RUN[-1])
    assert [each.verdict for each in outcome.verdicts] == [OK] * 2


def test_a_change_that_governance_adopted_alone_is_refused_from_its_epoch_on(market: Services) -> None:
    later = FIRST + EPOCHS + 10
    adopt(market, RuleBook(vat_bp=800), later)
    rates_in_force.require_equal(market, [later - 1])
    with pytest.raises(rates_in_force.RatesDiffer, match=f"{key_of(later)} was .* in rules.json"):
        rates_in_force.require_equal(market, [later])

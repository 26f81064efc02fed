"""What is stuck for 24 h is voided: the ledger takes the bookings back, late runs settle the energy, all goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from gridtokenx_pipelines.audit.findings import OK
from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.lookup import Lookup
from gridtokenx_pipelines.chain.outbox import Outbox
from gridtokenx_pipelines.chain.run_steps import Missing, RunKeys, RunSteps
from gridtokenx_pipelines.chain.runs import RunVoided
from gridtokenx_pipelines.chain.voids import ChainVoid, read_run, void_item
from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement_service import (
    clearing,
    energy,
    instructions,
    movements,
    periods,
    receipts,
    reconcile,
    resettlement,
    statements,
    voids,
)
from gridtokenx_pipelines.settlement_service.audits.service import audit_range
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.settlement_service.taking_back import Decision, VoidRefused
from gridtokenx_pipelines.store import energy as energy_store
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store.proof import ledger_laws
from tests.assets.audited_market import EPOCHS, FIRST, settled_market
from tests.assets.households import Household
from tests.assets.market_day import HOUSEHOLDS, meter_id, seed, wallet
from tests.assets.test_movements_on_chain import bring_funds, chain_grid, wait_final

STUCK_AFTER = 97


@pytest.fixture
def market(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Services]:
    """Four settled epochs with an archive of signed readings, one that is cleared and not sent, two only metered."""
    with settled_market(new_database(), tmp_path, more=2) as services:
        yield services


def table(services: Services, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql), values)]


def book(services: Services, epochs: list[int]) -> None:
    """Cleared and planned, nothing of it sent: the oracles are down."""
    outcome = clearing.clear_epochs(services, epochs)
    instructions.plan_epochs(services, epochs)
    assert failed([*outcome.book_verdicts, *outcome.result_verdicts]) == []


def settle(services: Services, epochs: list[int]) -> list[str]:
    """Stages 3 and 4; the failed checks' details."""
    instructions.plan_epochs(services, epochs)
    receipts.settle_epochs(services, epochs)
    found = failed([*instructions.inspect_epochs(services, epochs), *receipts.inspect_epochs(services, epochs)])
    return [f"{one.check}: {one.detail} {one.failing}" for one in found]


def a_day_passes(services: Services, since: int) -> None:
    """Epochs are opened until the one after `since` is 24 h past its gate, by simulated time."""
    trading, payer = Program.load("trading"), services.relayer
    for epoch in range(since, since + STUCK_AFTER + 1):
        if services.client.account(addresses.epoch(epoch)) is None:
            accounts = {
                "payer": payer.pubkey,
                "authority": services.authority.pubkey,
                "epoch": addresses.epoch(epoch),
            }
            step = trading.instruction("open_epoch", accounts, epoch=epoch)
            services.client.send_and_confirm([step], payer, [services.authority])


def laws_close(services: Services) -> bool:
    with services.engine.connect() as connection:
        return all(law.difference == 0 for law in ledger_laws(connection))


def test_epochs_stuck_for_a_day_are_void_their_energy_is_settled_late_and_later_ones_go_on(
    market: Services,
) -> None:
    stuck = [FIRST + EPOCHS, FIRST + EPOCHS + 1]
    after = stuck[-1] + 1
    energy.collect(market, [*stuck, after])
    book(market, stuck)
    trades = table(market, "SELECT sum(filled_wh)::bigint FROM fills WHERE side = 0 AND epoch = ANY(:e)", e=stuck)
    bring_funds(market, 5_000_000)
    withdraw_grid(market)
    movements.follow(market)
    first_stuck = table(market, "SELECT max(seq) FROM runs WHERE status = 'finalised'")[0][0] + 1
    decision = Decision(epoch=stuck[0], reason="oracles were down", decided_by="authority")
    with pytest.raises(VoidRefused, match=r"too_early: .* may be voided from"):
        voids.void(market, decision)
    a_day_passes(market, stuck[0])

    with pytest.raises(VoidRefused, match=r"not_the_first: .* is the first epoch that is neither settled nor void"):
        voids.void(market, msgspec.structs.replace(decision, epoch=stuck[1]))
    with pytest.raises(VoidRefused, match=r"nothing_open: .* what is finalised is corrected by a resettlement"):
        voids.void(market, msgspec.structs.replace(decision, epoch=FIRST))
    tried = voids.void(market, decision, dry_run=True)
    assert (tried.epochs, tried.taken_back, tried.late_epoch) == (tuple(stuck), 2, stuck[-1])
    assert ((tried.traded_wh,),) == (*trades,)
    assert table(market, "SELECT count(*) FROM voids") == [(0,)]

    done = voids.void(market, decision)
    assert done == msgspec.structs.replace(tried, movements_again=done.movements_again)
    assert done.movements_again > 0
    assert laws_close(market)
    assert table(market, "SELECT epoch, run, kind, status FROM runs WHERE seq >= :s ORDER BY seq", s=first_stuck) == [
        (stuck[-1], 1, 2, "booked")
    ]
    # every double-entry row of a void booking has its reverse, and so they sum to nothing
    assert table(
        market,
        "SELECT count(*) > 0, count(*) FILTER (WHERE reverses IS NULL) = count(*) FILTER (WHERE reverses IS NOT NULL) "
        "FROM ledger_entries WHERE reverses IS NOT NULL OR entry_id IN (SELECT reverses FROM ledger_entries)",
    ) == [(True, True)]
    assert table(market, "SELECT count(*) FROM fills WHERE epoch = ANY(:e)", e=stuck) == [(0,)]
    with pytest.raises(VoidRefused, match="void_already"):
        voids.void(market, msgspec.structs.replace(decision, run=0))

    assert settle(market, stuck) == []
    book(market, [after])
    assert settle(market, [after]) == []
    assert table(market, "SELECT DISTINCT status FROM runs") == [("finalised",)]
    assert laws_close(market)
    proof = receipts.proof_of(market)
    assert (proof.traders.rows(), proof.others.rows()) == ([], [])
    assert [law.law for law in proof.laws if law.difference] == []

    statements.write(market, [*stuck, after])
    outcome = audit_range(market, FIRST, after)
    assert [each.detail for each in outcome.verdicts if each.verdict != OK] == []
    assert outcome.verdicts[EPOCHS].detail.startswith("void: no trades")
    promised = [
        row
        for index in range(len(HOUSEHOLDS))
        for row in periods.of_wallet(market, wallet(index), stuck[0], after)["voided"]
    ]
    assert (sum(row["traded_wh"] for row in promised if row["traded_wh"] > 0),) == trades[0]
    assert {row["reason"] for row in promised} == {"oracles were down"}
    alone = audit_range(market, stuck[-1], stuck[-1])
    assert [each.detail for each in alone.verdicts if each.verdict != OK] == []


def correct(services: Services, boundary: int) -> None:
    """Household 3's register reads 30 Wh more at a boundary: x = 4 Wh there, minted and burned at once."""
    row = {"meter_id": meter_id(3), "wallet": wallet(3), "boundary_epoch": boundary, "revision": 1}
    row |= {"production_delta_wh": 30, "consumption_delta_wh": 0, "seq": 1, "timestamp_us": 1}
    with services.engine.begin() as connection:
        energy_store.save_corrections(connection, pl.DataFrame([row], schema=energy_store.CORRECTIONS))


def attest(services: Services, epoch: int, run: int) -> None:
    """The run's root made final by two oracles; nothing of the run applied."""
    with services.engine.connect() as connection:
        plan = ledger.plan_of(connection, epoch, run)
    assert plan is not None
    keys = RunKeys(payer=services.relayer, authority=services.authority, oracles=services.oracles[:2])
    missing = Missing(epoch=False, metered=False, metering_root=False, root=True)
    Outbox(services.engine, services.client).submit(RunSteps(keys, Lookup(())).prepare(plan, missing))


def withdraw_grid(services: Services) -> None:
    """Half the GRID of whoever holds most of it leaves, before the booked runs apply."""
    homes = [Household(services, index) for index in range(len(HOUSEHOLDS))]
    held, home = max(((chain_grid(services, home), home) for home in homes), key=lambda each: each[0])
    assert held > 0
    home.act("request_withdrawal", thbc=0, grid=held // 2)
    home.withdraw()
    wait_final(services)


def test_a_resettlement_that_sticks_is_void_and_what_was_booked_after_it_goes_on_with_its_root(live: Services) -> None:
    seed(live.engine, 3)
    book(live, [FIRST, FIRST + 1])
    assert settle(live, [FIRST, FIRST + 1]) == []
    correct(live, FIRST + 1)
    assert [run.seq for run in resettlement.book_waiting(live, FIRST + 1)] == [3]
    book(live, [FIRST + 2])
    instructions.plan_epochs(live, [FIRST + 1])
    root = table(live, "SELECT root FROM runs WHERE seq = 4")
    decision = Decision(epoch=FIRST + 1, run=1, reason="its oracles vanished", decided_by="authority")
    a_day_passes(live, FIRST + 1)
    with pytest.raises(VoidRefused, match="not_attested: run 1 of"):
        voids.void(live, decision)
    attest(live, FIRST + 1, 1)

    done = voids.void(live, decision)
    assert (done.epochs, done.runs) == ((), ((FIRST + 1, 1),))
    assert (done.taken_back, done.booked_again, done.corrections_waiting, done.late_epoch) == (2, 1, 1, None)
    assert table(live, "SELECT epoch, run, used_seq, on_chain FROM voided_runs ORDER BY epoch") == [
        (FIRST + 1, 1, 3, True),
        (FIRST + 2, 0, 0, False),
    ]
    assert laws_close(live)
    assert settle(live, [FIRST + 2]) == []
    assert table(live, "SELECT root FROM runs WHERE seq = 4") == root
    resettlement.resettle_epochs(live, [FIRST + 1])
    assert table(live, "SELECT seq, epoch, run, status FROM runs WHERE kind = 3") == [(5, FIRST + 1, 2, "finalised")]
    assert table(live, "SELECT status, booked_seq, x_wh FROM corrections") == [("booked", 5, 4)]
    proof = receipts.proof_of(live)
    assert (proof.traders.rows(), proof.others.rows()) == ([], [])
    assert laws_close(live)


def test_a_void_that_another_tool_made_stops_the_settlement_by_name_and_the_command_takes_it_back(
    live: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(live.engine, 2)
    book(live, [FIRST])
    a_day_passes(live, FIRST)
    with live.engine.connect() as connection:
        before = ledger.ledger_balances(connection)
    from_outside = ChainVoid(epoch=FIRST, run=0, kind=1, used_seq=0)
    stands = read_run(live.client, FIRST, 0, 1)
    item = void_item(live.relayer, live.authority, from_outside, stands, None)
    live.client.send_and_confirm(list(item.instructions), live.relayer, [live.authority])
    with pytest.raises(RunVoided, match="gridtokenx settle void 2026-03-02T05:00Z --reason"):
        receipts.settle_epochs(live, [FIRST])

    def run(*arguments: str) -> tuple[int, str]:
        for name, value in as_env(live).items():
            monkeypatch.setenv(name, value)
        answer = CliRunner().invoke(cli, ["settle", *arguments])
        return answer.exit_code, answer.output

    assert run("void", key_of(FIRST))[0] == 2
    assert "--reason is missing" in run("void", key_of(FIRST))[1]
    code, said = run("void", key_of(FIRST), "--dry-run")
    assert code == 0
    assert "dry run: nothing was sent" in said
    code, said = run("void", key_of(FIRST), "--reason", "its inputs are lost", "--by", "operator A")
    assert (code, "bookings taken back: 1" in said) == (0, True)
    with live.engine.connect() as connection:
        assert ledger.ledger_balances(connection) != before
    code, said = run("void", key_of(FIRST), "--run", "0", "--reason", "again")
    assert (code, said.startswith("refused: void_already: ")) == (1, True)
    listed = json.loads(run("voids", "--json")[1])
    assert [(row["epoch"], row["kind"], row["reason"], row["decided_by"]) for row in listed] == [
        (key_of(FIRST), "initial", "its inputs are lost", "operator A")
    ]
    book(live, [FIRST + 1])
    assert settle(live, [FIRST, FIRST + 1]) == []
    assert laws_close(live)


def test_a_reconciliation_finds_the_void_that_the_database_does_not_know(live: Services) -> None:
    seed(live.engine, 2)
    book(live, [FIRST])
    a_day_passes(live, FIRST)
    stands = read_run(live.client, FIRST, 0, 1)
    item = void_item(live.relayer, live.authority, ChainVoid(epoch=FIRST, run=0, kind=1, used_seq=0), stands, None)
    live.client.send_and_confirm(list(item.instructions), live.relayer, [live.authority])
    wait_final(live)
    looked = reconcile.reconcile(live, dry_run=True)
    assert (looked.consistent, looked.steps[-1]) == (False, f"forgotten: void, run 0 of {key_of(FIRST)}")
    done = reconcile.reconcile(live)
    assert done.consistent, done.steps
    assert table(live, "SELECT epoch, run, kind, status FROM runs") == [(FIRST, 1, 2, "finalised")]
    assert reconcile.reconcile(live, dry_run=True).consistent
    assert laws_close(live)


def as_env(services: Services) -> dict[str, str]:
    return {
        "DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "SOLANA_RPC_URL": services.client.rpc_url,
        "GRIDTOKENX_DATA_DIR": str(services.parquet.root.parent),
    }

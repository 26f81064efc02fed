"""What is stuck for 24 h is voided: the ledger takes the bookings back, late runs settle the energy, all goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.audit.findings import OK
from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.settlement_service import (
    clearing,
    energy,
    instructions,
    movements,
    receipts,
    statements,
    voids,
)
from gridtokenx_pipelines.settlement_service.audits.service import audit_range
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.settlement_service.taking_back import Decision, VoidRefused
from gridtokenx_pipelines.store.proof import ledger_laws
from tests.assets.audited_market import EPOCHS, FIRST, settled_market
from tests.assets.test_movements_on_chain import bring_funds

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
    alone = audit_range(market, stuck[-1], stuck[-1])
    assert [each.detail for each in alone.verdicts if each.verdict != OK] == []

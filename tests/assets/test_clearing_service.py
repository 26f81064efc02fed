"""Book and clearing of epochs in order, on a real database: same in one range or one by one, and never half."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.settlement.frames import LedgerError
from gridtokenx_pipelines.settlement_service import clearing, energy, instructions, receipts, statements
from gridtokenx_pipelines.settlement_service.inspections import order_book
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.progress import complete_unsettled_epochs
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger
from tests.assets.market_day import FIRST, close_flows, net_rows, seed, wallet

RANGE = list(range(FIRST, FIRST + 4))


def table(services: Services, sql: str) -> list[tuple[Any, ...]]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


STATE = "SELECT owner, grid_wh, thbc_uthb, debt_uthb FROM balances ORDER BY owner"
ROOTS = "SELECT epoch, seq, book_root, result_root FROM market_epochs ORDER BY epoch"


def test_a_range_ends_as_the_same_epochs_one_by_one(services: Services, new_database: Any, tmp_path: Any) -> None:
    from dataclasses import replace  # noqa: PLC0415 - used here alone

    from gridtokenx_pipelines.store.parquet import ParquetStore  # noqa: PLC0415
    from gridtokenx_pipelines.store.postgres import engine  # noqa: PLC0415

    seed(services.engine, 4)
    outcome = clearing.clear_epochs(services, RANGE)
    assert not failed([*outcome.book_verdicts, *outcome.result_verdicts])
    assert [report.epoch for report in outcome.results] == RANGE
    assert all(report.changed for report in outcome.results)
    assert [report.facts["participants"] for report in outcome.results] != [0, 0, 0, 0]

    other = replace(services, engine=engine(new_database()), parquet=ParquetStore(tmp_path / "other"))
    seed(other.engine, 4)
    for epoch in RANGE:
        assert not failed(clearing.clear_epochs(other, [epoch]).result_verdicts)
    assert table(other, STATE) == table(services, STATE)
    assert table(other, ROOTS) == table(services, ROOTS)
    other.engine.dispose()


def test_clearing_again_changes_nothing_and_says_so(services: Services) -> None:
    seed(services.engine, 2)
    clearing.clear_epochs(services, RANGE[:2])
    before = table(services, STATE), table(services, ROOTS), table(services, "SELECT count(*) FROM ledger_entries")
    again = clearing.clear_epochs(services, RANGE[:2])
    assert [report.changed for report in (*again.books, *again.results)] == [False] * 4
    assert not failed([*again.book_verdicts, *again.result_verdicts])
    assert (table(services, STATE), table(services, ROOTS), table(services, "SELECT count(*) FROM ledger_entries")) == (
        before
    )


def test_an_epoch_whose_predecessor_has_not_cleared_is_refused_with_the_remedy(services: Services) -> None:
    seed(services.engine, 2)
    with pytest.raises(energy.EpochNotReady, match="2026-03-02T05:00Z has not cleared"):
        clearing.clear_epochs(services, [FIRST + 1])


def test_a_deposit_covers_from_the_first_epoch_that_begins_after_it(services: Services) -> None:
    seed(services.engine, 2)
    with services.engine.begin() as connection:
        connection.execute(
            text("UPDATE deposits SET epoch = :epoch WHERE owner = :owner"), {"epoch": FIRST + 1, "owner": wallet(2)}
        )
    assert not failed(clearing.clear_epochs(services, RANGE[:2]).book_verdicts)
    books = [services.parquet.read("order_book", epoch, "book")["wallet"].to_list() for epoch in RANGE[:2]]
    assert [wallet(2) in book for book in books] == [False, True]
    refused = services.parquet.read("order_book", FIRST, "rejected").select("wallet", "reason").rows()
    assert refused == [(wallet(2), "not_covered")]
    # what is his already is billed for his residual all the same
    after = table(services, "SELECT wallet, thbc_after_uthb FROM settlements ORDER BY seq")
    billed = [40_000_000 - cash for owner, cash in after if owner == wallet(2)]
    assert 0 < billed[0] < billed[1]


def test_an_incomplete_epoch_is_refused_with_what_it_waits_for(services: Services) -> None:
    seed(services.engine, 2)
    with pytest.raises(energy.EpochNotReady, match="must be complete, and the flows have closed 2026-03-02T05:15Z"):
        energy.collect(services, [FIRST, FIRST + 1, FIRST + 2])
    assert complete_unsettled_epochs(services, limit=10) == [FIRST, FIRST + 1]


def test_a_bad_epoch_stops_the_range_before_it_and_leaves_those_before_committed(services: Services) -> None:
    seed(services.engine, 4)
    with services.engine.begin() as connection:
        # an order that no intake would have let through: above the price band
        connection.execute(
            text(
                "INSERT INTO orders (order_id, wallet, zone_id, meter_id, side, energy_wh, limit_uthb_per_kwh, epoch, "
                "nonce, placed_at_us, broker_us) VALUES (decode(repeat('ab', 16), 'hex'), :wallet, 1, 'MEA-002', 0, "
                "10, 9000000, :epoch, 0, 5, 5)"
            ),
            {"wallet": wallet(2), "epoch": FIRST + 2},
        )
    outcome = clearing.clear_epochs(services, RANGE)
    (bad,) = failed([*outcome.book_verdicts, *outcome.result_verdicts])
    assert (bad.check, bad.epoch) == (order_book.LIMITS, FIRST + 2)
    assert bad.failing is not None
    assert bad.failing["fault"].to_list() == ["price"]
    assert outcome.stopped_words() == (
        "stopped before 2026-03-02T05:30Z, nothing of it committed; 2 epochs before it are"
    )
    assert [row[0] for row in table(services, ROOTS)] == [FIRST, FIRST + 1]
    assert table(services, "SELECT max(seq) FROM runs") == [(2,)]


def test_an_epoch_that_cannot_be_booked_raises_and_leaves_those_before_committed(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(services.engine, 4)
    book_runs = clearing.book_runs

    def refuse_the_third(rules: Any, given: Any, result: Any) -> Any:
        if given.epoch == FIRST + 2:
            raise LedgerError("platform would be -1, must be ≥ 0; fund that market account first")
        return book_runs(rules, given, result)

    monkeypatch.setattr(clearing, "book_runs", refuse_the_third)
    with pytest.raises(LedgerError, match="fund that market account first"):
        clearing.clear_epochs(services, RANGE)
    assert [row[0] for row in table(services, ROOTS)] == [FIRST, FIRST + 1]
    assert table(services, "SELECT max(seq) FROM runs") == [(2,)]
    monkeypatch.undo()
    assert not failed(clearing.clear_epochs(services, RANGE).result_verdicts)
    assert table(services, "SELECT max(seq) FROM runs") == [(4,)]


def test_late_entries_are_booked_as_run_1_right_after_run_0(services: Services) -> None:
    rows = net_rows(2, missing=((1, 0), (1, 1)))
    whole = [row for row in net_rows(2) if row["meter_id"] == "MEA-001"]
    late = [row | {"revision": 1, "estimated": True, "late": True, "booked_epoch": FIRST + 1} for row in whole]
    seed(services.engine, 2, [*rows, *late])
    assert not failed(energy.inspect_epochs(services, RANGE[:2]))
    assert not failed(clearing.clear_epochs(services, RANGE[:2]).result_verdicts)
    assert table(services, "SELECT seq, epoch, run, kind FROM runs ORDER BY seq") == [
        (1, FIRST, 0, 1),
        (2, FIRST + 1, 0, 1),
        (3, FIRST + 1, 1, 2),
    ]
    reports = instructions.plan_epochs(services, RANGE[:2])
    assert [report.facts["runs"] for report in reports] == [1, 2]
    assert not failed(instructions.inspect_epochs(services, RANGE[:2]))


def test_a_plan_is_made_once_and_found_again(services: Services) -> None:
    seed(services.engine, 2)
    clearing.clear_epochs(services, RANGE[:2])
    first = instructions.plan_epochs(services, RANGE[:2])
    again = instructions.plan_epochs(services, RANGE[:2])
    assert [report.changed for report in (*first, *again)] == [True, True, False, False]
    assert [report.facts["root"] for report in first] == [report.facts["root"] for report in again]
    assert not failed(instructions.inspect_epochs(services, RANGE[:2]))


def test_a_bad_plan_that_an_earlier_run_left_open_is_not_sent_with_a_later_epoch(services: Services) -> None:
    seed(services.engine, 2)
    clearing.clear_epochs(services, RANGE[:2])
    instructions.plan_epochs(services, RANGE[:1])
    with services.engine.begin() as connection:
        plan = ledger.plan_of(connection, FIRST, 0)
        assert plan is not None
        batch = msgspec.structs.replace(plan.registry[0], entries=bytes(len(plan.registry[0].entries)))
        changed = msgspec.structs.replace(plan, registry=(batch, *plan.registry[1:]))
        connection.execute(
            text("UPDATE runs SET plan = :plan WHERE seq = :seq"), {"plan": changed.encode(), "seq": plan.seq}
        )
    # the services' client points at nothing: asking the chain would raise something else
    with pytest.raises(receipts.PlanRefused, match=r"2026-03-02T05:00Z: minted_minus_deficit_equals_net.*nothing was"):
        receipts.settle_epochs(services, [FIRST + 1])


def test_statements_add_up_to_the_ledger(services: Services) -> None:
    seed(services.engine, 2)
    clearing.clear_epochs(services, RANGE[:2])
    reports = statements.write(services, RANGE[:2])
    assert [report.changed for report in reports] == [True, True]
    assert [report.changed for report in statements.write(services, RANGE[:2])] == [False, False]
    people = services.parquet.read("epoch_statement", FIRST, "participants")
    with services.engine.connect() as connection:
        entries = ledger.wallet_entries(connection, FIRST, FIRST)
    assert people["cost_uthb"].sum() == entries["cost_uthb"].sum() > 0
    assert people.filter(pl.col("traded_wh") != 0)["saved_uthb"].min() >= 0  # nobody does worse than at the tariffs


def test_a_later_epoch_waits_for_its_flows(services: Services) -> None:
    seed(services.engine, 2)
    clearing.clear_epochs(services, RANGE[:2])
    close_flows(services.engine, FIRST + 1)
    assert complete_unsettled_epochs(services, limit=1) == [FIRST]

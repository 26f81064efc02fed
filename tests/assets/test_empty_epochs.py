"""Epochs in which no meter has a register: nothing to book, and yet they settle, and the next ones after them."""

from __future__ import annotations

from sqlalchemy import text

from gridtokenx_pipelines.settlement_service import clearing, energy, instructions, progress, receipts, statements
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from tests.assets.market_day import FIRST, HOUSEHOLDS, net_rows, seed


def settle(services: Services, epochs: list[int]) -> list[str]:
    """All stages; the failed checks' details."""
    energy.collect(services, epochs)
    found = energy.inspect_epochs(services, epochs)
    outcome = clearing.clear_epochs(services, epochs)
    instructions.plan_epochs(services, epochs)
    found += [*outcome.book_verdicts, *outcome.result_verdicts, *instructions.inspect_epochs(services, epochs)]
    receipts.settle_epochs(services, epochs)
    found += receipts.inspect_epochs(services, epochs)
    statements.write(services, epochs)
    return [f"{one.check}: {one.detail} {one.failing}" for one in failed(found)]


def test_epochs_without_any_meter_settle_empty_and_are_booked_late_when_the_meters_are_back(live: Services) -> None:
    """The gateway was away at the end of the first epoch: both epochs beside it are empty, booked after the second."""
    away = tuple((index, offset) for index in range(len(HOUSEHOLDS)) for offset in (0, 1))
    late = [row | {"revision": 1, "estimated": True, "late": True, "booked_epoch": FIRST + 1} for row in net_rows(2)]
    epochs = [FIRST, FIRST + 1, FIRST + 2]
    seed(live.engine, 3, [*net_rows(3, missing=away), *late])

    assert settle(live, epochs) == []
    assert progress.complete_unsettled_epochs(live, limit=10) == []
    with live.engine.connect() as connection:
        runs = connection.execute(text("SELECT epoch, run, kind, status FROM runs ORDER BY seq")).fetchall()
        entries = connection.execute(
            text(
                "SELECT r.epoch, r.run, count(s.wallet) FROM runs r LEFT JOIN settlements s USING (seq) "
                "GROUP BY r.seq, r.epoch, r.run ORDER BY r.seq"
            )
        ).fetchall()
    assert [(epoch - FIRST, *rest) for epoch, *rest in runs] == [
        (0, 0, 1, "finalised"),
        (1, 0, 1, "finalised"),
        (1, 1, 2, "finalised"),
        (2, 0, 1, "finalised"),
    ]
    assert [count for *_, count in entries] == [0, 0, len(HOUSEHOLDS), len(HOUSEHOLDS)]
    assert [report.changed for report in statements.write(live, epochs)] == [False] * 3

"""Stage 2: book and clearing of epochs in order, each judged before it is committed, the ledger moved with it.

Belongs here: the loop that carries balances from epoch to epoch, and what one epoch commits. Does not belong here:
book, prices and charges (market/), what a run does to balances (settlement/), SQL (store/).

An epoch's result, run 0 and its late run are in one database transaction, with those of epochs before it. So a crash
leaves an epoch whole or untouched, and a bad one leaves those before it whole (docs/decisions/0004-epoch-ranges.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import msgspec
from sqlalchemy import Connection

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.book import build_book
from gridtokenx_pipelines.market.roots import book_rows, merkle_root, result_rows
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.observability.stages import stage
from gridtokenx_pipelines.settlement_service import feasible, frozen
from gridtokenx_pipelines.settlement_service.clearing_commit import Cleared, book_runs, commit
from gridtokenx_pipelines.settlement_service.clearing_inputs import EpochInputs, gather
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.frozen import Freezer
from gridtokenx_pipelines.settlement_service.inspections import clearing as result_inspection
from gridtokenx_pipelines.settlement_service.inspections import order_book as book_inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, failed
from gridtokenx_pipelines.settlement_service.island import case_at
from gridtokenx_pipelines.settlement_service.network import network_of
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.reports_of_clearing import report_of_book, report_of_result
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import clearing as store
from gridtokenx_pipelines.store import energy, ledger, participants, ranges
from gridtokenx_pipelines.store import island as island_store
from gridtokenx_pipelines.store.epochs import first_epoch, statuses

CLEARED = ("cleared", "halted", "settled")
# one commit for so many: a deposit waits for the ledger's lock a second or two at most
EPOCHS_A_TRANSACTION: Final = 24


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a range came to: reports of the epochs that were cleared, verdicts of all that were reached."""

    books: list[EpochReport]
    results: list[EpochReport]
    book_verdicts: list[Verdict]
    result_verdicts: list[Verdict]

    def stopped_words(self) -> str:
        """Where it stopped, for an operator: what is committed and what isn't."""
        bad = failed([*self.book_verdicts, *self.result_verdicts])
        if not bad:
            return f"{len(self.results)} epochs cleared"
        return (
            f"stopped before {key_of(bad[0].epoch)}, nothing of it committed; {len(self.results)} epochs before it are"
        )


@stage("clearing_results")
def clear_epochs(services: Services, epochs: Sequence[int]) -> Outcome:
    """Clear the epochs in order, some in a transaction; one cleared before is judged again and left as it is.

    Stops at the first epoch whose book or result fails a check; those before it are committed, also where an epoch
    raises. Raises EpochNotReady for an epoch before which another is still to clear.
    """
    outcome = Outcome(books=[], results=[], book_verdicts=[], result_verdicts=[])
    with services.engine.connect() as connection:
        rows_each = participants.count(connection)
    try:
        for group in ranges.groups(epochs, rows_each, most=EPOCHS_A_TRANSACTION):
            if not _clear_group(services, group, outcome):
                break
    finally:
        services.publish()
    return outcome


def _clear_group(services: Services, epochs: Sequence[int], outcome: Outcome) -> bool:
    """One transaction's epochs: each from the state that the one before leaves, then all that passed, committed."""
    trouble: Exception | None = None
    passed: list[Cleared] = []
    with services.engine.begin() as connection, Freezer(services.parquet) as freezer:
        state = ledger.state_before(connection)  # takes the ledger's lock, so no status below can change under us
        status = statuses(connection, epochs[0] - 1, epochs[-1])
        void = energy.voided_between(connection, epochs[0], epochs[-1])
        first = first_epoch(connection)
        fresh = [epoch for epoch in epochs if status.get(epoch) not in CLEARED]
        inputs = gather(services, connection, fresh) if fresh else None
        for epoch in epochs:
            if status.get(epoch) in CLEARED:
                if epoch in void:
                    _say_void(epoch, outcome)
                else:
                    _judge_again(services, connection, epoch, outcome)
                if failed([*outcome.book_verdicts, *outcome.result_verdicts]):
                    break
                continue
            try:
                if first is not None and epoch > first and status.get(epoch - 1) not in CLEARED:
                    raise _out_of_order(epoch)
                assert inputs is not None  # noqa: S101 - this epoch is among the fresh ones
                cleared = _clear(services, inputs.of(epoch, state), freezer, outcome)
            except Exception as error:
                trouble = error  # those before it stand: they are committed first
                break
            if cleared is None:
                break
            passed.append(cleared)
            inputs.follow(epoch, cleared.result)
            state, status[epoch] = cleared.state_after(), cleared.row.status
            first = epoch if first is None else first
        freezer.wait()  # what is committed has its frames on disk
        if passed:
            commit(services, connection, passed)
    if trouble is not None:
        raise trouble
    return not failed([*outcome.book_verdicts, *outcome.result_verdicts])


def _out_of_order(epoch: int) -> EpochNotReady:
    return EpochNotReady(
        f"epoch was {key_of(epoch)}, but {key_of(epoch - 1)} has not cleared, and balances tie epochs together; "
        "run settle_epoch for the range from the first unsettled epoch"
    )


def fingerprint(services: Services, epoch: int, network: Network) -> str:
    """What an epoch was cleared under: the rules in force, its own network and mechanism, as one short hash."""
    under = (services.rules.at(epoch), network, services.mechanism)
    return sha256(msgspec.json.encode(under, order="deterministic")).hexdigest()[:16]


def _clear(services: Services, given: EpochInputs, freezer: Freezer, outcome: Outcome) -> Cleared | None:
    """Book, clearing and booking of one epoch, each judged; None where a check fails. Nothing is committed here."""
    epoch, rows, rules = given.epoch, given.rows, services.rules.at(given.epoch)
    network_id, mechanism = services.rules.network_id, services.mechanism
    built = build_book(given.orders, given.mandates, rows, given.cover, rules, given.network, epoch)
    stored = freezer.book(epoch, built, given.cover)
    book_root = merkle_root(book_rows(built.frame, network_id, epoch))
    judged = book_inspection.inspect(
        built.frame,
        epoch=epoch,
        net_energy=rows,
        balances=given.cover,
        rules=rules,
        network=given.network,
        stored=stored(),
        root=book_root,
    )
    outcome.book_verdicts.extend(judged)
    if failed(judged):
        return None
    outcome.books.append(report_of_book(epoch, built, book_root, changed=True))
    market = feasible.Market(rules=rules, mechanism=mechanism, history=given.history)
    case = case_at(services.grid, islanded=given.islanded)
    found = feasible.clear_feasibly(case, built.frame, rows, given.network, market)
    result = found.result
    freezer.result(epoch, result)
    judged = result_inspection.inspect(built.frame, result, epoch=epoch, rules=rules, network=found.network)
    judged.append(result_inspection.feasible(epoch, (), found.repairs, checked=found.checked))
    outcome.result_verdicts.extend(judged)
    if failed(judged):
        return None
    row = store.EpochRow(
        epoch=epoch,
        status="halted" if result.halted else "cleared",
        halted=result.halted,
        seq=given.state.seq,
        mechanism=mechanism,
        book_root=book_root,
        result_root=merkle_root(result_rows(result, network_id, epoch)),
        volume_wh=result.volume_wh,
        lost_wh=result.lost_wh,
        link_wheeling_uthb=result.link_wheeling_uthb,
        rent_uthb=result.rent_uthb,
        welfare_uthb=result.welfare_uthb,
        fingerprint=fingerprint(services, epoch, found.network),
        cleared_at=datetime.now(UTC),
    )
    bookings = book_runs(rules, given, result)
    outcome.results.append(report_of_result(row, result, changed=True))
    return Cleared(row=row, result=result, book=built, bookings=bookings, found=found, islanded=given.islanded)


def _say_void(epoch: int, outcome: Outcome) -> None:
    """A voided epoch has no book and no result any more, so there is nothing that could be wrong with them."""
    words = "the epoch is void: no trades, its energy is settled by a late run"
    for verdicts, names in (
        (outcome.book_verdicts, book_inspection.CHECKS),
        (outcome.result_verdicts, result_inspection.CHECKS),
    ):
        verdicts.extend(Verdict(check=name, epoch=epoch, passed=True, detail=words) for name in names)


def _judge_again(services: Services, connection: Connection, epoch: int, outcome: Outcome) -> None:
    """What was committed is judged from its frozen frames and left alone."""
    row = store.read_epoch(connection, epoch)
    if row is None or row.book_root is None:
        raise ValueError(f"epoch {key_of(epoch)} is cleared but has no root; restore market_epochs from the backup")
    network, rows = network_of(services, connection, epoch), energy.on_time(connection, epoch)
    built, balances = frozen.book_of(services.parquet, epoch)
    result = frozen.result_of(services.parquet, epoch, row, store.read_clearing(connection, epoch))
    outcome.book_verdicts.extend(
        book_inspection.inspect(
            built.frame,
            epoch=epoch,
            net_energy=rows,
            balances=balances,
            rules=services.rules.at(epoch),
            network=network,
            stored=built.frame,
            root=row.book_root,
        )
    )
    outcome.result_verdicts.extend(
        result_inspection.inspect(built.frame, result, epoch=epoch, rules=services.rules.at(epoch), network=network)
    )
    case = case_at(services.grid, islanded=island_store.is_island(connection, epoch))
    broken = feasible.broken_by(case, result, rows)
    checked = services.grid is not None
    outcome.result_verdicts.append(result_inspection.feasible(epoch, broken, (), checked=checked))
    outcome.books.append(report_of_book(epoch, built, row.book_root, changed=False))
    outcome.results.append(report_of_result(row, result, changed=False))

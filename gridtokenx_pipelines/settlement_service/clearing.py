"""Stage 2: book and clearing of epochs in order, each judged before it is committed, the ledger moved with it.

Belongs here: the loop that carries balances from epoch to epoch, and what one epoch commits. Does not belong here:
book, prices and charges (market/), what a run does to balances (settlement/), SQL (store/).

An epoch is one database transaction: result, run 0, the late run if there is one. So a crash or a bad epoch leaves
those before it whole and itself untouched (docs/decisions/0004-epoch-ranges.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.book import Book, build_book
from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market.prices import PRICED_EPOCHS
from gridtokenx_pipelines.market.roots import book_rows, merkle_root, result_rows
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late
from gridtokenx_pipelines.settlement_service import certificates, feasible, frozen, movements
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.inspections import clearing as result_inspection
from gridtokenx_pipelines.settlement_service.inspections import order_book as book_inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, failed
from gridtokenx_pipelines.settlement_service.island import case_at, without_buy_back
from gridtokenx_pipelines.settlement_service.network import network_of
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.reports_of_clearing import report_of_book, report_of_result
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit, energy, ledger, market_events, orders, participants
from gridtokenx_pipelines.store import clearing as store
from gridtokenx_pipelines.store import grid as grid_store
from gridtokenx_pipelines.store import island as island_store
from gridtokenx_pipelines.store.epochs import first_epoch, statuses
from gridtokenx_pipelines.store.movements import is_continuous

CLEARED = ("cleared", "halted", "settled")


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


def clear_epochs(services: Services, epochs: Sequence[int]) -> Outcome:
    """Clear the epochs in order, each in its own transaction; one cleared before is judged again and left as it is.

    Stops at the first epoch whose book or result fails a check. Raises EpochNotReady for an epoch before which
    another is still to clear.
    """
    outcome = Outcome(books=[], results=[], book_verdicts=[], result_verdicts=[])
    for epoch in epochs:
        with services.engine.begin() as connection:
            if not _clear(services, connection, epoch, outcome):
                connection.rollback()
                break
    services.publish()
    return outcome


def fingerprint(services: Services, epoch: int, network: Network) -> str:
    """What an epoch was cleared under: the rules in force, its own network and mechanism, as one short hash."""
    under = (services.rules.at(epoch), network, services.mechanism)
    return sha256(msgspec.json.encode(under, order="deterministic")).hexdigest()[:16]


class _Inputs(NamedTuple):
    """What one epoch is cleared from: its rows and the state after the run before this one."""

    services: Services
    connection: Connection
    epoch: int
    rows: pl.DataFrame
    state: ledger.State
    network: Network
    islanded: bool


def _clear(services: Services, connection: Connection, epoch: int, outcome: Outcome) -> bool:
    state = ledger.state_before(connection)  # takes the ledger's lock, so no status below can change under us
    status = statuses(connection, epoch - 1, epoch)
    if status.get(epoch) in CLEARED:
        if epoch in energy.voided_between(connection, epoch, epoch):
            _say_void(epoch, outcome)
        else:
            _judge_again(services, connection, epoch, outcome)
        return not failed([*outcome.book_verdicts, *outcome.result_verdicts])
    first = first_epoch(connection)
    if first is not None and epoch > first and status.get(epoch - 1) not in CLEARED:
        raise EpochNotReady(
            f"epoch was {key_of(epoch)}, but {key_of(epoch - 1)} has not cleared, and balances tie epochs together; "
            "run settle_epoch for the range from the first unsettled epoch"
        )
    network = network_of(services, connection, epoch)
    islanded = island_store.is_island(connection, epoch)
    inputs = _Inputs(services, connection, epoch, energy.on_time(connection, epoch), state, network, islanded)
    return _clear_fresh(inputs, outcome)


def _clear_fresh(inputs: _Inputs, outcome: Outcome) -> bool:
    services, connection, epoch, rows, state, network, islanded = inputs
    network_id, mechanism = services.rules.network_id, services.mechanism
    cover = movements.cover(connection, state.balances, epoch)
    placed, mandates = orders.orders_of(connection, epoch), participants.mandates_as_of(connection, epoch)
    if is_continuous(connection, epoch):
        # orders on chain are matched one by one there: the epoch has no auction, and only settles its energy
        placed, mandates = placed.clear(), mandates.clear()
    built = build_book(
        placed,
        mandates,
        rows,
        cover,
        services.rules.at(epoch),
        network,
        epoch,
    )
    stored = frozen.freeze_book(services.parquet, epoch, built, cover)
    book_root = merkle_root(book_rows(built.frame, network_id, epoch))
    outcome.book_verdicts.extend(
        book_inspection.inspect(
            built.frame,
            epoch=epoch,
            net_energy=rows,
            balances=cover,
            rules=services.rules.at(epoch),
            network=network,
            stored=stored,
            root=book_root,
        )
    )
    if failed(outcome.book_verdicts):
        return False
    outcome.books.append(report_of_book(epoch, built, book_root, changed=True))

    history = {
        zone.zone_id: store.priced_history(connection, zone.zone_id, epoch, PRICED_EPOCHS)[::-1]
        for zone in services.network.zones
    }
    market = feasible.Market(rules=services.rules.at(epoch), mechanism=mechanism, history=history)
    case = case_at(services.grid, islanded=islanded)
    found = feasible.clear_feasibly(case, built.frame, rows, network, market)
    result, network = found.result, found.network
    frozen.freeze_result(services.parquet, epoch, result)
    outcome.result_verdicts.extend(
        result_inspection.inspect(built.frame, result, epoch=epoch, rules=services.rules.at(epoch), network=network)
    )
    outcome.result_verdicts.append(result_inspection.feasible(epoch, (), found.repairs, checked=found.checked))
    if failed(outcome.result_verdicts):
        return False
    row = store.EpochRow(
        epoch=epoch,
        status="halted" if result.halted else "cleared",
        halted=result.halted,
        seq=state.seq,
        mechanism=mechanism,
        book_root=book_root,
        result_root=merkle_root(result_rows(result, network_id, epoch)),
        volume_wh=result.volume_wh,
        lost_wh=result.lost_wh,
        link_wheeling_uthb=result.link_wheeling_uthb,
        rent_uthb=result.rent_uthb,
        welfare_uthb=result.welfare_uthb,
        fingerprint=fingerprint(services, epoch, network),
        cleared_at=datetime.now(UTC),
    )
    _commit(inputs, row, built, result)
    if found.repairs:
        _keep_repairs(connection, epoch, found)
    outcome.results.append(report_of_result(row, result, changed=True))
    return True


def _commit(inputs: _Inputs, row: store.EpochRow, book: Book, result: ClearingResult) -> None:
    services, connection, epoch, rows, state, _, islanded = inputs
    frames = store.ClearingFrames(
        fills=result.fills, order_matches=result.matches, zone_results=result.zones, flows=result.flows
    )
    store.write_clearing(connection, row, frames)
    certificates.lock_and_pass(services, connection, epoch, book.frame, result.matches)
    market_events.announce(connection, epoch, "cleared")
    orders.conclude(connection, epoch, result.fills, book.rejected)
    initial = book_initial(
        seq=state.seq,
        epoch=epoch,
        net_energy=rows,
        traded=result.traded,
        buy_back=without_buy_back(participants.buy_back_as_of(connection, epoch), islanded=islanded),
        balances=state.balances,
        accounts=state.accounts,
        rules=services.rules.at(epoch),
        zones=result.zones,
        lost_wh=result.lost_wh,
        link_wheeling_uthb=result.link_wheeling_uthb,
        rent_uthb=result.rent_uthb,
        halted=result.halted,
    )
    ledger.book(connection, initial, cause="clearing")
    late = energy.late_rows(connection, epoch)
    if not late.is_empty():
        catch_up = book_late(
            seq=state.seq + 1,
            epoch=epoch,
            run=1,
            net_energy=late,
            balances=initial.balances,
            accounts=initial.accounts,
            rules=services.rules.at(epoch),
        )
        ledger.book(connection, catch_up, cause="catch-up of missing meters")
    roots = {"book_root": row.book_root, "result_root": row.result_root}
    audit.append(
        connection,
        at=datetime.now(UTC),
        who="settlement",
        what="epoch_cleared",
        detail={
            "epoch": epoch,
            "status": row.status,
            "seq": state.seq,
            "halt_reasons": list(result.halt_reasons),
            **({"island": True} if islanded else {}),
            **{name: (root or b"").hex() for name, root in roots.items()},
        },
    )


def _keep_repairs(connection: Connection, epoch: int, found: feasible.Feasible) -> None:
    """What the epoch was cleared over in the end: the audit clears with it."""
    cleared = {link.link_id: (link.capacity_forward_wh, link.capacity_backward_wh) for link in found.network.links}
    grid_store.save_cleared(connection, epoch, cleared, found.repairs)
    audit.append(
        connection,
        at=datetime.now(UTC),
        who="settlement",
        what="epoch_repaired",
        detail={"epoch": epoch, "repairs": list(found.repairs), "cleared_wh": {str(k): v for k, v in cleared.items()}},
    )


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

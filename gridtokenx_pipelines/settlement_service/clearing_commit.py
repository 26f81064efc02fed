"""What cleared epochs come to in the ledger, and writing them: a statement a table for all epochs of a transaction.

Belongs here: the runs that an epoch books, and the order of what is written. Does not belong here: clearing and judging
(clearing.py), what a run does to balances (settlement/), SQL (store/).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection

from gridtokenx_pipelines.market.book import Book
from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import Booking
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late
from gridtokenx_pipelines.settlement_service import certificates, feasible
from gridtokenx_pipelines.settlement_service.clearing_inputs import EpochInputs
from gridtokenx_pipelines.settlement_service.island import without_buy_back
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit, ledger, market_events, orders
from gridtokenx_pipelines.store import clearing as store
from gridtokenx_pipelines.store import grid as grid_store


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch that passed its checks: its row, result, the book, its runs with their causes."""

    row: store.EpochRow
    result: ClearingResult
    book: Book
    bookings: tuple[tuple[Booking, str], ...]
    found: feasible.Feasible
    islanded: bool

    def state_after(self) -> ledger.State:
        """The ledger after the epoch's last run."""
        last, _ = self.bookings[-1]
        return ledger.State(seq=last.seq + 1, balances=last.balances, accounts=last.accounts)


def book_runs(rules: Rules, given: EpochInputs, result: ClearingResult) -> tuple[tuple[Booking, str], ...]:
    """Run 0 of the epoch, and its late run where meters caught up. Raises what settlement.ledger raises."""
    initial = book_initial(
        seq=given.state.seq,
        epoch=given.epoch,
        net_energy=given.rows,
        traded=result.traded,
        buy_back=without_buy_back(given.in_force.select("wallet", "buy_back"), islanded=given.islanded),
        balances=given.state.balances,
        accounts=given.state.accounts,
        rules=rules,
        zones=result.zones,
        lost_wh=result.lost_wh,
        link_wheeling_uthb=result.link_wheeling_uthb,
        rent_uthb=result.rent_uthb,
        halted=result.halted,
    )
    if given.late.is_empty():
        return ((initial, "clearing"),)
    catch_up = book_late(
        seq=given.state.seq + 1,
        epoch=given.epoch,
        run=1,
        net_energy=given.late,
        balances=initial.balances,
        accounts=initial.accounts,
        rules=rules,
    )
    return (initial, "clearing"), (catch_up, "catch-up of missing meters")


def commit(services: Services, connection: Connection, cleared: Sequence[Cleared]) -> None:
    """Write these epochs, in their order."""
    store.write_clearings(connection, [(each.row, _frames(each.result)) for each in cleared])
    market_events.announce_all(connection, [each.row.epoch for each in cleared], "cleared")
    orders.conclude_all(connection, {each.row.epoch: (each.result.fills, each.book.rejected) for each in cleared})
    ledger.book_all(connection, [booking for each in cleared for booking in each.bookings])
    log = []
    for each in cleared:
        certificates.lock_and_pass(services, connection, each.row.epoch, each.book.frame, each.result.matches)
        log.append(_logged(each))
        if each.found.repairs:
            log.append(_keep_repairs(connection, each))
    audit.append_all(connection, log)


def _frames(result: ClearingResult) -> store.ClearingFrames:
    return store.ClearingFrames(
        fills=result.fills, order_matches=result.matches, zone_results=result.zones, flows=result.flows
    )


def _logged(cleared: Cleared) -> audit.Entry:
    row = cleared.row
    roots = {"book_root": row.book_root, "result_root": row.result_root}
    return audit.Entry(
        at=datetime.now(UTC),
        who="settlement",
        what="epoch_cleared",
        detail={
            "epoch": row.epoch,
            "status": row.status,
            "seq": row.seq,
            "halt_reasons": list(cleared.result.halt_reasons),
            **{name: (root or b"").hex() for name, root in roots.items()},
            **({"island": True} if cleared.islanded else {}),
        },
    )


def _keep_repairs(connection: Connection, cleared: Cleared) -> audit.Entry:
    """What the epoch was cleared over in the end: the audit clears with it."""
    epoch, repairs = cleared.row.epoch, cleared.found.repairs
    over = {link.link_id: (link.capacity_forward_wh, link.capacity_backward_wh) for link in cleared.found.network.links}
    grid_store.save_cleared(connection, epoch, over, repairs)
    return audit.Entry(
        at=datetime.now(UTC),
        who="settlement",
        what="epoch_repaired",
        detail={"epoch": epoch, "repairs": list(repairs), "cleared_wh": {str(k): v for k, v in over.items()}},
    )

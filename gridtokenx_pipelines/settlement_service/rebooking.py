"""Runs booked once more from what is stored: a run 0 from its committed clearing, a late run from its rows.

Belongs here: one run's booking on the balances of now. Does not belong here: why and in which order (taking_back.py,
booked_again.py), clearing anything.
"""

from __future__ import annotations

from sqlalchemy import Connection

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late
from gridtokenx_pipelines.settlement_service import frozen
from gridtokenx_pipelines.settlement_service.island import without_buy_back
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import clearing as clearing_store
from gridtokenx_pipelines.store import energy, ledger, participants
from gridtokenx_pipelines.store import island as island_store


def late(services: Services, connection: Connection, epoch: int) -> ledger.Run | None:
    """Book the late run of an epoch from what is to be booked with it; None where that is nothing."""
    rows = energy.late_rows(connection, epoch)
    if rows.is_empty():
        return None
    state = ledger.state_before(connection)
    booking = book_late(
        seq=state.seq,
        epoch=epoch,
        run=ledger.next_run(connection, epoch),
        net_energy=rows,
        balances=state.balances,
        accounts=state.accounts,
        rules=services.rules.at(epoch),
        voided=energy.voided_between(connection, epoch, epoch),
    )
    return ledger.book(connection, booking, cause="energy of voided epochs")


def initial(services: Services, connection: Connection, run: ledger.Run, state: ledger.State) -> None:
    """Book a run 0 again, from its clearing as committed. Raises LedgerError where that is not covered any more."""
    row = clearing_store.read_epoch(connection, run.epoch)
    if row is None:
        raise ValueError(f"epoch {key_of(run.epoch)} is booked but not in market_epochs; restore it from the backup")
    result = frozen.result_of(services.parquet, run.epoch, row, clearing_store.read_clearing(connection, run.epoch))
    booking = book_initial(
        seq=state.seq,
        epoch=run.epoch,
        net_energy=energy.on_time(connection, run.epoch),
        traded=result.traded,
        buy_back=without_buy_back(
            participants.buy_back_as_of(connection, run.epoch),
            islanded=island_store.is_island(connection, run.epoch),
        ),
        balances=state.balances,
        accounts=state.accounts,
        rules=services.rules.at(run.epoch),
        zones=result.zones,
        lost_wh=result.lost_wh,
        link_wheeling_uthb=result.link_wheeling_uthb,
        rent_uthb=result.rent_uthb,
        halted=result.halted,
    )
    ledger.book(connection, booking, cause="clearing")

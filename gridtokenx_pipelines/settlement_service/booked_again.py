"""GRID that moved on the chain before runs that the ledger had booked already: those runs are booked again after it.

Belongs here: where in the order of runs a movement stands, and booking what followed it once more. Does not belong
here: reading the chain (movements.py), voids (taking_back.py).

A run burns the GRID that is held when the chain applies it, and bills the rest. The ledger books ahead of the chain, so
a withdrawal can come between: then what it booked is taken back by reverse rows, the withdrawal is booked where the
chain has it, and each run again. Roots say net and traded Wh, not what is burned, so plans and roots stay as they are.
Cash needs none of it: a household's cash less its debt is the same in either order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from gridtokenx_pipelines.chain.market_events import MarketEvent
from gridtokenx_pipelines.settlement.frames import CLEARING, LATE, RESETTLEMENT
from gridtokenx_pipelines.settlement.ledger import book_resettlement
from gridtokenx_pipelines.settlement.planned import planned_shifts
from gridtokenx_pipelines.settlement.resettlement import Shift
from gridtokenx_pipelines.settlement_service import rebooking
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger, movements
from gridtokenx_pipelines.store import voids as store

BECAUSE = "booked again"
KEPT = ("cause", "header", "metering_root", "root", "plan", "status", "booked_at")


def before_grid_moved(
    services: Services, connection: Connection, events: Sequence[MarketEvent], place: int, leg: movements.Leg
) -> bool:
    """Book a leg of the event at `place`; where GRID moved before runs of its owner that are booked, book those again.

    False if the leg is booked already.
    """
    if leg.grid_wh == 0 or movements.is_booked(connection, leg):
        return movements.book(connection, leg)
    after = _after(connection, events, place)
    touched = connection.execute(
        text("SELECT min(seq) FROM settlements WHERE wallet = :owner AND seq > :after"),
        {"owner": leg.owner, "after": after},
    ).scalar()
    if touched is None:
        return movements.book(connection, leg)
    _book_again(services, connection, int(touched), leg)
    return True


def _after(connection: Connection, events: Sequence[MarketEvent], place: int) -> int:
    """The seq of the last run that the chain had finished when the event happened."""
    before = [each.fields["run_seq"] for each in events[:place] if each.name == "RunFinalised"]
    if before:
        return int(max(before))
    # none since the last look: by the slots of our receipts, and by who comes after it
    later = [each.fields["run_seq"] for each in events[place:] if each.name == "RunFinalised"]
    by_slot = connection.execute(
        text(
            "SELECT coalesce(max(r.seq), 0) FROM runs r LEFT JOIN blockchain_transactions b ON b.epoch = r.epoch "
            "AND b.kind = r.kind AND b.run = r.run AND b.step = 'finalize' AND b.status = 'ok' "
            "WHERE b.slot <= :slot OR (b.slot IS NULL AND r.status = 'finalised')"
        ),
        {"slot": events[place].slot},
    ).scalar_one()
    return min([int(by_slot), *(int(seq) - 1 for seq in later)])


def _book_again(services: Services, connection: Connection, from_seq: int, leg: movements.Leg) -> None:
    rows = connection.execute(
        text(f"SELECT seq, epoch, run, kind, {', '.join(KEPT)} FROM runs WHERE seq >= :seq ORDER BY seq"),  # noqa: S608
        {"seq": from_seq},
    )
    runs = [dict(row._mapping) for row in rows]
    shifts = {run["seq"]: _shifts(connection, run["seq"], run["plan"]) for run in runs if run["kind"] == RESETTLEMENT}
    store.reverse_entries(connection, BECAUSE, from_seq)
    for table in (*store.OF_RUNS, "runs"):
        connection.execute(text(f"DELETE FROM {table} WHERE seq >= :seq"), {"seq": from_seq})  # noqa: S608 - ours
    between = store.take_movements(connection, from_seq)
    movements.book(connection, leg)
    for run in runs:
        each = ledger.Run(**{name: run[name] for name in ("seq", "epoch", "run", "kind", "status")})
        state = ledger.state_before(connection)
        if state.seq != each.seq:
            raise ledger.StaleBookingError(
                f"run {each.run} of epoch {each.epoch} had seq {each.seq}, booked again it would have {state.seq}; a "
                "run in between was voided: look at `gridtokenx settle voids`, and tell the developers"
            )
        if each.kind == CLEARING:
            rebooking.initial(services, connection, each, state)
        elif each.kind == LATE:
            rebooking.late(services, connection, each.epoch)
        else:
            booking = book_resettlement(
                seq=each.seq,
                epoch=each.epoch,
                run=each.run,
                shifts=shifts[each.seq],
                balances=state.balances,
                accounts=state.accounts,
                rules={epoch: services.rules.at(epoch) for epoch in (each.epoch - 1, each.epoch)},
            )
            ledger.book(connection, booking)
        values = ", ".join(f"{name} = :{name}" for name in KEPT)
        connection.execute(text(f"UPDATE runs SET {values} WHERE seq = :seq"), {**run})  # noqa: S608 - our own names
        between.post(connection, each.seq)


def _shifts(connection: Connection, seq: int, raw: bytes | None) -> tuple[Shift, ...]:
    """The shifts of a resettlement as they were judged: by its plan, where there is one, else by its entries."""
    planned = planned_shifts(raw)
    rows = connection.execute(
        text(
            "SELECT m.meter_id, s.wallet, s.zone_id, s.epoch, m.x_wh, s.refund_wh, s.taken_back_wh, s.returned_wh, "
            "s.rebilled_wh, s.refund_epoch, s.surplus_epoch FROM settlements s JOIN meter_settlements m USING (seq, "
            "wallet) WHERE s.seq = :seq ORDER BY s.wallet"
        ),
        {"seq": seq},
    )
    return tuple(_shift(dict(row._mapping), planned.get(row.wallet)) for row in rows)


def _shift(row: dict[str, Any], planned: dict[str, int] | None) -> Shift:
    amounts = {name: row[name] for name in ("refund_wh", "taken_back_wh", "returned_wh", "rebilled_wh")} | (
        planned or {}
    )
    return Shift(
        meter_id=row["meter_id"],
        wallet=row["wallet"],
        zone_id=row["zone_id"],
        deficit_epoch=row["refund_epoch"] if row["refund_epoch"] is not None else row["epoch"],
        surplus_epoch=row["surplus_epoch"] if row["surplus_epoch"] is not None else row["epoch"] - 1,
        # what the meter books is x with what is billed again taken off
        x_wh=row["x_wh"] - amounts["rebilled_wh"],
        **amounts,
    )

"""What the ledger does about runs that are void on the chain: takes them back, and books their energy late.

Belongs here: one transaction's worth of taking back and booking again. Does not belong here: what may be voided and the
chain's side (voids.py), SQL (store/voids.py).

A void takes back every booking from the first void one on, since each was made from the balances that the one before
left; deposits and other movements in between are booked anew. Then the energy of void epochs and late runs becomes
one late run without trades, corrections wait again, and what was not void is booked again as it was cleared.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.chain.voids import ChainVoid
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement.frames import CLEARING, LATE, LedgerError
from gridtokenx_pipelines.settlement_service import clearing, rebooking
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit, ledger, market_events
from gridtokenx_pipelines.store import voids as store


class VoidRefused(ValueError):
    """A void that can't be carried out; `name` is one of the answers documented in docs/runbooks/voids.md."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Void `run` of `epoch` (None: its first open one), for a reason that stays on record."""

    epoch: int
    reason: str
    decided_by: str
    run: int | None = None


class TakenBack(msgspec.Struct, frozen=True, kw_only=True):
    """What a void did to the ledger; energies in Wh, money in µTHB."""

    void_id: int
    epochs: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    taken_back: int
    booked_again: int
    movements_again: int
    corrections_waiting: int
    traded_wh: int
    late_epoch: int | None
    late_meters: int
    late_net_wh: int

    @property
    def words(self) -> tuple[str, ...]:
        """Line by line, for an operator."""
        lines = [f"void on the chain: {', '.join(f'run {run} of {key_of(epoch)}' for epoch, run in self.runs)}"]
        if self.epochs:
            lines.append(f"epochs without trades: {len(self.epochs)}, {self.traded_wh} Wh of trades taken back")
        lines.append(
            f"bookings taken back: {self.taken_back}, of them booked again: {self.booked_again}; deposits and other "
            f"movements booked anew: {self.movements_again}; corrections that wait again: {self.corrections_waiting}"
        )
        if self.late_epoch is not None:
            lines.append(f"late run of {key_of(self.late_epoch)}: {self.late_meters} meters, net {self.late_net_wh} Wh")
        return tuple(lines)


def take_back(
    services: Services,
    connection: Connection,
    decision: Decision,
    void: Sequence[ChainVoid],
    open_runs: Sequence[ledger.Run],
) -> TakenBack:
    """Bring the ledger to where it stands without these runs; the caller's transaction.

    Raises VoidRefused where what was booked after them can't be booked again without them.
    """
    ledger.lock_ledger(connection)
    named = {(each.epoch, each.run): each for each in void}
    from_seq = min((run.seq for run in open_runs if (run.epoch, run.run) in named), default=None)
    taken = [run for run in open_runs if from_seq is not None and run.seq >= from_seq]
    epochs = sorted(each.epoch for each in void if each.kind == CLEARING)
    at, void_id = datetime.now(UTC), store.next_void(connection)
    traded = _traded_wh(connection, epochs)
    used = max((each.used_seq for each in void), default=0)
    left = from_seq - 1 if from_seq is not None else ledger.last_seq(connection)
    head = store.VoidRow(
        void_id=void_id,
        at=at,
        reason=decision.reason,
        decided_by=decision.decided_by,
        from_seq=from_seq,
        next_seq=max(used, left) + 1,
    )
    store.begin(connection, head)
    again, waiting, between = [run for run in taken if (run.epoch, run.run) not in named], 0, None
    if from_seq is not None:
        waiting = _corrections_of(connection, from_seq)
        store.reverse_entries(connection, f"void {void_id}", from_seq)
        store.take_runs(connection, void_id, from_seq)
        between = store.take_movements(connection, from_seq)
    if epochs:
        store.take_epochs(connection, void_id, epochs, at)
        _stand_in_fingerprint(services, connection, epochs)
    store.save_runs(connection, _rows(void_id, void, taken), dict.fromkeys(epochs, max(epochs, default=0)), void_id)
    moved = between.post(connection) if between else 0
    gone = [(each.epoch, each.kind, each.run) for each in void]
    settled_late = [rebooking.late(services, connection, epoch) for epoch in _to_be_booked_late(void, epochs)]
    booked = [run for run in settled_late if run is not None]
    count = _book_again(services, connection, again, gone)
    store.forget_transactions(connection, gone)
    for epoch in epochs:
        market_events.announce(connection, epoch, "voided")
    energy_of = _energy_of(connection, booked)
    result = TakenBack(
        void_id=void_id,
        epochs=tuple(epochs),
        runs=tuple((each.epoch, each.run) for each in void),
        taken_back=len(taken),
        booked_again=count,
        movements_again=moved,
        corrections_waiting=waiting,
        traded_wh=traded,
        late_epoch=booked[-1].epoch if booked else None,
        late_meters=energy_of[0],
        late_net_wh=energy_of[1],
    )
    detail = {
        **{name: value for name, value in msgspec.to_builtins(result).items()},
        "reason": decision.reason,
        "from_seq": from_seq,
        "next_seq": head.next_seq,
        "transactions": sorted({each.reference for each in void}),
    }
    audit.append(connection, at=at, who=decision.decided_by, what="runs_voided", detail=detail)
    return result


def _rows(void_id: int, void: Sequence[ChainVoid], taken: Sequence[ledger.Run]) -> pl.DataFrame:
    booked = {(run.epoch, run.run): run for run in taken}
    on_chain = {(each.epoch, each.run): each for each in void}
    rows = []
    for key in sorted(booked.keys() | on_chain.keys()):
        run, each = booked.get(key), on_chain.get(key)
        kind = each.kind if each else run.kind if run else CLEARING
        used = each.used_seq if each else 0
        rows.append((void_id, *key, kind, run.seq if run else None, each is not None, used))
    return pl.DataFrame(rows, schema=store.VOIDED_RUNS, orient="row")


def _to_be_booked_late(void: Sequence[ChainVoid], epochs: Sequence[int]) -> list[int]:
    """The epochs that get a late run: the last of the void ones, and those whose own late run is void."""
    own = {each.epoch for each in void if each.kind == LATE} - set(epochs)
    return sorted(own | ({max(epochs)} if epochs else set()))


def _book_again(
    services: Services, connection: Connection, runs: Sequence[ledger.Run], gone: list[tuple[int, int, int]]
) -> int:
    """Runs that are not void, on the balances that are left; corrections are judged anew by the next resettlement."""
    count = 0
    for run in sorted(runs, key=lambda each: each.seq):
        if run.kind not in (CLEARING, LATE):
            gone.append((run.epoch, run.kind, run.run))
            continue
        state = ledger.state_before(connection)
        if state.seq != run.seq:
            gone.append((run.epoch, run.kind, run.run))
        if run.kind == LATE:
            rebooking.late(services, connection, run.epoch)
        else:
            _initial(services, connection, run, state)
        count += 1
    return count


def _initial(services: Services, connection: Connection, run: ledger.Run, state: ledger.State) -> None:
    try:
        rebooking.initial(services, connection, run, state)
    except LedgerError as error:
        raise VoidRefused(
            "not_covered",
            f"{key_of(run.epoch)} was cleared on what the void takes back: {error}; void that epoch instead",
        ) from error


def _stand_in_fingerprint(services: Services, connection: Connection, epochs: Sequence[int]) -> None:
    """Epochs that had not cleared yet: what their late energy is booked under."""
    for epoch in epochs:
        connection.execute(
            text("UPDATE market_epochs SET fingerprint = :mark WHERE epoch = :epoch AND fingerprint IS NULL"),
            {"mark": clearing.fingerprint(services, epoch, services.network), "epoch": epoch},
        )


def _traded_wh(connection: Connection, epochs: Sequence[int]) -> int:
    sql = "SELECT coalesce(sum(filled_wh), 0)::bigint FROM fills WHERE side = 0 AND epoch = ANY(:epochs)"
    return int(connection.execute(text(sql), {"epochs": list(epochs)}).scalar_one())


def _corrections_of(connection: Connection, from_seq: int) -> int:
    sql = "SELECT count(*) FROM corrections WHERE status = 'booked' AND booked_seq >= :seq"
    return int(connection.execute(text(sql), {"seq": from_seq}).scalar_one())


def _energy_of(connection: Connection, runs: Sequence[ledger.Run]) -> tuple[int, int]:
    found = connection.execute(
        text(
            "SELECT count(*), coalesce(sum(production_delta_wh - consumption_delta_wh), 0)::bigint "
            "FROM meter_settlements WHERE seq = ANY(:seqs)"
        ),
        {"seqs": [run.seq for run in runs]},
    ).one()
    return int(found[0]), int(found[1])

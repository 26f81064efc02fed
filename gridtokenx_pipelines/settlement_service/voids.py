"""Voiding what is stuck (chain.md §4): the chain first, then the ledger takes the bookings back.

Belongs here: which runs a void means, when it is refused, and the order of the steps. Does not belong here: the
transactions (chain/voids.py), moving rows (ledger side: taking_back.py).

Every step may be the last one before a crash: the chain's voids go through the outbox, and the ledger's part is one
transaction that follows from what the chain says is void. So the same command again ends what was begun.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection

from gridtokenx_pipelines.chain import voids as chain
from gridtokenx_pipelines.chain.outbox import Outbox
from gridtokenx_pipelines.chain.run_steps import CLEARING, RESETTLEMENT
from gridtokenx_pipelines.chain.state import read_market
from gridtokenx_pipelines.chain.voids import ChainVoid, RunOnChain
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement_service import movements
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.settlement_service.taking_back import Decision, TakenBack, VoidRefused, take_back
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store import voids as store

FINALITY_PATIENCE_SECONDS, FINALITY_POLL_SECONDS = 60.0, 0.2


class Voiding(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be voided on the chain, in order, each with what stands there; `seq`: the target's booking."""

    target: ChainVoid
    seq: int | None
    runs: tuple[tuple[ChainVoid, RunOnChain], ...]


def void(services: Services, decision: Decision, *, dry_run: bool = False) -> TakenBack:
    """Void a run that is stuck, and all that was booked after it; doing it again ends what a crash left half done.

    Raises VoidRefused, before anything is sent, with the reason and the remedy. A dry run changes nothing, and
    returns what would be taken back.
    """
    with services.engine.connect() as connection:
        open_runs = ledger.open_runs(connection)
        voiding = _voiding(services, connection, decision, open_runs)
    _require_voidable(services, voiding, open_runs)
    expected = [each for each, _ in voiding.runs]
    with services.engine.connect() as connection:
        tried = take_back(services, connection, decision, expected, open_runs)
        connection.rollback()
    if dry_run:
        return tried
    movements.follow(services)
    _void_on_chain(services, voiding)
    return adopt(services, decision, sorted({each.epoch for each in expected}))


def adopt(services: Services, decision: Decision, epochs: Sequence[int]) -> TakenBack:
    """Take back what is void on the chain in these epochs and still stands in the ledger."""
    said = chain.voids_of(services.client, epochs)
    with services.engine.begin() as connection:
        known = store.known(connection, epochs)
        new = [each for each in said if (each.epoch, each.run) not in known]
        if not new:
            where = ", ".join(map(key_of, epochs))
            raise VoidRefused("not_void", f"the chain has no void of {where} that is not taken back already")
        done = take_back(services, connection, decision, new, ledger.open_runs(connection))
    services.publish()
    return done


def _voiding(
    services: Services, connection: Connection, decision: Decision, open_runs: Sequence[ledger.Run]
) -> Voiding:
    """The target and all that must be void with it, in the order of the chain."""
    epoch = decision.epoch
    booked = ledger.runs_of(connection, epoch)
    mine = [run for run in open_runs if run.epoch == epoch and decision.run in (None, run.run)]
    if not mine:
        return _unbooked(services, connection, decision, booked)
    first = mine[0]
    after = [run for run in open_runs if run.seq >= first.seq]
    used = 0 if first.kind == CLEARING else first.seq  # a run's header goes along, and takes its turn
    wanted = [ChainVoid(epoch=epoch, run=first.run, kind=first.kind, used_seq=used)]
    if first.kind == CLEARING:
        last = max(run.epoch for run in after if run.kind == CLEARING)
        wanted = [ChainVoid(epoch=each, run=0, kind=CLEARING, used_seq=0) for each in range(epoch, last + 1)]
    found = [(each, chain.read_run(services.client, each.epoch, each.run, each.kind)) for each in wanted]
    # a later run whose root is final could never be attested anew, so it goes too
    for run in after:
        if run.kind != CLEARING and run.seq != first.seq and first.kind == CLEARING:
            stands = chain.read_run(services.client, run.epoch, run.run, run.kind)
            if stands.root is not None:
                found.append((ChainVoid(epoch=run.epoch, run=run.run, kind=run.kind, used_seq=0), stands))
    return Voiding(target=found[0][0], seq=first.seq, runs=tuple(found))


def _unbooked(services: Services, connection: Connection, decision: Decision, booked: Sequence[ledger.Run]) -> Voiding:
    epoch = decision.epoch
    if (epoch, decision.run or 0) in store.known(connection, [epoch]):
        raise VoidRefused("void_already", f"run {decision.run or 0} of {key_of(epoch)} is void, and was taken back")
    if booked or decision.run:
        raise VoidRefused(
            "nothing_open",
            f"{key_of(epoch)} has {len(booked)} runs, and none that is asked for is open; what is finalised is "
            "corrected by a resettlement (gridtokenx settle dispute)",
        )
    target = ChainVoid(epoch=epoch, run=0, kind=CLEARING, used_seq=0)
    return Voiding(target=target, seq=None, runs=((target, chain.read_run(services.client, epoch, 0, CLEARING)),))


def _require_voidable(services: Services, voiding: Voiding, open_runs: Sequence[ledger.Run]) -> None:
    market, (target, found) = read_market(services.client), voiding.runs[0]
    where = f"run {target.run} of {key_of(target.epoch)}"
    if found.void:
        return
    if found.finalised and found.is_present:
        raise VoidRefused("finalised", f"{where} is final on the chain; resume the settlement instead")
    if found.applied:
        raise VoidRefused("applied", f"{where} has {found.applied} batches on the chain; resume the settlement instead")
    if target.kind == CLEARING and target.epoch != market["settled_through"] + 1:
        raise VoidRefused(
            "not_the_first",
            f"{key_of(market['settled_through'] + 1)} is the first epoch that is neither settled nor void; begin there",
        )
    now, since = chain.now_of(services.client, market), chain.voidable_from(target.epoch)
    if target.epoch > market["void_through"] and now < since:
        raise VoidRefused(
            "too_early",
            f"{key_of(target.epoch)} may be voided from {_moment(since)} on, 24 h after its gate; on the chain it is "
            f"{_moment(now)}",
        )
    if target.kind != CLEARING:
        if found.root is None:
            raise VoidRefused("not_attested", f"{where} has no final root on the chain, so nothing holds it; resume")
        if voiding.seq is not None and market["finalized_seq"] + 1 != voiding.seq:
            raise VoidRefused(
                "not_its_turn",
                f"{where} has seq {voiding.seq}, the chain waits for seq {market['finalized_seq'] + 1}; settle or void "
                "that one first",
            )
        for run in open_runs:
            if voiding.seq is not None and run.seq > voiding.seq and run.kind == RESETTLEMENT:
                stands = chain.read_run(services.client, run.epoch, run.run, run.kind)
                if stands.root is not None:
                    raise VoidRefused(
                        "attested_after",
                        f"run {run.run} of {key_of(run.epoch)} (seq {run.seq}) was booked after it and has its final "
                        "root: it can't be booked anew; void the epoch before it instead",
                    )


def _void_on_chain(services: Services, voiding: Voiding) -> None:
    """Send the voids one after the other, each waiting for the one before, and wait until the last is final."""
    outbox = Outbox(services.engine, services.client, highest_bid=services.highest_bid)
    signature = None
    for each, _ in voiding.runs:
        found = chain.read_run(services.client, each.epoch, each.run, each.kind)
        if found.void:
            continue
        with services.engine.connect() as connection:
            plan = ledger.plan_of(connection, each.epoch, each.run)
        turn = read_market(services.client)["finalized_seq"] + 1
        fits = plan is not None and found.root == plan.root and plan.seq == turn and not found.committed
        item = chain.void_item(services.relayer, services.authority, each, found, plan if fits else None)
        (receipt,) = outbox.submit([item])
        signature = receipt.signature
    deadline = time.monotonic() + FINALITY_PATIENCE_SECONDS
    while signature is not None and time.monotonic() < deadline:
        status = services.client.statuses([signature])[0]
        if status is not None and status.confirmation == "finalized":
            return
        time.sleep(FINALITY_POLL_SECONDS)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

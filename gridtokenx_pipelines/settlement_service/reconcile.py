"""A database that was restored, and a chain that is ahead of it: together again, paying nothing twice.

Belongs here: which runs the chain has and the database has forgotten, and booking them again in the chain's order.
Does not belong here: clearing, booking and settling, which are the same functions as ever; what restored the database.

Clearing is deterministic: the same readings, orders and balances give the same roots. So a forgotten run is simply
booked again, and the root that the chain holds as final says whether it is the same one. Nothing is sent for a run that
the chain has finished; one it has half of goes on from there. Where a root differs it stops with nothing sent, and
says which inputs to bring back: restore once more, bring them back, reconcile.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.market_events import MarketEvent, market_events
from gridtokenx_pipelines.chain.outbox_store import OutboxStore
from gridtokenx_pipelines.chain.run_history import landed_of
from gridtokenx_pipelines.chain.runs import read_runs
from gridtokenx_pipelines.chain.state import read_market
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement.frames import CLEARING, RESETTLEMENT
from gridtokenx_pipelines.settlement_service import (
    clearing,
    energy,
    instructions,
    mandates,
    movements,
    rates_in_force,
    receipts,
    voids,
)
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.settlement_service.taking_back import Decision, VoidRefused
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store import movements as movement_store
from gridtokenx_pipelines.store import voids as void_store
from gridtokenx_pipelines.store.progress import complete_through
from gridtokenx_pipelines.store.resettlement import book_next


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and done, line by line; `consistent` if database and chain agree at the end."""

    consistent: bool
    steps: tuple[str, ...]


class CannotReplay(RuntimeError):
    """A run that the chain has can't be booked again from what the database holds; names what to bring back."""


def reconcile(services: Services, *, dry_run: bool = False) -> Reconciled:
    """Bring the database up to the chain. Doing it again finds nothing to do."""
    steps: list[str] = []
    with services.engine.connect() as connection:
        last = ledger.last_seq(connection)
        since = movement_store.read_up_to(connection).signature
    market = read_market(services.client)
    steps.append(f"ledger: runs up to seq {last}; chain: finalised up to seq {market['finalized_seq']}")
    told = _ended(services, since)
    forgotten = [event for event in told if event.name == "RunVoided" or event.fields["run_seq"] > last]
    for event in forgotten:
        what = "void" if event.name == "RunVoided" else f"seq {event.fields['run_seq']}"
        steps.append(f"forgotten: {what}, run {event.fields['run']} of {_key(event)}")
    if dry_run:
        return Reconciled(consistent=not forgotten and market["finalized_seq"] <= last, steps=tuple(steps))
    booked = movements.follow(services).booked
    steps.append(f"movements on chain booked again: {booked or 'none'}")
    steps.append(f"mandates that differed from the chain's: {mandates.follow(services) or 'none'}")
    try:
        for name, together in groupby(forgotten, key=lambda event: event.name):
            if name == "RunVoided":
                steps.extend(_take_back(services, list(together)))
            else:
                steps.extend(step for event in together for step in _replay(services, event))
        steps.extend(_finish(services))
    except (CannotReplay, EpochNotReady, ChainError) as error:
        return Reconciled(consistent=False, steps=(*steps, f"stopped: {error}"))
    return _agree(services, steps)


def _ended(services: Services, since: str | None) -> list[MarketEvent]:
    """Runs that the chain finalised or voided after the last transaction the database knows of, in the chain's order;
    without the voids that are taken back already."""
    events, _ = market_events(services.client, since)
    epochs = sorted({event.fields["epoch"] for event in events if event.name == "RunVoided"})
    with services.engine.connect() as connection:
        known = void_store.known(connection, epochs)
    return [
        event
        for event in events
        if event.name == "RunFinalised"
        or (event.name == "RunVoided" and (event.fields["epoch"], event.fields["run"]) not in known)
    ]


def _take_back(services: Services, events: Sequence[MarketEvent]) -> list[str]:
    """What the chain voided and the ledger still has booked."""
    epochs = sorted({event.fields["epoch"] for event in events})
    decision = Decision(epoch=epochs[0], reason="void on the chain, found by a reconciliation", decided_by="reconcile")
    try:
        return list(voids.adopt(services, decision, epochs).words)
    except VoidRefused as error:
        raise CannotReplay(str(error)) from error


def _replay(services: Services, event: MarketEvent) -> list[str]:
    """Book the run again, and hold its root against the chain's before the next one."""
    epoch, run, kind, seq = (event.fields[name] for name in ("epoch", "run", "kind", "run_seq"))
    with services.engine.connect() as connection:
        known = {each.seq: each for each in ledger.runs_of(connection, epoch)}
    if seq not in known:
        if kind == CLEARING:
            _clear(services, epoch)
        elif kind == RESETTLEMENT:
            with services.engine.begin() as connection:
                book_next(connection, through_epoch=epoch, rules=services.rules)
        with services.engine.connect() as connection:
            known = {each.seq: each for each in ledger.runs_of(connection, epoch)}
    found = known.get(seq)
    if found is None or (found.run, found.kind) != (run, kind):
        raise CannotReplay(
            f"seq {seq} is run {run} (kind {kind}) of {key_of(epoch)} on the chain, here {found or 'nothing'}; bring "
            "back the corrections of that time: replay the telemetry flow, decide its disputes again, then reconcile"
        )
    instructions.plan_epochs(services, [epoch])
    with services.engine.connect() as connection:
        plan = ledger.plan_of(connection, epoch, run)
    if plan is not None:
        read_runs(services.client, [plan])  # raises WrongRoot where the chain's final root is another one
    return [f"booked again: seq {seq}, run {run} of {key_of(epoch)}, root equals the chain's"]


def _clear(services: Services, epoch: int) -> None:
    through = complete_through(services.engine)
    if through is None or epoch > through:
        raise CannotReplay(
            f"{key_of(epoch)} is settled on the chain, and the flows have not closed it here; replay the telemetry and "
            "orders flows from the topics (their recovery folders as restored), then reconcile"
        )
    energy.collect(services, [epoch])
    try:
        rates_in_force.require_equal(services, [epoch])
    except rates_in_force.RatesDiffer as error:
        raise CannotReplay(str(error)) from error
    outcome = clearing.clear_epochs(services, [epoch])
    bad = failed([*outcome.book_verdicts, *outcome.result_verdicts])
    if bad:
        raise CannotReplay(f"{key_of(epoch)}: {bad[0].check}: {bad[0].detail}")


def _finish(services: Services) -> list[str]:
    """Receipts that the chain's history tells, then whatever is half done goes on."""
    with services.engine.connect() as connection:
        epochs = sorted({run.epoch for run in ledger.open_runs(connection)})
    store = OutboxStore(services.engine)
    told = 0
    for epoch in epochs:
        landed = landed_of(services.client, epoch)
        store.adopt([each.row for each in landed], [each.receipt for each in landed])
        told += len(landed)
    touched = receipts.settle_open_runs(services)
    return [
        f"receipts told by the chain's history: {told}",
        f"epochs brought to their end: {', '.join(map(key_of, sorted(touched))) or 'none'}",
    ]


def _agree(services: Services, steps: Sequence[str]) -> Reconciled:
    proof = receipts.proof_of(services)
    differing = [(row["owner"], row) for row in proof.traders.to_dicts()]
    differing += [(row["of"], row) for row in proof.others.to_dicts()]
    wrong = [f"{of} {row['what']}: ledger {row['ledger']}, chain {row['chain']}" for of, row in differing]
    wrong += [f"law {law.law}: off by {law.difference}" for law in proof.laws if law.difference]
    compared = f"{proof.compared_traders} traders and {proof.compared_meters} meters compared, {len(wrong)} differences"
    return Reconciled(consistent=not wrong, steps=(*steps, compared, *wrong))


def _key(event: MarketEvent) -> str:
    return key_of(event.fields["epoch"])

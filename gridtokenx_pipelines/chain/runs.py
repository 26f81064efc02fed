"""A settlement run on the chain: from a plan to a finalised run, whoever crashes when.

Belongs here: which transactions a run consists of and in which order they may go. Does not belong here: what is in the
batches (settlement/batches.py), surviving crashes (outbox), building instructions (`run_steps`).

A run has stages; the transactions of a stage go concurrently, stages in order. Several runs are pipelined: attesting
and metering of the next run go while this one trades, because only trading is tied to the run before it.
Every stage reads the chain when something is refused: what others have done counts as done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.lookup import Lookup
from gridtokenx_pipelines.chain.outbox import Outbox, OutboxItem
from gridtokenx_pipelines.chain.outbox_store import Receipt
from gridtokenx_pipelines.chain.run_steps import CLEARING, METERING, Missing, RunKeys, RunSteps
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement.batches import RunPlan

Account = dict[str, Any] | None
PREPARE, BEGIN, METER, COMMIT, RECORD, SETTLE, FINALIZE, DONE = range(8)
STATUS_COMMITTED, STATUS_FINALISED = 1, 2
FLAG_VOID = 1 << 15


class RunVoided(ChainError):
    """The authority voided this run: nothing of it will ever apply, and the ledger takes its booking back."""

    def __init__(self, plan: RunPlan) -> None:
        super().__init__(
            f"run {plan.run} of epoch {plan.epoch} (seq {plan.seq}) is void on the chain; take its booking back with "
            f"`gridtokenx settle void {key_of(plan.epoch)} --reason …`",
            name="RunVoided",
        )
        self.plan = plan


class _Progress:
    """How far one plan is."""

    def __init__(self, plan: RunPlan, state: ChainRun) -> None:
        self.plan, self.state, self.stage = plan, state, state.stage


class ChainRun(msgspec.Struct, frozen=True):
    """What the chain says of a run: the first stage that is not done, and what groundwork is missing."""

    stage: int
    missing: Missing


def settle_run(client: ChainClient, outbox: Outbox, plan: RunPlan, keys: RunKeys, lookup: Lookup) -> list[Receipt]:
    """Bring one run to its end on the chain; receipts of all its transactions. See `settle_runs`."""
    return settle_runs(client, outbox, [plan], keys, lookup)[0]


def settle_runs(  # noqa: PLR0917 - the contract's door
    client: ChainClient,
    outbox: Outbox,
    plans: Sequence[RunPlan],
    keys: RunKeys,
    lookup: Lookup,
    attested: Callable[[Sequence[RunPlan]], None] = lambda plans: None,
) -> list[list[Receipt]]:
    """Bring consecutive runs (ascending in seq) to their end, pipelined; receipts per plan.

    Doing it again sends nothing and returns the same receipts. `attested` is told once of each run whose root the
    chain holds as final, of many at a time. Raises RunVoided where the authority voided a run meanwhile, ChainError
    when a transaction is refused for a reason that the chain's state does not explain, ValueError for plans not in the
    order of their seq.
    """
    seqs = [plan.seq for plan in plans]
    if seqs != sorted(set(seqs)):
        raise ValueError(f"plans have seqs {seqs}, must ascend: runs are settled in the ledger's order")
    names = [(plan.epoch, plan.kind, plan.run) for plan in plans]
    # a transaction that was stored and sent before a crash may have landed: its receipt first, then what is missing
    outbox.reconcile(names)
    steps = RunSteps(keys, lookup)
    runs = [_Progress(plan, state) for plan, state in zip(plans, read_runs(client, plans), strict=True)]
    told: set[int] = set()
    while True:
        final = [run.plan for run in runs if run.stage > PREPARE and run.plan.seq not in told]
        if final:
            attested(final)
            told.update(plan.seq for plan in final)
        if all(run.stage == DONE for run in runs):
            break
        _go([run for index, run in enumerate(runs) if _may_go(runs, index)], steps, client, outbox)
    # what landed while nobody could tell has no receipt yet, though the chain's state says that it is done
    outbox.conclude(names)
    receipts = outbox.store.receipts_of_runs(names)
    return [receipts.get(name, []) for name in names]


def _may_go(runs: Sequence[_Progress], index: int) -> bool:
    """Whether the run's next stage may go now, given how far the others are."""
    run = runs[index]
    if run.stage == DONE or index == 0:
        return run.stage != DONE
    before = runs[index - 1]
    if run.stage <= METER:
        # epochs' numbers and meters' entries must arrive in order; a later run of an epoch waits for the former
        former_open = any(r.stage != DONE and r.plan.epoch == run.plan.epoch for r in runs[:index])
        # an epoch is metered once the one before can't be voided any more: metered in part, or settled without meters
        bare = [r for r in runs[:index] if r.plan.epoch == run.plan.epoch - 1 and not r.plan.registry]
        waits = run.stage == METER and any(r.stage != DONE for r in bare)
        return before.stage > run.stage and not former_open and not waits
    if run.stage == COMMIT:
        # each seq is committed once and in order
        return before.stage > COMMIT
    # orders too are recorded only in the run's turn: a trader's nonces and slots belong to one epoch at a time
    return before.stage == DONE


def _go(wave: Sequence[_Progress], steps: RunSteps, client: ChainClient, outbox: Outbox) -> None:
    """Bring every run of the wave one stage on."""
    items = [item for run in wave for item in _items(run, steps)]
    try:
        outbox.submit(items)
    except ChainError:
        fresh = read_runs(client, [run.plan for run in wave])
        if all(state == run.state for run, state in zip(wave, fresh, strict=True)):
            raise
        for run, state in zip(wave, fresh, strict=True):
            run.state, run.stage = state, max(run.stage, state.stage)
        return
    for run in wave:
        run.stage += 1


def _items(run: _Progress, steps: RunSteps) -> list[OutboxItem]:  # noqa: PLR0911 one return a stage
    plan = run.plan
    match run.stage:
        case 0:
            missing = run.state.missing
            # what comes after run 0 finds its epoch open, even if it was not when the states were read
            late = msgspec.structs.replace(missing, epoch=False, metered=False)
            return steps.prepare(plan, missing if plan.kind == CLEARING else late)
        case 1:
            return steps.begin(plan)
        case 2:
            return steps.registry_batches(plan)
        case 3:
            return [steps.commit(plan)]
        case 4:
            return steps.records(plan)
        case 5:
            return steps.trading_batches(plan)
        case _:
            return [steps.finalize(plan)]


def read_runs(client: ChainClient, plans: Sequence[RunPlan]) -> list[ChainRun]:
    """State of each plan's run on the chain, in one round of reads; ChainError if a final root is not the plan's."""
    layouts = [("trading", "Epoch"), ("registry", "Metered"), ("oracle", "Attestation"), ("oracle", "Attestation")]
    wanted = []
    for plan in plans:
        wanted += [
            addresses.epoch(plan.epoch),
            addresses.metered(plan.epoch),
            addresses.attestation(METERING, plan.epoch, 0),
            addresses.attestation(plan.kind, plan.epoch, plan.run),
        ]
    accounts = client.accounts(wanted)
    states = []
    for index, plan in enumerate(plans):
        four = zip(accounts[4 * index : 4 * index + 4], layouts, strict=True)
        epoch, metered, metering, root = (
            Program.load(program).decode(name, account.data) if account else None for account, (program, name) in four
        )
        missing = Missing(
            epoch=epoch is None,
            metered=metered is None,
            metering_root=plan.kind == CLEARING and not _is_final(metering, plan, plan.metering_root),
            root=not _is_final(root, plan, plan.root),
        )
        states.append(ChainRun(_stage(plan, epoch, metered, missing), missing))
    return states


def _stage(plan: RunPlan, epoch: Account, metered: Account, missing: Missing) -> int:
    """The first stage of the plan that the chain has not finished."""
    if epoch and epoch["run"] == plan.run and epoch["status"] == STATUS_FINALISED and epoch["flags"] & FLAG_VOID:
        raise RunVoided(plan)
    if epoch is None or metered is None or missing.root or missing.metering_root:
        return PREPARE
    if epoch["run"] > plan.run or (epoch["run"] == plan.run and epoch["status"] == STATUS_FINALISED):
        return DONE
    if epoch["run"] == plan.run and epoch["status"] == STATUS_COMMITTED:
        return FINALIZE if epoch["applied"] == len(plan.trading) else RECORD
    if metered["run"] < plan.run:
        return BEGIN
    return COMMIT if metered["applied"] == len(plan.registry) else METER


def _is_final(attestation: Account, plan: RunPlan, root: bytes | None) -> bool:
    if attestation is None or not attestation["is_final"]:
        return False
    if attestation["root"] != root:
        raise ChainError(
            f"epoch {plan.epoch} kind {attestation['kind']} run {plan.run} has the final root "
            f"{attestation['root'].hex()}, the plan has {(root or b'').hex()}; find out which is wrong before sending",
            name="WrongRoot",
        )
    return True

"""Stage 4: planned runs on the chain, in the order of their seq, and proof that chain and ledger agree.

Belongs here: which runs are due, marking what is finalised, reports from receipts. Does not belong here: transactions
and crashes (chain/runs.py, chain/outbox.py), judging (inspections/receipts.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import polars as pl

from gridtokenx_pipelines.chain import addresses, lookup
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.outbox import Outbox
from gridtokenx_pipelines.chain.run_steps import RunKeys
from gridtokenx_pipelines.chain.runs import RunVoided, settle_runs
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.observability.stages import stage
from gridtokenx_pipelines.settlement.batches import RunPlan
from gridtokenx_pipelines.settlement_service import chain_proof, finality, instructions, movements
from gridtokenx_pipelines.settlement_service.inspections import receipts as inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, failed
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit, energy, ledger, participants, ranges
from gridtokenx_pipelines.store.clearing import settle_epochs as settle_all
from gridtokenx_pipelines.store.market_events import announce_all
from gridtokenx_pipelines.store.settled import outbox_between, receipts_between

# runs handed to the chain at once: enough to keep the pipeline of chain/runs.py full, few enough to report progress
RUNS_AT_ONCE = 32
BATCH_STEPS = ("settle",)
# a transaction is final some 13 s after it is confirmed
FINALITY_PATIENCE_SECONDS, FINALITY_POLL_SECONDS = 45.0, 0.2


class PlanRefused(RuntimeError):
    """An open run whose plan fails its checks: it, and what lies after it in seq, must wait."""


@stage("settlement_receipts")
def settle_epochs(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Settle every run booked so far for these epochs, and open runs before them. Doing it again sends nothing.

    Raises ChainError when the chain refuses for a reason that its state doesn't explain, PlanRefused as
    `settle_open_runs` does.
    """
    started = time.monotonic()
    settled = settle_open_runs(services, through_epoch=epochs[-1], inspected=epochs)
    seconds = time.monotonic() - started
    services.publish()
    with services.engine.connect() as connection:
        found = receipts_between(connection, epochs[0], epochs[-1])
        plans = ranges.plans(connection, epochs)
    by_epoch = found.partition_by("epoch", as_dict=True, maintain_order=True)
    return [
        _report(
            epoch,
            by_epoch.get((epoch,), found.clear()),
            plans[epoch],
            changed=epoch in settled,
            seconds=seconds / max(len(settled), 1),
        )
        for epoch in epochs
    ]


def settle_open_runs(services: Services, through_epoch: int | None = None, inspected: Sequence[int] = ()) -> set[int]:
    """Bring open runs to their end in the order of seq; returns the epochs that were touched.

    With `through_epoch`, up to the last open run of an epoch not after it: what lies before it in seq must go first.
    Plans of epochs other than `inspected` are inspected here; PlanRefused, before anything is sent, if one fails.
    """
    finality.follow(services)
    with services.engine.connect() as connection:
        open_runs = ledger.open_runs(connection)
    if through_epoch is not None:
        wanted = [run.seq for run in open_runs if run.epoch <= through_epoch]
        open_runs = [run for run in open_runs if run.seq <= max(wanted, default=0)]
    if not open_runs:
        return set()
    epochs = sorted({run.epoch for run in open_runs})
    instructions.plan_epochs(services, epochs)
    _require_sound(services, [epoch for epoch in epochs if epoch not in inspected])
    keys = RunKeys(payer=services.relayer, authority=services.authority, oracles=_attesting(services))
    outbox = Outbox(services.engine, services.client, highest_bid=services.highest_bid)
    with services.engine.connect() as connection:
        meters, wallets = participants.meter_addresses(connection), participants.trader_addresses(connection)
    # in the batches' order, by id and wallet, so that a batch's accounts lie in one table or two
    named = [*map(addresses.address_of_meter, sorted(meters)), *map(addresses.address_of_trader, sorted(wallets))]
    table = lookup.ensure(services.client, services.relayer, named)
    for start in range(0, len(open_runs), RUNS_AT_ONCE):
        part = open_runs[start : start + RUNS_AT_ONCE]
        try:
            settle_runs(
                services.client,
                outbox,
                _plans(services, part),
                keys,
                table,
                partial(_attested, services),
            )
        except RunVoided as void:
            _mark_finalised(services, [run for run in part if run.seq < void.plan.seq])
            raise
        _mark_finalised(services, part)
    return set(epochs)


def _attested(services: Services, plans: Sequence[RunPlan]) -> None:
    with services.engine.begin() as connection:
        ledger.set_statuses(connection, [plan.seq for plan in plans], "attested")


def _require_sound(services: Services, epochs: Sequence[int]) -> None:
    """A range's own plans pass a blocking check before they get here; those an earlier run left behind did not."""
    bad = failed(instructions.inspect_epochs(services, epochs))
    if bad:
        raise PlanRefused(
            f"{key_of(bad[0].epoch)}: {bad[0].check}: {bad[0].detail}; nothing was sent. Repair that epoch, and "
            "materialise mint_instructions for it"
        )


def _attesting(services: Services) -> tuple[Signer, ...]:
    """As many of our oracles as the threshold asks for: one vote more would be refused, the root being final."""
    account = services.client.account(addresses.governance())
    if account is None:
        raise ConfigError("SOLANA_RPC_URL", services.client.rpc_url, "a network that is set up", "run the set-up first")
    governance = Program.load("governance").decode("Governance", account.data)
    # a set that waits acts from its hour on, though the account still shows the former one until somebody votes
    waits = governance["oracles_from"]
    due = waits != 0 and waits <= services.client.chain_time()
    prefix = "next_" if due else ""
    members = governance[f"{prefix}oracles"][: governance[f"{prefix}oracle_count"]]
    threshold = governance[f"{prefix}oracle_threshold"]
    ours = tuple(oracle for oracle in services.oracles if oracle.pubkey in members)
    if len(ours) < threshold:
        raise ConfigError("oracle keys", len(ours), f"at least {threshold} of the set in force", "add their key files")
    return ours[:threshold]


def _plans(services: Services, runs: Sequence[ledger.Run]) -> list[RunPlan]:
    with services.engine.connect() as connection:
        stored = ranges.plans(connection, sorted({run.epoch for run in runs}))
    plans = {plan.seq: plan for each in stored.values() for plan in each}
    for run in runs:
        if run.seq not in plans:
            raise ValueError(f"run {run.run} of epoch {run.epoch} has no plan; materialise mint_instructions first")
    return [plans[run.seq] for run in runs]


def _mark_finalised(services: Services, runs: Sequence[ledger.Run]) -> None:
    """Written from chain state: `settle_runs` returns only after the chain said finalised."""
    if not runs:
        return
    epochs = sorted({run.epoch for run in runs})
    with services.engine.begin() as connection:
        ledger.set_statuses(connection, [run.seq for run in runs], "finalised")
        booked = ranges.runs(connection, epochs)
        done = [epoch for epoch in epochs if all(each.status == "finalised" for each in booked[epoch])]
        if done:
            settle_all(connection, done, datetime.now(UTC))
            announce_all(connection, done, "settled")
        audit.append_all(
            connection,
            [
                audit.Entry(
                    at=datetime.now(UTC),
                    who="settlement",
                    what="run_finalised",
                    detail={"epoch": run.epoch, "run": run.run, "kind": run.kind, "seq": run.seq},
                )
                for run in runs
            ],
        )


def inspect_epochs(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The checks on receipts for each epoch; chain and ledger are compared as they stand now."""
    proof = proof_of(services)
    with services.engine.connect() as connection:
        return inspection.inspect(
            epochs,
            plans=ranges.plans(connection, epochs),
            outbox=outbox_between(connection, epochs[0], epochs[-1]),
            receipts=receipts_between(connection, epochs[0], epochs[-1]),
            entries=ledger.wallet_entries(connection, epochs[0], epochs[-1]),
            proof=proof,
            void=energy.voided_between(connection, epochs[0], epochs[-1]),
        )


def proof_of(services: Services) -> chain_proof.ChainProof:
    """Chain and ledger compared when all that is confirmed is booked: a deposit of this moment differs until final."""
    deadline = time.monotonic() + FINALITY_PATIENCE_SECONDS
    while True:
        caught_up = movements.follow(services).caught_up
        with services.engine.connect() as connection:
            proof = chain_proof.compare(services, connection)
        differs = not proof.traders.is_empty() or not proof.others.is_empty()
        if not differs or time.monotonic() > deadline:
            return proof
        if caught_up and movements.follow(services).caught_up:
            # nothing came in between: what differs, differs
            with services.engine.connect() as connection:
                return chain_proof.compare(services, connection)
        time.sleep(FINALITY_POLL_SECONDS)


def _report(epoch: int, found: pl.DataFrame, plans: Sequence[RunPlan], *, changed: bool, seconds: float) -> EpochReport:
    units = int(found["compute_units"].sum())
    traders = sum(batch.n for plan in plans for batch in plan.trading)
    trading = int(found.filter(pl.col("step").is_in(BATCH_STEPS))["compute_units"].sum())
    by_step = (
        found.group_by("run", "step", maintain_order=True)
        .agg(pl.len().alias("transactions"), pl.sum("compute_units", "fee_lamports"), pl.max("slot").alias("last_slot"))
        .sort("run")
    )
    return EpochReport(
        epoch=epoch,
        changed=changed,
        facts={
            "transactions": found.height,
            "compute_units": units,
            "compute_units_per_trader": round(trading / traders, 1) if traders else None,
            "fee_lamports": int(found["fee_lamports"].sum()),
            "last_slot": found["slot"].max() if found.height else None,  # type: ignore[dict-item]
            "seconds": round(seconds, 3) if changed else 0.0,
            "root": plans[0].root.hex() if plans else None,
        },
        tables={"by_step": by_step},
    )

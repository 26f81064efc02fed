"""Voiding on the chain: what may be voided, the transactions that do it, and what the chain says is void.

Belongs here: reading epochs and attestations for it, building `void_epoch` and `void_run`, their events. Does not
belong here: what the ledger takes back (settlement_service/voids.py), surviving crashes (outbox).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from solders.compute_budget import set_compute_unit_limit

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.market_events import decode_logs
from gridtokenx_pipelines.chain.outbox import OutboxItem
from gridtokenx_pipelines.chain.run_history import history_of_epoch
from gridtokenx_pipelines.chain.run_steps import CLEARING, NOTHING
from gridtokenx_pipelines.chain.runs import FLAG_VOID, STATUS_COMMITTED, STATUS_FINALISED
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.settlement.batches import RunPlan

STEP, UNITS = "void", 200_000
EPOCH_SECONDS, STUCK_SECONDS = 900, 86_400
SIMULATED_TIME = 1


class ChainVoid(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is void on the chain; `used_seq` 0: it used none. `reference`: the transaction that did it."""

    epoch: int
    run: int
    kind: int
    used_seq: int
    reference: str = ""


class RunOnChain(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on the chain of one run: is it opened, begun, applied in part, void; `root` where it is final."""

    opened: bool
    metered: bool
    is_present: bool
    committed: bool
    finalised: bool
    void: bool
    applied: int
    root: bytes | None


def read_run(client: ChainClient, epoch: int, run: int, kind: int) -> RunOnChain:
    """One run as the chain has it now."""
    layouts = [("trading", "Epoch"), ("registry", "Metered"), ("oracle", "Attestation")]
    wanted = [addresses.epoch(epoch), addresses.metered(epoch), addresses.attestation(kind, epoch, run)]
    account, metered, attestation = (
        Program.load(program).decode(name, each.data) if each else None
        for each, (program, name) in zip(client.accounts(wanted), layouts, strict=True)
    )
    present = account is not None and account["run"] == run
    status = account["status"] if account and present else 0
    applied = metered["applied"] if metered and metered["run"] == run else 0
    return RunOnChain(
        opened=account is not None,
        metered=metered is not None,
        is_present=present,
        committed=status == STATUS_COMMITTED,
        finalised=status == STATUS_FINALISED or bool(account and account["run"] > run),
        void=bool(account and present and status == STATUS_FINALISED and account["flags"] & FLAG_VOID),
        applied=applied + (account["applied"] if account and status == STATUS_COMMITTED else 0),
        root=attestation["root"] if attestation and attestation["is_final"] else None,
    )


def voidable_from(epoch: int) -> int:
    """Unix seconds from which an epoch is stuck: 24 h after its gate."""
    return (epoch + 1) * EPOCH_SECONDS + STUCK_SECONDS


def now_of(client: ChainClient, market: dict[str, int]) -> int:
    """The time that the chain goes by: its clock, or where time is simulated the start of the newest opened epoch."""
    if market["time_mode"] == SIMULATED_TIME:
        return market["last_opened"] * EPOCH_SECONDS
    return client.chain_time()


def void_item(payer: Signer, authority: Signer, void: ChainVoid, found: RunOnChain, plan: RunPlan | None) -> OutboxItem:
    """The transaction that voids a run, opening its epoch first where nobody did. With `plan` its header goes along, so
    that the run uses its seq."""
    trading, registry, epoch = Program.load("trading"), Program.load("registry"), void.epoch
    instructions = []
    if not found.opened:
        accounts = {"payer": payer.pubkey, "authority": authority.pubkey, "epoch": addresses.epoch(epoch)}
        instructions.append(trading.instruction("open_epoch", accounts, epoch=epoch))
    if not found.metered:
        opened = {"payer": payer.pubkey, "metered": addresses.metered(epoch)}
        instructions.append(registry.instruction("open_metered", opened, epoch=epoch))
    named = {
        "authority": authority.pubkey,
        "epoch": addresses.epoch(epoch),
        "metered": addresses.metered(epoch),
        "attestation": addresses.attestation(void.kind, epoch, void.run),
    }
    header: dict[str, Any] = {"depth": 0, "rest": b""}
    if plan is not None:
        header = {"depth": len(plan.header_proof), "rest": b"".join(plan.header_proof) + plan.header}
    if void.kind == CLEARING:
        instructions.append(trading.instruction("void_epoch", named, **header))
    else:
        instructions.append(trading.instruction("void_run", named, kind=void.kind, run=void.run, **header))
    return OutboxItem(
        epoch=epoch,
        kind=void.kind,
        run=void.run,
        step=STEP,
        idx=0,
        instructions=(set_compute_unit_limit(UNITS), *instructions),
        payer=payer,
        signers=(authority,),
        done_already=NOTHING,
    )


def voids_of(client: ChainClient, epochs: Sequence[int]) -> list[ChainVoid]:
    """Every run of these epochs that the chain ever voided, oldest first in each epoch."""
    found = []
    for epoch in epochs:
        signatures = history_of_epoch(client, epoch)
        for signature, info in zip(signatures, client.transactions(signatures), strict=True):
            for name, _, _, fields in decode_logs(info.logs if info else ()):
                if name == "RunVoided" and fields["epoch"] == epoch:
                    found.append(
                        ChainVoid(
                            epoch=epoch,
                            run=fields["run"],
                            kind=CLEARING if fields["run"] == 0 else fields["kind"],
                            used_seq=fields["run_seq"],
                            reference=signature,
                        )
                    )
    return found

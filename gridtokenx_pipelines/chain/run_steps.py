"""The transactions of a settlement run: instructions, signers, lookup tables, compute limits.

Belongs here: plan → outbox items, one method a stage. Does not belong here: their order and state (runs).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from solders.compute_budget import set_compute_unit_limit
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.lookup import Lookup
from gridtokenx_pipelines.chain.outbox import OutboxItem
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.chain.transactions import ed25519, wire_size
from gridtokenx_pipelines.chain.wire import MAX_TRANSACTION_BYTES
from gridtokenx_pipelines.settlement.batches import Batch, OrderLeaf, RunPlan

METERING, CLEARING, LATE, RESETTLEMENT = range(4)
# limits with head-room over what was measured: a budget costs nothing unless it is used, running out costs the epoch
PREPARE_UNITS, COMMIT_UNITS, RECORD_UNITS, FINALIZE_UNITS = 200_000, 60_000, 60_000, 100_000
BATCH_UNITS, UNITS_A_METER, UNITS_A_TRADER = 60_000, 2_000, 2_000
ORDER_OWNER_BYTES = 32
NOTHING: frozenset[str] = frozenset()


class RunKeys(msgspec.Struct, frozen=True):
    """Who pays, who opens epochs (simulated time), and k oracles that attest."""

    payer: Signer
    authority: Signer
    oracles: tuple[Signer, ...]


class Missing(msgspec.Struct, frozen=True):
    """What of a run's groundwork is not on the chain yet."""

    epoch: bool
    metered: bool
    metering_root: bool
    root: bool


class RunSteps:
    """Builder of a run's outbox items."""

    def __init__(self, keys: RunKeys, lookup: Lookup) -> None:
        self.keys = keys
        self.lookup = lookup
        self.trading = Program.load("trading")
        self.registry = Program.load("registry")
        self.oracle = Program.load("oracle")

    def prepare(self, plan: RunPlan, missing: Missing) -> list[OutboxItem]:
        """Open accounts and attest, whatever is missing: one transaction, or one an oracle where that is too large."""
        opening, signers = self._opening(plan, missing)
        votes = [(oracle, self._votes(plan, oracle, missing)) for oracle in self.keys.oracles]
        votes = [(oracle, cast) for oracle, cast in votes if cast]
        together = [*opening, *(vote for _, cast in votes for vote in cast)]
        if not together:
            return []
        every = [*signers, *(oracle for oracle, _ in votes)]
        whole = self._item(plan, "prepare", 0, together, units=PREPARE_UNITS, signers=every, done_already=NOTHING)
        if wire_size(whole.instructions, self.keys.payer.pubkey, whole.lookup_tables) <= MAX_TRANSACTION_BYTES:
            return [whole]
        parts = [(opening, signers), *((cast, [oracle]) for oracle, cast in votes)]
        return [
            self._item(plan, "prepare", idx, part, units=PREPARE_UNITS, signers=own, done_already=NOTHING)
            for idx, (part, own) in enumerate(parts)
            if part
        ]

    def _opening(self, plan: RunPlan, missing: Missing) -> tuple[list[Instruction], list[Signer]]:
        payer, authority = self.keys.payer.pubkey, self.keys.authority
        instructions, signers = [], []
        if missing.epoch:
            accounts = {"payer": payer, "authority": authority.pubkey, "epoch": addresses.epoch(plan.epoch)}
            instructions.append(self.trading.instruction("open_epoch", accounts, epoch=plan.epoch))
            signers.append(authority)
        if missing.metered:
            accounts = {"payer": payer, "metered": addresses.metered(plan.epoch)}
            instructions.append(self.registry.instruction("open_metered", accounts, epoch=plan.epoch))
        return instructions, signers

    def _votes(self, plan: RunPlan, oracle: Signer, missing: Missing) -> list[Instruction]:
        votes = []
        if missing.metering_root and plan.metering_root is not None:
            votes.append(self._attest(oracle, METERING, plan.epoch, 0, plan.metering_root))
        if missing.root:
            votes.append(self._attest(oracle, plan.kind, plan.epoch, plan.run, plan.root))
        return votes

    def begin(self, plan: RunPlan) -> list[OutboxItem]:
        """Begin a run after the first in the registry."""
        if plan.kind == CLEARING:
            return []
        instruction = self.registry.instruction("begin_run", self._run_accounts(plan), kind=plan.kind, run=plan.run)
        return [self._item(plan, "begin", 0, [instruction], units=COMMIT_UNITS, done_already=NOTHING)]

    def _attest(self, oracle: Signer, kind: int, epoch: int, run: int, root: bytes) -> Instruction:
        accounts = {
            "oracle": oracle.pubkey,
            "payer": self.keys.payer.pubkey,
            "attestation": addresses.attestation(kind, epoch, run),
        }
        return self.oracle.instruction("attest", accounts, kind=kind, epoch=epoch, run=run, root=root)

    def _run_accounts(self, plan: RunPlan) -> dict[str, Pubkey]:
        return {
            "epoch": addresses.epoch(plan.epoch),
            "metered": addresses.metered(plan.epoch),
            "attestation": addresses.attestation(plan.kind, plan.epoch, plan.run),
        }

    def registry_batches(self, plan: RunPlan) -> list[OutboxItem]:
        """All registry batches."""
        kind, run = (METERING, 0) if plan.kind == CLEARING else (plan.kind, plan.run)
        accounts = {
            "attestation": addresses.attestation(kind, plan.epoch, run),
            "metered": addresses.metered(plan.epoch),
        }
        if plan.kind == CLEARING:
            # what the epoch before has booked lets this one be booked while that one still settles
            accounts["metered_before"] = addresses.metered(plan.epoch - 1)
        items = []
        for batch in plan.registry:
            owners = [addresses.address_of_meter(meter_id) for meter_id in batch.owners]
            instruction = self._batch(self.registry, batch, accounts, owners)
            units = BATCH_UNITS + UNITS_A_METER * batch.n
            items.append(self._item(plan, "meter", batch.index, [instruction], units=units))
        return items

    def commit(self, plan: RunPlan) -> OutboxItem:
        """Commit the run's header."""
        accounts, depth = self._run_accounts(plan), len(plan.header_proof)
        rest: dict[str, Any] = {"depth": depth, "rest": b"".join(plan.header_proof) + plan.header}
        if plan.kind == CLEARING:
            instruction = self.trading.instruction("commit_clearing", accounts, **rest)
        else:
            instruction = self.trading.instruction("commit_run", accounts, kind=plan.kind, run=plan.run, **rest)
        return self._item(plan, "commit", 0, [instruction], units=COMMIT_UNITS, done_already=NOTHING)

    def records(self, plan: RunPlan) -> list[OutboxItem]:
        """Record every signed, filled order."""
        return [
            self._item(plan, "record", order.index, self._record(plan, order), units=RECORD_UNITS)
            for order in plan.orders
        ]

    def _record(self, plan: RunPlan, order: OrderLeaf) -> list[Instruction]:
        accounts = {
            "trader": addresses.address_of_trader(order.wallet),
            "epoch": addresses.epoch(plan.epoch),
            "attestation": addresses.attestation(plan.kind, plan.epoch, plan.run),
        }
        wallet = bytes(Pubkey.from_string(order.wallet))
        record = self.trading.instruction(
            "record_order", accounts, index=order.index, depth=len(order.proof), rest=b"".join(order.proof)
        )
        return [ed25519(wallet, order.signature, order.message), record]

    def trading_batches(self, plan: RunPlan) -> list[OutboxItem]:
        """All trading batches."""
        accounts = {
            "epoch": addresses.epoch(plan.epoch),
            "attestation": addresses.attestation(plan.kind, plan.epoch, plan.run),
        }
        if plan.kind == RESETTLEMENT:
            accounts["prior_epoch"] = addresses.epoch(plan.epoch - 1)
        items = []
        for batch in plan.trading:
            owners = [addresses.address_of_trader(wallet) for wallet in batch.owners]
            instruction = self._batch(self.trading, batch, accounts, owners)
            units = BATCH_UNITS + UNITS_A_TRADER * batch.n
            items.append(self._item(plan, "settle", batch.index, [instruction], units=units))
        return items

    def finalize(self, plan: RunPlan) -> OutboxItem:
        """Check the laws and finalise."""
        accounts = {"epoch": addresses.epoch(plan.epoch), "metered": addresses.metered(plan.epoch)}
        instruction = self.trading.instruction("finalize_epoch", accounts)
        return self._item(plan, "finalize", 0, [instruction], units=FINALIZE_UNITS, done_already=NOTHING)

    @staticmethod
    def _batch(program: Program, batch: Batch, accounts: dict[str, Pubkey], owners: list[Pubkey]) -> Instruction:
        return program.instruction(
            batch.instruction,
            accounts,
            remaining=[AccountMeta(owner, False, True) for owner in owners],
            index=batch.index,
            n=batch.n,
            depth=len(batch.proof),
            rest=b"".join(batch.proof) + batch.entries,
        )

    def _item(
        self,
        plan: RunPlan,
        step: str,
        idx: int,
        instructions: list[Instruction],
        *,
        units: int,
        signers: Iterable[Signer] = (),
        done_already: frozenset[str] | None = None,
    ) -> OutboxItem:
        named = {meta.pubkey for instruction in instructions for meta in instruction.accounts if not meta.is_signer}
        # finalising two runs of an epoch is the same bytes under one blockhash, and the chain takes the second for a
        # resend of the first: the limit tells them apart
        own_units = units + plan.kind + 4 * (plan.run % 10_000)
        extra = {} if done_already is None else {"done_already": done_already}
        return OutboxItem(
            epoch=plan.epoch,
            kind=plan.kind,
            run=plan.run,
            step=step,
            idx=idx,
            instructions=(set_compute_unit_limit(own_units), *instructions),
            payer=self.keys.payer,
            signers=tuple({signer.pubkey: signer for signer in signers}.values()),
            lookup_tables=self.lookup.tables_for(named),
            **extra,
        )

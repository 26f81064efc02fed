"""The local chain's state: LiteSVM with slots, blockhash age, a validator's limits, history and an owner index.

Belongs here: executing and simulating transactions, what is known about them afterwards.
Does not belong here: JSON-RPC (`localnet_rpc`), sockets (`localnet`), file formats (`ledger_file`).

Slots follow the wall clock from genesis (slot = elapsed / slot_ms), so they go on across restarts; a slot's blockhash
and the clock sysvar are functions of the slot. So the ledger replays to the same state without recording either.
LiteSVM knows one blockhash and no limits: both are checked here and switched off there.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata

from gridtokenx_pipelines.chain.ledger_file import (
    Executed,
    Genesis,
    LedgerFile,
    LocalnetError,
    Snapshot,
    StoredAccount,
)
from gridtokenx_pipelines.chain.wire import loaded_addresses, writable_flags

MAX_LOCKS = 64
BLOCKHASH_SLOTS = 150
SLOT_HASHES = 512
SLOTS_PER_EPOCH = 432_000
SNAPSHOT_EVERY_BYTES = 64 << 20
FAUCET_LAMPORTS = 500_000_000 * 10**9
LAMPORTS_PER_SIGNATURE = 5_000


class Landed(msgspec.Struct, frozen=True):
    """Where a transaction landed; its record is at `position` of the ledger."""

    slot: int
    err: str
    position: int


class Outcome(msgspec.Struct, frozen=True):
    """What executing or simulating gave; `err` is the error's JSON text, empty for success."""

    err: str
    logs: tuple[str, ...] = ()
    compute_units: int = 0
    fee: int = 0
    return_data: tuple[bytes, bytes] | None = None


class Bank:
    """One local chain in a data directory, open until `close`."""

    def __init__(
        self,
        directory: Path,
        programs: Mapping[Pubkey, Path],
        slot_ms: int = 400,
        finality_slots: int = 4,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._now_ms = now_ms
        self.finality_slots = finality_slots
        self.file = LedgerFile(directory)
        # genesis differs from chain to chain, so a transaction of one is unknown to another
        born = Genesis(seed=f"{directory.resolve()}@{time.time_ns()}", time_ms=now_ms(), slot_ms=slot_ms)
        self.genesis = self.file.genesis(born)
        self.genesis_hash = Hash(sha256(f"gridtokenx/localnet/genesis/{self.genesis.seed}".encode()).digest())
        self.faucet = Keypair.from_seed(sha256(b"gridtokenx/localnet/faucet").digest())
        self.svm = LiteSVM().with_blockhash_check(False).with_transaction_history(0).with_sigverify(False)
        self.slot = -1
        self._svm_slot = -1
        self._hashed_through = -1
        self._hash_slot: dict[bytes, int] = {}
        self.landed: dict[bytes, Landed] = {}
        self.by_address: dict[bytes, array[int]] = {}
        self.owner_of: dict[bytes, bytes] = {}
        self.by_owner: dict[bytes, set[bytes]] = {}
        self.transactions = 0
        self._programs = {str(key): sha256(path.read_bytes()).hexdigest() for key, path in programs.items()}
        for key, path in programs.items():
            self.svm.add_program_from_file(key, path)
            self._index(bytes(key))
        self._restore()
        self.advance()

    # --- slots -------------------------------------------------------------------------------------------------

    def advance(self) -> int:
        """Move to the wall clock's slot (never back) and return it."""
        slot = max(self.slot, (self._now_ms() - self.genesis.time_ms) // self.genesis.slot_ms, 1)
        if slot != self._hashed_through:
            oldest = max(slot - BLOCKHASH_SLOTS, 0)
            for new in range(max(self._hashed_through + 1, oldest), slot + 1):
                self._hash_slot[bytes(self.blockhash(new))] = new
            if len(self._hash_slot) > 2 * BLOCKHASH_SLOTS:
                self._hash_slot = {key: at for key, at in self._hash_slot.items() if at >= oldest}
            self.slot = self._hashed_through = slot
        return slot

    def blockhash(self, slot: int) -> Hash:
        """Blockhash of a slot, a function of genesis and slot."""
        return Hash(sha256(bytes(self.genesis_hash) + slot.to_bytes(8, "little")).digest())

    def is_recent(self, blockhash: Hash) -> bool:
        """Whether the blockhash is at most 150 slots old."""
        slot = self._hash_slot.get(bytes(blockhash))
        return slot is not None and slot >= self.slot - BLOCKHASH_SLOTS

    def unix_time(self, slot: int) -> int:
        """Unix seconds at the start of a slot."""
        return (self.genesis.time_ms + slot * self.genesis.slot_ms) // 1_000

    def finalized_slot(self) -> int:
        """Newest slot that counts as finalised."""
        return max(self.slot - self.finality_slots, 0)

    def _enter(self, slot: int) -> None:
        """Set LiteSVM's clock and slot hashes to a slot; 0.2 ms, so only when a transaction needs it."""
        if slot == self._svm_slot:
            return
        epoch = slot // SLOTS_PER_EPOCH
        self.svm.set_clock(Clock(slot, self.unix_time(epoch * SLOTS_PER_EPOCH), epoch, epoch + 1, self.unix_time(slot)))
        past = range(slot - 1, max(slot - 1 - SLOT_HASHES, -1), -1)
        self.svm.set_slot_hashes([(at, self.blockhash(at)) for at in past])
        self._svm_slot = slot

    # --- transactions ------------------------------------------------------------------------------------------

    def execute(self, raw: bytes, transaction: VersionedTransaction, keep_failed: bool) -> Outcome:
        """Run a transaction; it lands if it succeeds, or if it fails in an instruction and `keep_failed`."""
        self._enter(self.slot)
        payer = transaction.message.account_keys[0]
        before = self.svm.get_account(payer)
        writable, readonly = loaded_addresses(transaction.message, self._account_data)
        outcome = self._run(transaction)
        if outcome.err and not (keep_failed and "InstructionError" in outcome.err):
            # LiteSVM has charged the fee already; a refused transaction costs nothing
            if before is not None:
                self.svm.set_account(payer, before)
            return outcome
        record = Executed(
            self.slot, raw, outcome.err, outcome.fee, outcome.compute_units, outcome.logs, writable, readonly
        )
        self._remember(self.file.append(record), record, transaction)
        return outcome

    def simulate(self, transaction: VersionedTransaction) -> Outcome:
        """Run a transaction without keeping anything."""
        self._enter(self.slot)
        return _outcome(self.svm.simulate_transaction(transaction))

    def lock_count(self, transaction: VersionedTransaction) -> int:
        """Accounts the transaction locks, loaded ones included."""
        lookups = getattr(transaction.message, "address_table_lookups", ())
        loaded = sum(len(lookup.writable_indexes) + len(lookup.readonly_indexes) for lookup in lookups)
        return len(transaction.message.account_keys) + loaded

    def _run(self, transaction: VersionedTransaction) -> Outcome:
        return _outcome(self.svm.send_transaction(transaction))

    def _remember(self, position: int, record: Executed, transaction: VersionedTransaction) -> None:
        keys = [bytes(key) for key in transaction.message.account_keys]
        self.landed[bytes(transaction.signatures[0])] = Landed(record.slot, record.err, position)
        self.transactions += 1
        for address in (*keys, *record.loaded_writable, *record.loaded_readonly):
            self.by_address.setdefault(address, array("Q")).append(position)
        for address, is_writable in zip(keys, writable_flags(transaction.message), strict=True):
            if is_writable:
                self._index(address)
        for address in record.loaded_writable:
            self._index(address)

    # --- accounts ----------------------------------------------------------------------------------------------

    def _account_data(self, address: Pubkey) -> bytes | None:
        account = self.svm.get_account(address)
        return None if account is None else account.data

    def _index(self, address: bytes) -> None:
        account = self.svm.get_account(Pubkey(address))
        owner = bytes(account.owner) if account is not None and account.lamports else None
        former = self.owner_of.get(address)
        if owner == former:
            return
        if former is not None:
            self.by_owner[former].discard(address)
        if owner is None:
            del self.owner_of[address]
        else:
            self.owner_of[address] = owner
            self.by_owner.setdefault(owner, set()).add(address)

    # --- disk --------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        snapshot = self.file.snapshot()
        start = 0
        if snapshot is None:
            self.svm.set_account(self.faucet.pubkey(), Account(FAUCET_LAMPORTS, b"", SYSTEM_PROGRAM))
            self._index(bytes(self.faucet.pubkey()))
        else:
            start = snapshot.position
            for stored in snapshot.accounts:
                account = Account(stored.lamports, stored.data, Pubkey(stored.owner), stored.executable)
                self.svm.set_account(Pubkey(stored.address), account)
                self._index(stored.address)
        if start > self.file.position:
            raise LocalnetError(f"ledger of {self.file.directory} ends before its snapshot; start with --fresh")
        replay = snapshot is None or snapshot.programs == self._programs
        for position, record in self.file.records():
            transaction = VersionedTransaction.from_bytes(record.raw)
            if position >= start:
                if not replay:
                    raise LocalnetError(
                        f"the programs changed while {self.file.directory} has transactions after its last snapshot; "
                        "start once with the former programs and stop it cleanly, or start with --fresh"
                    )
                self._replay(record, transaction)
            self._remember(position, record, transaction)
            self.slot = max(self.slot, record.slot)
        if snapshot is None or start != self.file.position or not replay:
            self.save()

    def _replay(self, record: Executed, transaction: VersionedTransaction) -> None:
        self._enter(record.slot)
        outcome = self._run(transaction)
        if (outcome.err, outcome.compute_units) != (record.err, record.compute_units):
            raise LocalnetError(
                f"replaying {transaction.signatures[0]} gave {outcome.err or 'success'}, {outcome.compute_units} CU, "
                f"recorded was {record.err or 'success'}, {record.compute_units} CU; start with --fresh"
            )

    def save(self) -> None:
        """Write a snapshot of all accounts, so that the next start has nothing to replay."""
        accounts = []
        for address in sorted(self.owner_of):
            account = self.svm.get_account(Pubkey(address))
            if account is not None and not (account.executable and str(Pubkey(address)) in self._programs):
                owner = bytes(account.owner)
                accounts.append(StoredAccount(address, account.lamports, owner, account.data, account.executable))
        self.file.write_snapshot(Snapshot(self.file.position, self._programs, tuple(accounts)))
        self._saved_at = self.file.position

    def save_when_due(self) -> None:
        """Write a snapshot if the ledger has grown by 64 MiB since the last."""
        if self.file.position - getattr(self, "_saved_at", 0) >= SNAPSHOT_EVERY_BYTES:
            self.save()

    def close(self) -> None:
        """Snapshot and release the folder."""
        self.save()
        self.file.close()


def _outcome(result: Any) -> Outcome:
    failed = isinstance(result, FailedTransactionMetadata)
    meta = result.meta() if failed or hasattr(result, "meta") else result
    err = msgspec.json.encode(msgspec.json.decode(result.to_json())["err"]).decode() if failed else ""
    returned = meta.return_data()
    data = bytes(returned.data)
    return Outcome(
        err=err,
        logs=tuple(meta.logs()),
        compute_units=meta.compute_units_consumed(),
        fee=meta.fee(),
        return_data=(bytes(returned.program_id), data) if data else None,
    )

"""The programs in a LiteSVM: load, send, read, and plant accounts of programs that a test leaves out.

Belongs here: what the program tests share, driven by the IDL files. Does not belong here: what a test expects.
The `.so` files are those of programs/deploy. Compute units are exact: LiteSVM runs the validator's own VM.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from solders.account import Account
from solders.clock import Clock
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.market.roots import MerkleTree

DEPLOY = Path(__file__).resolve().parents[2] / "programs" / "deploy"
NETWORK = 3
METERING, CLEARING, LATE, RESETTLEMENT = range(4)
RENT = 10_000_000_000
START = 1_769_515_200  # 2026-01-27T12:00Z
EPOCH = START // 900


def key(name: str) -> Keypair:
    """A key of its own for every name, the same in every run."""
    return Keypair.from_seed(sha256(f"gridtokenx/test/{name}".encode()).digest())


DEPLOYER = Keypair.from_seed(addresses.deployer_seed())
GUARDIAN = key("guardian")
ORACLES = [key(f"oracle {i}") for i in range(3)]
BRIDGE = [key(f"bridge {i}") for i in range(3)]

PARAMS = {
    "effective_epoch": 0,
    "fee_bp": 100,
    "vat_bp": 700,
    "wheeling_cap": 1_000_000,
    "tariff_on_peak": 4_100_000,
    "tariff_off_peak": 2_580_000,
    "feed_in": 2_200_000,
    "price_min": 2_000_000,
    "price_max": 8_000_000,
    "halt_bound_bp": 5_000,
    "schedule_version": 1,
}


class ProgramFailedError(Exception):
    """A transaction failed; `name` is the program's error, or the runtime's words where it has none."""

    def __init__(self, name: str, logs: Sequence[str]) -> None:
        super().__init__(name + "\n" + "\n".join(logs))
        self.name = name
        self.logs = logs


@dataclass(frozen=True)
class Receipt:
    """What a transaction cost and said."""

    compute_units: int
    logs: tuple[str, ...]
    events: tuple[bytes, ...]


@cache
def program(name: str) -> Program:
    """A program by its IDL."""
    return Program.load(name)


class Chain:
    """A fresh chain with the programs of programs/deploy."""

    def __init__(self) -> None:
        self.svm = LiteSVM()
        for name in addresses.PROGRAM_NAMES:
            built = DEPLOY / f"{name}.so"
            if built.exists():
                self.svm.add_program_from_file(addresses.program_id(name), built)
        self.at(START)
        self.payer = key("payer")
        for funded in (self.payer, DEPLOYER):
            self.svm.airdrop(funded.pubkey(), RENT)

    def at(self, unix_seconds: int) -> None:
        """Sets the chain's clock."""
        clock = self.svm.get_clock()
        self.svm.set_clock(
            Clock(clock.slot, clock.epoch_start_timestamp, clock.epoch, clock.leader_schedule_epoch, unix_seconds)
        )

    def send(self, *instructions: Instruction, signers: Sequence[Keypair] = ()) -> Receipt:
        """Sends one transaction; raises ProgramFailedError."""
        self.svm.expire_blockhash()
        blockhash = self.svm.latest_blockhash()
        message = Message.new_with_blockhash(list(instructions), self.payer.pubkey(), blockhash)
        keys = {signer.pubkey(): signer for signer in (self.payer, *signers)}
        needed = message.account_keys[: message.header.num_required_signatures]
        result = self.svm.send_transaction(Transaction([keys[address] for address in needed], message, blockhash))
        if isinstance(result, FailedTransactionMetadata):
            raise ProgramFailedError(_error_name(result), result.meta().logs())
        logs = tuple(result.logs())
        return Receipt(result.compute_units_consumed(), logs, _events(logs))

    def call(
        self,
        program_name: str,
        instruction: str,
        accounts: dict[str, Pubkey] | None = None,
        remaining: Sequence[AccountMeta] = (),
        signers: Sequence[Keypair] = (),
        **args: Any,
    ) -> Receipt:
        """Sends one instruction; `payer` is the chain's payer unless given."""
        built = self.build(program_name, instruction, accounts, remaining, **args)
        return self.send(built, signers=signers)

    def build(
        self,
        program_name: str,
        instruction: str,
        accounts: dict[str, Pubkey] | None = None,
        remaining: Sequence[AccountMeta] = (),
        **args: Any,
    ) -> Instruction:
        """One instruction, accounts by name."""
        named = dict(accounts or {})
        if any(slot.name == "payer" for slot in program(program_name)._instructions[instruction].accounts):
            named.setdefault("payer", self.payer.pubkey())
        return program(program_name).instruction(instruction, named, remaining, **args)

    def read(self, program_name: str, account: str, address: Pubkey) -> dict[str, Any]:
        """An account's fields."""
        found = self.svm.get_account(address)
        assert found is not None, f"no {account} at {address}"
        assert found.owner == addresses.program_id(program_name)
        return program(program_name).decode(account, found.data)

    def plant(self, program_name: str, account: str, address: Pubkey, **fields: int | bytes) -> None:
        """Puts an account of a program there, all zeros but these fields (integers or bytes)."""
        idl = program(program_name)
        layout = idl.layout(account)
        rows = layout.rows([layout.prefix + bytes(layout.dtype.itemsize)]).copy()
        for name, value in fields.items():
            rows[layout._keys[name]] = value
        self.put(address, addresses.program_id(program_name), layout.prefix + rows.tobytes())

    def change(self, program_name: str, account: str, address: Pubkey, **fields: int) -> None:
        """Puts other values into fields of an account that is there, as no instruction would."""
        layout, found = program(program_name).layout(account), self.svm.get_account(address)
        assert found is not None
        rows = layout.rows([bytes(found.data)]).copy()
        for name, value in fields.items():
            rows[layout._keys[name]] = value
        self.put(address, found.owner, layout.prefix + rows.tobytes())

    def put(self, address: Pubkey, owner: Pubkey, data: bytes) -> None:
        """Puts any account there."""
        self.svm.set_account(address, Account(RENT, data, owner, False, 0))

    # ---- the usual beginnings

    def initialize_governance(self, threshold: int = 2, oracles: Sequence[Keypair] = ORACLES) -> Receipt:
        """Governance with the deployer as authority."""
        return self.call(
            "governance",
            "initialize",
            signers=[DEPLOYER],
            network=NETWORK,
            guardian=GUARDIAN.pubkey(),
            threshold=threshold,
            oracles=[oracle.pubkey() for oracle in oracles],
            params=PARAMS,
        )

    def initialize_tokens(self) -> Receipt:
        """Both mints, with a bridge of two out of three."""
        bridge = [attestor.pubkey() for attestor in BRIDGE]
        return self.call("energy-token", "initialize", signers=[DEPLOYER], bridge_threshold=2, bridge=bridge)

    def plant_token_account(self, address: Pubkey, mint: Pubkey, owner: Pubkey, amount: int = 0) -> None:
        """A plain Token-2022 account."""
        data = bytes(mint) + bytes(owner) + amount.to_bytes(8, "little") + bytes(36) + b"\1" + bytes(56)
        self.put(address, addresses.TOKEN_2022, data)

    def token_amount(self, address: Pubkey) -> int:
        """Amount of a Token-2022 account."""
        found = self.svm.get_account(address)
        assert found is not None
        return int.from_bytes(found.data[64:72], "little")

    def attest(self, kind: int, epoch: int, run: int, root: bytes, oracles: Sequence[Keypair] = ORACLES[:2]) -> None:
        """Votes of these oracles, one transaction each."""
        for oracle in oracles:
            self.call(
                "oracle",
                "attest",
                {"oracle": oracle.pubkey(), "attestation": addresses.attestation(kind, epoch, run)},
                signers=[oracle],
                kind=kind,
                epoch=epoch,
                run=run,
                root=root,
            )


def leaf(  # noqa: PLR0917 - in the order of the bytes
    program_name: str, kind: int, epoch: int, run: int, index: int, entries: bytes, accounts: Sequence[Pubkey] = ()
) -> bytes:
    """Leaf of abi.md, written out byte by byte so that it checks the programs' own."""
    head = b"\0gridtokenx/leaf/v1" + bytes(addresses.program_id(program_name)) + NETWORK.to_bytes(8, "little")
    numbers = bytes([kind]) + epoch.to_bytes(4, "little") + run.to_bytes(2, "little") + index.to_bytes(2, "little")
    return sha256(head + numbers + entries + b"".join(map(bytes, accounts))).digest()


def batch_args(tree: MerkleTree, index: int, n: int, entries: bytes) -> dict[str, Any]:
    """Arguments of a batch instruction."""
    proof = tree.proof(index)
    return {"index": index, "n": n, "depth": len(proof), "rest": b"".join(proof) + entries}


def _events(logs: Sequence[str]) -> tuple[bytes, ...]:
    head = "Program data: "
    return tuple(b64decode(line.removeprefix(head)) for line in logs if line.startswith(head))


def _error_name(failed: FailedTransactionMetadata) -> str:
    inner = getattr(failed.err(), "err", failed.err())
    code = getattr(inner, "code", None)
    if code is None:
        return str(inner)
    return program("governance").error_name(code) or f"custom error {code}"

"""Valid calls of every instruction, taken from the program tests themselves, with the accounts as they were before.

Belongs here: the recording (a pytest plugin in a process of its own), the replay on a chain with just those accounts.
Does not belong here: what is done to a valid call (test_account_substitution, test_fuzz_programs).
A new instruction is covered as soon as a test calls it: nothing has to be listed by hand.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from tests.chain import svm
from tests.chain.svm import RENT, Chain, ProgramFailedError, key

HERE = Path(__file__).parent
ATTACKS = "test_attacks.py"  # its errors are heard; valid calls are taken from the programs' own tests
OUTPUT = "GRIDTOKENX_RECORDED_CALLS"
FEE_PAYER, STRANGER = key("fee payer"), key("substituted stranger")
PROGRAMS = {addresses.program_id(name): name for name in addresses.PROGRAM_NAMES}
Raw = tuple[int, bytes, bytes, bool]


@dataclass
class ValidCall:
    """A transaction that succeeded, and the instruction of it that is looked at."""

    program: str
    name: str
    position: int
    unix_seconds: int
    instructions: list[tuple[bytes, bytes, list[tuple[bytes, bool, bool]]]]
    seeds: list[bytes]
    before: dict[bytes, Raw | None] = field(repr=False)

    @property
    def title(self) -> str:
        existing = [self.before[address] is not None for address, _, _ in self.instructions[self.position][2]]
        return f"{self.program}.{self.name}" + ("" if all(existing) else " (creates)")

    @property
    def slots(self) -> list[Any]:
        """The accounts that the IDL names."""
        return list(Program.load(self.program)._instructions[self.name].accounts)

    def built(self) -> list[Instruction]:
        return [
            Instruction(
                Pubkey(program), data, [AccountMeta(Pubkey(a), signer, writable) for a, signer, writable in metas]
            )
            for program, data, metas in self.instructions
        ]


class Replay:
    """A chain with nothing but the accounts of one call."""

    def __init__(self, call: ValidCall) -> None:
        self.call = call
        self.chain = Chain()
        self.chain.at(call.unix_seconds)
        self.chain.svm.airdrop(FEE_PAYER.pubkey(), RENT)
        self.keys = {pair.pubkey(): pair for pair in map(Keypair.from_seed, call.seeds)}
        self.keys[STRANGER.pubkey()] = STRANGER
        self.keys[FEE_PAYER.pubkey()] = FEE_PAYER
        self.restore()

    def restore(self) -> None:
        """Every account as it was before the call."""
        for raw_address, raw in self.call.before.items():
            address = Pubkey(raw_address)
            if raw != raw_account(self.chain, address) and not (raw and raw[3]):
                self.put(address, raw)

    def unchanged(self) -> bool:
        """Whether every account is as it was before the call."""
        return all(raw == raw_account(self.chain, Pubkey(address)) for address, raw in self.call.before.items())

    def put(self, address: Pubkey, raw: Raw | None) -> None:
        lamports, data, owner, _ = raw or (0, b"", bytes(32), False)
        self.chain.svm.set_account(address, Account(lamports, data, Pubkey(owner), False, 0))

    def run(self, instructions: list[Instruction]) -> str | None:
        """None if it succeeds, else the error's name."""
        svm_ = self.chain.svm
        svm_.expire_blockhash()
        blockhash = svm_.latest_blockhash()
        message = Message.new_with_blockhash(instructions, FEE_PAYER.pubkey(), blockhash)
        needed = message.account_keys[: message.header.num_required_signatures]
        missing = [address for address in needed if address not in self.keys]
        if missing:
            return "no key"
        result = svm_.send_transaction(Transaction([self.keys[a] for a in needed], message, blockhash))
        return svm._error_name(result) if isinstance(result, FailedTransactionMetadata) else None


def raw_account(chain: Chain, address: Pubkey) -> Raw | None:
    found = chain.svm.get_account(address)
    return None if found is None else (found.lamports, bytes(found.data), bytes(found.owner), found.executable)


# ---- recording, in the other process


class _Recorder:
    def __init__(self) -> None:
        self.calls: dict[tuple[Any, ...], ValidCall] = {}
        self.errors: set[str] = set()
        self.names = {
            (program, spec.prefix): name
            for program in addresses.PROGRAM_NAMES
            for name, spec in Program.load(program)._instructions.items()
        }

    def send(self, chain: Chain, *instructions: Instruction, signers: Any = ()) -> Any:
        if ATTACKS in os.environ.get("PYTEST_CURRENT_TEST", ""):
            return _SEND(chain, *instructions, signers=signers)
        wanted = {}
        for position, instruction in enumerate(instructions):
            program = PROGRAMS.get(instruction.program_id)
            name = self.names.get((program, bytes(instruction.data[:8])))
            if name is None:
                continue
            existing = tuple(chain.svm.get_account(meta.pubkey) is not None for meta in instruction.accounts)
            named = len(Program.load(program)._instructions[name].accounts)
            kept = (program, name, existing[:named])
            if kept not in self.calls:
                wanted[kept] = (program, name, position)
        if not wanted:
            return _SEND(chain, *instructions, signers=signers)
        touched = {meta.pubkey for instruction in instructions for meta in instruction.accounts}
        before = {bytes(address): raw_account(chain, address) for address in touched}
        receipt = _SEND(chain, *instructions, signers=signers)
        plain = [
            (bytes(i.program_id), bytes(i.data), [(bytes(m.pubkey), m.is_signer, m.is_writable) for m in i.accounts])
            for i in instructions
        ]
        seeds = [bytes(pair)[:32] for pair in (chain.payer, *signers)]
        unix_seconds = chain.svm.get_clock().unix_timestamp
        for kept, (program, name, position) in wanted.items():
            self.calls[kept] = ValidCall(program, name, position, unix_seconds, plain, seeds, before)
        return receipt


_SEND = Chain.send
_RECORDER: list[_Recorder] = []


def pytest_configure(config: pytest.Config) -> None:
    """As a plugin: every call that any test sends from now on is seen."""
    recorder = _Recorder()
    _RECORDER.append(recorder)

    def send(chain: Chain, *instructions: Instruction, signers: Any = ()) -> Any:
        try:
            return recorder.send(chain, *instructions, signers=signers)
        except ProgramFailedError as failure:
            recorder.errors.add(failure.name)
            raise

    Chain.send = send  # type: ignore[method-assign, assignment]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Hands the calls over."""
    calls = [_RECORDER[0].calls[kept] for kept in sorted(_RECORDER[0].calls)]
    Path(os.environ[OUTPUT]).write_bytes(pickle.dumps((calls, _RECORDER[0].errors)))


def recorded() -> tuple[ValidCall, ...]:
    """The valid calls of all program tests; RuntimeError if those tests fail."""
    return _heard()[0]


def raised() -> frozenset[str]:
    """Names of all errors that the built programs gave in the program tests."""
    return _heard()[1]


@cache
def _heard() -> tuple[tuple[ValidCall, ...], frozenset[str]]:
    tests = [*sorted(str(path) for path in HERE.glob("test_programs_*.py")), str(HERE / ATTACKS)]
    with TemporaryDirectory() as folder:
        output = Path(folder) / "calls"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.chain.valid_calls",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        done = subprocess.run(
            command,
            env={**os.environ, OUTPUT: str(output)},
            capture_output=True,
            text=True,
            cwd=HERE.parents[1],
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the program tests must pass before their calls are used:\n{done.stdout[-2_000:]}")
        # Our own process wrote it a moment ago.
        calls, errors = pickle.loads(output.read_bytes())  # noqa: S301
        return tuple(calls), frozenset(errors)

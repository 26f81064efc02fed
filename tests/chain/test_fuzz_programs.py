"""Any bytes as instruction data, any account list: an error that says which check failed, no panic, no changed state.

The valid calls of the program tests (valid_calls) are mutated: data cut, stretched, overwritten with bytes, extreme
numbers; accounts dropped, doubled, swapped with others, their rights taken away. Runs some 20 s (FUZZ_SECONDS,
FUZZ_SEED; `make fuzz` longer); a failure prints its seed and the transaction.
"""

from __future__ import annotations

import os
from random import Random
from time import monotonic

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import key
from tests.chain.valid_calls import PROGRAMS, Replay, ValidCall, recorded

SECONDS = float(os.environ.get("FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
ROUNDS_PER_CALL = 40
EXTREMES = [(1 << bits) + more for bits in (0, 7, 8, 15, 16, 31, 32, 63, 64) for more in (-1, 0, 1)]
# What would hide which check failed.
PANICS = ("panicked", "ProgramFailedToComplete", "Access violation", "ComputationalBudgetExceeded")


def mutated(call: ValidCall, random: Random, pool: list[Pubkey]) -> list[Instruction]:
    """The call with its data, its accounts, or both changed."""
    built = call.built()
    own = built[call.position]
    data, metas = bytearray(own.data), list(own.accounts)
    what = random.randrange(3)
    if what != 1:
        _change_data(data, random)
    if what != 0:
        _change_accounts(metas, random, pool)
    built[call.position] = Instruction(own.program_id, bytes(data), metas)
    return built


def _change_data(data: bytearray, random: Random) -> None:
    how = random.randrange(6)
    if how == 0:
        del data[random.randrange(len(data) + 1) :]
    elif how == 1:
        data += random.randbytes(random.randrange(1, 64))
    elif how == 2:
        data[:] = random.randbytes(random.randrange(64))
    elif how == 3:
        data[8:] = random.randbytes(len(data) - 8)
    elif len(data) > 8:
        at = random.randrange(8, len(data))
        width = random.choice((1, 2, 4, 8))
        value = random.choice(EXTREMES) % (1 << 8 * width)
        data[at : at + width] = value.to_bytes(width, "little")[: len(data) - at]


def _change_accounts(metas: list[AccountMeta], random: Random, pool: list[Pubkey]) -> None:
    for _ in range(random.randrange(1, 4)):
        if not metas:
            return
        at, how = random.randrange(len(metas)), random.randrange(5)
        meta = metas[at]
        if how == 0:
            del metas[at]
        elif how == 1:
            metas.insert(at, metas[random.randrange(len(metas))])
        elif how == 2:
            metas[at] = AccountMeta(random.choice(pool), False, meta.is_writable)
        elif how == 3:
            other = random.randrange(len(metas))
            metas[at], metas[other] = metas[other], metas[at]
        else:
            metas[at] = AccountMeta(meta.pubkey, meta.is_signer and random.random() < 0.5, random.random() < 0.5)


def test_the_largest_number_at_any_place_of_the_data_is_refused_by_name_or_harmless():
    panics = []
    for call in recorded():
        replay = Replay(call)
        own = call.built()[call.position]
        for width in (4, 8):
            for at in range(8, min(len(own.data), 80) - width + 1):
                for number in ((1 << 8 * width) - 1, 1 << 8 * width - 1):
                    built = call.built()
                    data = bytearray(own.data)
                    data[at : at + width] = number.to_bytes(width, "little")
                    built[call.position] = Instruction(own.program_id, bytes(data), list(own.accounts))
                    failure = replay.run(built)
                    if failure is None:
                        replay.restore()
                    elif any(word in failure for word in PANICS):
                        panics.append((call.title, at, width, number))
    assert not panics


def test_whatever_is_sent_is_refused_by_a_named_check_and_changes_nothing():
    random, calls = Random(SEED), recorded()  # noqa: S311 - reproducible, no secret
    until, sent, accepted, panics = monotonic() + SECONDS, 0, 0, {}
    while monotonic() < until:
        call = random.choice(calls)
        replay = Replay(call)
        pool = [Pubkey(raw) for raw in call.before] + [key(f"fuzz {i}").pubkey() for i in range(2)]
        pool += [addresses.program_id(name) for name in PROGRAMS.values()]
        for _ in range(ROUNDS_PER_CALL):
            instructions = mutated(call, random, pool)
            failure = replay.run(instructions)
            sent += 1
            if failure is None:
                accepted += 1
                replay.restore()
                continue
            assert replay.unchanged(), (SEED, call.title, instructions)
            if any(word in failure for word in PANICS):
                panics.setdefault((call.title, failure), instructions[call.position])
    print(f"fuzz: {sent} transactions, {accepted} accepted, seed {SEED}")
    assert not panics, "\n".join(f"{title}: {failure}\n{found}" for (title, failure), found in panics.items())
    assert sent > 0

"""Every account of every instruction replaced by a wrong one: each must fail, and change nothing.

Generated from the IDLs and from the valid calls of the other program tests (valid_calls). The substitutions are
`not signer`, `not writable`, `stranger signs`, `other address`, `other owner`, `other type`, `other length`, `blank`.
`blank` is an account of the right type with nothing in it, as nobody can make one: only where the signer is entitled to
choose the account may it pass; those places are listed with their reason.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import PROGRAMS_DIR, Program
from tests.chain.svm import Chain, ProgramFailedError, key
from tests.chain.valid_calls import PROGRAMS, STRANGER, Raw, Replay, ValidCall, raw_account, recorded

ELSEWHERE = key("elsewhere").pubkey()
OTHER_OWNER = bytes(key("other program").pubkey())
# Only a PDA can sign them: no transaction calls them directly (their test is below).
BY_CPI_ONLY = {
    ("energy-token", "mint_from_production"),
    ("energy-token", "burn"),
    ("registry", "claim_erc"),
    ("registry", "release_erc"),
    ("registry", "void_metered"),
}
# Accounts that may be anybody's, with the reason.
FREE = {
    "payer": "whoever signs may pay",
    "funder": "whoever signs may give",
}


def idl_instructions() -> set[tuple[str, str]]:
    found = set()
    for program in addresses.PROGRAM_NAMES:
        idl = json.loads((PROGRAMS_DIR / "idl" / f"{program}.json").read_text())
        found |= {(program, spec["name"]) for spec in idl["instructions"]}
    return found


# ---- what may pass, and why

SUBSTITUTIONS = ("other address", "not writable", "other owner", "other length", "other type")
# What any instruction may accept: the mint's address is pinned; Token-2022 lets a zero byte behind its extensions be.
EVERYWHERE = {("grid_mint", "other length")}
# What one instruction may accept, with the reason.
MAY_PASS = {
    # The authority says which; a blank one can't exist, since registration alone makes them.
    ("registry", "approve_user"): {("user", "blank")},
    ("registry", "approve_meter"): {("meter", "blank")},
    # The bridge's attestors say which; its owner's request alone makes one.
    ("energy-token", "confirm_redemption"): {("redemption", "blank")},
    # The epoch before is settled: what was metered in it is not looked at.
    ("registry", "settle_meters"): {
        ("metered_before", how) for how in ("other address", "other owner", "other length", "other type", "blank")
    },
    # By the chain's clock anyone opens an epoch; the authority only counts where time is simulated.
    ("trading", "open_epoch"): {("authority", "stranger signs")},
    # The recorded withdrawal is of GRID alone: nothing is done with THBC's accounts.
    ("trading", "withdraw"): {
        (account, how) for account in ("thbc_vault", "thbc_destination", "thbc_mint") for how in SUBSTITUTIONS
    },
}


# A batch of meters that all lack energy mints nothing: the token's accounts are pinned by address, and not used.
UNUSED = {
    (account, how)
    for account in ("token_config", "grid_mint", "grid_vault")
    for how in ("other owner", "other length", "other type")
}


def allowed(call: ValidCall) -> set[tuple[str, str]]:
    found = MAY_PASS.get((call.program, call.name), set()) | EVERYWHERE
    return found if mints(call) else found | UNUSED


def mints(call: ValidCall) -> bool:
    """False for a metering batch without any surplus."""
    if call.name != "settle_meters":
        return True
    data = call.instructions[call.position][1]
    count, depth = data[10], data[11]
    entries = struct.iter_unpack("<II", data[12 + 32 * depth :])
    pairs = list(entries)
    assert len(pairs) == count
    return any(production > consumption for production, consumption in pairs)


def _nothing() -> Account:
    return Account(0, b"", addresses.SYSTEM_PROGRAM, False, 0)


CALLS = recorded()


@pytest.fixture(scope="module", params=CALLS, ids=lambda call: call.title)
def replay(request: pytest.FixtureRequest) -> Replay:
    return Replay(request.param)


def variations(call: ValidCall, replay: Replay) -> Iterator[tuple[str, str, list[Instruction], dict[Pubkey, Raw]]]:
    """(account, substitution, instructions, accounts to put there first)."""
    own = call.built()[call.position]
    slots = call.slots
    for at, meta in enumerate(own.accounts):
        slot = slots[at] if at < len(slots) else None
        name = slot.name if slot else f"remaining {at - len(slots)}"
        changed = lambda **flags: _with(call, at, **flags)  # noqa: B023, E731 - used before the next turn
        raw = raw_account(replay.chain, meta.pubkey)
        if meta.is_signer:
            yield name, "not signer", changed(is_signer=False), {}
            if name not in FREE:
                yield name, "stranger signs", changed(pubkey=STRANGER.pubkey()), {}
        elif raw is not None or (slot and slot.writable):
            yield name, "other address", changed(pubkey=ELSEWHERE), {}
        if meta.is_writable and (slot is None or slot.writable):
            yield name, "not writable", changed(is_writable=False), {}
        if raw is None or not raw[1] or raw[3] or meta.is_signer:
            continue
        lamports, data, owner, _ = raw
        yield name, "other owner", call.built(), {meta.pubkey: (lamports, data, OTHER_OWNER, False)}
        yield name, "other length", call.built(), {meta.pubkey: (lamports, data + b"\0", owner, False)}
        flipped = bytes(byte ^ 0xFF for byte in data[:8]) + data[8:]
        if Pubkey(owner) in PROGRAMS:
            yield name, "other type", call.built(), {meta.pubkey: (lamports, flipped, owner, False)}
            blank = data[:8] + bytes(len(data) - 8)
            yield name, "blank", changed(pubkey=ELSEWHERE), {ELSEWHERE: (lamports, blank, owner, False)}
        else:
            yield name, "other type", call.built(), {meta.pubkey: (lamports, bytes(len(data)), owner, False)}


def _with(call: ValidCall, at: int, **flags: object) -> list[Instruction]:
    """The call with one account changed; where that account is given twice, its rights are changed in both places."""
    built = call.built()
    own = built[call.position]
    metas = list(own.accounts)
    former = metas[at].pubkey
    for i, meta in enumerate(metas):
        if i == at or (meta.pubkey == former and "pubkey" not in flags):
            fields = {"pubkey": meta.pubkey, "is_signer": meta.is_signer, "is_writable": meta.is_writable} | flags
            metas[i] = AccountMeta(**fields)
    built[call.position] = Instruction(own.program_id, bytes(own.data), metas)
    return built


def test_every_instruction_has_a_valid_call():
    assert {(call.program, call.name) for call in CALLS} == idl_instructions() - BY_CPI_ONLY


@pytest.mark.parametrize(("program", "name"), sorted(BY_CPI_ONLY))
def test_only_another_programs_account_signs_what_programs_call_each_other_for(program: str, name: str):
    chain = Chain()
    own = Program.load(program)
    slots = own._instructions[name].accounts
    given = {slot.name: ELSEWHERE for slot in slots if slot.address is None}
    arguments = {argument: 1 for argument, _ in own._instructions[name].arguments}
    stranger = own.instruction(name, {**given, slots[0].name: STRANGER.pubkey()}, **arguments)
    with pytest.raises(ProgramFailedError) as failure:
        chain.send(stranger, signers=[STRANGER])
    assert failure.value.name == "Unauthorised"


def test_the_valid_call_succeeds_by_itself(replay: Replay):
    assert replay.run(replay.call.built()) is None
    replay.restore()


def test_every_substituted_account_fails_and_changes_nothing(replay: Replay):
    accepted = []
    call = replay.call
    for name, substitution, instructions, planted in variations(call, replay):
        for address, raw in planted.items():
            replay.put(address, raw)
        kept = {address: raw_account(replay.chain, address) for address in planted}
        failure = replay.run(instructions)
        if failure is None:
            accepted.append((name, substitution))
        else:
            assert all(raw_account(replay.chain, address) == raw for address, raw in kept.items())
        replay.chain.svm.set_account(ELSEWHERE, _nothing())
        if failure is None or planted:
            replay.restore()
        assert replay.unchanged(), (call.title, name, substitution)
    unexpected = [found for found in accepted if found not in allowed(call)]
    assert not unexpected, f"{call.title}: accepted {unexpected}"

"""The governance program: who may change what, and when."""

from __future__ import annotations

import pytest
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import (
    DEPLOYER,
    EPOCH,
    GUARDIAN,
    NETWORK,
    ORACLES,
    PARAMS,
    START,
    Chain,
    ProgramFailedError,
    key,
    program,
)

DAY = 86_400
STRANGER = key("stranger")


@pytest.fixture
def chain() -> Chain:
    fresh = Chain()
    fresh.initialize_governance()
    return fresh


def state(chain: Chain) -> dict:
    return chain.read("governance", "Governance", addresses.governance())


def refused(chain: Chain, name: str, *args: object, **kwargs: object) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        chain.call(*args, **kwargs)
    assert failure.value.name == name


def test_compiled_in_addresses_are_those_of_the_abi():
    named = {
        slot.name: slot.address
        for name in ("governance", "registry", "energy-token", "oracle")
        for instruction in program(name)._instructions.values()
        for slot in instruction.accounts
        if slot.address is not None
    }
    expected = {name: address for name, address in addresses.well_known().items() if name in named}
    assert {**expected, "deployer": DEPLOYER.pubkey()} == named
    assert {"governance", "registry", "market", "grid_vault", "grid_mint", "thbc_mint"} <= expected.keys()


def test_initialize_writes_every_field(chain: Chain):
    zero = Pubkey.default()
    oracles = [oracle.pubkey() for oracle in ORACLES] + [zero] * 13
    found = {name: value for name, value in state(chain).items() if not name.startswith("_")}
    assert found == {
        "authority": DEPLOYER.pubkey(),
        "pending_authority": zero,
        "guardian": GUARDIAN.pubkey(),
        "network": NETWORK,
        "paused_until": [0] * 5,
        "current": PARAMS,
        "next": dict.fromkeys(PARAMS, 0),
        "has_next": 0,
        "oracle_threshold": 2,
        "oracle_count": 3,
        "oracle_set_version": 1,
        "oracles": oracles,
        "next_oracles": [zero] * 16,
        "oracles_from": 0,
        "next_oracle_threshold": 0,
        "next_oracle_count": 0,
        "event_seq": 1,
        "guardian_paused_at": [0] * 5,
        "next_guardian": zero,
        "guardian_from": 0,
    }


def test_a_stranger_cannot_initialise_nor_anyone_twice(chain: Chain):
    arguments = {"network": NETWORK, "guardian": GUARDIAN.pubkey(), "threshold": 1, "params": PARAMS}
    arguments["oracles"] = [STRANGER.pubkey()]
    refused(chain, "AlreadyExists", "governance", "initialize", signers=[DEPLOYER], **arguments)
    fresh = Chain()
    fresh.svm.airdrop(STRANGER.pubkey(), 10**10)
    accounts = {"deployer": STRANGER.pubkey()}
    refused(fresh, "Unauthorised", "governance", "initialize", accounts, signers=[STRANGER], **arguments)


def test_another_networks_governance_is_refused():
    fresh = Chain()
    arguments = {"guardian": GUARDIAN.pubkey(), "threshold": 1, "params": PARAMS, "oracles": [STRANGER.pubkey()]}
    refused(fresh, "WrongNetwork", "governance", "initialize", signers=[DEPLOYER], network=1, **arguments)


def test_lamports_sent_to_the_address_do_not_block_it():
    fresh = Chain()
    fresh.svm.airdrop(addresses.governance(), 890_880)
    fresh.initialize_governance()
    assert state(fresh)["network"] == NETWORK


@pytest.mark.parametrize(("threshold", "count"), [(0, 1), (1, 2), (2, 4), (4, 3), (1, 0)])
def test_a_threshold_without_a_majority_is_refused(chain: Chain, threshold: int, count: int):
    oracles = [key(f"new oracle {i}").pubkey() for i in range(count)]
    arguments = {"threshold": threshold, "oracles": oracles}
    accounts = {"authority": DEPLOYER.pubkey()}
    refused(chain, "InvalidThreshold", "governance", "set_oracles", accounts, signers=[DEPLOYER], **arguments)


def test_a_new_oracle_set_acts_a_day_later_has_a_new_version_and_no_key_twice(chain: Chain):
    accounts, new = {"authority": DEPLOYER.pubkey()}, key("new oracle").pubkey()
    for later in (0, 60):  # announced anew, the day begins anew
        chain.at(START + later)
        chain.call("governance", "set_oracles", accounts, signers=[DEPLOYER], threshold=1, oracles=[new])
        assert (state(chain)["oracle_set_version"], state(chain)["oracle_count"]) == (1, 3)
        assert (state(chain)["oracles_from"], state(chain)["next_oracle_count"]) == (START + later + DAY, 1)
    chain.at(START + 60 + DAY)
    both = [new, key("newer oracle").pubkey()]
    chain.call("governance", "set_oracles", accounts, signers=[DEPLOYER], threshold=2, oracles=both)
    assert (state(chain)["oracle_set_version"], state(chain)["oracles"][0]) == (2, new)
    assert state(chain)["next_oracles"][:2] == both
    twice = {"threshold": 2, "oracles": [new, new]}
    refused(chain, "InvalidKeySet", "governance", "set_oracles", accounts, signers=[DEPLOYER], **twice)
    accounts = {"authority": STRANGER.pubkey()}
    one = {"threshold": 1, "oracles": [new]}
    refused(chain, "Unauthorised", "governance", "set_oracles", accounts, signers=[STRANGER], **one)


def test_the_guardian_pauses_once_in_thirty_days_for_a_week_and_the_authority_lifts_with_notice(chain: Chain):
    guardian, authority = {"guardian_or_authority": GUARDIAN.pubkey()}, {"authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", guardian, signers=[GUARDIAN], program=3)
    assert state(chain)["paused_until"] == [0, 0, 0, START + 7 * DAY, 0]
    chain.at(START + 8 * DAY)
    refused(chain, "GuardianSpent", "governance", "pause", guardian, signers=[GUARDIAN], program=3)
    renewing = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", renewing, signers=[DEPLOYER], program=3)
    assert state(chain)["paused_until"][3] == START + 15 * DAY
    refused(
        chain, "Unauthorised", "governance", "unpause", {"authority": GUARDIAN.pubkey()}, signers=[GUARDIAN], program=3
    )
    chain.call("governance", "unpause", authority, signers=[DEPLOYER], program=3)
    assert state(chain)["paused_until"][3] == START + 8 * DAY + 3_600
    # lifting gives the guardian nothing: else it would pause again within the hour of each
    chain.at(START + 8 * DAY + 3_000)
    refused(chain, "GuardianSpent", "governance", "pause", guardian, signers=[GUARDIAN], program=3)
    chain.call("governance", "pause", guardian, signers=[GUARDIAN], program=1)
    chain.at(START + 30 * DAY - 1)
    refused(chain, "GuardianSpent", "governance", "pause", guardian, signers=[GUARDIAN], program=3)
    chain.at(START + 30 * DAY)
    chain.call("governance", "pause", guardian, signers=[GUARDIAN], program=3)
    assert state(chain)["guardian_paused_at"] == [0, START + 8 * DAY + 3_000, 0, START + 30 * DAY, 0]


def test_another_guardian_acts_a_week_after_it_was_announced_and_the_former_until_then(chain: Chain):
    authority, new = {"authority": DEPLOYER.pubkey()}, key("another guardian")
    of = lambda signer: {"guardian_or_authority": signer.pubkey()}  # noqa: E731
    stranger = {"authority": STRANGER.pubkey()}
    refused(chain, "Unauthorised", "governance", "set_guardian", stranger, signers=[STRANGER], new=new.pubkey())
    none = {"signers": [DEPLOYER], "new": Pubkey.default()}
    refused(chain, "InvalidKeySet", "governance", "set_guardian", authority, **none)
    chain.call("governance", "set_guardian", authority, signers=[DEPLOYER], new=new.pubkey())
    assert (state(chain)["next_guardian"], state(chain)["guardian_from"]) == (new.pubkey(), START + 7 * DAY)
    chain.at(START + 7 * DAY - 1)
    refused(chain, "Unauthorised", "governance", "pause", of(new), signers=[new], program=2)
    chain.call("governance", "pause", of(GUARDIAN), signers=[GUARDIAN], program=2)
    chain.at(START + 7 * DAY)
    refused(chain, "Unauthorised", "governance", "pause", of(GUARDIAN), signers=[GUARDIAN], program=4)
    chain.call("governance", "pause", of(new), signers=[new], program=4)
    chain.call("governance", "set_guardian", authority, signers=[DEPLOYER], new=GUARDIAN.pubkey())
    assert (state(chain)["guardian"], state(chain)["next_guardian"]) == (new.pubkey(), GUARDIAN.pubkey())


@pytest.mark.parametrize("far", [EPOCH + 90 * 96 + 1, 2**32 - 1])
def test_a_change_of_parameters_too_far_ahead_to_ever_end_is_refused(chain: Chain, far: int):
    chain.plant("trading", "Market", addresses.market(), last_opened=EPOCH, time_mode=1)
    call = {"signers": [DEPLOYER], "params": {**PARAMS, "effective_epoch": far}}
    refused(chain, "EffectiveEpochTooLate", "governance", "set_params", {"authority": DEPLOYER.pubkey()}, **call)
    call["params"]["effective_epoch"] = EPOCH + 90 * 96
    chain.call("governance", "set_params", {"authority": DEPLOYER.pubkey()}, **call)


def test_a_stranger_pauses_nothing_and_there_is_no_sixth_program(chain: Chain):
    stranger = {"guardian_or_authority": STRANGER.pubkey()}
    refused(chain, "Unauthorised", "governance", "pause", stranger, signers=[STRANGER], program=0)
    guardian = {"guardian_or_authority": GUARDIAN.pubkey()}
    refused(chain, "InvalidProgram", "governance", "pause", guardian, signers=[GUARDIAN], program=5)


def test_the_authority_is_handed_over_in_two_steps(chain: Chain):
    authority, new = {"authority": DEPLOYER.pubkey()}, key("new authority")
    refused(chain, "NoPendingAuthority", "governance", "accept_authority", {"new": new.pubkey()}, signers=[new])
    chain.call("governance", "propose_authority", authority, signers=[DEPLOYER], new=new.pubkey())
    assert state(chain)["authority"] == DEPLOYER.pubkey()
    refused(
        chain, "NoPendingAuthority", "governance", "accept_authority", {"new": STRANGER.pubkey()}, signers=[STRANGER]
    )
    chain.call("governance", "accept_authority", {"new": new.pubkey()}, signers=[new])
    assert (state(chain)["authority"], state(chain)["pending_authority"]) == (new.pubkey(), Pubkey.default())
    refused(chain, "Unauthorised", "governance", "unpause", authority, signers=[DEPLOYER], program=0)


def test_parameters_change_one_at_a_time_and_only_for_epochs_not_opened(chain: Chain):
    accounts = {"authority": DEPLOYER.pubkey()}
    chain.plant("trading", "Market", addresses.market(), last_opened=EPOCH)
    change = {"signers": [DEPLOYER], "params": {**PARAMS, "effective_epoch": EPOCH, "fee_bp": 200}}
    refused(chain, "EffectiveEpochTooEarly", "governance", "set_params", accounts, **change)
    change["params"]["effective_epoch"] = EPOCH + 4
    chain.call("governance", "set_params", accounts, **change)
    assert (state(chain)["current"], state(chain)["next"], state(chain)["has_next"]) == (PARAMS, change["params"], 1)
    refused(chain, "ChangePending", "governance", "set_params", accounts, **change)

    chain.plant("trading", "Market", addresses.market(), last_opened=EPOCH + 4)
    again = {"signers": [DEPLOYER], "params": {**PARAMS, "effective_epoch": EPOCH + 5}}
    chain.call("governance", "set_params", accounts, **again)
    assert (state(chain)["current"], state(chain)["next"]) == (change["params"], again["params"])


@pytest.mark.parametrize(
    "change",
    [{"fee_bp": 5_001}, {"price_max": 1 << 23}, {"price_min": 0}, {"price_min": 9_000_000}, {"halt_bound_bp": 10_001}],
)
def test_a_parameter_outside_its_bound_is_refused(chain: Chain, change: dict):
    chain.plant("trading", "Market", addresses.market())
    params = {**PARAMS, "effective_epoch": EPOCH, **change}
    accounts = {"authority": DEPLOYER.pubkey()}
    refused(chain, "ParameterOutOfBounds", "governance", "set_params", accounts, signers=[DEPLOYER], params=params)


def test_a_forged_governance_or_market_is_refused(chain: Chain):
    forged = Pubkey.from_bytes(bytes([5] * 32))
    found = chain.svm.get_account(addresses.governance())
    chain.put(forged, addresses.program_id("governance"), found.data)
    accounts = {"guardian_or_authority": GUARDIAN.pubkey(), "governance": forged}
    refused(chain, "WrongAddress", "governance", "pause", accounts, signers=[GUARDIAN], program=1)
    chain.put(addresses.market(), STRANGER.pubkey(), bytes(8))
    accounts = {"authority": DEPLOYER.pubkey()}
    refused(chain, "WrongOwner", "governance", "set_params", accounts, signers=[DEPLOYER], params=PARAMS)

"""The oracle program: k of n oracles, one root."""

from __future__ import annotations

import pytest

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import (
    CLEARING,
    DEPLOYER,
    EPOCH,
    LATE,
    METERING,
    ORACLES,
    START,
    Chain,
    ProgramFailedError,
    Receipt,
    key,
)

ROOT, OTHER = bytes([1]) * 32, bytes([2]) * 32
CU_LIMIT = 1_500  # chain.md §6, besides account creation


@pytest.fixture
def chain() -> Chain:
    fresh = Chain()
    fresh.initialize_governance()
    fresh.plant("trading", "Market", addresses.market(), last_opened=EPOCH, closed_through=EPOCH - 1, time_mode=1)
    return fresh


def attest(
    chain: Chain, oracle, root: bytes = ROOT, *, kind: int = METERING, epoch: int = EPOCH, run: int = 0
) -> Receipt:
    accounts = {"oracle": oracle.pubkey(), "attestation": addresses.attestation(kind, epoch, run)}
    return chain.call("oracle", "attest", accounts, signers=[oracle], kind=kind, epoch=epoch, run=run, root=root)


def state(chain: Chain) -> dict:
    return chain.read("oracle", "Attestation", addresses.attestation(METERING, EPOCH, 0))


def refused(name: str, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        attest(*args, **kwargs)
    assert failure.value.name == name


def test_a_root_is_final_once_k_votes_are_equal(chain: Chain):
    attest(chain, ORACLES[0])
    assert (state(chain)["is_final"], state(chain)["root"], state(chain)["voted"]) == (0, bytes(32), 1)
    attest(chain, ORACLES[2])
    assert (state(chain)["is_final"], state(chain)["root"], state(chain)["voted"]) == (1, ROOT, 0b101)
    assert (state(chain)["kind"], state(chain)["epoch"], state(chain)["run"]) == (METERING, EPOCH, 0)
    refused("AlreadyFinal", chain, ORACLES[1], OTHER)


def test_one_oracle_neither_blocks_a_root_nor_makes_one_by_voting_twice(chain: Chain):
    attest(chain, ORACLES[0], OTHER)
    attest(chain, ORACLES[0], OTHER)
    assert state(chain)["is_final"] == 0
    attest(chain, ORACLES[1])
    attest(chain, ORACLES[2])
    assert (state(chain)["is_final"], state(chain)["root"]) == (1, ROOT)


def test_a_vote_may_be_replaced_until_then_and_the_event_says_so(chain: Chain):
    attest(chain, ORACLES[0], OTHER)
    receipt = attest(chain, ORACLES[0])
    (event,) = receipt.events
    # discriminator ‖ source ‖ seq ‖ kind ‖ epoch ‖ run ‖ oracle ‖ root ‖ replaced ‖ final
    assert event[8:40] == bytes(addresses.attestation(METERING, EPOCH, 0))
    assert int.from_bytes(event[40:48], "little") == 1
    assert (
        event[48:]
        == bytes([METERING]) + EPOCH.to_bytes(4, "little") + bytes(2) + bytes(ORACLES[0].pubkey()) + ROOT + b"\1\0"
    )
    attest(chain, ORACLES[1])
    assert state(chain)["is_final"] == 1


def test_votes_of_a_replaced_oracle_set_no_longer_count(chain: Chain):
    attest(chain, ORACLES[0])
    new = [ORACLES[0], key("new oracle 1"), key("new oracle 2")]
    accounts, keys = {"authority": DEPLOYER.pubkey()}, [oracle.pubkey() for oracle in new]
    chain.call("governance", "set_oracles", accounts, signers=[DEPLOYER], threshold=2, oracles=keys)
    refused("Unauthorised", chain, new[1])
    chain.at(START + 86_400)
    refused("Unauthorised", chain, ORACLES[1])
    attest(chain, new[1])
    assert (state(chain)["is_final"], state(chain)["set_version"], state(chain)["voted"]) == (0, 2, 0b10)
    attest(chain, new[2])
    assert state(chain)["is_final"] == 1


def test_strangers_wrong_runs_and_wrong_accounts_are_refused(chain: Chain):
    refused("Unauthorised", chain, key("stranger"))
    refused("InvalidRun", chain, ORACLES[0], kind=CLEARING, run=1)
    refused("InvalidRun", chain, ORACLES[0], kind=LATE, run=0)
    refused("InvalidData", chain, ORACLES[0], kind=4)
    attest(chain, ORACLES[0])
    accounts = {"oracle": ORACLES[0].pubkey(), "attestation": addresses.attestation(METERING, EPOCH, 0)}
    arguments = {"kind": METERING, "epoch": EPOCH + 1, "run": 0, "root": ROOT}
    with pytest.raises(ProgramFailedError) as failure:
        chain.call("oracle", "attest", accounts, signers=[ORACLES[0]], **arguments)
    assert failure.value.name == "WrongAttestation"
    accounts["attestation"] = addresses.attestation(CLEARING, EPOCH, 0)
    with pytest.raises(ProgramFailedError) as failure:
        chain.call("oracle", "attest", accounts, signers=[ORACLES[0]], **arguments)
    assert failure.value.name == "WrongAddress"


def test_a_paused_oracle_program_attests_nothing_until_the_pause_ends(chain: Chain):
    accounts = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", accounts, signers=[DEPLOYER], program=4)
    refused("Paused", chain, ORACLES[0])
    chain.at(START + 7 * 86_400)
    attest(chain, ORACLES[0])


def test_lamports_sent_to_an_attestation_do_not_block_it(chain: Chain):
    chain.svm.airdrop(addresses.attestation(METERING, EPOCH, 0), 890_880)
    attest(chain, ORACLES[0])
    assert state(chain)["voted"] == 1


def test_attack_a_second_root_for_a_run_of_an_epoch_closed_for_good(chain: Chain):
    """With its attestation closed, a new one could book batches beyond those that trading has settled."""
    for oracle in ORACLES[:2]:
        attest(chain, oracle)
    chain.change("trading", "Market", addresses.market(), closed_through=EPOCH)
    attestation = addresses.attestation(METERING, EPOCH, 0)
    chain.call("oracle", "close_attestation", {"payer": chain.payer.pubkey(), "attestation": attestation})
    refused("EpochClosed", chain, ORACLES[0], OTHER)
    assert chain.svm.get_account(attestation) is None


def test_a_vote_costs_less_than_the_limit(chain: Chain):
    attest(chain, ORACLES[0])
    spent = attest(chain, ORACLES[1]).compute_units
    print(f"attest: {spent} CU, limit {CU_LIMIT}")
    assert spent <= CU_LIMIT

"""Governance by vote: validators, proposals, quorum, time-lock."""

from __future__ import annotations

import pytest
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import DEPLOYER, EPOCH, PARAMS, RENT, START, Chain, ProgramFailedError, Receipt, key

DAY = 86_400
VOTED, EXECUTABLE, LAPSED = START + 3 * DAY, START + 5 * DAY, START + 19 * DAY
VALIDATORS = [key(f"validator {i}") for i in range(5)]
STRANGER = key("stranger")
FEE, VAT, WHEELING_CAP, ON_PEAK, OFF_PEAK, FEED_IN, PRICE_MIN, PRICE_MAX, HALT_BOUND = range(9)
SEATS = 32


@pytest.fixture
def chain() -> Chain:
    """Three validators, an open market."""
    fresh = Chain()
    fresh.initialize_governance()
    fresh.plant("trading", "Market", addresses.market(), last_opened=EPOCH, time_mode=1)
    for validator in VALIDATORS[:3]:
        admit(fresh, validator)
    return fresh


def admit(chain: Chain, validator, authority=DEPLOYER) -> Receipt:
    accounts = {"authority": authority.pubkey()}
    return chain.call("governance", "admit_validator", accounts, signers=[authority], validator=validator.pubkey())


def remove(chain: Chain, validator, authority=DEPLOYER) -> Receipt:
    accounts = {"authority": authority.pubkey()}
    return chain.call("governance", "remove_validator", accounts, signers=[authority], validator=validator.pubkey())


def propose(chain: Chain, by=VALIDATORS[0], *, number: int = 0, parameter: int = FEE, value: int = 150) -> Receipt:
    accounts = {"validator": by.pubkey(), "proposal": addresses.proposal(number)}
    arguments = {"id": number, "parameter": parameter, "value": value}
    return chain.call("governance", "create_proposal", accounts, signers=[by], **arguments)


def vote(chain: Chain, by, approve: int = 1, *, number: int = 0, at: Pubkey | None = None) -> Receipt:
    own = at or addresses.vote(number, by.pubkey())
    accounts = {"validator": by.pubkey(), "proposal": addresses.proposal(number), "vote": own}
    return chain.call("governance", "vote", accounts, signers=[by], approve=approve)


def execute(chain: Chain, number: int = 0) -> Receipt:
    return chain.call("governance", "execute_proposal", {"proposal": addresses.proposal(number)})


def governance(chain: Chain) -> dict:
    return chain.read("governance", "Governance", addresses.governance())


def proposal(chain: Chain, number: int = 0) -> dict:
    found = chain.read("governance", "Proposal", addresses.proposal(number))
    return {name: value for name, value in found.items() if not name.startswith("_")}


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name, failure.value


def test_an_accepted_proposal_becomes_the_next_parameters(chain: Chain):
    propose(chain)
    vote(chain, VALIDATORS[0])
    vote(chain, VALIDATORS[1], 0)
    vote(chain, VALIDATORS[2])
    chain.at(EXECUTABLE)
    execute(chain)
    found = governance(chain)
    assert found["current"] == PARAMS
    assert found["next"] == PARAMS | {"effective_epoch": EPOCH + 1, "fee_bp": 150, "schedule_version": 2}
    assert found["has_next"] == 1
    made = proposal(chain)
    assert 0 < made.pop("bump") <= 255
    assert made == {
        "proposer": VALIDATORS[0].pubkey(),
        "payer": chain.payer.pubkey(),
        "id": 0,
        "value": 150,
        "created_at": START,
        "voting_ends_at": VOTED,
        "executable_at": EXECUTABLE,
        "expires_at": LAPSED,
        "set_version": 3,
        "yes": 0b101,
        "no": 0b010,
        "effective_epoch": EPOCH + 1,
        "parameter": FEE,
        "executed": 1,
        "eligible": 3,
        "event_seq": 5,
    }
    refused("AlreadyExecuted", execute, chain)


def test_the_value_builds_on_the_change_before_it(chain: Chain):
    for number, (parameter, value) in enumerate([(FEED_IN, 2_000_000), (PRICE_MAX, 7_000_000)]):
        propose(chain, number=number, parameter=parameter, value=value)
        for validator in VALIDATORS[:2]:
            vote(chain, validator, number=number)
    chain.at(EXECUTABLE)
    execute(chain, 0)
    refused("ChangePending", execute, chain, 1)
    chain.plant("trading", "Market", addresses.market(), last_opened=EPOCH + 1, time_mode=1)
    execute(chain, 1)
    found = governance(chain)
    first = PARAMS | {"effective_epoch": EPOCH + 1, "feed_in": 2_000_000, "schedule_version": 2}
    assert found["current"] == first
    assert found["next"] == first | {"effective_epoch": EPOCH + 2, "price_max": 7_000_000, "schedule_version": 3}


def test_by_the_chains_clock_a_value_acts_from_an_epoch_that_has_not_begun(chain: Chain):
    chain.plant("trading", "Market", addresses.market(), last_opened=EPOCH, time_mode=0)
    propose(chain)
    for validator in VALIDATORS[:2]:
        vote(chain, validator)
    chain.at(EXECUTABLE)
    execute(chain)
    assert governance(chain)["next"]["effective_epoch"] == EXECUTABLE // 900 + 1


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (FEE, 5_001),
        (FEE, 65_636),
        (VAT, 5_001),
        (WHEELING_CAP, 1 << 23),
        (ON_PEAK, 1 << 32),
        (PRICE_MIN, 0),
        (PRICE_MIN, 8_010_000),
        (PRICE_MIN, 2_000_001),
        (PRICE_MAX, 1_990_000),
        (HALT_BOUND, 10_001),
    ],
)
def test_a_value_outside_its_bounds_cannot_even_be_proposed(chain: Chain, parameter: int, value: int):
    refused("ParameterOutOfBounds", propose, chain, parameter=parameter, value=value)


def test_what_is_no_parameter_or_not_the_next_id_is_refused(chain: Chain):
    refused("UnknownParameter", propose, chain, parameter=9)
    refused("WrongProposalId", propose, chain, number=1)
    propose(chain)
    refused("AlreadyExists", propose, chain)
    propose(chain, number=1)


# ---- attacks


def test_a_self_admitted_validator_passes_no_proposal(chain: Chain):
    chain.svm.airdrop(STRANGER.pubkey(), RENT)
    refused("Unauthorised", admit, chain, STRANGER, STRANGER)
    refused("NotAValidator", propose, chain, STRANGER)
    propose(chain)
    refused("NotAValidator", vote, chain, STRANGER)
    # a set of one's own is no account of the program's at the address that it must have
    forged = key("forged").pubkey()
    chain.plant("governance", "Validators", forged, version=1, count=1)
    accounts = {"validator": STRANGER.pubkey(), "proposal": addresses.proposal(0), "validators": forged}
    accounts["vote"] = addresses.vote(0, STRANGER.pubkey())
    refused("WrongAddress", chain.call, "governance", "vote", accounts, signers=[STRANGER], approve=1)
    chain.at(EXECUTABLE)
    refused("ProposalRejected", execute, chain)
    assert governance(chain)["has_next"] == 0


def test_a_stranger_does_not_make_the_validator_set(chain: Chain):
    fresh = Chain()
    fresh.initialize_governance()
    refused("Unauthorised", admit, fresh, STRANGER, STRANGER)
    fresh.svm.airdrop(addresses.validators(), 890_880)
    admit(fresh, STRANGER)
    found = fresh.read("governance", "Validators", addresses.validators())
    assert (found["count"], found["version"], found["seats"][0]["key"]) == (1, 1, STRANGER.pubkey())


def test_a_validator_votes_once_and_cannot_change_its_vote(chain: Chain):
    propose(chain)
    vote(chain, VALIDATORS[0])
    refused("AlreadyExists", vote, chain, VALIDATORS[0])
    refused("AlreadyExists", vote, chain, VALIDATORS[0], 0)
    refused("WrongAddress", vote, chain, VALIDATORS[0], at=addresses.vote(1, VALIDATORS[0].pubkey()))
    refused("WrongAddress", vote, chain, VALIDATORS[0], at=addresses.vote(0, STRANGER.pubkey()))
    assert (proposal(chain)["yes"], proposal(chain)["no"]) == (1, 0)


def test_validators_admitted_after_a_proposal_have_no_vote_on_it(chain: Chain):
    propose(chain)
    for validator in VALIDATORS[3:]:
        admit(chain, validator)
        refused("NotAValidator", vote, chain, validator)
    propose(chain, number=1)
    vote(chain, VALIDATORS[4], number=1)
    # one who left and came back is new
    remove(chain, VALIDATORS[0])
    admit(chain, VALIDATORS[0])
    refused("NotAValidator", vote, chain, VALIDATORS[0])


def test_votes_of_removed_validators_and_of_who_took_their_seats_do_not_count(chain: Chain):
    propose(chain)
    vote(chain, VALIDATORS[0])
    vote(chain, VALIDATORS[1])
    remove(chain, VALIDATORS[1])
    admit(chain, VALIDATORS[3])  # takes seat 1, whose bit is set
    chain.at(EXECUTABLE)
    refused("ProposalRejected", execute, chain)


def test_removing_who_voted_no_does_not_lower_the_quorum(chain: Chain):
    propose(chain)
    vote(chain, VALIDATORS[0])
    vote(chain, VALIDATORS[1], 0)
    vote(chain, VALIDATORS[2], 0)
    for naysayer in VALIDATORS[1:3]:
        remove(chain, naysayer)
    chain.at(EXECUTABLE)
    refused("ProposalRejected", execute, chain)


def test_a_minority_or_a_tie_changes_nothing(chain: Chain):
    for number in range(2):
        propose(chain, number=number)
        vote(chain, VALIDATORS[0], number=number)
    vote(chain, VALIDATORS[1], 0, number=1)
    chain.at(EXECUTABLE)
    refused("ProposalRejected", execute, chain, 0)
    refused("ProposalRejected", execute, chain, 1)


def test_votes_end_the_time_lock_holds_and_what_nobody_executes_lapses(chain: Chain):
    propose(chain)
    for validator in VALIDATORS[:2]:
        vote(chain, validator)
    refused("TimeLocked", execute, chain)
    chain.at(VOTED)
    refused("VotingClosed", vote, chain, VALIDATORS[2])
    chain.at(EXECUTABLE - 1)
    refused("TimeLocked", execute, chain)
    chain.at(LAPSED)
    refused("ProposalExpired", execute, chain)
    chain.at(LAPSED - 1)
    execute(chain)


def test_seats_are_32_and_no_key_sits_twice(chain: Chain):
    refused("InvalidValidator", admit, chain, VALIDATORS[0])
    accounts = {"authority": DEPLOYER.pubkey()}
    zero = {"validator": Pubkey.default()}
    refused("InvalidValidator", chain.call, "governance", "admit_validator", accounts, signers=[DEPLOYER], **zero)
    refused("NotAValidator", chain.call, "governance", "remove_validator", accounts, signers=[DEPLOYER], **zero)
    for i in range(3, SEATS):
        admit(chain, key(f"seat {i}"))
    refused("InvalidValidator", admit, chain, STRANGER)
    refused("Unauthorised", remove, chain, VALIDATORS[0], STRANGER)
    remove(chain, VALIDATORS[1])
    admit(chain, STRANGER)
    found = chain.read("governance", "Validators", addresses.validators())
    assert (found["count"], found["version"]) == (SEATS, SEATS + 2)
    assert found["seats"][1] == {"key": STRANGER.pubkey(), "since": SEATS + 2}


def test_an_instruction_to_paused_governance_is_refused(chain: Chain):
    propose(chain)
    pause = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", pause, signers=[DEPLOYER], program=0)
    refused("Paused", admit, chain, STRANGER)
    refused("Paused", remove, chain, VALIDATORS[0])
    refused("Paused", propose, chain, number=1)
    refused("Paused", vote, chain, VALIDATORS[0])
    refused("Paused", execute, chain)


def test_a_forged_proposal_is_not_executed(chain: Chain):
    address = key("forged").pubkey()
    chain.plant("governance", "Proposal", address, value=0, yes=7, eligible=1, expires_at=LAPSED)
    data = chain.svm.get_account(address).data
    chain.put(address, addresses.program_id("registry"), data)
    refused("WrongOwner", chain.call, "governance", "execute_proposal", {"proposal": address})


def test_lamports_sent_to_a_vote_or_proposal_do_not_block_it(chain: Chain):
    chain.svm.airdrop(addresses.proposal(0), 890_880)
    chain.svm.airdrop(addresses.vote(0, VALIDATORS[0].pubkey()), 890_880)
    propose(chain)
    vote(chain, VALIDATORS[0])
    assert proposal(chain)["yes"] == 1


# ---- rent


def close(
    chain: Chain, name: str, payer: Pubkey | None = None, *, at: Pubkey | None = None, number: int = 0
) -> Receipt:
    accounts = {"payer": payer or chain.payer.pubkey(), "proposal": at or addresses.proposal(number)}
    if name == "close_vote":
        accounts["vote"] = addresses.vote(number, VALIDATORS[1].pubkey())
    return chain.call("governance", name, accounts)


def test_the_rent_of_a_vote_comes_back_after_the_voting_and_that_of_a_proposal_once_it_is_executed(chain: Chain):
    propose(chain)
    propose(chain, number=1)
    vote(chain, VALIDATORS[0])
    vote(chain, VALIDATORS[1])
    accounts = [addresses.proposal(0), addresses.vote(0, VALIDATORS[1].pubkey())]
    locked = sum(chain.svm.get_account(address).lamports for address in accounts)
    refused("TimeLocked", close, chain, "close_vote")
    chain.at(EXECUTABLE)
    refused("WrongAddress", close, chain, "close_vote", STRANGER.pubkey())
    refused("WrongAddress", close, chain, "close_vote", at=addresses.proposal(1))
    before = chain.svm.get_balance(chain.payer.pubkey())
    close(chain, "close_vote")
    refused("TimeLocked", close, chain, "close_proposal")
    execute(chain)  # the votes count by the proposal's own bits
    refused("WrongAddress", close, chain, "close_proposal", STRANGER.pubkey())
    close(chain, "close_proposal")
    assert [chain.svm.get_account(address) for address in accounts] == [None, None]
    assert chain.svm.get_balance(chain.payer.pubkey()) - before == locked - 5 * 5_000
    refused("WrongProposalId", propose, chain, number=0)
    refused("WrongOwner", execute, chain)


def test_the_votes_of_a_closed_proposal_close_after_it_and_a_lapsed_one_closes_too(chain: Chain):
    propose(chain)
    vote(chain, VALIDATORS[1])
    chain.at(LAPSED - 1)
    refused("TimeLocked", close, chain, "close_proposal")
    chain.at(LAPSED)
    close(chain, "close_proposal")
    close(chain, "close_vote")
    refused("WrongOwner", vote, chain, VALIDATORS[2])


def test_attack_a_vote_closed_to_vote_twice(chain: Chain):
    propose(chain)
    vote(chain, VALIDATORS[1])
    refused("TimeLocked", close, chain, "close_vote")
    refused("AlreadyExists", vote, chain, VALIDATORS[1], 0)
    chain.at(VOTED)
    close(chain, "close_vote")
    refused("VotingClosed", vote, chain, VALIDATORS[1], 0)

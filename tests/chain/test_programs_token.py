"""The energy-token program: two mints, and who may mint and burn."""

from __future__ import annotations

from hashlib import sha256

import pytest
from solders.instruction import AccountMeta
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import BRIDGE, DEPLOYER, START, Chain, ProgramFailedError, key

OWNER = key("wallet")
WALLET = OWNER.pubkey()
ACCOUNT = key("token account").pubkey()


@pytest.fixture
def chain() -> Chain:
    fresh = Chain()
    fresh.initialize_governance()
    fresh.initialize_tokens()
    fresh.plant_token_account(ACCOUNT, addresses.thbc_mint(), WALLET)
    return fresh


def issue(chain: Chain, reference: bytes, amount: int, attestors: list[Keypair], **accounts: Pubkey) -> None:
    named = {"destination": ACCOUNT, "deposit": addresses.deposit(reference), **accounts}
    remaining = [AccountMeta(attestor.pubkey(), True, False) for attestor in attestors]
    arguments = {"ref_hash": sha256(reference).digest(), "amount": amount}
    chain.call("energy-token", "issue_thbc", named, remaining, signers=attestors, **arguments)


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name


def mint_of(chain: Chain, address: Pubkey) -> tuple[bytes, int, int, int]:
    """(mint authority, supply, decimals, freeze authority option)."""
    found = chain.svm.get_account(address)
    assert found is not None
    assert found.owner == addresses.TOKEN_2022
    data = found.data
    return data[4:36], int.from_bytes(data[36:44], "little"), data[44], int.from_bytes(data[46:50], "little")


def test_the_mints_have_their_decimals_the_pda_as_authority_and_no_freezer(chain: Chain):
    authority = bytes(addresses.mint_authority())
    assert mint_of(chain, addresses.grid_mint()) == (authority, 0, 3, 0)
    assert mint_of(chain, addresses.thbc_mint()) == (authority, 0, 6, 0)
    grid = chain.svm.get_account(addresses.grid_mint())
    assert b"\x04\0\0\0GRID\x04\0\0\0GRID" in grid.data
    assert grid.lamports == chain.svm.minimum_balance_for_rent_exemption(len(grid.data))
    config = chain.read("energy-token", "TokenConfig", addresses.token_config())
    assert (config["grid_mint"], config["thbc_mint"]) == (addresses.grid_mint(), addresses.thbc_mint())
    assert (config["bridge_threshold"], config["bridge_count"], config["mint_authority_bump"]) == (2, 3, 255)


def test_initialize_is_the_deployers_once_and_needs_a_majority_bridge(chain: Chain):
    refused("AlreadyExists", chain.initialize_tokens)
    fresh, stranger = Chain(), key("stranger")
    fresh.svm.airdrop(stranger.pubkey(), 10**10)
    call = {"bridge_threshold": 1, "bridge": [stranger.pubkey()]}
    accounts = {"deployer": stranger.pubkey()}
    refused("Unauthorised", fresh.call, "energy-token", "initialize", accounts, signers=[stranger], **call)
    call["bridge"] = [attestor.pubkey() for attestor in BRIDGE]
    refused("InvalidThreshold", fresh.call, "energy-token", "initialize", signers=[DEPLOYER], **call)


def test_lamports_sent_to_a_mint_do_not_block_it():
    fresh = Chain()
    fresh.svm.airdrop(addresses.grid_mint(), 890_880)
    fresh.svm.airdrop(addresses.thbc_mint(), 10**9)
    fresh.initialize_tokens()
    assert mint_of(fresh, addresses.grid_mint())[2] == 3


def test_a_deposit_is_issued_once(chain: Chain):
    issue(chain, b"bank 1", 5_000_000, BRIDGE[:2])
    assert chain.token_amount(ACCOUNT) == 5_000_000
    deposit = chain.read("energy-token", "Deposit", addresses.deposit(b"bank 1"))
    assert deposit == {"ref_hash": sha256(b"bank 1").digest(), "amount": 5_000_000, "destination": ACCOUNT}
    refused("AlreadyExists", issue, chain, b"bank 1", 5_000_000, BRIDGE[:2])
    issue(chain, b"bank 2", 1, BRIDGE[1:])
    assert chain.token_amount(ACCOUNT) == 5_000_001


def test_k_distinct_attestors_must_sign(chain: Chain):
    refused("NotEnoughAttestors", issue, chain, b"bank", 1, BRIDGE[:1])
    refused("NotEnoughAttestors", issue, chain, b"bank", 1, [BRIDGE[0], BRIDGE[0]])
    refused("Unauthorised", issue, chain, b"bank", 1, [BRIDGE[0], key("stranger")])
    refused("ZeroAmount", issue, chain, b"bank", 0, BRIDGE[:2])
    refused("WrongAddress", issue, chain, b"bank", 1, BRIDGE[:2], deposit=addresses.deposit(b"another"))


def test_thbc_is_not_issued_while_the_program_is_paused(chain: Chain):
    accounts = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", accounts, signers=[DEPLOYER], program=2)
    refused("Paused", issue, chain, b"bank", 1, BRIDGE[:2])


def test_nobody_but_the_pdas_mints_or_burns_grid(chain: Chain):
    chain.plant_token_account(addresses.grid_vault(), addresses.grid_mint(), addresses.market(), 100)
    stranger = key("stranger")
    mint, burn = {"registry": stranger.pubkey()}, {"market": stranger.pubkey()}
    refused("Unauthorised", chain.call, "energy-token", "mint_from_production", mint, signers=[stranger], amount=1)
    refused("Unauthorised", chain.call, "energy-token", "burn", burn, signers=[stranger], amount=1)
    unsigned = chain.build("energy-token", "mint_from_production", {}, amount=1)
    metas = [AccountMeta(meta.pubkey, False, meta.is_writable) for meta in unsigned.accounts]
    unsigned.accounts = metas
    refused("MissingSignature", chain.send, unsigned)


def test_a_worthless_mint_in_the_mints_place_is_refused(chain: Chain):
    refused("WrongAddress", issue, chain, b"bank", 1, BRIDGE[:2], thbc_mint=addresses.grid_mint())


def redeem(chain: Chain, reference: bytes, amount: int, owner: Keypair = OWNER, **accounts: Pubkey) -> None:
    hashed = sha256(reference).digest()
    named = {"owner": owner.pubkey(), "source": ACCOUNT, "redemption": redemption(reference), **accounts}
    chain.call("energy-token", "request_redemption", named, signers=[owner], reference=hashed, amount=amount)


def redemption(reference: bytes, owner: Keypair = OWNER) -> Pubkey:
    return addresses.pda("energy-token", b"redemption", bytes(owner.pubkey()), sha256(reference).digest())


def confirm(chain: Chain, reference: bytes, attestors: list[Keypair]) -> None:
    remaining = [AccountMeta(attestor.pubkey(), True, False) for attestor in attestors]
    named = {"redemption": redemption(reference)}
    chain.call("energy-token", "confirm_redemption", named, remaining, signers=attestors)


def reclaim(chain: Chain, reference: bytes, owner: Keypair = OWNER, **accounts: Pubkey) -> None:
    named = {"owner": owner.pubkey(), "destination": ACCOUNT, "redemption": redemption(reference), **accounts}
    chain.call("energy-token", "reclaim_redemption", named, signers=[owner])


def supply(chain: Chain) -> int:
    return mint_of(chain, addresses.thbc_mint())[1]


def test_a_redemption_burns_at_once_and_is_confirmed_by_k_attestors_or_taken_back_after_a_day(chain: Chain):
    issue(chain, b"bank", 5_000_000, BRIDGE[:2])
    redeem(chain, b"one", 2_000_000)
    redeem(chain, b"two", 1_000_000)
    assert (chain.token_amount(ACCOUNT), supply(chain)) == (2_000_000, 2_000_000)
    record = chain.read("energy-token", "Redemption", redemption(b"one"))
    assert (record["owner"], record["amount"], record["requested_at"], record["status"]) == (
        WALLET,
        2_000_000,
        START,
        0,
    )
    confirm(chain, b"one", BRIDGE[1:])
    assert chain.read("energy-token", "Redemption", redemption(b"one"))["status"] == 1
    chain.at(START + 86_399)
    refused("ReclaimTooEarly", reclaim, chain, b"two")
    chain.at(START + 86_400)
    reclaim(chain, b"two")
    assert chain.read("energy-token", "Redemption", redemption(b"two"))["status"] == 2
    assert (chain.token_amount(ACCOUNT), supply(chain)) == (3_000_000, 3_000_000)


def test_attack_a_redemption_is_paid_and_taken_back_or_taken_back_twice(chain: Chain):
    issue(chain, b"bank", 5_000_000, BRIDGE[:2])
    for reference in (b"paid", b"back"):
        redeem(chain, reference, 1_000_000)
    confirm(chain, b"paid", BRIDGE[:2])
    chain.at(START + 86_400)
    refused("InvalidTransition", reclaim, chain, b"paid")
    refused("InvalidTransition", confirm, chain, b"paid", BRIDGE[:2])
    reclaim(chain, b"back")
    refused("InvalidTransition", reclaim, chain, b"back")
    refused("InvalidTransition", confirm, chain, b"back", BRIDGE[:2])
    refused("AlreadyExists", redeem, chain, b"back", 1_000_000)
    assert supply(chain) == 4_000_000


def test_attack_a_stranger_takes_a_redemption_back_confirms_it_or_burns_another_s_thbc(chain: Chain):
    issue(chain, b"bank", 5_000_000, BRIDGE[:2])
    stranger = key("stranger")
    redeem(chain, b"one", 1_000_000)
    chain.at(START + 86_400)
    refused("Unauthorised", reclaim, chain, b"one", stranger)
    refused("NotEnoughAttestors", confirm, chain, b"one", BRIDGE[:1])
    refused("NotEnoughAttestors", confirm, chain, b"one", [BRIDGE[0], BRIDGE[0]])
    refused("Unauthorised", confirm, chain, b"one", [BRIDGE[0], stranger])
    # its own record, another's tokens: Token-2022 knows the owner
    own = {"redemption": redemption(b"one", stranger)}
    refused("custom error 4", redeem, chain, b"one", 1, stranger, **own)
    # a stranger can't take a reference away: it is the owner's own
    refused("WrongAddress", redeem, chain, b"two", 1, stranger, redemption=redemption(b"two"))
    refused("custom error 1", redeem, chain, b"two", 4_000_001)
    refused("ZeroAmount", redeem, chain, b"two", 0)
    refused("WrongAddress", reclaim, chain, b"one", thbc_mint=addresses.grid_mint())
    refused("custom error 3", reclaim, chain, b"one", destination=grid_account(chain))
    assert supply(chain) == 4_000_000


def grid_account(chain: Chain) -> Pubkey:
    address = key("grid account").pubkey()
    chain.plant_token_account(address, addresses.grid_mint(), WALLET)
    return address


def test_nothing_is_redeemed_confirmed_or_taken_back_while_the_program_is_paused(chain: Chain):
    issue(chain, b"bank", 5_000_000, BRIDGE[:2])
    redeem(chain, b"one", 1_000_000)
    chain.at(START + 86_400)
    accounts = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", accounts, signers=[DEPLOYER], program=2)
    refused("Paused", redeem, chain, b"two", 1)
    refused("Paused", confirm, chain, b"one", BRIDGE[:2])
    refused("Paused", reclaim, chain, b"one")

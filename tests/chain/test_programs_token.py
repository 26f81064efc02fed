"""The energy-token program: two mints, and who may mint and burn."""

from __future__ import annotations

from hashlib import sha256

import pytest
from solders.instruction import AccountMeta
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import BRIDGE, DEPLOYER, Chain, ProgramFailedError, key

WALLET = key("wallet").pubkey()
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

"""Withdrawals: what is asked for leaves cover at the next epoch, is paid when the epochs begun are settled; every law
still closes with GRID outside the vault.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, DEPLOYER, EPOCH, LATE, ProgramFailedError, key
from tests.chain.trading_world import THB, Household, Run, World


@pytest.fixture
def world() -> World:
    return World()


def refused(name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name


def pending(world: World, home: Household) -> tuple[int, int, int, int]:
    found = world.read("trading", "Trader", home.trader)
    return found["pending"], found["pending_epoch"], found["pending_uthb"], found["pending_grid_wh"]


def surplus(epoch: int, seq: int, home: Household, wh: int) -> Run:
    production, consumption = max(wh, 0), max(-wh, 0)
    meters = [(home, pack("<II", production, consumption))]
    return Run(CLEARING, epoch, 0, seq, meters, [(home, pack("<ii", wh, 0))])


def test_a_withdrawal_waits_for_the_epochs_begun_at_the_request_and_pays_both_tokens(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.play(surplus(EPOCH, 1, home, 1_000))
    world.open(EPOCH + 1)
    world.open(EPOCH + 2)
    world.request(home, 4 * THB, 600)
    assert pending(world, home) == (1, EPOCH + 2, 4 * THB, 600)
    refused("WithdrawalTooEarly", world.withdraw, home)
    world.play(surplus(EPOCH + 1, 2, home, 0))
    refused("WithdrawalTooEarly", world.withdraw, home)
    world.play(surplus(EPOCH + 2, 3, home, 0))
    units = world.withdraw(home).compute_units
    assert units < 25_000
    assert world.balances(home) == (400, 6 * THB, 0)
    assert (world.token_amount(home.cash), world.token_amount(home.energy)) == (4 * THB, 600)
    assert pending(world, home) == (0, 0, 0, 0)
    refused("NoWithdrawal", world.withdraw, home)
    market = world.market()
    assert (market["withdrawn_uthb"], market["withdrawn_grid_wh"], market["deposited_grid_wh"]) == (4 * THB, 600, 0)
    world.assert_laws([home])


def test_a_withdrawal_and_grid_put_back_wait_while_an_ended_epoch_is_not_settled(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.play(surplus(EPOCH, 1, home, 1_000))
    world.request(home, 0, 100)
    for epoch in (EPOCH + 1, EPOCH + 2):
        world.open(epoch)
    refused("EndedEpochUnsettled", world.withdraw, home)
    world.play(surplus(EPOCH + 1, 2, home, 0))
    world.withdraw(home)
    world.open(EPOCH + 3)
    refused("EndedEpochUnsettled", world.deposit_grid, home, 100)
    world.play(surplus(EPOCH + 2, 3, home, 0))
    world.deposit_grid(home, 100)
    assert world.balances(home) == (1_000, 10 * THB, 0)
    world.assert_laws([home])


def test_grid_comes_back_into_the_vault_and_the_next_run_still_closes(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.play(surplus(EPOCH, 1, home, 1_000))
    world.request(home, 0, 900)
    world.withdraw(home)
    world.assert_laws([home])
    world.deposit_grid(home, 250)
    assert (world.balances(home), world.token_amount(home.energy)) == ((350, 10 * THB, 0), 650)
    world.assert_laws([home])
    world.open(EPOCH + 1)
    # 350 of a deficit of 400 are burned, 50 billed
    world.play(surplus(EPOCH + 1, 2, home, -400))
    assert world.balances(home) == (0, 10 * THB - 50 * 4_100, 0)
    world.assert_laws([home])
    refused("ZeroAmount", world.deposit_grid, home, 0)
    refused("custom error 1", world.deposit_grid, home, 651)


def test_a_withdrawal_pays_what_is_still_there(world: World):
    home = world.household("home", 1, 1 * THB, EPOCH)
    world.open(EPOCH)
    world.request(home, 5 * THB, 100)
    world.play(surplus(EPOCH, 1, home, -100))
    world.withdraw(home)
    assert world.balances(home) == (0, 0, 0)
    assert (world.token_amount(home.cash), world.token_amount(home.energy)) == (1 * THB - 100 * 4_100, 0)
    world.assert_laws([home])


def test_attack_a_withdrawal_between_gate_and_settlement(world: World):
    """A buyer takes the THBC out that its order of a begun epoch is covered by."""
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.open(EPOCH + 1)
    world.request(home, 10 * THB)
    run = surplus(EPOCH, 1, home, 100)
    world.prepare(run)
    refused("WithdrawalTooEarly", world.withdraw, home)
    world.settle(run)
    refused("WithdrawalTooEarly", world.withdraw, home)
    world.finalize(run)
    refused("WithdrawalTooEarly", world.withdraw, home)
    assert world.balances(home) == (100, 10 * THB, 0)


def test_attack_a_later_request_lets_an_earlier_one_out_before_its_epochs_are_settled(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.request(home, 1 * THB)
    refused("WithdrawalPending", world.request, home, 10 * THB)
    refused("ZeroAmount", world.request, world.household("other", 1, 0, EPOCH + 1))


def test_attack_a_withdrawal_in_the_middle_of_a_run(world: World):
    """The balance holds what the run credited, the vault and the totals don't yet."""
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.play(surplus(EPOCH, 1, home, 0))
    late = world.household("late", 1, 0, EPOCH + 1)
    world.request(home, 1, 0)
    run = Run(LATE, EPOCH, 1, 2, traders=[(home, pack("<III", 500, 0, 0))])
    world.prepare(run)
    world.settle(run)
    refused("RunNotFinalised", world.withdraw, home)
    # the run credits what no meter produced, so it never closes, and the withdrawal never pays
    refused("NetNotClosed", world.finalize, run)
    refused("RunNotFinalised", world.withdraw, home)
    assert late.trader != home.trader


def test_attack_a_stranger_withdraws_or_redirects_a_households_balance(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    thief = world.household("thief", 1, 0, EPOCH)
    world.open(EPOCH)
    refused("Unauthorised", world.request, home, 1 * THB, 0, thief.wallet)
    world.request(home, 10 * THB)
    world.play(surplus(EPOCH, 1, home, 0))
    refused("Unauthorised", world.withdraw, home, thief.wallet, thbc_destination=thief.cash)
    refused("NoWithdrawal", world.withdraw, thief)
    # its own account as signer, another's as the one that pays
    refused("Unauthorised", world.withdraw, thief, thief.wallet, trader=home.trader)
    assert world.balances(home) == (0, 10 * THB, 0)


def test_attack_payment_in_a_worthless_mint(world: World):
    """GRID is asked back with a token that anyone can make, or THBC is withdrawn as GRID."""
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.play(surplus(EPOCH, 1, home, 1_000))
    fake = key("fake mint").pubkey()
    world.plant_token_account(home.energy, fake, home.wallet.pubkey(), 10_000)
    refused("custom error 3", world.deposit_grid, home, 1_000)
    refused("WrongAddress", world.deposit_grid, home, 1_000, grid_mint=fake)
    world.give(home, 1 * THB)
    refused("custom error 3", world.deposit_grid, home, 1_000, source=home.cash)
    world.request(home, 1 * THB, 100)
    refused("WrongAddress", world.withdraw, home, thbc_mint=addresses.grid_mint())
    refused("WrongAddress", world.withdraw, home, grid_vault=addresses.thbc_vault())
    refused("custom error 3", world.withdraw, home, grid_destination=home.cash)
    world.assert_laws([home])


def test_attack_a_withdrawal_into_the_vault_itself(world: World):
    """The books would pay and the vault keep it."""
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.request(home, 10 * THB)
    world.play(surplus(EPOCH, 1, home, 0))
    refused("WrongAddress", world.withdraw, home, thbc_destination=addresses.thbc_vault())
    refused("WrongAddress", world.withdraw, home, grid_destination=addresses.grid_vault())


def test_a_paused_program_neither_takes_requests_nor_pays(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    world.play(surplus(EPOCH, 1, home, 0))
    world.request(home, 1 * THB)
    paused = {"guardian_or_authority": DEPLOYER.pubkey()}
    world.call("governance", "pause", paused, signers=[DEPLOYER], program=3)
    refused("Paused", world.withdraw, home)
    refused("Paused", world.request, home, 1)
    refused("Paused", world.deposit_grid, home, 1)

"""Attacks that an outside review of the programs found working; each now fails to steal or to stop the market.

Belongs here: findings of docs/security/programs.md whose mend is not tested beside the instruction it changed.
Does not belong here: attacks known before (test_attacks.py lists them).
"""

from __future__ import annotations

from struct import pack

import pytest
from solders.keypair import Keypair

from tests.chain.svm import CLEARING, DEPLOYER, EPOCH, GUARDIAN, LATE, PARAMS, RESETTLEMENT, START
from tests.chain.test_programs_trading import OFF_PEAK, ON_PEAK, entry, metered
from tests.chain.test_programs_trading_refusals import refused
from tests.chain.test_programs_trading_void import DAY, late_run, void_epoch, void_run
from tests.chain.trading_world import BUY, THB, Run, World, Zone, order

DAY_SECONDS = 86_400
FOR_EVER = 2**32 - 1


@pytest.fixture
def world() -> World:
    return World()


def test_a_household_that_never_opens_its_account_to_stop_the_epoch_it_is_metered_in(world: World):
    ghost = world.register("ghost", 1, EPOCH)
    home = world.household("home", 1, 5 * THB, EPOCH)
    world.open(EPOCH)
    run = Run(
        CLEARING, EPOCH, 0, 1, [(home, metered(1, 0)), (ghost, metered(5, 0))], [(home, entry(1)), (ghost, entry(5))]
    )
    world.prepare(run)
    refused("WrongOwner", world.settle, run)
    # any fee payer opens it, without the household
    world.open_trader(ghost)
    world.settle(run)
    world.finalize(run)
    assert (world.balances(ghost), world.balances(home)) == ((5, 0, 0), (1, 5 * THB, 0))


def test_an_authority_that_pauses_until_an_epoch_is_stuck_and_then_voids_its_trades():
    world = World(time_mode=0)
    world.open(EPOCH)
    world.at(START + 900)
    world.open(EPOCH + 1)
    by_authority = {"guardian_or_authority": DEPLOYER.pubkey()}
    run = Run(CLEARING, EPOCH, 0, 1)
    world.attest_run(run)
    # whichever program is stopped, settlement stops with it
    for number, program in enumerate((1, 2, 3, 4)):
        world.at(START + 900 + number)
        world.call("governance", "pause", by_authority, signers=[DEPLOYER], program=program)
    world.at(START + 900 + DAY_SECONDS)
    refused("Paused", void_epoch, world, EPOCH, run)
    for program in (1, 2, 3, 4):
        world.call("governance", "unpause", {"authority": DEPLOYER.pubkey()}, signers=[DEPLOYER], program=program)
    lifted = START + 900 + DAY_SECONDS + 3_600
    world.at(lifted + DAY_SECONDS - 1)
    refused("Paused", void_epoch, world, EPOCH, run)
    # a day in which anybody could have settled it has passed: what is stuck now is stuck by itself
    world.at(lifted + DAY_SECONDS)
    void_epoch(world, EPOCH, run)


def test_an_order_signed_before_the_band_changed_to_stop_its_epoch(world: World):
    buyer = world.household("buyer", 1, 100 * THB, EPOCH + 1)
    sun = world.household("sun", 1, 0, EPOCH + 1, sell_min=2_000_000)
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    signed = order(EPOCH + 1, BUY, 500, 8_000_000)
    narrower = {**PARAMS, "effective_epoch": EPOCH + 1, "price_max": 7_000_000}
    world.call("governance", "set_params", {"authority": DEPLOYER.pubkey()}, signers=[DEPLOYER], params=narrower)
    world.open(EPOCH + 1)
    run = Run(
        CLEARING,
        EPOCH + 1,
        0,
        2,
        [(buyer, metered(0, 500)), (sun, metered(500, 0))],
        [(buyer, entry(-500, 500)), (sun, entry(500, -500))],
        [(buyer, signed)],
        [Zone(1, 3_000_000)],
    )
    world.play(run)
    assert world.balances(buyer)[1] == 100 * THB - 1_500_000


def test_a_limit_that_no_price_can_reach_is_still_refused(world: World):
    buyer = world.household("buyer", 1, 100 * THB, EPOCH)
    world.open(EPOCH)
    signed = order(EPOCH, BUY, 500, 2**23 // 10_000 * 10_000 + 10_000)
    run = Run(CLEARING, EPOCH, 0, 1, [(buyer, metered(0, 500))], [(buyer, entry(-500))], [(buyer, signed)])
    refused("PriceOutOfBand", world.prepare, run)


def test_a_standing_request_for_all_that_ever_comes_to_leave_without_waiting(world: World):
    home = world.household("home", 1, 1 * THB, EPOCH)
    world.open(EPOCH)
    world.request(home, thbc=2**64 - 1, grid=2**64 - 1)
    found = world.read("trading", "Trader", home.trader)
    assert (found["pending_uthb"], found["pending_grid_wh"]) == (1 * THB, 0)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    world.open(EPOCH + 1)
    world.deposit(home, 5 * THB)
    world.withdraw(home)
    assert (world.token_amount(home.cash), world.balances(home)[1]) == (1 * THB, 5 * THB)
    empty = world.household("empty", 1, 0, EPOCH + 2)
    refused("ZeroAmount", world.request, empty, thbc=1)


@pytest.mark.parametrize("what", ["key", "status", "admission"])
def test_a_change_of_a_meter_so_far_ahead_that_no_other_can_follow(world: World, what: str):
    home = world.household("home", 1, 0, EPOCH)
    world.open(EPOCH)
    authority, device = {"authority": DEPLOYER.pubkey(), "meter": home.meter}, Keypair().pubkey()
    for from_epoch, name in ((FOR_EVER, "EffectiveEpochTooLate"), (EPOCH, "EffectiveEpochTooEarly")):
        calls = {
            "key": lambda at=from_epoch: world.call(
                "registry",
                "rotate_device_key",
                {**authority, "owner": home.wallet.pubkey()},
                signers=[home.wallet, DEPLOYER],
                device_key=device,
                from_epoch=at,
            ),
            "status": lambda at=from_epoch: world.call(
                "registry", "set_meter_status", authority, signers=[DEPLOYER], status=2, from_epoch=at
            ),
            "admission": lambda at=from_epoch: world.register(f"new {at}", 1, at),
        }
        refused(name, calls[what])


def test_a_guardian_that_pauses_again_after_each_lifting(world: World):
    by_guardian = {"guardian_or_authority": GUARDIAN.pubkey()}
    world.call("governance", "pause", by_guardian, signers=[GUARDIAN], program=3)
    for hour in range(1, 5):
        world.call("governance", "unpause", {"authority": DEPLOYER.pubkey()}, signers=[DEPLOYER], program=3)
        world.at(START + hour * 4_000)
        again = ("governance", "pause", by_guardian)
        refused("GuardianSpent", world.call, *again, signers=[GUARDIAN], program=3)


def test_oracles_attesting_two_runs_of_one_seq_so_that_the_laws_of_one_are_never_looked_at(world: World):
    victim, thief = world.household("victim", 1, 1_000 * THB, ON_PEAK), world.household("thief", 1, 0, ON_PEAK)
    for epoch in (ON_PEAK, OFF_PEAK):
        world.open(epoch)
        world.play(Run(CLEARING, epoch, 0, epoch - ON_PEAK + 1))
    kwh = 657_000
    refunded = pack("<IIIII", 0, kwh * 1_000 | 1 << 31, 0, 0, kwh * 1_000)
    grab = Run(RESETTLEMENT, OFF_PEAK, 1, 3, traders=[(thief, refunded)])
    honest = Run(LATE, ON_PEAK, 1, 3)
    for run in (grab, honest):
        world.attest_run(run)
        world.begin(run)
    world.commit(grab)
    # the seq is taken: nothing else can end in its stead
    refused("SeqOutOfOrder", world.commit, honest)
    refused("WrongStatus", world.finalize, honest)
    world.settle(grab)
    refused("ShiftAboveRating", world.finalize, grab)
    world.request(thief, thbc=900 * THB)
    refused("RunNotFinalised", world.withdraw, thief)
    assert (world.token_amount(thief.cash), world.balances(victim)[1]) == (0, 1_000 * THB)


def test_a_run_committed_before_its_turn_to_apply_with_a_seq_that_is_given_again_after_a_void(world: World):
    victim, thief = world.household("victim", 1, 0, EPOCH), world.household("thief", 1, 0, EPOCH)
    for epoch in range(EPOCH, EPOCH + DAY + 4):
        world.open(epoch)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(victim, metered(5_000, 0))], [(victim, entry(5_000))]))
    # booked: EPOCH + 1 as seq 2, which gets no root; a late run for the thief as seq 3, whose root is final
    late = late_run(EPOCH, 1, 3, thief, 5_000)
    world.attest_run(late)
    world.begin(late)
    world.meter(late)
    refused("SeqOutOfOrder", world.commit, late)
    void_epoch(world, EPOCH + 1)
    # seq 2 and 3 are other runs now
    world.play(Run(LATE, EPOCH + 1, 1, 2))
    other = Run(LATE, EPOCH + 1, 2, 3)
    world.attest_run(other)
    world.begin(other)
    world.commit(other)
    refused("SeqOutOfOrder", world.commit, late)
    refused("WrongKind", world.settle, late)
    world.finalize(other)
    assert (world.balances(thief), world.balances(victim)) == ((0, 0, 0), (5_000, 0, 0))


def test_a_late_run_trading_before_what_it_credits_is_minted(world: World):
    victim, thief = world.household("victim", 1, 0, EPOCH), world.household("thief", 1, 0, EPOCH)
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(victim, metered(5_000, 0))], [(victim, entry(5_000))]))
    late = late_run(EPOCH, 1, 2, thief, 5_000)
    world.attest_run(late)
    world.begin(late)
    refused("MeteringIncomplete", world.commit, late)
    world.meter(late)
    world.commit(late)
    world.settle(late)
    world.finalize(late)
    assert world.balances(thief) == (5_000, 0, 0)


def test_runs_committed_ahead_are_voided_in_the_order_of_their_seq(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    for epoch in range(EPOCH, EPOCH + DAY + 4):
        world.open(epoch)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    # without meters: a run of which metering has applied is never voided
    first, second = Run(CLEARING, EPOCH + 1, 0, 2), Run(LATE, EPOCH, 1, 3, traders=[(home, pack("<III", 0, 0, 0))])
    for run in (first, second):
        world.attest_run(run)
    world.begin(second)
    world.commit(first)
    world.commit(second)
    refused("SeqOutOfOrder", void_run, world, second, False)
    void_epoch(world, EPOCH + 1)
    void_run(world, second, False)
    assert (world.market()["finalized_seq"], world.market()["committed_seq"]) == (3, 3)
    world.play(Run(LATE, EPOCH + 1, 1, 4))

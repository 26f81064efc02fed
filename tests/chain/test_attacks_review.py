"""Attacks that a reviewer with fresh eyes found to work, each mended and failing now (docs/security/programs.md).

Belongs here: one test a finding. Does not belong here: attacks known before (test_attacks.py and beside it).
"""

from __future__ import annotations

from struct import pack

import pytest
from solders.instruction import AccountMeta

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, EPOCH, METERING, Receipt, batch_args
from tests.chain.test_programs_trading_refusals import refused
from tests.chain.test_programs_trading_void import DAY, void_epoch
from tests.chain.trading_world import BUY, SELL, THB, Household, Run, World, Zone, order


def metered(net: int) -> bytes:
    return pack("<II", max(net, 0), max(-net, 0))


def entry(net: int, traded: int = 0) -> bytes:
    return pack("<ii", net, traded)


def meter_one(world: World, run: Run, i: int) -> Receipt:
    """The i-th metering batch of a run, as any relayer may send it."""
    assert run.metering_tree is not None
    [(home, data)] = run.registry[i]
    named = {
        "metered": addresses.metered(run.epoch),
        "metered_before": addresses.metered(run.epoch - 1),
        "attestation": addresses.attestation(METERING, run.epoch, 0),
    }
    remaining = [AccountMeta(home.meter, False, True)]
    return world.call("registry", "settle_meters", named, remaining, **batch_args(run.metering_tree, i, 1, data))


def test_attack_a_later_epoch_metered_early_so_that_it_can_neither_settle_nor_be_voided():
    world = World()
    old = world.household("old", 1, 10 * THB, EPOCH)
    new = world.household("new", 1, 10 * THB, EPOCH + 1)
    world.open(EPOCH)
    world.open(EPOCH + 1)
    run = Run(
        CLEARING,
        EPOCH + 1,
        0,
        2,
        [(new, metered(100)), (old, metered(50))],
        [(old, entry(50)), (new, entry(100))],
        meters_per_batch=1,
    )
    world.attest_run(run)
    # EPOCH is stuck: it may be voided yet, and nothing of what was booked after it may have been applied then
    refused("EpochOutOfOrder", meter_one, world, run, 0)
    for epoch in range(EPOCH + 2, EPOCH + DAY + 4):
        world.open(epoch)
    void_epoch(world, EPOCH)
    void_epoch(world, EPOCH + 1, None)
    void_epoch(world, EPOCH + 2)


def test_an_epoch_is_metered_while_the_one_before_it_still_settles():
    world = World()
    home = world.household("home", 1, THB, EPOCH)
    world.open(EPOCH)
    world.open(EPOCH + 1)
    first, second = (
        Run(CLEARING, EPOCH + i, 0, 1 + i, [(home, metered(100))], [(home, entry(100))], meters_per_batch=1)
        for i in range(2)
    )
    world.attest_run(first)
    world.attest_run(second)
    refused("EpochOutOfOrder", meter_one, world, second, 0)
    meter_one(world, first, 0)
    meter_one(world, second, 0)
    for run in (first, second):
        world.commit(run)
        world.settle(run)
        world.finalize(run)
    assert world.balances(home)[0] == 200


@pytest.mark.parametrize("other", [EPOCH, EPOCH - 1, EPOCH + 2])
def test_attack_metering_of_another_epoch_shown_as_that_of_the_one_before(other: int):
    world = World()
    home = world.household("home", 1, THB, EPOCH)
    for epoch in range(EPOCH, EPOCH + 3):
        world.open(epoch)
    first = Run(CLEARING, EPOCH, 0, 1, [(home, metered(1))], [(home, entry(1))])
    third = Run(CLEARING, EPOCH + 2, 0, 3, [(home, metered(1))], [(home, entry(1))])
    world.attest_run(first)
    world.attest_run(third)
    meter_one(world, first, 0)
    named = {
        "metered": addresses.metered(EPOCH + 2),
        "metered_before": addresses.metered(other),
        "attestation": addresses.attestation(METERING, EPOCH + 2, 0),
    }
    remaining = [AccountMeta(home.meter, False, True)]
    args = batch_args(third.metering_tree, 0, 1, metered(1))
    error = "WrongOwner" if other < EPOCH else "EpochOutOfOrder"
    refused(error, world.call, "registry", "settle_meters", named, remaining, **args)


class Neighbours:
    """One household that trades by a mandate and by a signed order of its own, and one that takes the other side."""

    def __init__(self, side: int) -> None:
        self.world = World()
        self.home = self.world.household("home", 1, 100 * THB, EPOCH, buy_max=8_000_000, sell_min=2_000_000)
        self.other = self.world.household("other", 1, 100 * THB, EPOCH, buy_max=8_000_000, sell_min=2_000_000)
        self.world.open(EPOCH)
        self.side, self.sign = side, 1 if side == SELL else -1
        self.signed = order(EPOCH, side, 500, 8_000_000 if side == BUY else 2_000_000)

    def run(self, net: int, traded: int) -> Run:
        own, opposite = entry(self.sign * net, -self.sign * traded), entry(-self.sign * traded, self.sign * traded)
        meters = [(self.home, metered(self.sign * net)), (self.other, metered(-self.sign * traded))]
        traders = [(self.home, own), (self.other, opposite)]
        return Run(CLEARING, EPOCH, 0, 1, meters, traders, [(self.home, self.signed)], [Zone(1, 7_000_000)])


@pytest.mark.parametrize("side", [BUY, SELL])
def test_attack_oracles_trade_by_mandate_what_a_signed_order_already_traded(side: int):
    """By domain §4 the mandate is for what own orders leave: of 500 Wh, with an order for all of them, nothing."""
    street = Neighbours(side)
    run = street.run(500, 501)
    street.world.prepare(run)
    refused("OutsideLimits", street.world.settle, run)


@pytest.mark.parametrize(("side", "net", "traded"), [(BUY, 600, 600), (SELL, 600, 600), (BUY, 500, 500)])
def test_a_mandate_trades_what_a_signed_order_leaves(side: int, net: int, traded: int):
    street = Neighbours(side)
    street.world.play(street.run(net, traded))
    street.world.assert_laws([street.home, street.other])


def border(prices: tuple[int, int], rent: int) -> tuple[World, Run, list[Household]]:
    """10 000 Wh over a border, at a price on either side; the operator has 100 THB."""
    world = World()
    seller = world.household("seller", 2, 0, EPOCH, sell_min=2_000_000)
    buyer = world.household("buyer", 1, 100 * THB, EPOCH, buy_max=8_000_000)
    world.fund(buyer, 2, 100 * THB)
    world.open(EPOCH)
    run = Run(
        CLEARING,
        EPOCH,
        0,
        1,
        [(seller, metered(10_000)), (buyer, metered(-10_000))],
        [(seller, entry(10_000, -10_000)), (buyer, entry(-10_000, 10_000))],
        zones=[Zone(1, prices[0]), Zone(2, prices[1])],
        rent=rent,
    )
    world.prepare(run)
    world.settle(run)
    return world, run, [seller, buyer]


def test_attack_oracles_pay_a_friend_out_of_the_grid_operators_account_by_prices_that_no_optimum_has():
    prices = (1, 8_388_607)
    world, run, _ = border(prices, 10 - 83_886_070)
    refused("RentBelowRounding", world.finalize, run)
    # declared as link wheeling it comes back to the operator itself, and rent that rounding can leave is paid
    world, run, homes = border((3_000_000, 3_000_001), -10)
    world.finalize(run)
    world.assert_laws(homes)


def thieves_two_epochs(world: World) -> tuple[Household, list[Run]]:
    """A household asks its GRID back and has two runs booked: one burns that GRID, the next buys with all its THBC."""
    thief = world.household("thief", 1, 10 * THB, EPOCH, buy_max=8_000_000)
    sun = world.household("sun", 1, 10 * THB, EPOCH, sell_min=2_000_000)
    both = lambda net, other=0: [(thief, metered(net)), (sun, metered(other))]  # noqa: E731
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1, both(1_000), [(thief, entry(1_000)), (sun, entry(0))]))
    world.open(EPOCH + 1)
    world.request(thief, grid=1_000)
    for epoch in (EPOCH + 2, EPOCH + 3, EPOCH + 4):
        world.open(epoch)
    world.play(Run(CLEARING, EPOCH + 1, 0, 2, both(0), [(thief, entry(0)), (sun, entry(0))]))
    burns = Run(CLEARING, EPOCH + 2, 0, 3, both(-1_000), [(thief, entry(-1_000)), (sun, entry(0))])
    buys = [(thief, entry(-3_000, 3_000)), (sun, entry(3_000, -3_000))]
    spends = Run(CLEARING, EPOCH + 3, 0, 4, both(-3_000, 3_000), buys, zones=[Zone(1, 3_000_000)])
    return thief, [burns, spends]


def test_attack_grid_withdrawn_between_two_booked_runs_so_that_the_second_is_not_covered():
    world = World()
    thief, runs = thieves_two_epochs(world)
    for run in runs:
        world.attest_run(run)
    # the epochs of its request are settled, but what was booked since counts with what it holds
    refused("EndedEpochUnsettled", world.withdraw, thief)
    for run in runs:
        world.meter(run)
        world.commit(run)
        refused("EndedEpochUnsettled", world.withdraw, thief)
        world.settle(run)
        world.finalize(run)
    assert world.balances(thief) == (0, THB, 0)
    world.withdraw(thief)
    assert world.balances(thief) == (0, THB, 0)


def test_attack_grid_deposited_between_booking_and_settlement_so_that_a_booked_bill_vanishes():
    world = World()
    thief, runs = thieves_two_epochs(world)
    for run in runs:
        world.play(run)
    world.open(EPOCH + 5)
    world.play(Run(CLEARING, EPOCH + 4, 0, 5, [(thief, metered(500))], [(thief, entry(500))]))
    world.withdraw(thief)  # what is there of the 1 000 Wh asked for
    assert world.token_amount(thief.energy) == 500
    world.play(Run(CLEARING, EPOCH + 5, 0, 6, [(thief, metered(0))], [(thief, entry(0))]))
    for epoch in (EPOCH + 6, EPOCH + 7):
        world.open(epoch)
    billed = Run(CLEARING, EPOCH + 6, 0, 7, [(thief, metered(-200))], [(thief, entry(-200))])
    world.prepare(billed)
    refused("EndedEpochUnsettled", world.deposit_grid, thief, 500)
    world.settle(billed)
    world.finalize(billed)
    world.deposit_grid(thief, 500)
    assert world.balances(thief) == (500, THB - 820_000, 0)


def test_attack_a_metering_batch_beyond_those_that_the_header_counts_mints_after_the_epoch_is_final():
    world = World()
    home, other = world.household("home", 1, THB, EPOCH), world.household("other", 1, THB, EPOCH)
    world.open(EPOCH)
    meters = [(home, metered(10)), (other, metered(500))]
    run = Run(CLEARING, EPOCH, 0, 1, meters, [(home, entry(10))], meters_per_batch=1, registry_batches=1)
    world.attest_run(run)
    meter_one(world, run, 0)
    world.commit(run)
    world.settle(run)
    world.finalize(run)
    refused("EpochOutOfOrder", meter_one, world, run, 1)
    world.assert_laws([home, other])

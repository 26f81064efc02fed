"""Attacks on the programs (chain.md §7), each a test that fails to steal: those of the authority and of the oracles.

Belongs here: attacks that no other test of the programs makes. Does not belong here: those of strangers, relayers and
households (test_attacks_strangers.py), those of certificates, proposals, withdrawals, matching and voiding (their own
files). docs/security/attacks.md lists every known attack with its tests.
"""

from __future__ import annotations

from struct import pack
from types import SimpleNamespace

import pytest
from solders.instruction import AccountMeta

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import (
    CLEARING,
    DEPLOYER,
    EPOCH,
    LATE,
    METERING,
    ORACLES,
    PARAMS,
    RESETTLEMENT,
    START,
    Chain,
    batch_args,
    key,
    leaf,
)
from tests.chain.test_programs_trading import OFF_PEAK, entry, metered, settled_pair
from tests.chain.test_programs_trading_refusals import Street, refused
from tests.chain.trading_world import BUY, THB, Household, Run, World, Zone, order

AUTHORITY = {"authority": DEPLOYER.pubkey()}
SUSPENDED, RETIRED = 2, 3


@pytest.fixture
def world() -> World:
    return World()


def approve(world: World, home: Household, first_epoch: int) -> None:
    values = {"first_epoch": first_epoch, "baseline_production_wh": 0, "baseline_consumption_wh": 0}
    world.call("registry", "approve_meter", {**AUTHORITY, "meter": home.meter}, signers=[DEPLOYER], **values)


def set_status(world: World, home: Household, status: int, from_epoch: int) -> None:
    named = {**AUTHORITY, "meter": home.meter}
    world.call("registry", "set_meter_status", named, signers=[DEPLOYER], status=status, from_epoch=from_epoch)


# ---- the authority


def test_an_authority_that_names_its_own_oracles_mints_nothing_with_them_for_a_day(world: World):
    own = key("the authority's oracle")
    world.call("governance", "set_oracles", AUTHORITY, signers=[DEPLOYER], threshold=1, oracles=[own.pubkey()])
    refused("Unauthorised", world.attest, METERING, EPOCH, 0, bytes(32), oracles=[own])
    world.attest(METERING, EPOCH, 0, bytes([1]) * 32, ORACLES[:1])
    world.at(START + 86_399)
    refused("Unauthorised", world.attest, METERING, EPOCH, 0, bytes(32), oracles=[own])
    # until then the oracles in force stop it by going on, and the guardian by a pause
    world.attest(METERING, EPOCH, 0, bytes([1]) * 32, ORACLES[1:2])
    assert world.read("oracle", "Attestation", addresses.attestation(METERING, EPOCH, 0))["is_final"] == 1


def test_a_parameter_changed_for_an_epoch_that_has_begun_but_nobody_opened():
    world = World(time_mode=0)
    world.open(EPOCH)
    world.at(START + 5 * 900)
    call = {"signers": [DEPLOYER], "params": {**PARAMS, "effective_epoch": EPOCH + 5}}
    refused("EffectiveEpochTooEarly", world.call, "governance", "set_params", AUTHORITY, **call)
    call["params"]["effective_epoch"] = EPOCH + 6
    world.call("governance", "set_params", AUTHORITY, **call)


def test_an_old_meter_minting_its_past():
    world = World(time_mode=0)
    refused("EffectiveEpochTooEarly", world.register, "home", 1, EPOCH)
    simulated = World()
    simulated.open(EPOCH)
    refused("EffectiveEpochTooEarly", simulated.register, "home", 1, EPOCH - 100)


def test_a_suspended_meter_readmitted_for_the_time_it_was_suspended(world: World):
    home = world.household("home")
    world.open(EPOCH)
    set_status(world, home, SUSPENDED, EPOCH + 1)
    # its last epoch is under way: jumping over it would leave its attested batch unable to apply
    refused("MeterUnsettled", approve, world, home, EPOCH + 1)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(home, metered(10, 0))], [(home, entry(10))]))
    for epoch in (EPOCH + 1, EPOCH + 2):
        world.open(epoch)
    refused("EffectiveEpochTooEarly", approve, world, home, EPOCH + 1)
    approve(world, home, EPOCH + 3)


def test_a_suspension_from_an_epoch_that_has_begun_but_nobody_opened():
    world = World(time_mode=0)
    home = world.register("home", 1, EPOCH + 1)
    world.open(EPOCH)
    world.at(START + 3 * 900)
    refused("EffectiveEpochTooEarly", set_status, world, home, RETIRED, EPOCH + 2)


def test_simulated_time_on_mainnet():
    chain = World.__new__(World)
    Chain.__init__(chain)
    chain.initialize_governance()
    chain.initialize_tokens()
    chain.change("governance", "Governance", addresses.governance(), network=1)
    refused("SimulatedTimeRefused", chain.initialize_market, 1)
    chain.initialize_market(0)


def test_priorities_that_depend_on_the_machine_s_clock():
    simulated = []
    for now in (START, START + 12_345):
        world = World()
        world.at(now)
        world.open(EPOCH)
        home = world.household("home", first_epoch=EPOCH + 1, sell_min=2_000_000)
        simulated.append(world.read("trading", "Trader", home.trader)["next"]["set_at"])
    assert simulated == [(EPOCH + 1) * 900] * 2
    by_clock = World(time_mode=0)
    by_clock.at(START + 77)
    home = by_clock.household("home", first_epoch=EPOCH + 1, sell_min=2_000_000)
    assert by_clock.read("trading", "Trader", home.trader)["next"]["set_at"] == START + 77


# ---- oracles that lie


def test_oracles_that_burn_what_one_wallet_holds_and_credit_another_with_it(world: World):
    victim, thief = world.household("victim"), world.household("thief")
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(victim, metered(500, 0))], [(victim, entry(500))]))
    world.open(EPOCH + 1)
    run = Run(CLEARING, EPOCH + 1, 0, 2, traders=[(victim, entry(-500)), (thief, entry(500))])
    world.prepare(run)
    world.settle(run)
    refused("CreditAboveMinted", world.finalize, run)
    late = World()
    victim, thief = late.household("victim"), late.household("thief")
    late.open(EPOCH)
    late.play(Run(CLEARING, EPOCH, 0, 1, [(victim, metered(500, 0))], [(victim, entry(500))]))
    traders = [(victim, pack("<III", 0, 0, 500)), (thief, pack("<III", 500, 0, 0))]
    run = Run(LATE, EPOCH, 1, 2, traders=traders)
    late.prepare(run)
    late.settle(run)
    refused("CreditAboveMinted", late.finalize, run)


def test_a_refund_billed_again_at_another_tariff_without_a_meter_that_moved_it(world: World):
    a, b = settled_pair(world)
    most = 60_000 * 11 // 40
    for run, meters, wh in ((1, [(b, pack("<i", 0))], most + 1), (1, [], 1)):
        fresh = World()
        a, b = settled_pair(fresh)
        # a refund at the on-peak tariff, billed again at the off-peak one, would be the supplier's loss
        traders = [(a, pack("<IIIII", 0, wh | 1 << 31, 0, 0, wh))]
        forged = Run(RESETTLEMENT, OFF_PEAK, run, 3, meters, traders)
        fresh.prepare(forged)
        fresh.settle(forged)
        refused("ShiftAboveRating", fresh.finalize, forged)


def test_a_meter_corrected_twice_in_a_run_to_double_its_bound(world: World):
    a, _ = settled_pair(world)
    twice = [(a, pack("<i", -300)), (a, pack("<i", -300))]
    refused("CorrectedTwice", world.prepare, Run(RESETTLEMENT, OFF_PEAK, 1, 3, twice))
    two_batches = World()
    a, _ = settled_pair(two_batches)
    twice = [(a, pack("<i", -300)), (a, pack("<i", -300))]
    refused("CorrectedTwice", two_batches.prepare, Run(RESETTLEMENT, OFF_PEAK, 1, 3, twice, meters_per_batch=1))


def test_the_same_kwh_minted_by_metering_and_by_a_late_entry(world: World):
    home = world.household("home")
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(home, metered(500, 0))], [(home, entry(500))]))
    again = [(home, pack("<IIII", EPOCH, 500, 0, 500))]
    refused("MeterOutOfOrder", world.prepare, Run(LATE, EPOCH, 1, 2, again))
    assert world.token_amount(addresses.grid_vault()) == 500


def test_a_late_run_counted_again_in_the_run_after_it(world: World):
    home, late = world.household("home"), world.household("late")
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(home, metered(1, 0))], [(home, entry(1))]))
    meters, traders = [(late, pack("<IIII", EPOCH, 9, 0, 9))], [(late, pack("<III", 9, 0, 0))]
    first = Run(LATE, EPOCH, 1, 2, meters, traders)
    world.play(first)
    second = Run(LATE, EPOCH, 2, 3, traders=traders)
    world.attest_run(second)
    world.begin(second)  # bitmap and sums start anew
    tree, named = (
        first.tree,
        {"metered": addresses.metered(EPOCH), "attestation": addresses.attestation(LATE, EPOCH, 2)},
    )
    old = batch_args(tree, 1, 1, meters[0][1])
    remaining = [AccountMeta(late.meter, False, True)]
    refused("WrongRoot", world.call, "registry", "settle_late_meters", named, remaining, **old)
    named["attestation"] = addresses.attestation(LATE, EPOCH, 1)
    refused("WrongAttestation", world.call, "registry", "settle_late_meters", named, remaining, **old)
    world.commit(second)
    world.settle(second)
    refused("NetNotClosed", world.finalize, second)
    assert world.token_amount(addresses.grid_vault()) == 10


def test_energy_minted_but_credited_to_nobody(world: World):
    home = world.household("home")
    world.open(EPOCH)
    run = Run(CLEARING, EPOCH, 0, 1, [(home, metered(500, 0))])
    world.prepare(run)
    refused("NetNotClosed", world.finalize, run)


def test_a_batch_over_accounts_that_are_no_traders():
    for other, error in (
        (addresses.epoch(EPOCH), "WrongLength"),
        (addresses.address_of_user(Street().sun.wallet.pubkey()), "WrongOwner"),
        (addresses.thbc_vault(), "WrongOwner"),
    ):
        street = Street()
        run = street.prepared(traders=[(SimpleNamespace(trader=other), entry(0))], zones=[])
        refused(error, street.world.settle, run)
    street = Street()
    street.world.change("trading", "Trader", street.sun.trader, zone=1)
    found = street.world.svm.get_account(street.sun.trader)
    street.world.put(street.sun.trader, found.owner, bytes(8) + bytes(found.data)[8:])
    refused("WrongDiscriminator", street.world.settle, street.prepared())


def test_a_header_whose_zone_count_is_not_its_zones():
    zone = pack("<HII", 1, 3_000_000, 0)
    for count, zones, error in ((2, zone, "InvalidData"), (0, zone, "InvalidData"), (2, zone * 2, "InvalidHeader")):
        street = Street()
        header = pack("<QHHHHQQqH", 1, 0, 0, 0, 0, 0, 0, 0, count) + zones
        street.world.attest(CLEARING, EPOCH, 0, leaf("trading", CLEARING, EPOCH, 0, 0, header))
        named = street.world.run_accounts(street.run())
        refused(error, street.world.call, "trading", "commit_clearing", named, depth=0, rest=header)


def test_a_filled_order_that_nobody_records(world: World):
    seller, buyer = world.household("seller", sell_min=2_000_000), world.household("buyer", 1, 10 * THB)
    world.open(EPOCH)
    meters, traders = [(seller, metered(100, 0)), (buyer, metered(0, 100))], [(seller, entry(100, -100))]
    orders = [(buyer, order(EPOCH, BUY, 100, 3_000_000))]
    traders.append((buyer, entry(-100, 100)))
    run = Run(CLEARING, EPOCH, 0, 1, meters, traders, orders, [Zone(1, 3_000_000)])
    world.attest_run(run)
    world.meter(run)
    world.commit(run)
    refused("OutsideLimits", world.settle, run)
    refused("RunIncomplete", world.finalize, run)

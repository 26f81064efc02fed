"""The trading program from initialise to finalise: whole epochs and later runs, exact balances, all laws."""

from __future__ import annotations

from struct import pack

import pytest

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, DEPLOYER, EPOCH, LATE, PARAMS, RESETTLEMENT, START, ProgramFailedError, key
from tests.chain.trading_world import BUY, BUY_BACK, HALTED, SELL, THB, Household, Run, World, Zone, order

ON_PEAK = EPOCH + 11  # 2026-01-27 21:45 in Bangkok, the last quarter hour of the day's peak
OFF_PEAK = ON_PEAK + 1


def metered(production: int, consumption: int) -> bytes:
    return pack("<II", production, consumption)


def entry(net: int, traded: int = 0) -> bytes:
    return pack("<ii", net, traded)


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name


@pytest.fixture
def world() -> World:
    return World()


def test_an_epoch_from_initialise_to_finalise_moves_exactly_what_the_domain_says(world: World):
    sun = world.household("sun", 1, 10 * THB, EPOCH, sell_min=2_500_000, buy_back=1)
    flat = world.household("flat", 2, 20 * THB, EPOCH, buy_max=4_000_000)
    poor = world.household("poor", 1, 1 * THB, EPOCH)
    world.fund(flat, 0, 100 * THB)
    world.fund(flat, 2, 1 * THB)
    world.open(EPOCH)
    # sun sells 2 500 Wh at 3.00, of which 2 450 arrive in zone 2 at 3.07 + 0.21; 50 Wh are lost on the link
    cost = 8_036_000  # 2 450 × 3.28
    proceeds, fee = 7_425_000, 75_000
    wheeling = cost - 7_521_500  # 2 450 × 3.07
    run = Run(
        CLEARING,
        EPOCH,
        0,
        1,
        meters=[(sun, metered(5_001, 1_000)), (flat, metered(0, 3_000)), (poor, metered(0, 1_001))],
        traders=[(sun, entry(4_001, -2_500)), (flat, entry(-3_000, 2_450)), (poor, entry(-1_001))],
        zones=[Zone(1, 3_000_000), Zone(2, 3_070_000, 210_000)],
        flags=BUY_BACK,
        lost=50,
        link_wheeling=25_000,
        rent=cost - proceeds - fee - wheeling - 25_000,
    )
    world.play(run)
    buy_back = 1_501 * 2_200
    residual, poor_bill = 550 * 4_100, 1_001 * 4_100
    assert world.balances(sun) == (0, 10 * THB + proceeds + buy_back, 0)
    assert world.balances(flat) == (0, 20 * THB - cost - residual, 0)
    assert world.balances(poor) == (0, 0, poor_bill - 1 * THB)
    market = world.market()
    assert market["supplier_grid_wh"] == 1_501
    assert market["supplier_thbc_uthb"] == 100 * THB + residual + 1 * THB - buy_back
    assert market["platform_thbc_uthb"] == fee
    assert market["grid_operator_thbc_uthb"] == 1 * THB + wheeling + 25_000 + run.rent
    assert (market["minted_wh"], market["burned_wh"], market["residual_wh"]) == (4_001, 2_500, 1_551)
    assert (market["finalized_seq"], market["settled_through"], market["last_opened"]) == (1, EPOCH, EPOCH)
    world.assert_laws([sun, flat, poor])

    # the debt is paid first by whatever comes in
    world.deposit(poor, 4 * THB)
    assert world.balances(poor) == (0, 4 * THB - (poor_bill - 1 * THB), 0)
    world.assert_laws([sun, flat, poor])


def test_a_second_epoch_starts_from_the_balances_of_the_first_and_the_tariff_follows_the_clock(world: World):
    home = world.household("home", 1, 0, ON_PEAK)
    for seq, epoch, tariff in ((1, ON_PEAK, 4_100_000), (2, OFF_PEAK, 2_580_000)):
        world.open(epoch)
        found = world.read("trading", "Epoch", addresses.epoch(epoch))
        assert (found["tariff"], found["fee_bp"], found["vat_bp"]) == (tariff, 100, 700)
        assert (found["feed_in"], found["price_min"], found["price_max"]) == (2_200_000, 2_000_000, 8_000_000)
        assert (found["kind"], found["run"], found["status"]) == (CLEARING, 0, 0)
        world.play(Run(CLEARING, epoch, 0, seq, [(home, metered(0, 1_000))], [(home, entry(-1_000))]))
    assert world.balances(home) == (0, 0, 4_100_000 + 2_580_000)
    world.assert_laws([home])


def test_parameters_change_from_their_epoch_on_and_never_an_open_one(world: World):
    world.open(EPOCH)
    changed = {**PARAMS, "effective_epoch": EPOCH + 2, "fee_bp": 250, "tariff_on_peak": 5_000_000}
    world.call("governance", "set_params", {"authority": DEPLOYER.pubkey()}, signers=[DEPLOYER], params=changed)
    for epoch in (EPOCH + 1, EPOCH + 2):
        world.open(epoch)
    epochs = [world.read("trading", "Epoch", addresses.epoch(epoch)) for epoch in range(EPOCH, EPOCH + 3)]
    assert [(each["fee_bp"], each["tariff"]) for each in epochs] == [(100, 4_100_000)] * 2 + [(250, 5_000_000)]


def test_a_halted_epoch_credits_and_bills_but_neither_trades_nor_buys_back(world: World):
    sun = world.household("sun", 1, 0, EPOCH, sell_min=2_500_000, buy_back=1)
    flat = world.household("flat", 1, 10 * THB, EPOCH, buy_max=8_000_000)
    world.open(EPOCH)
    meters = [(sun, metered(500, 0)), (flat, metered(0, 300))]
    run = Run(CLEARING, EPOCH, 0, 1, meters, [(sun, entry(500)), (flat, entry(-300))], zones=[Zone(1, 0)], flags=HALTED)
    world.play(run)
    assert (world.balances(sun), world.balances(flat)) == ((500, 0, 0), (0, 10 * THB - 300 * 4_100, 0))
    world.assert_laws([sun, flat])


def test_late_entries_burn_what_is_held_for_the_dearest_class_first(world: World):
    home = world.household("home", 1, 1 * THB, EPOCH)
    late = world.household("late", 1, 0, EPOCH)
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(home, metered(600, 0))], [(home, entry(600))]))
    # `late` was missing; its meter catches up to this epoch with 100 surplus and 1 000 deficit, `home` has nothing late
    run = Run(
        LATE,
        EPOCH,
        1,
        2,
        meters=[(late, pack("<IIII", EPOCH, 100, 1_000, 100))],
        traders=[(late, pack("<III", 100, 700, 300))],
    )
    world.play(run)
    # 100 Wh burned for on-peak; residual 600 on-peak and 300 off-peak
    assert world.balances(late) == (0, 0, 600 * 4_100 + 300 * 2_580)
    assert world.balances(home) == (600, 1 * THB, 0)
    found = world.read("trading", "Epoch", addresses.epoch(EPOCH))
    assert (found["run"], found["kind"], found["status"], found["seq"]) == (1, LATE, 2, 2)
    world.assert_laws([home, late])


def settled_pair(world: World) -> tuple[Household, Household]:
    """Two epochs across the end of the peak: `a` in deficit then in surplus, `b` bought back twice."""
    a = world.household("a", 1, 10 * THB, ON_PEAK)
    b = world.household("b", 1, 0, ON_PEAK, sell_min=8_000_000, buy_back=1)
    world.fund(a, 0, 100 * THB)
    for seq, epoch, meters, traders in (
        (1, ON_PEAK, [(a, metered(0, 1_000)), (b, metered(500, 0))], [(a, entry(-1_000)), (b, entry(500))]),
        (2, OFF_PEAK, [(a, metered(800, 0)), (b, metered(0, 70))], [(a, entry(800)), (b, entry(-70))]),
    ):
        world.open(epoch)
        world.play(Run(CLEARING, epoch, 0, seq, meters, traders, flags=BUY_BACK))
    return a, b


def test_a_resettlement_moves_only_the_difference(world: World):
    a, b = settled_pair(world)
    before = world.market()
    # refund at the deficit epoch's tariff (on-peak), returned and billed at the surplus epoch's (off-peak)
    run = Run(
        RESETTLEMENT,
        OFF_PEAK,
        1,
        3,
        meters=[(a, pack("<i", -500)), (b, pack("<i", 50))],
        traders=[(a, pack("<IIIII", 0, 600 | 1 << 31, 100, 400, 100)), (b, pack("<IIIII", 50, 0, 0, 0, 0))],
    )
    world.play(run)
    cash = 10 * THB - 1_000 * 4_100 + 600 * 4_100 - 400 * 2_200 - 100 * 2_580
    assert world.balances(a) == (700, cash, 0)
    assert world.balances(b)[0] == 0
    after = world.market()
    supplier = before["supplier_thbc_uthb"] - 600 * 4_100 + 400 * 2_200 + 100 * 2_580
    assert (after["supplier_thbc_uthb"], after["supplier_grid_wh"]) == (supplier, before["supplier_grid_wh"] - 400)
    assert after["residual_wh"] - before["residual_wh"] == -500
    assert after["minted_wh"] - before["minted_wh"] == after["deficit_wh"] - before["deficit_wh"] == -450
    assert after["tokens_burned_wh"] - before["tokens_burned_wh"] == 550
    world.assert_laws([a, b])


def test_a_refund_of_the_run_s_own_epoch_is_billed_at_the_one_before(world: World):
    a, b = settled_pair(world)
    run = Run(
        RESETTLEMENT,
        OFF_PEAK,
        1,
        3,
        meters=[(b, pack("<i", -40))],
        traders=[(b, pack("<IIIII", 0, 70, 0, 40, 30))],
    )
    owed = world.balances(b)[1]
    world.play(run)
    assert world.balances(b) == (0, owed + 70 * 2_580 - 40 * 2_200 - 30 * 4_100, 0)
    world.assert_laws([a, b])


def test_a_resettlement_that_takes_back_more_than_metering_reversed_does_not_close(world: World):
    a, b = settled_pair(world)
    entries = [(a, pack("<IIIII", 0, 600 | 1 << 31, 600, 0, 0))]
    run = Run(RESETTLEMENT, OFF_PEAK, 1, 3, meters=[(a, pack("<i", -500))], traders=entries)
    world.prepare(run)
    world.settle(run)
    refused("ReversalNotClosed", world.finalize, run)
    lone = World()
    a, b = settled_pair(lone)
    run = Run(RESETTLEMENT, OFF_PEAK, 1, 3, [(b, pack("<i", 50))], [(b, pack("<IIIII", 49, 0, 0, 0, 0))])
    lone.prepare(run)
    lone.settle(run)
    refused("ReversalNotClosed", lone.finalize, run)


def test_a_resettlement_entry_that_does_not_add_up_is_refused(world: World):
    a, _ = settled_pair(world)
    words = (0, 601 | 1 << 31, 100, 400, 100)
    run = Run(RESETTLEMENT, OFF_PEAK, 1, 3, [(a, pack("<i", -500))], [(a, pack("<IIIII", *words))])
    world.prepare(run)
    refused("RefundNotClosed", world.settle, run)


def test_attack_grid_withdrawn_before_a_booked_correction_takes_it_back_stops_the_market(world: World):
    """With its metering booked, the run could be neither finished nor voided; now what lacks is billed instead."""
    a, b = settled_pair(world)
    held, cash, _ = world.balances(a)
    world.request(a, grid=held)
    run = Run(RESETTLEMENT, OFF_PEAK, 1, 3, [(a, pack("<i", -300))], [(a, pack("<IIIII", 0, 300 | 1 << 31, 300, 0, 0))])
    world.prepare(run)
    world.withdraw(a)
    assert world.balances(a)[0] == 0
    world.settle(run)
    world.finalize(run)
    assert world.balances(a) == (0, cash + 300 * 4_100 - 300 * 2_580, 0)
    world.assert_laws([a, b])


def test_the_supplier_s_account_must_cover_a_run_and_finalising_again_after_funding_works(world: World):
    sun = world.household("sun", 1, 0, EPOCH, sell_min=8_000_000, buy_back=1)
    world.open(EPOCH)
    run = Run(CLEARING, EPOCH, 0, 1, [(sun, metered(1_000, 0))], [(sun, entry(1_000))], flags=BUY_BACK)
    world.prepare(run)
    world.settle(run)
    refused("SupplierNotCovered", world.finalize, run)
    world.fund(sun, 0, 2_200_000)
    world.finalize(run)
    world.assert_laws([sun])


def test_recorded_orders_allow_a_trade_that_no_mandate_does(world: World):
    seller = world.household("seller", 1, 0, EPOCH)
    buyer = world.household("buyer", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    run = Run(
        CLEARING,
        EPOCH,
        0,
        1,
        meters=[(seller, metered(1_000, 0)), (buyer, metered(0, 1_000))],
        traders=[(seller, entry(1_000, -900)), (buyer, entry(-1_000, 900))],
        orders=[
            (seller, order(EPOCH, SELL, 900, 2_000_000)),
            (buyer, order(EPOCH, BUY, 500, 3_000_000, nonce=1)),
            (buyer, order(EPOCH, BUY, 400, 3_100_000, nonce=0)),
        ],
        zones=[Zone(1, 3_000_000)],
    )
    world.play(run)
    fee = 27_000
    assert world.balances(seller) == (100, 2_700_000 - fee, 0)
    assert world.balances(buyer) == (0, 10 * THB - 2_700_000 - 100 * 4_100, 0)
    world.assert_laws([seller, buyer])


def test_by_the_chain_s_clock_anyone_opens_an_epoch_that_has_begun(world: World):
    by_clock = World(time_mode=0)
    stranger = key("stranger")
    refused("Unauthorised", by_clock.open, EPOCH, stranger)
    refused("EpochNotBegun", by_clock.open, EPOCH + 1)
    by_clock.open(EPOCH)
    refused("EpochNotBegun", by_clock.open, EPOCH + 1, stranger)
    by_clock.at(START + 900)
    by_clock.open(EPOCH + 1, stranger)
    assert by_clock.market()["last_opened"] == EPOCH + 1
    # where time is simulated, it is the authority's
    world.open(EPOCH)
    refused("Unauthorised", world.open, EPOCH + 1, stranger)
    refused("EpochOutOfOrder", world.open, EPOCH + 2)
    refused("AlreadyExists", world.open, EPOCH)

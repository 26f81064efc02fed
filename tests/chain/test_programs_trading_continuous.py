"""Orders on chain: placed, cancelled, matched, halted; and what no matcher, seller or buyer can do with them."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair

from tests.chain.svm import CLEARING, DEPLOYER, EPOCH, START, ProgramFailedError, Receipt, key
from tests.chain.trading_world import BUY, SELL, THB, Household, Run, World, Zone, order

CU_ORDER = 3_000
WHEELING = 200_000


@pytest.fixture
def world() -> World:
    return World()


def refused(name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name


def create(  # noqa: PLR0917 - in the order of the arguments
    world: World, home: Household, epoch: int, side: int, limit: int, wh: int, wallet: Keypair | None = None
) -> Receipt:
    signer = wallet or home.wallet
    named = {"wallet": signer.pubkey(), "trader": home.trader}
    arguments = {"epoch": epoch, "side": side, "limit": limit, "energy_wh": wh}
    return world.call("trading", "create_order", named, signers=[signer], **arguments)


def cancel(world: World, home: Household, slot: int, wallet: Keypair | None = None) -> Receipt:
    signer = wallet or home.wallet
    named = {"wallet": signer.pubkey(), "trader": home.trader}
    return world.call("trading", "cancel_order", named, signers=[signer], slot=slot)


def match(world: World, buyer: Household, buy_slot: int, seller: Household, sell_slot: int) -> Receipt:
    named = {"buyer": buyer.trader, "seller": seller.trader}
    return world.call("trading", "match_order", named, buy_slot=buy_slot, sell_slot=sell_slot)


def administer(world: World, instruction: str, authority: Keypair = DEPLOYER, **args: Any) -> Receipt:
    return world.call("trading", instruction, {"authority": authority.pubkey()}, signers=[authority], **args)


def slots(world: World, home: Household) -> dict[int, tuple[int, int, int, int, int]]:
    """Used slots: (epoch, side, limit, Wh, number)."""
    found = world.read("trading", "Trader", home.trader)
    return {
        i: (slot["epoch"], slot["side"], slot["limit"], slot["energy_wh"], number)
        for i, (slot, number) in enumerate(zip(found["slots"], found["placed"], strict=True))
        if slot["used"]
    }


def continuous(world: World) -> tuple[Household, Household]:
    """A seller with 5 000 Wh of GRID, a buyer with 50 THB, and continuous trading."""
    seller = world.household("seller", 1, 0, EPOCH)
    buyer = world.household("buyer", 1, 50 * THB, EPOCH + 1)
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(seller, pack("<II", 5_000, 0))], [(seller, pack("<ii", 5_000, 0))]))
    administer(world, "set_continuous", on=1, wheeling=WHEELING)
    return seller, buyer


def test_an_order_on_chain_is_placed_added_to_and_cancelled_within_3000_compute_units(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    units = [create(world, home, EPOCH + 1, BUY, 3_000_000 + 10_000 * i, 500).compute_units for i in range(6)]
    refused("NoSlot", create, world, home, EPOCH + 1, BUY, 4_000_000, 500)
    units.append(create(world, home, EPOCH + 1, BUY, 3_010_000, 700).compute_units)
    assert len(slots(world, home)) == 6
    added = next(i for i, slot in slots(world, home).items() if slot[2] == 3_010_000)
    # it takes its place in arrival order anew
    assert slots(world, home)[added] == (EPOCH + 1, BUY, 3_010_000, 1_200, 7)
    units.append(cancel(world, home, added).compute_units)
    assert added not in slots(world, home)
    refused("NoSuchOrder", cancel, world, home, added)
    refused("NoSuchOrder", cancel, world, home, 8)
    assert max(units) <= CU_ORDER


@pytest.mark.parametrize(
    ("error", "terms"),
    [
        ("OrderEpochOutOfRange", (EPOCH, BUY, 3_000_000, 1)),
        ("OrderEpochOutOfRange", (EPOCH + 7 * 96 + 1, BUY, 3_000_000, 1)),
        ("InvalidOrder", (EPOCH + 1, 2, 3_000_000, 1)),
        ("InvalidOrder", (EPOCH + 1, BUY, 3_000_001, 1)),
        ("InvalidOrder", (EPOCH + 1, BUY, 3_000_000, 0)),
        ("InvalidOrder", (EPOCH + 1, BUY, 3_000_000, 1_000_001)),
        ("PriceOutOfBand", (EPOCH + 1, BUY, 1_990_000, 1)),
        ("PriceOutOfBand", (EPOCH + 1, SELL, 8_010_000, 1)),
    ],
)
def test_an_order_outside_the_bounds_is_refused(world: World, error: str, terms: tuple[int, int, int, int]):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    refused(error, create, world, home, *terms)


def test_a_wallet_has_one_side_per_epoch(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    world.open(EPOCH)
    create(world, home, EPOCH + 1, BUY, 3_000_000, 500)
    refused("SelfTrade", create, world, home, EPOCH + 1, SELL, 3_000_000, 500)
    create(world, home, EPOCH + 2, SELL, 3_000_000, 500)
    refused("InvalidOrder", create, world, home, EPOCH + 1, BUY, 3_000_000, 999_501)


def test_an_order_on_chain_allows_a_trade_of_its_epoch_s_auction_and_its_slot_is_free_after(world: World):
    seller = world.household("seller", 1, 0, EPOCH)
    buyer = world.household("buyer", 1, 10 * THB, EPOCH)
    create(world, buyer, 600, BUY, 3_000_000, 900)  # before the first epoch, numbers begin at 0
    cancel(world, buyer, 7)
    world.open(EPOCH - 1)
    world.play(Run(CLEARING, EPOCH - 1, 0, 1))
    create(world, seller, EPOCH, SELL, 2_500_000, 900)
    create(world, buyer, EPOCH, BUY, 3_000_000, 900)
    world.open(EPOCH)
    refused("NoSuchOrder", cancel, world, buyer, 7)
    meters = [(seller, pack("<II", 1_000, 0)), (buyer, pack("<II", 0, 1_000))]
    traders = [(seller, pack("<ii", 1_000, -900)), (buyer, pack("<ii", -1_000, 900))]
    world.play(Run(CLEARING, EPOCH, 0, 2, meters, traders, zones=[Zone(1, 2_900_000)]))
    assert world.balances(buyer) == (0, 10 * THB - 900 * 2_900 - 100 * 4_100, 0)
    world.assert_laws([seller, buyer])
    create(world, buyer, EPOCH + 1, SELL, 3_000_000, 900)
    assert slots(world, buyer) == {7: (EPOCH + 1, SELL, 3_000_000, 900, 4)}


def test_a_match_trades_at_the_resting_order_s_net_limit_and_every_law_still_closes(world: World):
    seller, buyer = continuous(world)
    create(world, seller, EPOCH + 2, SELL, 3_000_000, 4_000)
    create(world, buyer, EPOCH + 1, BUY, 4_000_000, 1_500)
    receipt = match(world, buyer, 7, seller, 7)
    price = 3_030_304  # 3 THB / 0.99, rounded up
    cost, value = -(-1_500 * (price + WHEELING) // 1_000), 1_500 * price // 1_000
    fee = value // 100
    assert world.balances(buyer) == (1_500, 50 * THB - cost, 0)
    assert world.balances(seller) == (3_500, value - fee, 0)
    assert value - fee >= 1_500 * 3_000
    assert slots(world, buyer) == {}
    assert slots(world, seller) == {7: (EPOCH + 2, SELL, 3_000_000, 2_500, 1)}
    market = world.market()
    assert (market["matched_wh"], market["platform_thbc_uthb"]) == (1_500, fee)
    assert market["grid_operator_thbc_uthb"] == cost - value
    world.assert_laws([seller, buyer])
    # a later offer meets the resting bid: the bid's net limit
    create(world, buyer, EPOCH + 1, BUY, 3_500_000, 1_000)
    create(world, seller, EPOCH + 1, SELL, 2_500_000, 400)
    before = world.balances(seller)[1]
    match(world, buyer, 7, seller, 6)
    assert world.balances(seller)[1] - before == 400 * 3_300 - 400 * 33
    world.assert_laws([seller, buyer])
    assert receipt.compute_units <= 6_000
    # the next epoch settles what came of it, without an auction
    world.open(EPOCH + 1)
    meters = [(seller, pack("<II", 100, 0)), (buyer, pack("<II", 0, 2_000))]
    traders = [(seller, pack("<ii", 100, 0)), (buyer, pack("<ii", -2_000, 0))]
    world.play(Run(CLEARING, EPOCH + 1, 0, 2, meters, traders))
    assert world.balances(buyer)[0] == 0
    world.assert_laws([seller, buyer])


def test_proceeds_of_a_match_pay_debt_first(world: World):
    seller, buyer = continuous(world)
    poor = world.household("poor", 1, 0, EPOCH + 1)
    for i, wh in enumerate((-1_000, 2_000)):
        world.open(EPOCH + 1 + i)
        meters = [(poor, pack("<II", max(wh, 0), max(-wh, 0)))]
        world.play(Run(CLEARING, EPOCH + 1 + i, 0, 2 + i, meters, [(poor, pack("<ii", wh, 0))]))
    assert world.balances(poor) == (2_000, 0, 4_100_000)
    create(world, buyer, EPOCH + 3, BUY, 4_200_000, 2_000)
    create(world, poor, EPOCH + 3, SELL, 3_000_000, 1_000)
    match(world, buyer, 7, poor, 7)
    assert world.balances(poor) == (1_000, 0, 4_100_000 - 3_960_000)
    world.assert_laws([seller, buyer, poor])
    create(world, poor, EPOCH + 3, SELL, 3_000_000, 1_000)
    match(world, buyer, 7, poor, 7)
    assert world.balances(poor) == (0, 3_960_000 - 140_000, 0)
    assert world.market()["supplier_thbc_uthb"] == 4_100_000
    world.assert_laws([seller, buyer, poor])


def test_only_grid_and_thbc_that_are_held_and_not_asked_back_are_traded(world: World):
    seller, buyer = continuous(world)
    world.request(seller, 0, 4_900)
    create(world, seller, EPOCH + 1, SELL, 3_000_000, 4_000)
    create(world, buyer, EPOCH + 1, BUY, 4_000_000, 4_000)
    match(world, buyer, 7, seller, 7)
    assert (world.balances(seller)[0], world.balances(buyer)[0]) == (4_900, 100)
    refused("NotMatchable", match, world, buyer, 7, seller, 7)
    world.withdraw(seller)
    world.assert_laws([seller, buyer])


def test_a_price_more_than_a_tenth_away_within_a_minute_halts_and_the_authority_resumes(world: World):
    seller, buyer = continuous(world)
    for i, limit in enumerate((3_000_000, 3_200_000, 3_400_000)):
        create(world, seller, EPOCH + 1 + i, SELL, limit, 100)
    create(world, buyer, EPOCH + 1, BUY, 8_000_000, 1_000)
    match(world, buyer, 7, seller, 7)
    world.at(START + 30)
    match(world, buyer, 7, seller, 6)
    held = world.balances(buyer), world.balances(seller)
    world.at(START + 60)
    match(world, buyer, 7, seller, 5)  # 3.43 is more than 10 % above 3.03, a minute ago: nothing is traded
    assert (world.balances(buyer), world.balances(seller)) == held
    assert world.market()["halted"] == 1
    world.at(START + 600)
    refused("MarketHalted", match, world, buyer, 7, seller, 5)
    refused("Unauthorised", administer, world, "resume_market", key("stranger"))
    administer(world, "resume_market")
    refused("InvalidTransition", administer, world, "resume_market")
    match(world, buyer, 7, seller, 5)
    assert world.balances(buyer)[0] == 300
    world.assert_laws([seller, buyer])


def test_a_minute_later_a_price_is_forgotten(world: World):
    seller, buyer = continuous(world)
    create(world, seller, EPOCH + 1, SELL, 3_000_000, 100)
    create(world, seller, EPOCH + 2, SELL, 6_000_000, 100)
    create(world, buyer, EPOCH + 1, BUY, 8_000_000, 1_000)
    match(world, buyer, 7, seller, 7)
    world.at(START + 61)
    match(world, buyer, 7, seller, 6)
    assert (world.market()["halted"], world.balances(buyer)[0]) == (0, 200)


def test_attack_a_matcher_choosing_a_price_outside_a_limit_or_a_pair_that_does_not_cross(world: World):
    seller, buyer = continuous(world)
    far = world.household("far", 2, 50 * THB, EPOCH + 1)
    create(world, seller, EPOCH + 1, SELL, 3_000_000, 1_000)
    create(world, buyer, EPOCH + 1, BUY, 3_230_000, 1_000)  # fee and wheeling on top would be 3.230304
    create(world, far, EPOCH + 1, BUY, 8_000_000, 1_000)
    refused("NotMatchable", match, world, buyer, 7, seller, 7)
    refused("NotMatchable", match, world, far, 7, seller, 7)
    refused("NoSuchOrder", match, world, seller, 7, buyer, 7)
    refused("NoSuchOrder", match, world, buyer, 6, seller, 7)
    refused("NoSuchOrder", match, world, buyer, 255, seller, 7)


def test_attack_a_household_matched_with_itself(world: World):
    seller, _ = continuous(world)
    create(world, seller, EPOCH + 1, SELL, 3_000_000, 1_000)
    create(world, seller, EPOCH + 2, BUY, 8_000_000, 1_000)
    refused("SelfTrade", match, world, seller, 6, seller, 7)


def test_attack_a_match_takes_away_what_an_auction_s_order_is_covered_by(world: World):
    """Auctions and matching never run side by side: an uncovered trade would block its run for good."""
    seller = world.household("seller", 1, 50 * THB, EPOCH)
    buyer = world.household("buyer", 1, 50 * THB, EPOCH)
    world.open(EPOCH)
    create(world, seller, EPOCH + 2, SELL, 3_000_000, 1_000)
    create(world, buyer, EPOCH + 2, BUY, 8_000_000, 1_000)
    refused("NotContinuous", match, world, buyer, 7, seller, 7)
    refused("Unauthorised", administer, world, "set_continuous", key("stranger"), on=1, wheeling=0)
    refused("WheelingAboveCap", administer, world, "set_continuous", on=1, wheeling=1_000_001)
    administer(world, "set_continuous", on=1, wheeling=0)
    # the epoch that has begun may have an auction still
    refused("NotContinuous", match, world, buyer, 7, seller, 7)
    world.play(Run(CLEARING, EPOCH, 0, 1, [(seller, pack("<II", 900, 0))], [(seller, pack("<ii", 900, 0))]))
    match(world, buyer, 7, seller, 7)
    # from now on none has, until it is switched back
    world.open(EPOCH + 1)
    priced = Run(CLEARING, EPOCH + 1, 0, 2, zones=[Zone(1, 3_000_000)])
    world.attest_run(priced)
    refused("InvalidHeader", world.commit, priced)
    administer(world, "set_continuous", on=0, wheeling=0)
    refused("InvalidTransition", administer, world, "set_continuous", on=0, wheeling=0)
    refused("InvalidTransition", administer, world, "set_continuous", on=1, wheeling=0)
    create(world, seller, EPOCH + 3, SELL, 3_000_000, 10)
    create(world, buyer, EPOCH + 3, BUY, 8_000_000, 10)
    world.open(EPOCH + 2)
    refused("NotContinuous", match, world, buyer, 7, seller, 7)


def test_attack_a_cancel_between_gate_and_settlement(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    stranger = world.household("stranger", 1, 0, EPOCH)
    world.open(EPOCH)
    create(world, home, EPOCH + 1, BUY, 3_000_000, 500)
    refused("Unauthorised", cancel, world, home, 7, stranger.wallet)
    refused("Unauthorised", create, world, home, EPOCH + 1, BUY, 3_000_000, 500, stranger.wallet)
    world.open(EPOCH + 1)
    refused("NoSuchOrder", cancel, world, home, 7)


def test_attack_orders_on_chain_crowd_out_or_tighten_recorded_ones(world: World):
    """Six orders on chain with limits that don't hold; three signed ones were filled and must all count."""
    home = world.household("home", 1, 50 * THB, EPOCH)
    other = world.household("other", 1, 0, EPOCH, sell_min=2_000_000)
    world.open(EPOCH - 1)
    for i in range(6):
        create(world, home, EPOCH, BUY, 2_900_000 - 10_000 * i, 10)
    world.play(Run(CLEARING, EPOCH - 1, 0, 1))
    world.open(EPOCH)
    limits = (8_000_000, 6_000_000, 3_000_000)
    run = Run(
        CLEARING,
        EPOCH,
        0,
        2,
        meters=[(other, pack("<II", 900, 0)), (home, pack("<II", 0, 900))],
        traders=[(other, pack("<ii", 900, -900)), (home, pack("<ii", -900, 900))],
        orders=[(home, order(EPOCH, BUY, 300, limit, nonce=i)) for i, limit in enumerate(limits)],
        zones=[Zone(1, 3_000_000)],
    )
    world.play(run)
    assert world.balances(home) == (0, 50 * THB - 900 * 3_000, 0)
    world.assert_laws([home, other])


def test_attack_fees_rounded_to_zero_by_dust_orders(world: World):
    seller, buyer = continuous(world)
    create(world, seller, EPOCH + 1, SELL, 2_000_000, 1)
    create(world, buyer, EPOCH + 1, BUY, 8_000_000, 1)
    match(world, buyer, 7, seller, 7)
    assert world.market()["platform_thbc_uthb"] == 20
    world.assert_laws([seller, buyer])


def test_a_paused_program_takes_cancels_and_matches_no_orders(world: World):
    seller, buyer = continuous(world)
    create(world, seller, EPOCH + 1, SELL, 3_000_000, 1_000)
    create(world, buyer, EPOCH + 1, BUY, 8_000_000, 1_000)
    paused = {"guardian_or_authority": DEPLOYER.pubkey()}
    world.call("governance", "pause", paused, signers=[DEPLOYER], program=3)
    refused("Paused", match, world, buyer, 7, seller, 7)
    refused("Paused", cancel, world, seller, 7)
    refused("Paused", create, world, seller, EPOCH + 1, SELL, 3_000_000, 1_000)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "match", "cancel", "request", "withdraw"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(200, 800),
        st.integers(1, 3_000),
        st.integers(0, 7),
        st.integers(0, 7),
    ),
    max_size=40,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_is_placed_matched_and_withdrawn_every_law_closes_and_limits_hold(steps: list[tuple[Any, ...]]):
    world = World()
    seller, buyer = continuous(world)
    homes = [seller, buyer, world.household("third", 1, 20 * THB, EPOCH + 1)]
    for what, a, b, price, wh, slot, other in steps:
        world.at(world.svm.get_clock().unix_timestamp + 100)
        one, two = homes[a], homes[b]
        before = {home.meter_id: (world.balances(home), slots(world, home)) for home in homes}
        try:
            if what == "create":
                create(world, one, EPOCH + 1 + slot % 3, other % 2, price * 10_000, wh)
            elif what == "match":
                match(world, one, slot, two, other)
                bought = world.balances(one)[0] - before[one.meter_id][0][0]
                paid = before[one.meter_id][0][1] - world.balances(one)[1]
                earned = world.balances(two)[1] - before[two.meter_id][0][1]
                assert paid * 1_000 <= before[one.meter_id][1][slot][2] * bought
                assert earned * 1_000 >= before[two.meter_id][1][other][2] * bought
            elif what == "cancel":
                cancel(world, one, slot)
            elif what == "request":
                world.request(one, wh * 1_000, wh)
            else:
                world.withdraw(one)
        except ProgramFailedError:
            pass
    world.assert_laws(homes)

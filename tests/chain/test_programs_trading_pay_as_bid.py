"""Settlement of orders that each trade at values of their own: whole runs, and every way to reach beyond an order."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, DEPLOYER, EPOCH
from tests.chain.test_programs_trading_refusals import refused
from tests.chain.trading_world import (
    BUY,
    BUY_BACK,
    HALTED,
    PAY_AS_BID,
    SELL,
    THB,
    Household,
    Run,
    World,
    Zone,
    order,
)

SELLS, BY_MANDATE = 1 << 30, 1 << 31
NEAR, FAR = 3_500_000, 4_500_000  # what `flat` signed to pay at most, wheeling of 0.10 included


def entry(net: int, *fills: tuple[int, int, int]) -> bytes:
    """A household's entry: its net Wh and (slot, Wh, value µTHB) of each order that traded."""
    return pack("<iB", net, len(fills)) + b"".join(pack("<IIQ", *fill) for fill in fills)


class Street:
    """`sun` has 1 000 Wh and sells from 2.97; `flat` lacks 1 000, signed three orders, its mandate buys to 3.10."""

    def __init__(self) -> None:
        self.world = World()
        self.sun = self.world.household("sun", 1, 0, EPOCH, sell_min=2_970_000, max_wh=900, buy_back=1)
        self.flat = self.world.household("flat", 1, 10 * THB, EPOCH, buy_max=3_100_000, max_wh=400)
        self.world.fund(self.flat, 0, THB)
        self.world.fund(self.flat, 2, THB)
        self.world.open(EPOCH)
        self.signed = [
            (self.flat, order(EPOCH, BUY, 100, NEAR, nonce=0)),
            (self.flat, order(EPOCH, BUY, 200, NEAR, nonce=1)),
            (self.flat, order(EPOCH, BUY, 150, FAR, nonce=2)),
        ]

    def run(self, sold: Any = None, bought: Any = None, **changed: Any) -> Run:
        sold = [(BY_MANDATE | SELLS, 850, 2_713_599)] if sold is None else sold
        bought = BOUGHT if bought is None else bought
        terms: dict[str, Any] = {
            "meters": [(self.sun, pack("<II", 1_000, 0)), (self.flat, pack("<II", 0, 1_000))],
            "traders": [(self.sun, entry(1_000, *sold)), (self.flat, entry(-1_000, *bought))],
            "orders": self.signed,
            "zones": [Zone(1, 0, 100_000)],
            "flags": PAY_AS_BID | BUY_BACK,
            "rent": -2,
        }
        return Run(CLEARING, EPOCH, 0, 1, **terms | changed)

    def prepared(self, *fills: Any, **changed: Any) -> Run:
        run = self.run(*fills, **changed)
        self.world.prepare(run)
        return run

    @property
    def homes(self) -> list[Household]:
        return [self.sun, self.flat]


# two orders of one limit, each with a value of its own, one of another limit, and the mandate
BOUGHT = [(NEAR, 100, 300_000), (NEAR, 200, 663_397), (FAR, 150, 600_000), (BY_MANDATE, 400, 1_150_200)]


def test_every_order_pays_and_earns_its_own_value_with_its_own_charges():
    street = Street()
    world, run = street.world, street.prepared()
    world.settle(run)
    world.finalize(run)
    fee = 27_135  # ⌊2 713 599 × 1 %⌋, once: the mandate is one order
    values, wheeling = 2_713_597, 85_000
    bill = 150 * 4_100
    assert world.balances(street.sun) == (0, 2_713_599 - fee + 150 * 2_200, 0)
    assert world.balances(street.flat) == (0, 10 * THB - values - wheeling - bill, 0)
    market = world.market()
    assert (market["platform_thbc_uthb"], market["grid_operator_thbc_uthb"]) == (fee, THB + wheeling - 2)
    assert (market["cost_uthb"], market["proceeds_uthb"]) == (values + wheeling, 2_713_599 - fee)
    assert (market["supplier_grid_wh"], market["rent_uthb"], market["traded_wh"]) == (150, -2, 0)
    world.assert_laws(street.homes)


def test_a_signed_order_sells_what_a_household_holds_at_its_own_price():
    street = Street()
    world = street.world
    world.play(street.run([], [], orders=[], rent=0, flags=PAY_AS_BID))
    assert world.balances(street.sun)[0] == 1_000
    world.open(EPOCH + 1)
    signed = [
        (street.sun, order(EPOCH + 1, SELL, 300, 3_960_000)),
        (street.flat, order(EPOCH + 1, BUY, 300, 4_100_000)),
    ]
    run = Run(
        CLEARING,
        EPOCH + 1,
        0,
        2,
        meters=[(street.sun, pack("<II", 0, 100)), (street.flat, pack("<II", 0, 300))],
        traders=[
            (street.sun, entry(-100, (SELLS | 3_960_000, 300, 1_200_000))),
            (street.flat, entry(-300, (4_100_000, 300, 1_200_000))),
        ],
        orders=signed,
        zones=[Zone(1, 0, 100_000)],
        flags=PAY_AS_BID,
    )
    before = world.balances(street.flat)[1]
    world.play(run)
    assert world.balances(street.sun) == (600, 1_188_000, 0)
    assert world.balances(street.flat) == (0, before - 1_200_000 - 30_000, 0)
    world.assert_laws(street.homes)


def test_batches_of_one_household_each_settle_as_one_batch_does():
    street, other = Street(), Street()
    street.world.play(street.run())
    other.world.play(other.run(traders_per_batch=1))
    assert [street.world.balances(home) for home in street.homes] == [
        other.world.balances(home) for home in other.homes
    ]
    assert street.world.market() | {"event_seq": 0} == other.world.market() | {"event_seq": 0}


@pytest.mark.parametrize(
    ("fills", "error"),
    [
        # one µTHB beyond the limit, with wheeling of 10 000 per 100 Wh
        ([(NEAR, 100, 340_001)], "OutsideLimits"),
        ([(BY_MANDATE, 100, 300_001)], "OutsideLimits"),
        # another limit's value, an order that nobody signed, one that only the other side has
        ([(NEAR, 100, 440_000)], "OutsideLimits"),
        ([(NEAR + 10_000, 100, 300_000)], "OutsideLimits"),
        ([(SELLS | NEAR, 100, 600_000)], "OutsideLimits"),
        # a slot twice, in one fill, in two, and named again after another
        ([(NEAR, 301, 903_000)], "OutsideLimits"),
        ([(NEAR, 200, 600_000), (NEAR, 101, 303_000)], "OutsideLimits"),
        ([(NEAR, 300, 900_000), (FAR, 1, 3_000), (NEAR, 1, 3_000)], "FillsNotAscending"),
        ([(FAR, 1, 3_000), (NEAR, 1, 3_000)], "FillsNotAscending"),
        # the mandate beyond its most, and under a second name
        ([(BY_MANDATE, 401, 1_203_000)], "OutsideLimits"),
        ([(BY_MANDATE, 400, 1_150_000), (BY_MANDATE | 1, 1, 2_875)], "OutsideLimits"),
        # values that no price gives, up to the largest number
        ([(FAR, 100, 838_861)], "PriceOutOfBand"),
        ([(FAR, 100, 2**64 - 1)], "PriceOutOfBand"),
        ([(FAR, 2**32 - 1, (2**32 - 1) * 8_000)], "OutsideLimits"),
        ([(FAR, 0, 0)], "ZeroAmount"),
        ([(NEAR, 1, 3_000), (SELLS | NEAR, 1, 3_000)], "SelfTrade"),
    ],
)
def test_attack_a_value_or_energy_outside_what_an_order_says(fills: list, error: str):
    street = Street()
    run = street.prepared(bought=fills)
    before = [street.world.balances(home) for home in street.homes]
    refused(error, street.world.settle, run)
    assert [street.world.balances(home) for home in street.homes] == before


def test_orders_given_under_an_older_band_still_settle():
    """Limits protect everybody: a band that has narrowed since must not stop the epoch they are filled in."""
    street = Street()
    run = street.prepared()
    street.world.change("trading", "Epoch", addresses.epoch(EPOCH), price_min=3_500_000, price_max=3_600_000)
    street.world.settle(run)
    street.world.finalize(run)
    street.world.assert_laws(street.homes)


def test_attack_a_seller_of_a_mandate_gets_less_than_its_limit_after_the_fee():
    street = Street()
    # 850 Wh × 2.97 = 2 524 500 after ⌊2 549 999 × 1 %⌋ = 25 499
    run = street.prepared([(BY_MANDATE | SELLS, 850, 2_549_998)], [])
    refused("OutsideLimits", street.world.settle, run)
    street = Street()
    run = street.prepared([(BY_MANDATE | SELLS, 850, 2_549_999)], [])
    street.world.settle(run)


def test_attack_an_order_of_another_epoch_is_traded_in_this_one():
    street = Street()
    world = street.world
    world.play(street.run())
    world.open(EPOCH + 1)
    # the slots of the settled epoch are still there, and of no use
    named = next_epoch(street, [(NEAR, 100, 300_000)])
    world.prepare(named)
    refused("OutsideLimits", world.settle, named)


def next_epoch(street: Street, fills: list, **changed: Any) -> Run:
    """`flat` alone, a deficit of 1 000 Wh in the epoch after the street's."""
    terms: dict[str, Any] = {
        "meters": [(street.flat, pack("<II", 0, 1_000))],
        "traders": [(street.flat, entry(-1_000, *fills))],
        "zones": [Zone(1, 0, 100_000)],
        "flags": PAY_AS_BID,
    }
    return Run(CLEARING, EPOCH + 1, 0, 2, **terms | changed)


def test_attack_an_order_placed_for_a_later_epoch_is_traded_in_this_one():
    street = Street()
    world = street.world
    named = {"wallet": street.flat.wallet.pubkey(), "trader": street.flat.trader}
    place = {"epoch": EPOCH + 1, "side": BUY, "limit": 3_800_000, "energy_wh": 500}
    world.call("trading", "create_order", named, signers=[street.flat.wallet], **place)
    run = street.prepared(bought=[(3_800_000, 100, 300_000)])
    refused("OutsideLimits", world.settle, run)


def test_an_order_placed_on_chain_trades_beside_a_signed_one_of_its_limit():
    street = Street()
    world = street.world
    named = {"wallet": street.flat.wallet.pubkey(), "trader": street.flat.trader}
    place = {"epoch": EPOCH + 1, "side": BUY, "limit": NEAR, "energy_wh": 50}
    world.call("trading", "create_order", named, signers=[street.flat.wallet], **place)
    world.play(street.run())
    world.open(EPOCH + 1)
    signed, held = [(street.flat, order(EPOCH + 1, BUY, 100, NEAR))], world.balances(street.flat)[1]
    run = next_epoch(street, [(NEAR, 100, 300_000), (NEAR, 50, 155_000)], orders=signed)
    world.prepare(run)
    world.settle(run)
    # 850 Wh of the deficit are left, at 4.10
    assert world.balances(street.flat) == (0, held - 455_000 - 15_000 - 850 * 4_100, 0)


def test_attack_a_placed_and_a_signed_order_of_one_limit_give_a_wh_more_than_both():
    street = Street()
    world = street.world
    named = {"wallet": street.flat.wallet.pubkey(), "trader": street.flat.trader}
    place = {"epoch": EPOCH + 1, "side": BUY, "limit": NEAR, "energy_wh": 50}
    world.call("trading", "create_order", named, signers=[street.flat.wallet], **place)
    world.play(street.run())
    world.open(EPOCH + 1)
    run = next_epoch(street, [(NEAR, 151, 453_000)], orders=[(street.flat, order(EPOCH + 1, BUY, 100, NEAR))])
    world.prepare(run)
    refused("OutsideLimits", world.settle, run)


def test_attack_the_bytes_of_one_kind_of_batch_read_as_the_other():
    """8-byte entries of `settle_batch` are not entries of fills, nor the other way round, whatever a relayer calls."""
    street = Street()
    world, run = street.world, street.prepared()
    own = world.settle_instruction(run)
    data = world.build("trading", "settle_batch", world.batch_accounts(run), [], index=0, n=1, depth=0, rest=b"").data
    swapped = type(own)(own.program_id, bytes(data[:8]) + bytes(own.data[8:]), own.accounts)
    refused("WrongKind", world.send, swapped)
    plain = Street()
    run = plain.prepared(
        traders=[(plain.sun, pack("<ii", 1_000, 0)), (plain.flat, pack("<ii", -1_000, 0))],
        orders=[],
        flags=BUY_BACK,
        rent=0,
    )
    own = plain.world.settle_instruction(run)
    names = plain.world.batch_accounts(run)
    data = plain.world.build("trading", "settle_pay_as_bid_batch", names, [], index=0, n=1, depth=0, rest=b"").data
    swapped = type(own)(own.program_id, bytes(data[:8]) + bytes(own.data[8:]), own.accounts)
    refused("WrongKind", plain.world.send, swapped)


@pytest.mark.parametrize(
    "rest", [b"", b"\0" * 4, pack("<iB", 0, 1), pack("<iB", 0, 1) + bytes(15), pack("<iB", 0, 0) + b"\0", bytes(9)]
)
def test_entries_that_are_too_short_or_too_long_are_refused_by_name(rest: bytes):
    street = Street()
    run = street.prepared(traders=[(street.sun, rest)], meters=[(street.sun, pack("<II", 0, 0))], orders=[], rent=0)
    refused("InvalidData", street.world.settle, run)


@pytest.mark.parametrize(
    "changed",
    [
        {"zones": [Zone(1, 3_000_000, 100_000)]},
        {"flags": PAY_AS_BID | HALTED, "orders": [], "rent": 0},
        {"lost": 1},
        {"link_wheeling": 1},
        {"rent": -(1 << 17)},
        {"rent": 1 << 17},
        {"flags": PAY_AS_BID | 8},
    ],
)
def test_a_header_that_says_more_than_values_of_orders_is_refused(changed: dict):
    street = Street()
    run = street.run(**changed)
    street.world.attest_run(run)
    street.world.meter(run)
    refused("InvalidHeader", street.world.commit, run)


def test_attack_values_that_do_not_close_are_paid_by_nobody():
    street = Street()
    run = street.prepared(rent=-1)
    street.world.settle(run)
    refused("ChargesNotClosed", street.world.finalize, run)
    street = Street()
    # what is sold is not what is bought
    run = street.prepared([(BY_MANDATE | SELLS, 849, 2_713_599)])
    street.world.settle(run)
    refused("TradesNotClosed", street.world.finalize, run)


def test_attack_oracles_pay_a_friend_out_of_the_grid_operators_rent():
    """Where orders have values of their own, the operator's account gives what rounding leaves and no more."""
    street = Street()
    run = street.run([(BY_MANDATE | SELLS, 850, 6_800_000)], rent=2_713_597 - 6_800_000)
    street.world.attest_run(run)
    street.world.meter(run)
    refused("InvalidHeader", street.world.commit, run)


def test_attack_an_auction_by_order_in_an_epoch_of_continuous_trading():
    street = Street()
    named = {"authority": DEPLOYER.pubkey()}
    street.world.call("trading", "set_continuous", named, signers=[DEPLOYER], on=1, wheeling=100_000)
    street.world.play(street.run())
    street.world.open(EPOCH + 1)
    run = next_epoch(street, [(BY_MANDATE, 100, 300_000)])
    street.world.attest_run(run)
    street.world.meter(run)
    refused("InvalidHeader", street.world.commit, run)


def test_attack_a_household_fills_its_slots_after_clearing_to_stop_its_own_entry():
    """Two limits of signed orders always find a slot: orders placed on chain leave two free."""
    street = Street()
    world = street.world
    named = {"wallet": street.flat.wallet.pubkey(), "trader": street.flat.trader}
    for number in range(6):
        place = {"epoch": EPOCH + 1 + number, "side": BUY, "limit": 3_000_000, "energy_wh": 1}
        world.call("trading", "create_order", named, signers=[street.flat.wallet], **place)
    seventh = {"epoch": EPOCH + 9, "side": BUY, "limit": 3_000_000, "energy_wh": 1}
    refused("NoSlot", world.call, "trading", "create_order", named, signers=[street.flat.wallet], **seventh)
    world.play(street.run())
    world.assert_laws(street.homes)

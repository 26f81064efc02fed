"""Whole books and networks that can't be cleared are refused by name, and crowded ones end: at the door `clear`."""

from __future__ import annotations

import random
import time

import msgspec
import pytest

from gridtokenx_pipelines.market.clearing import clear
from gridtokenx_pipelines.market.mechanisms import MECHANISMS
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from gridtokenx_pipelines.market.rules import Rules
from tests.unit.market.books import BUY, SELL, THB, book_of, link, network, order_row, wallet

FREE = Rules(fee_bp=0)
PAIR = [order_row(1, BUY, 100, 4 * THB), order_row(2, SELL, 100, 3 * THB)]


def refused(rows, net, mechanism: str, limits=None) -> str:
    with pytest.raises(ClearingError) as reason:
        clear(book_of(rows, net), net, FREE, mechanism, limits=limits)
    return str(reason.value)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_energy_or_worth_beyond_64_bits_is_refused_and_never_a_wrong_sum(mechanism):
    net = network(0)
    words = refused([order_row(1, BUY, 2**62, 1), order_row(2, SELL, 2**62, 1)], net, mechanism)
    assert words.startswith(f"book had {2**63} Wh at up to 1 µTHB/kWh, its sums must fit 64 bits")
    words = refused([order_row(1, BUY, 2**40, 10**12), order_row(2, SELL, 2**40, 10**12)], net, mechanism)
    assert words.startswith(f"book had {2**41} Wh at up to {10**12} µTHB/kWh")
    mine = [order_row(number, SELL, 10**9, 10**9, wallet=wallet("w")) for number in range(1, 3)]
    words = refused([*mine, order_row(3, BUY, 1, 10**9)], net, mechanism)
    assert f"wallet {wallet('w')} had {2 * 10**9} Wh at up to {10**9} µTHB/kWh" in words


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_most_that_fits_is_cleared_exactly_with_the_highest_fee(mechanism):
    price, fee_bp = 10**9, 9_999
    wh = (2**63 - 1) * 1_000 // 10_000 // price
    net, rules = network(0), Rules(fee_bp=fee_bp)
    rows = [order_row(1, SELL, wh, 1), order_row(2, BUY, wh, price, broker_us=0)]
    result = clear(book_of(rows, net), net, rules, mechanism, limits=None)
    (seller,) = (row for row in result.traded.to_dicts() if row["traded_wh"] < 0)
    paid = result.fills["price_uthb_per_kwh"][0]
    value = wh * paid // 1_000
    assert (seller["value_uthb"], seller["fee_uthb"]) == (value, value * fee_bp // 10_000)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"capacity_forward_wh": -1}, "capacity_forward_wh of link 1 was -1, must lie in 0…"),
        ({"capacity_backward_wh": 2**62}, f"capacity_backward_wh of link 1 was {2**62}"),
        ({"loss_ppm": 1_000_000}, "loss_ppm of link 1 was 1000000"),
        ({"loss_ppm": -1}, "loss_ppm of link 1 was -1"),
        ({"link_wheeling_uthb_per_kwh": -5}, "link_wheeling of link 1 was -5"),
        ({"to_zone": 3}, "link 1 joins 1 and 3; name two of [1, 2]"),
        ({"to_zone": 1}, "link 1 joins 1 and 1"),
    ],
)
def test_networks_with_bad_links_are_refused_by_every_mechanism(mechanism, change, words):
    net = network(0, 0, links=(link(1, (1, 2), 5),))
    bad = msgspec.structs.replace(net, links=(msgspec.structs.replace(net.links[0], **change),))
    with pytest.raises(ClearingError) as reason:
        clear(book_of(PAIR, net), bad, FREE, mechanism)
    assert words in str(reason.value)


def test_zones_and_links_are_named_once():
    net = network(0, 0, links=(link(1, (1, 2), 5),))
    for bad in (
        msgspec.structs.replace(net, zones=net.zones + net.zones[:1]),
        msgspec.structs.replace(net, links=net.links * 2),
    ):
        with pytest.raises(ClearingError, match="twice"):
            clear(book_of(PAIR, net), bad, FREE)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("wallets", [1, 2, 3, 10])
def test_a_crowd_of_few_wallets_on_both_sides_ends_soon(mechanism, wallets):
    """Ten thousand orders, most of one wallet: time that grew with their square would be minutes."""
    rng = random.Random(wallets)  # noqa: S311 - a test's own numbers
    owners = [rng.choice([0, 0, rng.randrange(wallets)]) for _ in range(10_000)]
    rows = [
        order_row(
            number,
            rng.randrange(2),
            rng.randint(1, 99),
            rng.randint(300, 399) * 10_000,
            zone_id=1 + owner % 2,
            wallet=f"w{owner}",
            broker_us=rng.randint(0, 99),
        )
        for number, owner in enumerate(owners, 1)
    ]
    net = network(0, 0, links=(link(1, (1, 2), 10**6),))
    book = book_of(rows, net)
    started = time.process_time()
    result = clear(book, net, FREE, mechanism)
    assert time.process_time() - started < 5
    assert not (result.matches["buyer"] == result.matches["seller"]).any()
    assert (result.volume_wh > 0) == (wallets > 1)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_order_ten_thousand_times_is_refused_or_filled_in_turn(mechanism):
    net = network(0)
    ask = order_row(1, SELL, 5, 3 * THB)
    assert "10000 rows but 1 order ids" in refused([ask] * 10_000, net, mechanism, "rules")
    asks = [order_row(number, SELL, 5, 3 * THB, broker_us=0) for number in range(1, 10_001)]
    result = clear(book_of([*asks, order_row(10_001, BUY, 12, 3 * THB, broker_us=1)], net), net, FREE, mechanism)
    sold = result.fills.filter(result.fills["side"] == SELL)
    assert dict(sold.select("order_id", "filled_wh").rows()) == {
        ask["order_id"]: wh for ask, wh in zip(asks, (5, 5, 2), strict=False)
    }

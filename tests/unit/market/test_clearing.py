"""Clearing: whole expected results for books worked out by hand."""

from __future__ import annotations

import time

import pytest

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.clearing import ClearingResult, clear, halted_result
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from gridtokenx_pipelines.market.roots import merkle_root, result_rows
from gridtokenx_pipelines.market.rules import Network, Rules
from tests.unit.market.books import BUY, SELL, THB, book_of, link, network, order_id, order_row, wallet

FREE = Rules(fee_bp=0)


def fills(result: ClearingResult) -> dict[int, tuple[int, int]]:
    """Order number → (Wh, price)."""
    rows = result.fills.select("order_id", "filled_wh", "price_uthb_per_kwh").rows()
    return {int.from_bytes(ident, "big"): (wh, price) for ident, wh, price in rows}


def prices(result: ClearingResult) -> list[int | None]:
    return result.zones["price_uthb_per_kwh"].to_list()


def matches(result: ClearingResult) -> list[tuple[int, int, int, int]]:
    rows = result.matches.select("buy_order_id", "sell_order_id", "energy_wh", "price_uthb_per_kwh").rows()
    return [(int.from_bytes(buy, "big"), int.from_bytes(sell, "big"), wh, price) for buy, sell, wh, price in rows]


def flows(result: ClearingResult) -> list[tuple[int, ...]]:
    return result.flows.rows()


def run(rows: list[dict], net: Network | None = None, mechanism: str = "uniform", rules: Rules = FREE, **more):
    net = net or network()
    return clear(book_of(rows, net, rules.fee_bp), net, rules, mechanism, **more)


@pytest.mark.parametrize("mechanism", ["uniform", "zonal"])
@pytest.mark.parametrize(
    ("rows", "expected", "price"),
    [
        # the partly filled bid sets the price
        ([(1, BUY, 100, 4), (2, SELL, 60, 3)], {1: (60, 4 * THB), 2: (60, 4 * THB)}, 4 * THB),
        # the partly filled offer does
        ([(1, BUY, 60, 4), (2, SELL, 100, 3)], {1: (60, 3 * THB), 2: (60, 3 * THB)}, 3 * THB),
        # both exhausted: the midpoint of [max(3, 2.5), min(4, 3.9)]
        (
            [(1, BUY, 60, 4), (2, SELL, 60, 3), (3, BUY, 5, 2.5), (4, SELL, 5, 3.9)],
            {1: (60, 3_450_000), 2: (60, 3_450_000)},
            3_450_000,
        ),
        # rounded down to the tick
        ([(1, BUY, 60, 4), (2, SELL, 60, 3.01)], {1: (60, 3_500_000), 2: (60, 3_500_000)}, 3_500_000),
        # the tick below the midpoint lies outside, so to the µTHB
        ([(1, BUY, 60, 3.01), (2, SELL, 60, 3.01)], {1: (60, 3_010_000), 2: (60, 3_010_000)}, 3_010_000),
        # orders at equal prices trade, the earlier first
        (
            [(1, BUY, 50, 3), (2, BUY, 50, 3), (3, SELL, 70, 3)],
            {1: (50, 3 * THB), 2: (20, 3 * THB), 3: (70, 3 * THB)},
            3 * THB,
        ),
        # no crossing, no price
        ([(1, BUY, 50, 3), (2, SELL, 50, 3.01)], {}, None),
        ([(1, BUY, 50, 3)], {}, None),
        ([(1, SELL, 50, 3)], {}, None),
        ([], {}, None),
        ([(1, BUY, 1, 3), (2, SELL, 1, 3)], {1: (1, 3 * THB), 2: (1, 3 * THB)}, 3 * THB),
    ],
)
def test_one_zone_clears_at_an_equilibrium_price(mechanism, rows, expected, price):
    result = run([order_row(number, side, wh, int(thb * THB)) for number, side, wh, thb in rows], mechanism=mechanism)
    assert fills(result) == expected
    assert prices(result) == [price]
    assert (result.lost_wh, result.link_wheeling_uthb, result.halted) == (0, 0, False)


def test_a_uniform_result_is_whole():
    net = network(250_000)
    rules = Rules(fee_bp=100)
    rows = [
        order_row(1, BUY, 333, 4 * THB, wallet=wallet("anna"), is_mandate=True),
        order_row(2, BUY, 200, 3_500_000, wallet=wallet("ben")),
        order_row(3, SELL, 401, 3 * THB, wallet=wallet("chai")),
    ]
    result = run(rows, net, rules=rules)
    # net: bids 3.75 and 3.25, ask 3.030304; 401 Wh: anna 333, ben 68 partly, so 3.25
    anna, ben, chai = wallet("anna"), wallet("ben"), wallet("chai")
    assert result.fills.rows() == [
        (order_id(1), anna, 1, BUY, 333, 3_250_000, True),
        (order_id(2), ben, 1, BUY, 68, 3_250_000, False),
        (order_id(3), chai, 1, SELL, 401, 3_250_000, False),
    ]
    assert result.matches.rows() == [
        (1, order_id(1), order_id(3), anna, chai, 333, 3_250_000),
        (2, order_id(2), order_id(3), ben, chai, 68, 3_250_000),
    ]
    assert result.zones.rows() == [(1, 3_250_000, 250_000, 401, 401)]
    assert result.flows.rows() == []
    assert sorted(result.traded.rows()) == sorted(
        [
            (anna, 1, 333, 1_165_500, 1_082_250, 83_250, 0, 0, 0),
            (ben, 1, 68, 238_000, 221_000, 17_000, 0, 0, 0),
            (chai, 1, -401, 0, 0, 0, 1_303_250, 13_032, 1_290_218),
        ]
    )
    assert (result.volume_wh, result.rent_uthb) == (401, 0)
    # 333 × 3.75 + 68 × 3.25 − 401 × 3.030304 mTHB, down to the µTHB
    assert result.welfare_uthb == (333 * 3_750_000 + 68 * 3_250_000 - 401 * 3_030_304) // 1_000
    assert {name: result.fills.schema[name] for name in frames.FILLS} == dict(frames.FILLS)


def test_pay_as_bid_pays_the_earlier_orders_price_match_by_match():
    rows = [
        order_row(1, BUY, 100, 5 * THB, broker_us=5),
        order_row(2, BUY, 100, 4 * THB, broker_us=1),
        order_row(3, SELL, 130, 3 * THB, broker_us=3),
        order_row(4, SELL, 50, 3_333_333, broker_us=6),
    ]
    result = run(rows, mechanism="pay_as_bid", rules=Rules(fee_bp=100))
    # net asks 3.030304 and 3.367004
    assert matches(result) == [(1, 3, 100, 3_030_304), (2, 3, 30, 4_000_000), (2, 4, 50, 4_000_000)]
    assert fills(result) == {
        1: (100, 3_030_304),
        2: (80, 4_000_000),
        3: (130, (100 * 3_030_304 + 30 * 4_000_000) // 130),
        4: (50, 4_000_000),
    }
    assert prices(result) == [None]
    value3 = (100 * 3_030_304 + 30 * 4_000_000) // 1_000
    traded = {row[0]: row[1:] for row in result.traded.rows()}
    assert traded == {
        wallet("w1"): (1, 100, 303_030, 303_030, 0, 0, 0, 0),
        wallet("w2"): (1, 80, 320_000, 320_000, 0, 0, 0, 0),
        wallet("w3"): (1, -130, 0, 0, 0, value3, value3 // 100, value3 - value3 // 100),
        wallet("w4"): (1, -50, 0, 0, 0, 200_000, 2_000, 198_000),
    }
    assert result.rent_uthb == 0


def test_a_free_link_joins_two_zones_into_one_price():
    net = network(0, 0, links=(link(7, (1, 2), 1_000),))
    rows = [order_row(1, SELL, 500, 3 * THB), order_row(2, BUY, 200, 5 * THB, zone_id=2)]
    result = run(rows, net, "zonal")
    assert fills(result) == {1: (200, 3 * THB), 2: (200, 3 * THB)}
    assert prices(result) == [3 * THB, 3 * THB]
    assert flows(result) == [(7, 1, 2, 200, 200, 0, 0)]
    assert matches(result) == [(2, 1, 200, 3 * THB)]


def test_a_full_link_parts_the_prices_and_the_rent_is_the_spread():
    net = network(0, 0, links=(link(7, (2, 1), 0, back=50),))
    rows = [
        order_row(1, SELL, 500, 3 * THB),
        order_row(2, BUY, 100, 3_500_000),
        order_row(3, BUY, 200, 5 * THB, zone_id=2),
        order_row(4, SELL, 400, 4 * THB, zone_id=2),
    ]
    result = run(rows, net, "zonal")
    assert fills(result) == {1: (150, 3 * THB), 2: (100, 3 * THB), 3: (200, 4 * THB), 4: (150, 4 * THB)}
    assert prices(result) == [3 * THB, 4 * THB]
    assert flows(result) == [(7, 1, 2, 50, 50, 0, 0)]
    assert result.rent_uthb == 50 * 4_000 - 50 * 3_000
    assert matches(result) == [(3, 1, 50, 4 * THB), (3, 4, 150, 4 * THB), (2, 1, 100, 3 * THB)]


def test_wheeling_and_loss_raise_the_price_hop_by_hop_and_are_rounded_down_once():
    net = network(
        0,
        0,
        100_000,
        links=(link(1, (1, 2), 10_000, wheeling=100_000, loss_ppm=20_000), link(2, (2, 3), 9_999, loss_ppm=30_000)),
    )
    rows = [order_row(1, SELL, 5_000, 3 * THB), order_row(2, BUY, 970, 6_100_000, zone_id=3)]
    result = run(rows, net, "zonal")
    # 970 Wh in zone 3 need 1000 sent from 2, and ⌈1000 / 0.98⌉ = 1021 sent from 1
    assert flows(result) == [(1, 1, 2, 1_021, 1_000, 21, 102_100), (2, 2, 3, 1_000, 970, 30, 0)]
    assert fills(result) == {1: (1_021, 3 * THB), 2: (970, 3_261_098)}
    assert prices(result) == [3_000_000, 3_163_265, 3_261_098]  # 3.1 / 0.98 = 3.16326…, / 0.97 = 3.26109…
    assert (result.lost_wh, result.volume_wh, result.link_wheeling_uthb) == (51, 970, 102_100)
    cost, value = -(-970 * (3_261_098 + 100_000) // 1_000), 1_021 * 3_000
    wheeling = cost - 970 * 3_261_098 // 1_000
    assert result.rent_uthb == cost - value - wheeling - 102_100 == -1_835


def test_link_wheeling_above_the_spread_keeps_zones_apart():
    net = network(0, 0, links=(link(1, (1, 2), 1_000, wheeling=1_000_001),))
    rows = [
        order_row(1, SELL, 500, 3 * THB),
        order_row(2, BUY, 200, 4 * THB, zone_id=2),
        order_row(3, BUY, 100, 3 * THB),
    ]
    result = run(rows, net, "zonal")
    assert fills(result) == {1: (100, 3 * THB), 3: (100, 3 * THB)}
    assert prices(result) == [3 * THB, None]
    assert flows(result) == [(1, 1, 2, 0, 0, 0, 0)]


def test_marginal_orders_of_two_zones_are_served_by_time():
    net = network(0, 0, 0, links=(link(1, (1, 3), 1_000), link(2, (2, 3), 1_000)))
    rows = [
        order_row(1, SELL, 100, 3 * THB, broker_us=9),
        order_row(2, SELL, 100, 3 * THB, broker_us=5, zone_id=2),
        order_row(3, SELL, 100, 3 * THB, broker_us=1),
        order_row(4, BUY, 150, 4 * THB, zone_id=3),
    ]
    result = run(rows, net, "zonal")
    assert fills(result) == {2: (50, 3 * THB), 3: (100, 3 * THB), 4: (150, 3 * THB)}
    assert [row[3] for row in flows(result)] == [100, 50]


def test_a_local_order_goes_before_an_equal_one_over_a_link():
    net = network(0, 0, links=(link(1, (1, 2), 1_000),))
    rows = [
        order_row(1, SELL, 100, 3 * THB, broker_us=1),
        order_row(2, SELL, 100, 3 * THB, broker_us=9, zone_id=2),
        order_row(3, BUY, 70, 4 * THB, zone_id=2),
    ]
    result = run(rows, net, "zonal")
    assert fills(result) == {2: (70, 3 * THB), 3: (70, 3 * THB)}  # least sent comes before priority
    assert flows(result) == [(1, 1, 2, 0, 0, 0, 0)]


def test_of_two_equal_ways_the_lower_link_carries_less():
    links = (link(1, (1, 2), 1_000), link(2, (2, 4), 1_000), link(3, (1, 3), 1_000), link(4, (3, 4), 1_000))
    net = network(0, 0, 0, 0, links=links)
    rows = [order_row(1, SELL, 500, 3 * THB), order_row(2, BUY, 200, 5 * THB, zone_id=4)]
    assert [row[3] for row in flows(run(rows, net, "zonal"))] == [0, 0, 200, 200]


def test_a_component_without_a_partly_filled_order_takes_its_midpoint_in_the_lowest_zone():
    net = network(0, 0, links=(link(1, (1, 2), 1_000, wheeling=200_000),))
    rows = [order_row(1, SELL, 100, 3 * THB), order_row(2, BUY, 100, 4 * THB, zone_id=2)]
    result = run(rows, net, "zonal")
    assert prices(result) == [3_400_000, 3_600_000]  # zone 1: lowest 3.0, highest 4.0 − 0.2


def test_the_breaker_halts_an_epoch_and_a_halted_epoch_has_no_trades():
    rows = [order_row(1, BUY, 60, 4 * THB), order_row(2, SELL, 60, 3 * THB)]
    calm = run(rows, history={1: [9 * THB, 3 * THB, 3 * THB, 3 * THB, 3 * THB]})
    assert not calm.halted
    halted = run(rows, history={1: [2 * THB] * 4})
    assert halted.halted and "3500000 µTHB/kWh" in halted.halt_reasons[0]
    assert (fills(halted), matches(halted), prices(halted), halted.traded.rows()) == ({}, [], [None], [])
    net = network()
    manual = halted_result(book_of(rows, net), net, FREE, "an operator halted the market")
    assert (manual.halted, manual.volume_wh, prices(manual)) == (True, 0, [None])


def test_a_mechanism_that_is_none_is_refused():
    with pytest.raises(ClearingError, match="mechanism was 'dutch', must be one of zonal, uniform, pay_as_bid, cont"):
        run([], mechanism="dutch")


def test_a_book_that_is_none_is_refused():
    good = order_row(1, BUY, 60, 4 * THB)
    net = network()
    with pytest.raises(ClearingError, match="2 rows but 1 order ids"):
        clear(book_of([good, good], net), net, FREE)
    with pytest.raises(ClearingError, match=rf"wallet {wallet('w1')} stands in two zones"):
        two = network(0, 0)
        clear(book_of([good, order_row(2, BUY, 5, 3 * THB, wallet=wallet("w1"), zone_id=2)], two), two, FREE)
    with pytest.raises(ClearingError, match=r"zones \[2\]"):
        clear(book_of([good | {"zone_id": 2}], network(0, 0)), net, FREE)


def test_the_result_has_canonical_rows():
    result = run([order_row(1, BUY, 60, 4 * THB), order_row(2, SELL, 60, 3 * THB)])
    rows = result_rows(result, 3, 77)
    assert len(rows) == 1 + 1 + 0 + 2 + 1 + 2
    assert rows[0] == b"gridtokenx/result/v1" + (3).to_bytes(8, "little") + (77).to_bytes(4, "little") + (
        b"\0\x07uniform\0" + (60).to_bytes(8, "little") + bytes(24) + (60_000).to_bytes(8, "little")
    )
    assert merkle_root(rows) != merkle_root(result_rows(result, 3, 78))


def test_a_demo_sized_book_clears_in_milliseconds():
    net = network(0, 0, 0, links=(link(1, (1, 2), 3_000, wheeling=50_000, loss_ppm=10_000), link(2, (2, 3), 2_000)))
    rows = [
        order_row(n, n % 2, 100 + 7 * n % 90, (300 + (n * 37) % 150) * 10_000, zone_id=1 + n % 3) for n in range(100)
    ]
    book = book_of(rows, net)
    clear(book, net, FREE)
    started = time.perf_counter()
    for _ in range(5):
        clear(book, net, FREE)
    assert (time.perf_counter() - started) / 5 < 0.2  # aim 0.02; ten times that on a busy machine

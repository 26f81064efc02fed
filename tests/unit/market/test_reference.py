"""Uniform, pay-as-bid and continuous clearing give to the µTHB what the slow reference gives, for any book."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings

from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from tests.unit.market import reference
from tests.unit.market.books import BUY, SELL, THB, network, order_row
from tests.unit.market.differential import (
    FEES,
    ZONE_WHEELINGS,
    charges_of,
    filled,
    money,
    orders_of,
    prices,
    produce,
    rows_of,
)


def of_matches(result) -> list[reference.Match]:
    columns = ("buy_order_id", "sell_order_id", "energy_wh", "price_uthb_per_kwh")
    return [reference.Match(*row) for row in result.matches.select(columns).rows()]


def by_pair(matches: list[reference.Match]) -> list[tuple]:
    return sorted((match.buy, match.sell, match.wh, match.price) for match in matches)


@settings(max_examples=400)
@given(rows_of(), FEES, ZONE_WHEELINGS)
@example([order_row(1, BUY, 1_000_000, 3 * THB), order_row(2, SELL, 1, 3 * THB)], 0, 0)
def test_uniform_equals_its_definition(rows, fee_bp, wheeling):
    net, orders = network(wheeling), orders_of(rows)
    charges = charges_of(net, fee_bp)
    result = produce(rows, net, fee_bp, "uniform")
    expected, price = reference.uniform(orders, charges)
    assert filled(result, rows) == expected
    assert prices(result) == {1: price}
    assert money(result) == reference.money_at_prices(orders, expected, {1: price}, charges)
    paired = reference.filled_by_match(orders, of_matches(result))
    assert paired == expected


@settings(max_examples=300)
@given(rows_of(), FEES, ZONE_WHEELINGS)
def test_pay_as_bid_equals_its_definition(rows, fee_bp, wheeling):
    net, orders = network(wheeling), orders_of(rows)
    charges = charges_of(net, fee_bp)
    result = produce(rows, net, fee_bp, "pay_as_bid")
    expected = reference.pay_as_bid(orders, charges)
    assert by_pair(of_matches(result)) == by_pair(expected)
    assert filled(result, rows) == reference.filled_by_match(orders, expected)
    assert money(result) == reference.money_by_match(orders, expected, charges)


@settings(max_examples=150)
@given(rows_of(zones=3), FEES)
def test_uniform_over_several_zones_is_one_area_whose_buyers_bear_their_own_wheeling(rows, fee_bp):
    net, orders = network(0, 54_321, 100_000), orders_of(rows)
    charges = charges_of(net, fee_bp)
    result = produce(rows, net, fee_bp, "uniform")
    expected, price = reference.uniform(orders, charges)
    assert filled(result, rows) == expected
    assert set(prices(result).values()) == {price}
    assert money(result) == reference.money_at_prices(orders, expected, dict.fromkeys((1, 2, 3), price), charges)


@settings(max_examples=300)
@given(rows_of(), FEES, ZONE_WHEELINGS)
def test_continuous_equals_its_definition(rows, fee_bp, wheeling):
    net, orders = network(wheeling), orders_of(rows)
    charges = charges_of(net, fee_bp)
    try:
        result = produce(rows, net, fee_bp, "continuous")
    except ClearingError as reason:
        if "arrives with" not in str(reason):
            raise
        pytest.skip(str(reason))
    expected = reference.continuous(orders, charges)
    assert of_matches(result) == expected
    assert filled(result, rows) == reference.filled_by_match(orders, expected)
    assert money(result) == reference.money_by_match(orders, expected, charges)

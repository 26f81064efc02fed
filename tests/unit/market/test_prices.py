"""Reference prices, the circuit breaker, rounded midpoints."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gridtokenx_pipelines.market.prices import display_price, halt_check, reference_price, rounded_midpoint
from gridtokenx_pipelines.market.rules import Rules

RULES = Rules()


@pytest.mark.parametrize(
    ("demand", "supply", "expected"),
    [
        (0, 1_000, 3_000_000),
        (1_000, 1_000, 3_750_000),
        (1_000, 3, 8_000_000),
        (1, 3, 3_250_000),
        (2, 7, 3_214_285),
        (5, 0, 8_000_000),
        (0, 0, 8_000_000),
    ],
)
def test_the_reference_price_rises_with_demand_over_supply_up_to_the_cap(demand, supply, expected):
    assert reference_price(demand, supply, RULES) == expected


def test_the_reference_price_never_leaves_the_band():
    assert reference_price(0, 1, RULES, base_uthb_per_kwh=1) == 2_000_000


@pytest.mark.parametrize(
    ("demand", "expected"),
    [(4_999, 4_500_000), (5_000, 5_000_000), (10_000, 5_000_000), (10_001, 5_500_000)],
)
def test_the_display_price_steps_at_two_and_four_kwh_per_meter_and_hour(demand, expected):
    assert display_price(demand, meters=10) == expected


def test_the_breaker_trips_beyond_the_bound_and_only_with_four_prices():
    four = [2_000_000, 3_000_000, 3_000_000, 4_000_000]  # mean 3.0
    assert halt_check({1: 4_500_000}, {1: four}, 5_000) == {}
    assert halt_check({1: 1_500_000}, {1: four}, 5_000) == {}
    assert list(halt_check({1: 4_500_001, 2: 4_500_001}, {1: four, 2: four[1:]}, 5_000)) == [1]
    assert list(halt_check({1: 1_499_999}, {1: [9_000_000, *four]}, 5_000)) == [1]
    assert halt_check({1: None}, {1: four}, 5_000) == {}
    assert halt_check({1: 9_000_000}, {}, 5_000) == {}


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (3_000_000, 3_030_000, 3_010_000),
        (3_000_000, 3_010_000, 3_000_000),
        (3_000_001, 3_010_000, 3_005_000),
        (3_000_001, 3_000_002, 3_000_001),
        (3_000_001, 3_000_001, 3_000_001),
        (Fraction(30_000_011, 10), Fraction(30_000_013, 10), Fraction(30_000_012, 10)),
    ],
)
def test_a_midpoint_goes_down_to_the_tick_if_that_is_in_the_interval(lowest, highest, expected):
    assert rounded_midpoint(lowest, highest) == expected

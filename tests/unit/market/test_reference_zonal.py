"""Zonal coupling gives to the Wh and the µTHB what an exact linear program with domain §5's rules of rounding gives."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market.checks import faults_of
from gridtokenx_pipelines.market.rules import Network, Rules
from tests.unit.market import reference
from tests.unit.market.books import BUY, SELL, THB, book_of, link, network, order_row
from tests.unit.market.differential import (
    FEES,
    charges_of,
    crowded,
    filled,
    flows,
    money,
    networks,
    orders_of,
    prices,
    produce,
    rows_of,
)
from tests.unit.market.exact_lp import Infeasible, Program, Unbounded
from tests.unit.market.reference_zonal import Undetermined, zonal

SLOW_DRAWS = [HealthCheck.too_slow, HealthCheck.data_too_large]


def agrees(rows, net, fee_bp) -> None:
    """Whole results are equal; where several are right, the production's own certificate must hold."""
    orders, charges = orders_of(rows), charges_of(net, fee_bp)
    result = produce(rows, net, fee_bp, "zonal")
    try:
        expected = zonal(orders, net, charges)
    except Undetermined:
        assert faults_of(book_of(rows, net, fee_bp), result, net, Rules(fee_bp=fee_bp)) == []
        return
    assert filled(result, rows) == expected.filled
    assert flows(result) == expected.sent
    assert prices(result) == expected.prices
    assert money(result) == reference.money_at_prices(orders, expected.filled, expected.prices, charges)


@settings(max_examples=120, suppress_health_check=SLOW_DRAWS)
@given(st.data(), networks(), FEES)
def test_without_losses_fills_flows_and_prices_are_the_exact_optimum(data, net, fee_bp):
    rows = data.draw(rows_of(zones=len(net.zones), most=9))
    agrees(rows, net, fee_bp)


@settings(max_examples=120, suppress_health_check=SLOW_DRAWS)
@given(st.data(), networks(losses=(0, 1, 12_345, 20_000, 333_333)), FEES)
def test_with_losses_they_are_the_exact_optimum_rounded_by_the_rules(data, net, fee_bp):
    rows = data.draw(rows_of(zones=len(net.zones), most=9))
    agrees(rows, net, fee_bp)


@pytest.mark.parametrize("seed", range(60))
def test_crowded_networks_couple_as_the_exact_optimum_says(seed):
    agrees(*crowded(seed))


@pytest.mark.parametrize("seed", range(60))
def test_crowded_lossy_networks_couple_as_the_exact_optimum_says(seed):
    agrees(*crowded(seed, losses=(0, 20_000, 12_345)))


def test_a_book_of_single_wh_over_lossy_links_is_balanced_and_not_refused():
    net = network(
        *(0, 0, 0, 0),
        links=(
            link(1, (1, 2), 1, loss_ppm=12_345, back=3),
            link(2, (3, 1), 0, wheeling=5_100, back=50),
            link(3, (1, 4), 1_000_000, loss_ppm=20_000, back=1),
            link(4, (2, 3), 2, loss_ppm=20_000, back=3),
            link(5, (2, 4), 1, loss_ppm=20_000, back=50),
            link(6, (4, 3), 1_000_000, wheeling=123_457, loss_ppm=12_345, back=50),
        ),
    )
    drawn = [(0, 3, 400, 3, 1), (1, 3, 400, 2, 3), (0, 100, 500, 1, 2), (1, 5, 300, 2, 2), (1, 3, 400, 3, 4)]
    drawn.append((1, 3, 500, 2, 3))
    rows = [
        order_row(number, side, wh, cents * 10_000, zone_id=zone, broker_us=time)
        for number, (side, wh, cents, zone, time) in enumerate(drawn, 1)
    ]
    result = produce(rows, net, 333, "zonal")
    assert faults_of(book_of(rows, net, 333), result, net, Rules(fee_bp=333)) == []


def of_single_wh(seed: int) -> tuple[list[dict], Network, int]:
    """Up to six zones, nearly all linked, with capacities and orders of a few Wh: all that losses can round away."""
    rng = random.Random(seed)  # noqa: S311 - a test's own numbers
    zones = rng.randint(2, 6)
    rows = [
        order_row(
            number,
            rng.randrange(2),
            rng.choice([1, 2, 3, 5, 100]),
            rng.choice([300, 400, 500]) * 10_000,
            zone_id=rng.randint(1, zones),
            broker_us=rng.randint(1, 4),
        )
        for number in range(1, rng.randint(2, 14) + 1)
    ]
    pairs = [(a, b) for a in range(1, zones + 1) for b in range(a + 1, zones + 1) if rng.random() < 0.8]
    links = tuple(
        link(
            number,
            pair if rng.random() < 0.5 else pair[::-1],
            rng.choice([0, 1, 1, 2, 3, 50, 1_000_000]),
            wheeling=rng.choice([0, 0, 5_100, 123_457]),
            loss_ppm=rng.choice([20_000, 12_345, 0, 333_333, 1]),
            back=rng.choice([0, 1, 2, 3, 50]),
        )
        for number, pair in enumerate(pairs, 1)
    )
    return rows, network(*[0] * zones, links=links), rng.choice([0, 333])


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_networks_of_single_wh_are_balanced_and_at_an_equilibrium(start):
    for seed in range(start, start + 20):
        rows, net, fee_bp = of_single_wh(seed)
        result = produce(rows, net, fee_bp, "zonal")
        assert faults_of(book_of(rows, net, fee_bp), result, net, Rules(fee_bp=fee_bp)) == []


def test_the_reference_itself_solves_a_case_worked_by_hand():
    """Two zones, 100 Wh of capacity, 10 % lost: 90 Wh arrive; each zone keeps its own price."""
    net = network(0, 0, links=(link(1, (1, 2), 100, loss_ppm=100_000),))
    rows = [order_row(1, SELL, 500, 3 * THB), order_row(2, BUY, 300, 5 * THB, zone_id=2)]
    found = zonal(orders_of(rows), net, charges_of(net, 0))
    assert found.filled == {rows[0]["order_id"]: 100, rows[1]["order_id"]: 90}
    assert found.prices == {1: 3 * THB, 2: 5 * THB}
    assert found.sent == {1: (1, 2, 100, 90)}
    assert found.optimum_uthb == (90 * 5 - 100 * 3) * 1_000


def test_the_exact_program_is_lexicographic_and_names_what_has_no_answer():
    program = Program()
    program.at_most({"x": 1, "y": 3}, 1)
    assert program.best([{"x": 1, "y": 3}, {"y": 1}]) == {"x": 0, "y": Fraction(1, 3), "slack 0": 0}
    assert program.best([{"x": 1, "y": 3}, {"y": -1}])["x"] == 1
    with pytest.raises(Unbounded):
        program.best([{"z": 1}] if program.names.setdefault("z", len(program.names)) else [])
    program.equal({"x": 1}, 2)
    with pytest.raises(Infeasible):
        program.best([])

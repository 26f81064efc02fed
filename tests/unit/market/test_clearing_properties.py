"""What must hold for any book and network: conservation, limits, optimality, independence of input order."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from gridtokenx_pipelines.market.checks import faults_of
from gridtokenx_pipelines.market.clearing import clear
from gridtokenx_pipelines.market.roots import result_rows
from gridtokenx_pipelines.market.rules import Network, Rules
from tests.unit.market.books import BUY, book_of, link, network, order_row

CAPACITIES = st.sampled_from([0, 1, 3, 10, 100, 1_000])
WHEELINGS = st.sampled_from([0, 0, 10_000, 100_000, 2_000_000])
LOSSES = st.sampled_from([0, 0, 1_000, 20_000, 333_333, 500_000])


@st.composite
def networks(draw, zones: int | None = None, lossless: bool = False) -> Network:
    n_zones = zones or draw(st.integers(1, 4))
    pairs = [(start, end) for start in range(1, n_zones + 1) for end in range(1, n_zones + 1) if start != end]
    ends = draw(st.lists(st.sampled_from(pairs), max_size=5)) if pairs else []
    links = tuple(
        link(
            number,
            pair,
            draw(CAPACITIES),
            wheeling=draw(WHEELINGS),
            loss_ppm=0 if lossless else draw(LOSSES),
            back=draw(CAPACITIES),
        )
        for number, pair in enumerate(ends, 1)
    )
    return network(*draw(st.lists(st.sampled_from([0, 100_000]), min_size=n_zones, max_size=n_zones)), links=links)


@st.composite
def books(draw, zones: int) -> list[dict]:
    limits = draw(st.sampled_from([[300, 400], [300, 310, 320], list(range(200, 500))]))
    most = draw(st.sampled_from([3, 500]))
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.integers(1, most),
                st.sampled_from(limits),
                st.integers(1, zones),
                st.integers(0, 3),
            ),
            max_size=12,
        )
    )
    return [
        order_row(number, side, wh, cents * 10_000, zone_id=zone, broker_us=time)
        for number, (side, wh, cents, zone, time) in enumerate(drawn)
    ]


class Reference:
    """The linear program straight from the orders: a column per order and direction of a link, no grouping."""

    def __init__(self, rows: list[dict], net: Network, fee_bp: int) -> None:
        self.book = book_of(rows, net, fee_bp)
        index = {zone.zone_id: place for place, zone in enumerate(net.zones)}
        self.ways = [
            (way, start, end, max(capacity, 0))
            for way in net.links
            for start, end, capacity in (
                (way.from_zone, way.to_zone, way.capacity_forward_wh),
                (way.to_zone, way.from_zone, way.capacity_backward_wh),
            )
        ]
        n_orders, n_columns = self.book.height, self.book.height + len(self.ways)
        self.balance = np.zeros((len(net.zones), n_columns))
        self.cost, self.sent, self.bought = np.zeros(n_columns), np.zeros(n_columns), np.zeros(n_columns)
        for column, row in enumerate(self.book.iter_rows(named=True)):
            sign = 1 if row["side"] == BUY else -1
            self.cost[column] = -sign * row["net_limit_uthb_per_kwh"] / 1_000
            self.balance[index[row["zone_id"]], column] = sign
            self.bought[column] = sign == 1
        for column, (way, start, end, _) in enumerate(self.ways, n_orders):
            self.cost[column], self.sent[column] = way.link_wheeling_uthb_per_kwh / 1_000, 1
            self.balance[index[start], column] += 1
            self.balance[index[end], column] -= 1 - way.loss_ppm / 1_000_000
        self.bounds = [(0, wh) for wh in self.book["covered_wh"]] + [(0, capacity) for *_, capacity in self.ways]

    def least(self, cost: np.ndarray, held: list[tuple[np.ndarray, float]]) -> np.ndarray:
        """Least cost with former objectives held where they were."""
        matrix = np.vstack([self.balance, *[row for row, _ in held]])
        target = np.array([0.0] * len(self.balance) + [value for _, value in held])
        found = linprog(cost, A_eq=matrix, b_eq=target, bounds=self.bounds)
        assert found.status == 0
        return found.x

    def welfare_uthb(self) -> float:
        return -float(self.cost @ self.least(self.cost, [])) if self.book.height else 0.0

    def lexicographic(self) -> np.ndarray:
        """Welfare, volume, least sent, then order by order by priority, then link by link."""
        n_orders, unit = self.book.height, np.eye(len(self.cost))
        links = {way.link_id for way, *_ in self.ways}
        flows = [
            np.concatenate([np.zeros(n_orders), [float(way.link_id == number) for way, *_ in self.ways]])
            for number in sorted(links)
        ]
        held: list[tuple[np.ndarray, float]] = []
        found = np.zeros(len(self.cost))
        for cost in [self.cost, -self.bought, self.sent, *[-unit[order] for order in range(n_orders)], *flows]:
            found = self.least(cost, held)
            held.append((cost, float(cost @ found)))
        return found


@settings(max_examples=120, deadline=None)
@given(st.data(), networks(), st.sampled_from([0, 100]), st.sampled_from(["zonal", "uniform", "pay_as_bid"]))
def test_any_book_balances_and_keeps_every_limit(data, net, fee_bp, mechanism):
    rows = data.draw(books(len(net.zones)))
    rules = Rules(fee_bp=fee_bp)
    book = book_of(rows, net, fee_bp)
    result = clear(book, net, rules, mechanism)
    assert faults_of(book, result, net, rules) == []


@settings(max_examples=60, deadline=None)
@given(st.data(), networks(), st.sampled_from(["zonal", "uniform", "pay_as_bid"]))
def test_input_order_never_matters_and_clearing_twice_is_clearing_once(data, net, mechanism):
    rows = data.draw(books(len(net.zones)))
    book = book_of(rows, net)
    shuffled = book[data.draw(st.permutations(range(book.height)))] if book.height else book
    mixed = Network(zones=net.zones[::-1], links=net.links[::-1])
    first, second = clear(book, net, Rules(fee_bp=0), mechanism), clear(shuffled, mixed, Rules(fee_bp=0), mechanism)
    assert result_rows(first, 3, 1) == result_rows(second, 3, 1)


@settings(max_examples=80, deadline=None)
@given(st.data(), networks())
def test_welfare_reaches_the_linear_bound_but_for_the_rounding_of_losses(data, net):
    rows = data.draw(books(len(net.zones)))
    result = clear(book_of(rows, net), net, Rules(fee_bp=0))
    bound = Reference(rows, net, 0).welfare_uthb()
    lossy = sum(way.loss_ppm > 0 for way in net.links)
    # a Wh is worth at most 8 mTHB; a link rounds away less than one Wh, and wheeling at most 1 µTHB
    most_lost = 8_000 * 3 * lossy * len(net.zones) + len(net.links) + 1
    assert bound - most_lost <= result.welfare_uthb <= bound + most_lost


@settings(max_examples=60, deadline=None)
@given(st.data(), networks(lossless=True))
def test_without_losses_welfare_is_exactly_the_linear_optimum(data, net):
    rows = data.draw(books(len(net.zones)))
    result = clear(book_of(rows, net), net, Rules(fee_bp=0))
    # welfare and each link's wheeling are rounded to the µTHB against themselves
    assert result.welfare_uthb == pytest.approx(Reference(rows, net, 0).welfare_uthb(), abs=len(net.links) + 1.01)


@settings(max_examples=80, deadline=None)
@given(books(1), st.sampled_from([0, 100]))
def test_one_zone_gives_exactly_uniform(rows, fee_bp):
    """Also when the coupling's own steps do the work: a second zone that only a full-time idle link reaches."""
    rules, alone = Rules(fee_bp=fee_bp), network(0)
    uniform = clear(book_of(rows, alone, fee_bp), alone, rules, "uniform")
    zonal = clear(book_of(rows, alone, fee_bp), alone, rules, "zonal")
    linked = network(0, 0, links=(link(1, (1, 2), 1_000, wheeling=9_000_000),))
    coupled = clear(book_of(rows, linked, fee_bp), linked, rules, "zonal")
    for name in ("fills", "matches", "traded"):
        assert getattr(zonal, name).equals(getattr(uniform, name))
        assert getattr(coupled, name).equals(getattr(uniform, name))
    assert zonal.zones.equals(uniform.zones)
    assert coupled.zones.rows()[0] == uniform.zones.rows()[0]


@settings(max_examples=60, deadline=None)
@given(st.data(), networks(zones=3, lossless=True), st.integers(1, 500))
def test_more_capacity_never_lowers_welfare(data, net, more):
    rows = data.draw(books(3))
    wider = msgspec.structs.replace(
        net,
        links=tuple(
            msgspec.structs.replace(way, capacity_forward_wh=way.capacity_forward_wh + more) for way in net.links
        ),
    )
    before, after = (clear(book_of(rows, each), each, Rules(fee_bp=0)).welfare_uthb for each in (net, wider))
    assert after >= before - len(net.links)  # each link's wheeling rounds up to the µTHB


@settings(max_examples=40, deadline=None)
@given(st.data(), networks(lossless=True))
def test_a_choice_between_optima_is_made_by_volume_sent_priority_and_link(data, net):
    rows = data.draw(books(len(net.zones)))
    if not rows:
        return
    reference = Reference(rows, net, 0)
    expected = np.rint(reference.lexicographic()).astype(int).tolist()
    result = clear(reference.book, net, Rules(fee_bp=0))
    filled = dict(result.fills.select("order_id", "filled_wh").rows())
    assert [filled.get(ident, 0) for ident in reference.book["order_id"]] == expected[: reference.book.height]
    sent = {(row["link_id"], row["from_zone"]): row["sent_wh"] for row in result.flows.iter_rows(named=True)}
    assert [sent.get((way.link_id, start), 0) for way, start, _, _ in reference.ways] == expected[len(rows) :]

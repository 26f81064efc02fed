"""Self-trade prevention: own orders never meet, and nobody else loses a trade by it, in every mechanism."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market.checks import faults_of
from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.roots import result_rows
from gridtokenx_pipelines.market.rules import Network, Rules
from tests.unit.market.books import BUY, SELL, THB, book_of, link, network, order_row, wallet
from tests.unit.market.test_clearing import fills, matches, prices
from tests.unit.market.test_clearing_properties import networks

ALL = ["uniform", "pay_as_bid", "zonal", "continuous"]
FREE = Rules(fee_bp=0)


def order(number: int, side: int, wh: int, thb: float, owner: str, zone: int = 1) -> dict:  # noqa: PLR0917
    return order_row(number, side, wh, round(thb * THB), wallet=wallet(owner), zone_id=zone)


def run(rows: list[dict], mechanism: str, net: Network | None = None) -> ClearingResult:
    net = net or network()
    return clear(book_of(rows, net), net, FREE, mechanism)


def anonymous(rows: list[dict]) -> list[dict]:
    """The same orders, each of a wallet of its own."""
    return [row | {"wallet": wallet(f"anonymous {row['order_id'].hex()}")} for row in rows]


def filled(result: ClearingResult) -> dict[bytes, int]:
    return dict(result.fills.select("order_id", "filled_wh").rows())


@st.composite
def own_books(draw, zones: int = 1, most: int = 10) -> list[dict]:
    """Few wallets with many orders, so that most stand on both sides; a wallet stays in one zone."""
    ticks = draw(st.sampled_from([(3, 4), (3, 3.5, 4, 4.5, 5), tuple(range(2, 9))]))
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.sampled_from([1, 2, 5, 10, 30]),
                st.sampled_from(ticks),
                st.sampled_from("abcdef"),
                st.integers(0, 3),
            ),
            max_size=most,
        )
    )
    homes = {name: draw(st.integers(1, zones)) for name in "abcdef"}
    return [
        order(number, side, wh, thb, name, homes[name]) | {"broker_us": time}
        for number, (side, wh, thb, name, time) in enumerate(drawn, 1)
    ]


def most_between_wallets(rows: list[dict]) -> int:
    """Largest volume at one price, by a maximum flow between wallets at every price."""
    return max((between_wallets(rows, price) for price in {row["limit_uthb_per_kwh"] for row in rows}), default=0)


def between_wallets(rows: list[dict], price: int) -> int:
    bids, asks = defaultdict(int), defaultdict(int)
    for row in rows:
        limit = row["limit_uthb_per_kwh"]
        if limit >= price if row["side"] == BUY else limit <= price:
            (bids if row["side"] == BUY else asks)[row["wallet"]] += row["energy_wh"]
    return _max_flow(bids, asks)


def _max_flow(bids: dict[str, int], asks: dict[str, int]) -> int:
    """Wh that bids can take from asks of others, by augmenting paths."""
    spare_bid, spare_ask = dict(bids), dict(asks)
    flow: dict[tuple[str, str], int] = defaultdict(int)
    total = 0
    while True:
        # bids reachable from unserved ones, with the ask each was reached by
        came: dict[tuple[str, str], tuple[str, str] | None] = {("bid", b): None for b in bids if spare_bid[b]}
        queue, end = list(came), None
        for kind, name in queue:
            if kind == "ask" and spare_ask[name]:
                end = ("ask", name)
                break
            steps = [("ask", a) for a in asks if a != name] if kind == "bid" else [("bid", b) for b in bids]
            for step in steps:
                if step not in came and (kind == "bid" or flow[step[1], name]):
                    came[step] = (kind, name)
                    queue.append(step)
        if end is None:
            return total
        path = [end]
        while came[path[-1]] is not None:
            path.append(came[path[-1]])
        path = path[::-1]
        hops = list(pairwise(path))
        most = min(
            [spare_bid[path[0][1]], spare_ask[end[1]], *[flow[b, a] for (kind, a), (_, b) in hops if kind == "ask"]]
        )
        for (kind, one), (_, other) in hops:
            if kind == "bid":
                flow[one, other] += most
            else:
                flow[other, one] -= most
        spare_bid[path[0][1]] -= most
        spare_ask[end[1]] -= most
        total += most


def too_much(rows: list[dict], result: ClearingResult) -> set[str]:
    """Wallets whose bought and sold Wh don't fit the volume: they could only trade that with themselves."""
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[row["wallet"]] += filled(result).get(row["order_id"], 0)
    return {name for name, wh in sums.items() if wh > result.volume_wh}


@settings(max_examples=200, deadline=None)
@given(own_books(), st.sampled_from(ALL))
def test_nobody_ever_trades_with_itself(rows, mechanism):
    result = run(rows, mechanism)
    assert not [row for row in result.matches.to_dicts() if row["buyer"] == row["seller"]]
    assert faults_of(book_of(rows, network()), result, network(), FREE) == []


@settings(max_examples=300, deadline=None)
@given(own_books(), st.sampled_from(["uniform", "zonal"]))
def test_prevention_costs_no_other_wallets_order_a_wh(rows, mechanism):
    result, without = run(rows, mechanism), run(anonymous(rows), mechanism)
    got, had = filled(result), filled(without)
    for row in rows:
        if row["wallet"] not in too_much(rows, without):
            assert got.get(row["order_id"], 0) >= had.get(row["order_id"], 0)


@settings(max_examples=200, deadline=None)
@given(own_books())
def test_paid_as_bid_no_wallet_with_orders_on_one_side_loses_a_wh(rows):
    got, had = filled(run(rows, "pay_as_bid")), filled(run(anonymous(rows), "pay_as_bid"))
    sides = defaultdict(set)
    for row in rows:
        sides[row["wallet"]].add(row["side"])
    for row in rows:
        if len(sides[row["wallet"]]) == 1:
            assert got.get(row["order_id"], 0) >= had.get(row["order_id"], 0)


@settings(max_examples=300, deadline=None)
@given(own_books())
def test_the_uniform_volume_is_the_most_that_wallets_can_trade_at_one_price_unless_another_would_lose(rows):
    result, without = run(rows, "uniform"), run(anonymous(rows), "uniform")
    best = most_between_wallets(rows)
    if not too_much(rows, without):
        assert result.volume_wh == without.volume_wh == best
    elif prices(result) == prices(without):
        assert result.volume_wh == between_wallets(rows, prices(without)[0]) <= best
    else:
        assert result.volume_wh == best


@settings(max_examples=200, deadline=None)
@given(own_books(), st.sampled_from(["pay_as_bid", "continuous"]))
def test_no_two_wallets_are_left_that_could_still_trade(rows, mechanism):
    got = filled(run(rows, mechanism))
    open_rows = [row for row in rows if got.get(row["order_id"], 0) < row["energy_wh"]]
    for bid, ask in product(open_rows, open_rows):
        if bid["side"] == BUY and ask["side"] == SELL and bid["wallet"] != ask["wallet"]:
            assert bid["limit_uthb_per_kwh"] < ask["limit_uthb_per_kwh"]


@settings(max_examples=100, deadline=None)
@given(own_books(), st.sampled_from(ALL))
def test_without_own_orders_that_cross_wallets_change_nothing(rows, mechanism):
    best_bid, best_ask = {}, {}
    for row in rows:
        limit, name = row["limit_uthb_per_kwh"], row["wallet"]
        if row["side"] == BUY:
            best_bid[name] = max(best_bid.get(name, 0), limit)
        else:
            best_ask[name] = min(best_ask.get(name, 10**9), limit)
    apart = [row for row in rows if best_bid.get(row["wallet"], 0) < best_ask.get(row["wallet"], 10**9)]
    one, other = run(apart, mechanism), run(anonymous(apart), mechanism)
    assert filled(one) == filled(other)
    assert one.zones.equals(other.zones)


@settings(max_examples=60, deadline=None)
@given(own_books(), st.sampled_from(ALL), st.data())
def test_input_order_never_matters(rows, mechanism, data):
    book = book_of(rows, network())
    shuffled = book[data.draw(st.permutations(range(book.height)))] if book.height else book
    results = [result_rows(clear(each, network(), FREE, mechanism), 3, 1) for each in (book, shuffled)]
    assert results[0] == results[1]


@settings(max_examples=150, deadline=None)
@given(st.data(), networks())
def test_coupled_zones_keep_all_rules_for_wallets_on_both_sides(data, net):
    rows = data.draw(own_books(len(net.zones), most=12))
    result = run(rows, "zonal", net)
    assert not [row for row in result.matches.to_dicts() if row["buyer"] == row["seller"]]
    assert faults_of(book_of(rows, net), result, net, FREE) == []
    got, had = filled(result), filled(run(anonymous(rows), "zonal", net))
    sides = defaultdict(set)
    for row in rows:
        sides[row["wallet"]].add(row["side"])
    for row in rows:
        if len(sides[row["wallet"]]) == 1:
            assert got.get(row["order_id"], 0) >= had.get(row["order_id"], 0)


@pytest.mark.parametrize("mechanism", ALL)
def test_an_own_ask_gives_way_to_the_next_wallets(mechanism):
    rows = [order(1, SELL, 10, 3, "w"), order(2, SELL, 10, 3, "a"), order(3, BUY, 10, 5, "w")]
    result = run(rows, mechanism)
    assert {number: wh for number, (wh, _) in fills(result).items()} == {2: 10, 3: 10}
    assert [pair[:3] for pair in matches(result)] == [(3, 2, 10)]


def test_partners_change_where_the_fills_allow_it_and_fills_stay():
    rows = [
        order(1, BUY, 10, 5, "w"),
        order(2, BUY, 10, 4, "b"),
        order(3, SELL, 10, 2, "w"),
        order(4, SELL, 10, 3, "a"),
    ]
    result = run(rows, "uniform")
    assert fills(result) == {number: (10, 3_500_000) for number in (1, 2, 3, 4)}
    assert matches(result) == [(1, 4, 10, 3_500_000), (2, 3, 10, 3_500_000)]
    traded = {row["wallet"]: row for row in result.traded.to_dicts()}[wallet("w")]
    assert (traded["traded_wh"], traded["cost_uthb"], traded["proceeds_uthb"]) == (0, 35_000, 35_000)


def test_a_wallet_that_only_meets_itself_leaves_the_price_to_the_others():
    """Its own bid and ask would shut out both others at 4; at 3.5 its ask serves the other bid."""
    rows = [
        order(1, BUY, 10, 5, "w"),
        order(2, SELL, 10, 3, "w"),
        order(3, BUY, 10, 3.5, "b"),
        order(4, SELL, 10, 4.5, "a"),
    ]
    result = run(rows, "uniform")
    assert fills(result) == {2: (10, 3_250_000), 3: (10, 3_250_000)}
    assert prices(result) == [3_250_000]


def test_alone_with_itself_a_wallet_does_not_trade():
    rows = [order(1, BUY, 10, 5, "w"), order(2, SELL, 10, 3, "w")]
    for mechanism in ALL:
        result = run(rows, mechanism)
        assert (fills(result), prices(result), result.volume_wh) == ({}, [None], 0)


def test_in_coupled_zones_only_what_meets_itself_is_taken_off():
    net = network(0, 0, links=(link(1, (1, 2), 30),))
    rows = [
        order(1, BUY, 100, 5, "w"),
        order(2, SELL, 100, 3, "w"),
        order(3, BUY, 30, 6, "b", 2),
    ]
    result = run(rows, "zonal", net)
    assert {number: wh for number, (wh, _) in fills(result).items()} == {2: 30, 3: 30}
    assert matches(result)[0][:3] == (3, 2, 30)

"""A result that was tampered with, or that only looks like an optimum, is found out."""

from __future__ import annotations

import msgspec
import polars as pl
import pytest

from gridtokenx_pipelines.market.checks import faults_of
from gridtokenx_pipelines.market.clearing import clear, halted_result
from gridtokenx_pipelines.market.mechanisms.coupling import problem_of
from gridtokenx_pipelines.market.mechanisms.coupling_check import check
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingCheckError, Ids, Orders
from gridtokenx_pipelines.market.rules import Rules
from tests.unit.market.books import BUY, SELL, THB, book_of, link, network, order_row

NET = network(100_000, 0, links=(link(7, (1, 2), 50, wheeling=20_000, loss_ppm=10_000),))
RULES = Rules()
BOOK = book_of(
    [
        order_row(1, SELL, 500, 3 * THB),
        order_row(2, BUY, 100, 3_500_000),
        order_row(3, BUY, 200, 5 * THB, zone_id=2),
        order_row(4, SELL, 400, 4 * THB, zone_id=2),
    ],
    NET,
    RULES.fee_bp,
)
RESULT = clear(BOOK, NET, RULES)


def tampered(name: str, column: str, change: int, row: int = 0):
    frame = getattr(RESULT, name)
    moved = frame.with_row_index("_row").with_columns(
        pl.when(pl.col("_row") == row).then(pl.col(column) + change).otherwise(pl.col(column)).alias(column)
    )
    return msgspec.structs.replace(RESULT, **{name: moved.drop("_row")})


def checks_of(result, book=BOOK, net=NET) -> set[str]:
    return {fault.check for fault in faults_of(book, result, net, RULES)}


def test_an_honest_result_passes():
    assert faults_of(BOOK, RESULT, NET, RULES) == []
    assert RESULT.volume_wh == 300 and RESULT.lost_wh == 1


@pytest.mark.parametrize(
    ("name", "column", "change", "found"),
    [
        ("fills", "filled_wh", 1, "energy"),
        ("zones", "bought_wh", 1, "energy"),
        ("zones", "price_uthb_per_kwh", 1, "optimum"),
        ("zones", "price_uthb_per_kwh", 6 * THB, "band"),
        ("zones", "price_uthb_per_kwh", 500_000, "limits"),
        ("flows", "sent_wh", 1, "energy"),
        ("flows", "delivered_wh", -1, "energy"),
        ("flows", "wheeling_uthb", 1, "money"),
        ("traded", "cost_uthb", 1, "money"),
        ("traded", "traded_wh", 1, "energy"),
        ("matches", "energy_wh", -1, "record"),
    ],
)
def test_one_number_changed_is_found(name, column, change, found):
    assert found in checks_of(tampered(name, column, change))


@pytest.mark.parametrize(("name", "found"), [("lost_wh", "energy"), ("volume_wh", "energy"), ("rent_uthb", "money")])
def test_a_sum_changed_is_found(name, found):
    assert found in checks_of(msgspec.structs.replace(RESULT, **{name: getattr(RESULT, name) + 1}))


def test_a_balanced_result_that_leaves_a_link_idle_is_no_optimum():
    shut = network(100_000, 0, links=(link(7, (1, 2), 0, wheeling=20_000, loss_ppm=10_000),))
    assert checks_of(clear(BOOK, shut, RULES)) == {"optimum"}


def test_a_halt_with_trades_is_found():
    assert checks_of(halted_result(BOOK, NET, RULES, "operator")) == set()
    assert {"energy", "band"} <= checks_of(msgspec.structs.replace(RESULT, halted=True))


def test_the_strict_checker_refuses_what_does_not_balance_or_could_gain():
    columns = [
        BOOK[name].to_numpy() for name in ("side", "zone_id", "covered_wh", "net_limit_uthb_per_kwh", "broker_us")
    ]
    problem = problem_of(Orders(*columns, Ids(BOOK["order_id"])), NET)
    # groups: bids 5.0 (zone 2) and 3.4 (zone 1), asks 3.030304 (zone 1) and 4.040405 (zone 2); arcs 1 → 2, 2 → 1
    prices = [3_030_304, 4_040_405]
    check(problem, [200, 100, 150, 151], [50, 0], prices)
    for group_wh, arc_wh, priced, message in [
        ([200, 100, 150, 150], [50, 0], prices, "balance of zone 2 was -1 Wh"),
        ([201, 100, 150, 152], [50, 0], prices, r"must be 0…200 Wh"),
        ([200, 100, 151, 150], [51, 0], prices, "flow over link 7 was 51, must be 0…50 Wh"),
        ([200, 100, 199, 151], [100, 0], prices, "flow over link 7 was 100"),
        ([200, 100, 149, 152], [49, 0], prices, "that gains"),
        ([200, 96, 146, 151], [50, 0], prices, "energy left out at a gain in zone 1 was 4 Wh, must be at most 2 Wh"),
        ([200, 100, 150, 151], [50, 0], [3_030_303, 4_040_405], "1 µTHB worse"),
        ([200, 100, 150, 151], [50, 0], [3_400_001, 4_040_405], "1 µTHB worse"),
    ]:
        with pytest.raises(ClearingCheckError, match=message):
            check(problem, group_wh, arc_wh, priced)

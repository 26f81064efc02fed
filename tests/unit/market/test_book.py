"""The book at the gate: mandates, cover, net limits, priority."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.book import build_book, net_limit_uthb_per_kwh
from gridtokenx_pipelines.market.orders import OrderReject, mandate_order_id
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.units import ceil_div
from tests.unit.market.books import BUY, EPOCH, SELL, THB, network, order_id, order_row, wallet

RULES = Rules()
NETWORK = network(0, 250_000)


def nets(**net_wh: int | None) -> pl.DataFrame:
    """Meter M1=5 … : wallet w1; None: missing. Letters behind the number give a wallet more meters: M1b → w1."""
    rows = [
        {
            "meter_id": meter,
            "wallet": wallet("w" + "".join(filter(str.isdigit, meter))),
            "zone_id": 1,
            "epoch": EPOCH,
            "revision": 0,
            "net_wh": amount or 0,
            "missing": amount is None,
        }
        for meter, amount in net_wh.items()
    ]
    return pl.DataFrame(rows)


def held(**amounts: tuple[int, int]) -> pl.DataFrame:
    """w1=(grid_wh, thbc_uthb)."""
    rows = [(wallet(name), grid, thbc, 0) for name, (grid, thbc) in amounts.items()]
    schema = {"owner": pl.String, "grid_wh": pl.Int64, "thbc_uthb": pl.Int64, "debt_uthb": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def orders(*rows: dict) -> pl.DataFrame:
    return frames.frame(frames.ORDERS, rows)


def mandate(number: int, sell: int = 0, buy: int = 0, max_wh: int = 10_000, **changes) -> dict:
    return {
        "wallet": wallet(f"w{number}"),
        "effective_epoch": 0,
        "end_epoch": None,
        "sell_min_uthb_per_kwh": sell,
        "buy_max_uthb_per_kwh": buy,
        "max_wh": max_wh,
        "buy_back": False,
        "set_at_us": 1_000 + number,
    } | changes


def mandates(*rows: dict) -> pl.DataFrame:
    return frames.frame(frames.MANDATES, rows)


RICH = held(**{f"w{number}": (1_000_000, 10**12) for number in range(10)})


def brief(book) -> list[tuple]:
    columns = ("order_id", "energy_wh", "covered_wh", "net_limit_uthb_per_kwh")
    return [tuple(row) for row in book.frame.select(columns).iter_rows()]


def refused(book) -> list[tuple]:
    return [tuple(row) for row in book.rejected.select("order_id", "reason_code", "reason").iter_rows()]


def test_a_book_is_in_priority_order_by_net_limit_then_time_then_id():
    rows = [
        order_row(1, SELL, 10, 3 * THB, broker_us=9),
        order_row(2, SELL, 10, 3 * THB, broker_us=8),
        order_row(3, SELL, 10, 2 * THB, broker_us=9),
        order_row(4, BUY, 10, 5 * THB, broker_us=9),
        order_row(5, BUY, 10, 5_100_000, broker_us=9),  # zone 2: 0.25 of it is wheeling
        order_row(6, BUY, 10, 5 * THB, broker_us=9),
    ]
    net = nets(M1=0, M2=0, M3=0, M4=0, M5=0, M6=0).with_columns(
        zone_id=pl.when(pl.col("meter_id") == "M5").then(2).otherwise("zone_id")
    )
    book = build_book(orders(*rows), mandates(), net, RICH, RULES, NETWORK, EPOCH)
    assert brief(book) == [
        (order_id(4), 10, 10, 5_000_000),
        (order_id(6), 10, 10, 5_000_000),
        (order_id(5), 10, 10, 4_850_000),
        (order_id(3), 10, 10, 2_020_203),
        (order_id(2), 10, 10, 3_030_304),
        (order_id(1), 10, 10, 3_030_304),
    ]
    assert list(book.frame.columns) == list(frames.BOOK)
    assert refused(book) == []


def test_orders_of_missing_or_strange_meters_are_dropped_and_the_others_stand():
    rows = [
        order_row(1, BUY, 10, 3 * THB),
        order_row(2, BUY, 10, 3 * THB, wallet=wallet("w1")),
        order_row(3, BUY, 10, 3 * THB),
        order_row(4, BUY, 10, 3 * THB, meter_id="M1"),
    ]
    book = build_book(orders(*rows), mandates(), nets(M1=0, M2=None, M1b=None), RICH, RULES, NETWORK, EPOCH)
    assert brief(book) == [(order_id(1), 10, 10, 3_000_000)]
    assert refused(book) == [
        (order_id(2), 40, "meter_missing"),
        (order_id(3), 40, "meter_missing"),
        (order_id(4), 8, "meter_not_owned"),
    ]


def test_a_catch_up_revision_never_enters_the_book():
    late = nets(M1=500).with_columns(revision=1)
    assert brief(build_book(orders(), mandates(mandate(1, sell=2 * THB)), late, RICH, RULES, NETWORK, EPOCH)) == []


def test_two_partitions_cannot_pass_one_id_or_two_sides():
    rows = [
        order_row(1, BUY, 10, 3 * THB),
        order_row(2, BUY, 11, 3 * THB, order_id=order_id(1)),
        order_row(3, SELL, 12, 3 * THB, meter_id="M1", wallet=wallet("w1")),
    ]
    book = build_book(orders(*rows), mandates(), nets(M1=0, M2=0), RICH, RULES, NETWORK, EPOCH)
    assert brief(book) == [(order_id(1), 10, 10, 3_000_000)]
    assert refused(book) == [(order_id(1), 16, "order_id_used"), (order_id(3), 17, "self_trade")]


def test_an_order_that_is_dropped_anyway_shadows_no_other_with_its_id():
    rows = [order_row(1, BUY, 10, 3 * THB, meter_id="gone"), order_row(2, BUY, 11, 3 * THB, order_id=order_id(1))]
    book = build_book(orders(*rows), mandates(), nets(M2=0), RICH, RULES, NETWORK, EPOCH)
    assert brief(book) == [(order_id(1), 11, 11, 3_000_000)]
    assert refused(book) == [(order_id(1), 40, "meter_missing")]


def test_an_order_under_the_id_of_a_mandate_s_order_is_refused_and_the_mandate_trades():
    victim = mandate_order_id(wallet("w2"), EPOCH)
    rows = [order_row(1, BUY, 10, 3 * THB, order_id=victim), order_row(3, BUY, 10, 3 * THB)]
    book = build_book(
        orders(*rows), mandates(mandate(2, buy=3 * THB)), nets(M1=0, M2=-50, M3=0), RICH, RULES, NETWORK, EPOCH
    )
    assert sorted(brief(book)) == sorted([(order_id(3), 10, 10, 3_000_000), (victim, 50, 50, 3_000_000)])
    assert refused(book) == [(victim, 16, "order_id_used")]


def test_a_mandate_sells_what_own_orders_leave_of_netted_meters():
    book = build_book(
        orders(order_row(1, SELL, 300, 4 * THB)),
        mandates(mandate(1, sell=2 * THB)),
        nets(M1=900, M1b=-200),
        held(),
        RULES,
        NETWORK,
        EPOCH,
    )
    made = mandate_order_id(wallet("w1"), EPOCH)
    # the mandate's lower ask goes first when the 700 Wh of surplus are shared out
    assert brief(book) == [(made, 400, 400, 2_020_203), (order_id(1), 300, 300, 4_040_405)]
    row = book.frame.row(0, named=True)
    assert row == {
        "order_id": made,
        "wallet": wallet("w1"),
        "zone_id": 1,
        "meter_id": None,
        "side": SELL,
        "energy_wh": 400,
        "limit_uthb_per_kwh": 2_000_000,
        "epoch": EPOCH,
        "nonce": 0,
        "placed_at_us": 1_001,
        "certificate_id": None,
        "is_mandate": True,
        "broker_us": 1_001,
        "covered_wh": 400,
        "net_limit_uthb_per_kwh": 2_020_203,
    }


@pytest.mark.parametrize(
    ("own", "net_wh", "given", "expected"),
    [
        ([], 500, mandate(1, sell=2 * THB, max_wh=120), (SELL, 120)),
        ([], -500, mandate(1, buy=4 * THB), (BUY, 500)),
        ([], -500, mandate(1, sell=2 * THB), None),
        ([], 500, mandate(1, buy=4 * THB), None),
        ([], 0, mandate(1, sell=2 * THB, buy=4 * THB), None),
        ([(BUY, 100)], -500, mandate(1, buy=4 * THB), (BUY, 400)),
        ([(BUY, 600)], -500, mandate(1, buy=4 * THB), None),
        ([(SELL, 1)], -500, mandate(1, buy=4 * THB), None),
        ([(BUY, 1)], 500, mandate(1, sell=2 * THB), None),
        ([], 500, mandate(1, sell=2 * THB, effective_epoch=EPOCH + 1), None),
        ([], 500, mandate(1, sell=2 * THB, end_epoch=EPOCH), None),
        ([], 500, mandate(1, sell=2 * THB, end_epoch=EPOCH + 1), (SELL, 500)),
        ([], -1_500_000, mandate(1, buy=4 * THB, max_wh=2_000_000), (BUY, 1_000_000)),
    ],
)
def test_a_mandate_makes_one_order_or_none(own, net_wh, given, expected):
    own_orders = [
        order_row(number, side, wh, 5 * THB, wallet=wallet("w1"), meter_id="M1")
        for number, (side, wh) in enumerate(own, 1)
    ]
    book = build_book(orders(*own_orders), mandates(given), nets(M1=net_wh), RICH, RULES, NETWORK, EPOCH)
    made = book.frame.filter(pl.col("is_mandate")).select("side", "energy_wh").rows()
    assert made == ([] if expected is None else [expected])


def test_the_latest_mandate_in_force_counts_even_when_it_ended():
    given = [mandate(1, sell=2 * THB), mandate(1, sell=3 * THB, effective_epoch=9, end_epoch=EPOCH)]
    assert brief(build_book(orders(), mandates(*given), nets(M1=5), RICH, RULES, NETWORK, EPOCH)) == []


def test_a_mandate_outside_the_price_band_makes_no_order():
    given = [mandate(1, sell=1_990_000), mandate(2, sell=2_000_001)]
    book = build_book(orders(), mandates(*given), nets(M1=5, M2=5), RICH, RULES, NETWORK, EPOCH)
    assert brief(book) == []
    assert sorted(reason for _, _, reason in refused(book)) == ["price_band", "price_tick"]


def test_sells_are_cut_to_grid_held_plus_surplus_best_ask_first():
    rows = [
        order_row(number, SELL, 100, ask, wallet=wallet("w1"), meter_id="M1")
        for number, ask in enumerate((4 * THB, 2 * THB, 3 * THB), 1)
    ]
    book = build_book(orders(*rows), mandates(), nets(M1=120), held(w1=(30, 0)), RULES, NETWORK, EPOCH)
    assert brief(book) == [(order_id(2), 100, 100, 2_020_203), (order_id(3), 100, 50, 3_030_304)]
    assert refused(book) == [(order_id(1), 41, "not_covered")]


def test_buys_are_cut_to_the_baht_held_at_their_limit_rounded_up():
    rows = [
        order_row(number, BUY, 100, bid, wallet=wallet("w1"), meter_id="M1")
        for number, bid in enumerate((2 * THB, 4 * THB, 3 * THB), 1)
    ]
    # 100 Wh at 4 THB/kWh are 400 000 µTHB; of the remaining 100 999, 33 Wh at 3 THB are 99 000; 1 999 buy nothing at 2
    book = build_book(orders(*rows), mandates(), nets(M1=0), held(w1=(0, 500_999)), RULES, NETWORK, EPOCH)
    assert brief(book) == [(order_id(2), 100, 100, 4_000_000), (order_id(3), 100, 33, 3_000_000)]
    assert refused(book) == [(order_id(1), 41, "not_covered")]


def test_a_bid_that_wheeling_eats_up_is_dropped():
    net = nets(M1=0).with_columns(zone_id=pl.lit(2, pl.Int64))
    dear = network(0, 2_000_000)
    book = build_book(orders(order_row(1, BUY, 5, 2 * THB)), mandates(), net, RICH, RULES, dear, EPOCH)
    assert refused(book) == [(order_id(1), 42, "net_bid_not_positive")]


def test_a_zone_that_the_network_lacks_is_named():
    net = nets(M1=0).with_columns(zone_id=pl.lit(9, pl.Int64))
    book = build_book(orders(order_row(1, BUY, 5, 2 * THB)), mandates(), net, RICH, RULES, NETWORK, EPOCH)
    assert refused(book) == [(order_id(1), int(OrderReject.ZONE_UNKNOWN), "zone_unknown")]


def test_a_frame_without_its_columns_is_named():
    with pytest.raises(ValueError, match="frame orders lacks broker_us"):
        build_book(orders().drop("broker_us"), mandates(), nets(M1=0), RICH, RULES, NETWORK, EPOCH)


ROWS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 400), st.integers(200, 800), st.integers(0, 2)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.lists(st.integers(-500, 500), min_size=3, max_size=3), st.data())
def test_cover_holds_and_input_order_does_not_matter(drawn, net_wh, data):
    side_of = {1: BUY, 2: SELL, 3: SELL}
    rows = [
        order_row(
            number, side_of[who], wh, cents * 10_000, wallet=wallet(f"w{who}"), meter_id=f"M{who}", broker_us=time
        )
        for number, (who, wh, cents, time) in enumerate(drawn)
    ]
    balances = held(w1=(7, 654_321), w2=(90, 0))
    given_mandates = [mandate(number, sell=2 * THB, buy=4 * THB) for number in (1, 2, 3)]
    net = nets(M1=net_wh[0], M2=net_wh[1], M3=net_wh[2])
    book = build_book(orders(*rows), mandates(*given_mandates), net, balances, RULES, NETWORK, EPOCH)
    shuffled = build_book(
        orders(*data.draw(st.permutations(rows))),
        mandates(*given_mandates[::-1]),
        net.reverse(),
        balances.reverse(),
        RULES,
        NETWORK,
        EPOCH,
    )
    assert book.frame.equals(shuffled.frame) and book.rejected.equals(shuffled.rejected)
    for name, grid, thbc, net_of in (("w1", 7, 654_321, net_wh[0]), ("w2", 90, 0, net_wh[1]), ("w3", 0, 0, net_wh[2])):
        mine = book.frame.filter(pl.col("wallet") == wallet(name))
        sold = mine.filter(pl.col("side") == SELL)["covered_wh"].sum()
        assert sold <= grid + max(net_of, 0)
        bought = mine.filter(pl.col("side") == BUY)
        owed = sum(
            ceil_div(wh * limit, 1_000) for wh, limit in bought.select("covered_wh", "limit_uthb_per_kwh").rows()
        )
        assert owed <= thbc
    assert (book.frame["covered_wh"] > 0).all() and (book.frame["covered_wh"] <= book.frame["energy_wh"]).all()


@given(st.integers(1, 10**6), st.integers(200, 800), st.sampled_from([0, 1, 100, 9_999]))
def test_a_seller_at_the_net_limit_never_gets_less_than_the_limit(wh, cents, fee_bp):
    limit = cents * 10_000
    price = net_limit_uthb_per_kwh(SELL, limit, fee_bp, 0)
    value = wh * price // 1_000
    assert 1_000 * (value - value * fee_bp // 10_000) >= wh * limit

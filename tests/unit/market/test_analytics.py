"""Statistics of a market: whole expected frames of a small day, and sums that must close."""

from __future__ import annotations

import polars as pl
import pytest

from gridtokenx_pipelines.market import analytics
from gridtokenx_pipelines.market.clearing import clear
from gridtokenx_pipelines.market.rules import Rules
from tests.unit.market.books import BUY, EPOCH, SELL, THB, book_of, link, network, order_id, order_row, wallet

NET = network(100_000, 0, links=(link(1, (1, 2), 300),))
ROWS = [
    order_row(1, BUY, 1_000, 4 * THB, zone_id=2),
    order_row(2, BUY, 500, 3_100_000, zone_id=1),
    order_row(3, SELL, 600, 2 * THB, zone_id=1, wallet=wallet("solar")),
    order_row(4, SELL, 600, 2_970_000, zone_id=1, wallet=wallet("solar")),
    order_row(5, BUY, 200, 3_900_000, zone_id=2),
]


def day(epochs=(EPOCH, EPOCH + 4)) -> dict[str, pl.DataFrame]:
    """The same book in several epochs, with its result; frames with an epoch column."""
    book = book_of(ROWS, NET, 100)
    result = clear(book, NET, Rules(fee_bp=100), "zonal")
    frames = {"book": book, **{name: getattr(result, name) for name in ("fills", "zones", "flows", "traded")}}
    return {
        name: pl.concat(frame.with_columns(epoch=pl.lit(epoch, pl.Int64)) for epoch in epochs)
        for name, frame in frames.items()
    }


DAY = day()
ONE = day((EPOCH,))


def test_the_small_market_clears_as_the_figures_below_assume():
    assert DAY["zones"].rows()[:2] == [(1, 3_000_000, 100_000, 500, 800, EPOCH), (2, 4_000_000, 0, 300, 0, EPOCH)]


def test_merit_order_ranks_each_side_of_each_zone():
    found = analytics.merit_order(ONE["book"]).drop("wallet")
    assert found.columns == ["epoch", "zone_id", "side", "rank", "order_id", *found.columns[5:]]
    assert found.rows() == [
        (EPOCH, 1, BUY, 1, order_id(2), 3_000_000, 500, 500),
        (EPOCH, 1, SELL, 1, order_id(3), 2_020_203, 600, 600),
        (EPOCH, 1, SELL, 2, order_id(4), 3_000_000, 600, 1_200),
        (EPOCH, 2, BUY, 1, order_id(1), 4_000_000, 1_000, 1_000),
        (EPOCH, 2, BUY, 2, order_id(5), 3_900_000, 200, 1_200),
    ]


def test_depth_adds_up_from_the_best_price():
    assert analytics.depth(ONE["book"], 1_000_000).rows() == [
        (EPOCH, 1, BUY, 3_000_000, 1, 500, 500),
        (EPOCH, 1, SELL, 2_000_000, 1, 600, 600),
        (EPOCH, 1, SELL, 3_000_000, 1, 600, 1_200),
        (EPOCH, 2, BUY, 4_000_000, 1, 1_000, 1_000),
        (EPOCH, 2, BUY, 3_000_000, 1, 200, 1_200),
    ]


def test_prices_are_weighted_by_energy_and_null_where_there_is_none():
    zones = pl.DataFrame(
        {
            "epoch": [1, 2, 3, 1],
            "zone_id": [1, 1, 1, 2],
            "price_uthb_per_kwh": [3_000_000, 4_000_000, None, None],
            "bought_wh": [100, 300, 0, 0],
            "sold_wh": [100, 301, 0, 0],
        }
    )
    assert analytics.prices(zones).rows() == [
        (1, 3, 2, 3_000_000, (200 * 3_000_000 + 601 * 4_000_000) // 801, 4_000_000, 400, 401),
        (2, 1, 0, None, None, None, 0, 0),
    ]
    assert analytics.price_bands(zones, 500_000).rows() == [
        (1, 3_000_000, 3_500_000, 1, 100),
        (1, 4_000_000, 4_500_000, 1, 300),
    ]


def test_welfare_is_split_without_a_rest():
    found = analytics.welfare_split(DAY["book"], DAY["fills"], DAY["traded"], DAY["flows"])
    assert found.row(0, named=True) == {
        "epoch": EPOCH,
        "buyers_uthb": 0,  # both bids are marginal: they pay what they said
        "sellers_uthb": 2_400_000 - 24_000 - (600 * 2_000 + 200 * 2_970),
        "fees_uthb": 24_000,
        "zone_wheeling_uthb": 50_000,
        "link_wheeling_uthb": 0,
        "rent_uthb": 300_000,
        "total_uthb": 1_200_000 + 1_550_000 - (600 * 2_000 + 200 * 2_970),
    }
    parts = found.drop("epoch", "total_uthb").sum_horizontal()
    assert parts.to_list() == found["total_uthb"].to_list()


def test_concentration_of_one_seller_is_ten_thousand():
    assert analytics.concentration(ONE["traded"]).rows() == [
        (EPOCH, BUY, 2, 800, 6_250, (500**2 + 300**2) * 10_000 // 800**2),
        (EPOCH, SELL, 1, 800, 10_000, 10_000),
    ]


def test_a_full_link_counts_its_minutes_in_its_direction():
    assert analytics.congestion(DAY["flows"], NET).rows() == [
        (1, 1, 2, 300, 30, 30, 600, 0, 10_000),
        (1, 2, 1, 300, 0, 0, 0, 0, 0),
    ]


def test_a_participants_pattern_covers_every_order_and_epoch():
    found = {row["wallet"]: row for row in analytics.participants(DAY["book"], DAY["fills"], DAY["traded"]).to_dicts()}
    assert found[wallet("solar")] == {
        "wallet": wallet("solar"),
        "zone_id": 1,
        "orders": 4,
        "whole": 2,
        "partly": 2,
        "unfilled": 0,
        "ordered_wh": 2_400,
        "epochs_bought": 0,
        "epochs_sold": 2,
        "bought_wh": 0,
        "sold_wh": 1_600,
        "cost_uthb": 0,
        "proceeds_uthb": 4_752_000,
        "paid_uthb_per_kwh": None,
        "earned_uthb_per_kwh": 2_970_000,
        "busiest_hour": (EPOCH * 900 + 7 * 3_600) % 86_400 // 3_600,
    }
    idle = found[wallet("w5")]
    assert (idle["unfilled"], idle["bought_wh"], idle["paid_uthb_per_kwh"], idle["busiest_hour"]) == (2, 0, None, None)


@pytest.mark.parametrize("name", ["merit_order", "depth"])
def test_an_empty_book_has_no_figures(name):
    assert getattr(analytics, name)(ONE["book"].clear()).is_empty()


def test_no_trades_mean_empty_frames_and_no_error():
    none = {name: frame.clear() for name, frame in ONE.items()}
    assert analytics.welfare_split(none["book"], none["fills"], none["traded"], none["flows"]).is_empty()
    assert analytics.concentration(none["traded"]).is_empty()
    assert analytics.prices(none["zones"]).is_empty()
    assert analytics.participants(ONE["book"], none["fills"], none["traded"])["whole"].sum() == 0
    assert analytics.congestion(none["flows"], NET)["used_minutes"].sum() == 0


def test_sums_beyond_64_bits_inside_a_figure_are_right():
    many = pl.DataFrame(
        {"epoch": [1, 1], "wallet": ["a", "b"], "traded_wh": [3_000_000_000_000, 4_000_000_000_000]}
    ).with_columns(pl.lit(1, pl.Int64).alias("zone_id"))
    assert analytics.concentration(many).row(0)[3:] == (7_000_000_000_000, 5_714, (9 + 16) * 10_000 // 49)


@pytest.mark.parametrize("step", [0, -1])
def test_a_step_that_is_not_positive_is_refused(step):
    with pytest.raises(ValueError, match="must be positive"):
        analytics.depth(ONE["book"], step)
    with pytest.raises(ValueError, match="must be positive"):
        analytics.price_bands(ONE["zones"], step)

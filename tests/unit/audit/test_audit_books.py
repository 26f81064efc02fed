"""The audit's books of a whole range against the market's own, epoch by epoch, on random inputs."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.audit.books import build_books
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.base58 import encode
from gridtokenx_pipelines.market.book import build_book
from gridtokenx_pipelines.market.rules import Network, Rules, Zone

WALLETS = [encode(bytes([index + 1]) * 32) for index in range(5)]
NETWORK = Network(zones=(Zone(zone_id=1, zone_wheeling_uthb_per_kwh=100_000), Zone(zone_id=2)))
EPOCHS = (10, 11, 12)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    nets, orders, covers, mandates = [], [], [], []
    for epoch in EPOCHS:
        for index, wallet in enumerate(WALLETS):
            nets.append(
                {
                    "epoch": epoch,
                    "meter_id": f"M{index}",
                    "wallet": wallet,
                    "zone_id": 1 + index % 2,
                    "net_wh": draw(st.integers(-500, 500)),
                    "revision": 0,
                    "missing": draw(st.integers(0, 5)) == 0,
                }
            )
            covers.append(
                {
                    "epoch": epoch,
                    "wallet": wallet,
                    "grid_wh": draw(st.integers(0, 300)),
                    "thbc_uthb": draw(st.integers(0, 2_000_000)),
                }
            )
        for number in range(draw(st.integers(0, 6))):
            index = draw(st.integers(0, 4))
            orders.append(
                {
                    "order_id": bytes([draw(st.integers(0, 3)), number % 3]) + bytes(14),
                    "wallet": WALLETS[index],
                    "zone_id": 1 + index % 2,
                    "meter_id": f"M{draw(st.integers(0, 5))}",
                    "side": draw(st.integers(0, 1)),
                    "energy_wh": draw(st.integers(1, 600)),
                    "limit_uthb_per_kwh": draw(st.integers(5, 700)) * 10_000,
                    "epoch": epoch,
                    "nonce": number,
                    "placed_at_us": 0,
                    "certificate_id": None,
                    "is_mandate": False,
                    "broker_us": draw(st.integers(0, 3)),
                }
            )
    for wallet in WALLETS:
        for effective in sorted(draw(st.sets(st.integers(8, 13), max_size=2))):
            mandates.append(
                {
                    "wallet": wallet,
                    "effective_epoch": effective,
                    "end_epoch": draw(st.sampled_from([None, effective + 1, 100])),
                    "sell_min_uthb_per_kwh": draw(st.sampled_from([0, 2_500_000, 2_500_001])),
                    "buy_max_uthb_per_kwh": draw(st.sampled_from([0, 3_500_000, 9_000_000])),
                    "max_wh": draw(st.integers(0, 400)),
                    "buy_back": True,
                    "set_at_us": draw(st.integers(0, 3)),
                }
            )
    return (
        frames.frame(frames.ORDERS, orders),
        frames.frame(frames.MANDATES, mandates),
        pl.DataFrame(nets),
        pl.DataFrame(covers),
    )


@settings(max_examples=40)
@given(inputs())
def test_books_of_a_range_are_those_that_the_market_makes_one_by_one(
    made: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame],
) -> None:
    orders, mandates, nets, covers = made
    book, rejected = build_books(orders, mandates, nets, covers, Rules(), NETWORK)
    for epoch in EPOCHS:
        mine = pl.col("epoch") == epoch
        balances = covers.filter(mine).select(
            pl.col("wallet").alias("owner"), "grid_wh", "thbc_uthb", pl.lit(0, pl.Int64).alias("debt_uthb")
        )
        one = build_book(orders, mandates, nets.filter(mine), balances, Rules(), NETWORK, epoch)
        assert book.filter(mine).rows() == one.frame.rows()
        key = ["wallet", "order_id", "nonce", "reason"]
        assert rejected.filter(mine).select(key).sort(key).rows() == one.rejected.select(key).sort(key).rows()

"""One's own orders never trade with each other, and it costs nobody else a trade: by definition, over crowded books."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from tests.unit.market import reference
from tests.unit.market.books import BUY, SELL, network, order_row, wallet
from tests.unit.market.differential import charges_of, filled, orders_of, prices, produce, rows_of

NET = network(0)
BOTH_SIDES = [order_row(1, BUY, 1, 3_000_000), order_row(2, SELL, 1, 3_000_000, wallet=wallet("w1"))]


@pytest.fixture(scope="module", autouse=True)
def prevention() -> None:
    """Skip where the engine still refuses a wallet on both sides."""
    try:
        produce(BOTH_SIDES, NET, 0, "continuous")
    except ClearingError as reason:
        pytest.skip(str(reason))


@st.composite
def shared(draw) -> list[dict]:
    """A book in which few wallets stand on both sides, one of them sometimes with most of it."""
    rows = draw(rows_of(most=14))
    names = draw(st.lists(st.sampled_from(["a", "a", "a", "b", "c", "d"]), min_size=len(rows), max_size=len(rows)))
    return [row | {"wallet": wallet(name)} for row, name in zip(rows, names, strict=True)]


def between_wallets(rows: list[dict], price: int) -> int:
    """The most that different wallets can trade at a price."""
    demand, supply, own = 0, 0, defaultdict(int)
    for row in rows:
        limit, wh = row["limit_uthb_per_kwh"], row["energy_wh"]
        if limit >= price if row["side"] == BUY else limit <= price:
            own[row["wallet"]] += wh
            demand += wh if row["side"] == BUY else 0
            supply += wh if row["side"] == SELL else 0
    return min([demand, supply, *(demand + supply - mine for mine in own.values())])


def most_between_wallets(rows: list[dict]) -> int:
    """The same at the best price: every limit is tried."""
    return max((between_wallets(rows, price) for price in {row["limit_uthb_per_kwh"] for row in rows}), default=0)


def loses(rows: list[dict], got: dict[bytes, int]) -> bool:
    """Whether an order gets less than an auction that knew no wallets gave it, but of a wallet that met itself there.

    A wallet met itself if what it bought and sold is more than all that was bought.
    """
    free, _ = reference.uniform(orders_of(rows), charges_of(NET, 0))
    volume = sum(free[row["order_id"]] for row in rows if row["side"] == BUY)
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[row["wallet"]] += free[row["order_id"]]
    return any(got[row["order_id"]] < free[row["order_id"]] for row in rows if sums[row["wallet"]] <= volume)


def check_meetings(rows: list[dict], result: ClearingResult) -> None:
    limits = {row["order_id"]: row["limit_uthb_per_kwh"] for row in rows}
    met: dict[bytes, int] = defaultdict(int)
    for match in result.matches.iter_rows(named=True):
        assert match["buyer"] != match["seller"]
        assert limits[match["sell_order_id"]] <= match["price_uthb_per_kwh"] <= limits[match["buy_order_id"]]
        met[match["buy_order_id"]] += match["energy_wh"]
        met[match["sell_order_id"]] += match["energy_wh"]
    got = {ident: wh for ident, wh in filled(result, rows).items() if wh}
    assert dict(met) == got


@pytest.mark.parametrize("mechanism", ["uniform", "zonal"])
@settings(max_examples=250)
@given(shared())
def test_one_price_trades_the_most_that_different_wallets_can_at_nobody_elses_cost(mechanism, rows):
    """Where the best volume would take a trade from another wallet, the auction's own price stays instead."""
    result = produce(rows, NET, 0, mechanism)
    assert not loses(rows, filled(result, rows))
    check_meetings(rows, result)
    best, (price,) = most_between_wallets(rows), prices(result).values()
    _, untouched = reference.uniform(orders_of(rows), charges_of(NET, 0))
    if price == untouched and price is not None:
        assert result.volume_wh == between_wallets(rows, price) <= best
    else:
        assert result.volume_wh == best


@settings(max_examples=150)
@given(shared())
def test_pay_as_bid_never_pairs_a_wallet_with_itself(rows):
    check_meetings(rows, produce(rows, NET, 0, "pay_as_bid"))


@settings(max_examples=250)
@given(shared())
def test_continuous_passes_over_own_orders_exactly_as_defined(rows):
    result = produce(rows, NET, 0, "continuous")
    expected = reference.continuous(orders_of(rows), charges_of(NET, 0))
    columns = ("buy_order_id", "sell_order_id", "energy_wh", "price_uthb_per_kwh")
    assert [reference.Match(*row) for row in result.matches.select(columns).rows()] == expected
    check_meetings(rows, result)


@pytest.mark.parametrize("mechanism", ["uniform", "pay_as_bid", "continuous"])
@settings(max_examples=100)
@given(shared())
def test_wallets_that_stand_on_one_side_only_change_nothing(mechanism, rows):
    """With each wallet on one side the prevention must not be felt: the same fills as with a wallet an order."""
    sides = {}
    one_sided = [row for row in rows if sides.setdefault(row["wallet"], row["side"]) == row["side"]]
    alone = [row | {"wallet": wallet(str(number))} for number, row in enumerate(one_sided)]
    first, second = (produce(each, NET, 0, mechanism) for each in (one_sided, alone))
    assert filled(first, one_sided) == filled(second, alone)

"""Worked examples from textbooks, exchanges and open teaching material, each with its source and whole expected fills.

One unit of a source (a share, a MW over an hour) is 1 kWh here, and one unit of its money is 1 THB, so that a price of
39.5 reads 39 500 000 µTHB/kWh. The books are cleared without charges and without the market's own limits on orders.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from gridtokenx_pipelines.market.rules import Network, Rules
from tests.unit.market.books import BUY, SELL, THB, book_of, link, network, order_row
from tests.unit.market.differential import rows_of

KWH = 1_000
ANY_PRICE = 10_000  # what inelastic load is said to be worth


class Book:
    """Orders by name, in the order in which they arrived."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.names: dict[bytes, str] = {}

    def add(self, name: str, side: int, units: float, price: float, zone: int = 1) -> None:
        row = order_row(len(self.rows) + 1, side, round(units * KWH), round(price * THB), zone_id=zone)
        self.rows.append(row)
        self.names[row["order_id"]] = name

    def clear(self, mechanism: str, net: Network | None = None) -> ClearingResult:
        net = net or network(0)
        try:
            return clear(book_of(self.rows, net), net, Rules(fee_bp=0), mechanism, limits=None)
        except ClearingError as reason:
            if "arrives with" not in str(reason):
                raise
            pytest.skip(str(reason))

    def fills(self, result: ClearingResult) -> dict[str, float]:
        """Filled units by name."""
        rows = result.fills.select("order_id", "filled_wh").rows()
        return {self.names[ident]: wh / KWH for ident, wh in rows}

    def matches(self, result: ClearingResult) -> list[tuple[str, str, float, float]]:
        columns = ("buy_order_id", "sell_order_id", "energy_wh", "price_uthb_per_kwh")
        return [
            (self.names[buy], self.names[sell], wh / KWH, price / THB)
            for buy, sell, wh, price in result.matches.select(columns).rows()
        ]


def prices(result: ClearingResult) -> dict[int, float]:
    return {zone: price / THB for zone, price in result.zones.select("zone_id", "price_uthb_per_kwh").rows()}


def sent(result: ClearingResult) -> dict[tuple[int, int], float]:
    return {row[:2]: row[2] / KWH for row in result.flows.select("from_zone", "to_zone", "sent_wh").rows() if row[2]}


# --- call auctions -------------------------------------------------------------------------------------------------


def test_the_australian_exchange_opens_stock_x_at_the_only_price_that_leaves_no_better_bid_waiting():
    """ASX's opening algorithm, worked example of UNSW's "Trading Engine" course, session 3, appendix: 6.39 (new rule).

    The largest volume is 1 000 at any price from 6.10 to 6.39; buy pressure sets the highest of them.
    """
    book = Book()
    for name, units, price in (("199", 500, 6.40), ("227", 500, 6.39), ("298", 500, 6.39), ("288", 1_000, 6.34)):
        book.add(name, BUY, units, price)
    book.add("144", BUY, 500, 6.33)
    for name, units, price in (("606", 1_000, 6.10), ("317", 500, 6.40), ("150", 520, 6.41), ("203", 550, 6.42)):
        book.add(name, SELL, units, price)
    book.add("202", SELL, 519, 6.43)
    result = book.clear("uniform")
    assert prices(result) == {1: 6.39}
    assert book.fills(result) == {"199": 500, "227": 500, "606": 1_000}


def test_a_double_auction_of_single_items_clears_at_the_average_of_the_break_even_pair():
    """Hochschule Mittweida, blockchain academy, "Double Auction", average mechanism: p = (90 + 85) / 2 = 87.5."""
    book = Book()
    for number, price in enumerate((100, 90, 80, 70, 60), 1):
        book.add(f"buyer {number}", BUY, 1, price)
    for number, price in enumerate((80, 85, 95, 100, 110), 1):
        book.add(f"seller {number}", SELL, 1, price)
    result = book.clear("uniform")
    assert prices(result) == {1: 87.5}
    assert book.fills(result) == {"buyer 1": 1, "buyer 2": 1, "seller 1": 1, "seller 2": 1}


@settings(max_examples=150)
@given(rows_of())
def test_the_price_meets_the_conditions_of_the_tokyo_and_shanghai_opening_auctions(rows):
    """TSE's itayose (FAQ "Stock Price Formulation") and the Chinese call auction ask the same of an opening price:

    every order better than the price is executed, and at the price the whole of at least one side.
    """
    result = clear(book_of(rows, network(0)), network(0), Rules(fee_bp=0), "uniform")
    price = result.zones["price_uthb_per_kwh"].item()
    if price is None:
        bids = [row["limit_uthb_per_kwh"] for row in rows if row["side"] == BUY]
        asks = [row["limit_uthb_per_kwh"] for row in rows if row["side"] == SELL]
        assert max(bids, default=0) < min(asks, default=10**9)
        return
    filled = dict(result.fills.select("order_id", "filled_wh").rows())
    left_at_the_price = set()
    for row in rows:
        left = row["energy_wh"] - filled.get(row["order_id"], 0)
        better = row["limit_uthb_per_kwh"] > price if row["side"] == BUY else row["limit_uthb_per_kwh"] < price
        assert not (better and left)
        if row["limit_uthb_per_kwh"] == price and left:
            left_at_the_price.add(row["side"])
    assert len(left_at_the_price) <= 1


# --- continuous trading --------------------------------------------------------------------------------------------


def test_first_in_first_out_fills_the_oldest_bid_at_the_best_price_first():
    """Donadio and Ghosh, "Learn Algorithmic Trading" (Packt 2019), FIFO matching: 1 with A, 2 with B, 1 with C."""
    book = Book()
    for name, units, price in (("A", 1, 10), ("B", 2, 10), ("C", 3, 10), ("D", 1, 9)):
        book.add(name, BUY, units, price)
    for name, units, price in (("X", 1, 11), ("Y", 2, 11), ("Z", 2, 12)):
        book.add(name, SELL, units, price)
    book.add("K", SELL, 4, 10)
    result = book.clear("continuous")
    assert book.matches(result) == [("A", "K", 1, 10), ("B", "K", 2, 10), ("C", "K", 1, 10)]
    assert book.fills(result) == {"A": 1, "B": 2, "C": 1, "K": 4}


def test_a_large_buy_order_walks_up_the_offers_at_their_own_prices():
    """AcadiFi, CFA level 1, "Limit order book mechanics", Harlow Corp: 300 at 52.00, 100 at 52.05, average 52.0125."""
    book = Book()
    book.add("best bid", BUY, 400, 51.95)
    book.add("first offer", SELL, 300, 52.00)
    book.add("second offer", SELL, 500, 52.05)
    book.add("buyer", BUY, 400, 99)
    result = book.clear("continuous")
    assert book.matches(result) == [("buyer", "first offer", 300, 52.00), ("buyer", "second offer", 100, 52.05)]
    average = {
        book.names[ident]: price / THB for ident, price in result.fills.select("order_id", "price_uthb_per_kwh").rows()
    }
    assert average == {"buyer": 52.0125, "first offer": 52.00, "second offer": 52.05}


def test_a_buy_order_stops_at_its_limit_and_leaves_the_rest_of_the_last_offer():
    """SDAX Exchange, "Continuous matching for baskets": 90 at 3 060 takes 20 at 3 040, 60 at 3 050, 10 at 3 060."""
    book = Book()
    for name, units, price in (("3040", 20, 3_040), ("3050", 60, 3_050), ("3060", 40, 3_060)):
        book.add(name, SELL, units, price)
    book.add("buyer", BUY, 90, 3_060)
    result = book.clear("continuous")
    assert book.matches(result) == [
        ("buyer", "3040", 20, 3_040),
        ("buyer", "3050", 60, 3_050),
        ("buyer", "3060", 10, 3_060),
    ]


# --- day-ahead coupling of zones -----------------------------------------------------------------------------------


def linear_supply(book: Book, name: str, zone: int, *, base: float, slope: float, megawatts: int = 1_600) -> None:
    """Offers of 1 MW along a linear marginal cost, each at the cost of its middle."""
    for number in range(megawatts):
        book.add(f"{name} {number + 1}", SELL, 1, base + slope * (number + 0.5), zone)


def borduria_and_syldavia(capacity: int) -> tuple[Book, ClearingResult]:
    """Marginal costs 10 + 0.01 P and 13 + 0.02 P $/MWh, demands of 500 and 1 500 MW."""
    book = Book()
    linear_supply(book, "B", 1, base=10, slope=0.01)
    linear_supply(book, "S", 2, base=13, slope=0.02)
    book.add("demand B", BUY, 500, ANY_PRICE, 1)
    book.add("demand S", BUY, 1_500, ANY_PRICE, 2)
    return book, book.clear("zonal", network(0, 0, links=(link(1, (1, 2), capacity * KWH),)))


def test_two_countries_coupled_without_congestion_have_one_price():
    """10 + 0.01 x = 13 + 0.02 (2 000 − x) gives x = 1 433.3 MW in B and 24.33 $/MWh: 933 MW flow, in whole MW.

    Derived here from the two cost curves, which are those of Borduria and Syldavia in Kirschen and Strbac,
    "Fundamentals of Power System Economics" (the chapter on transmission); the book itself was not at hand.
    """
    book, result = borduria_and_syldavia(1_600)
    assert prices(result) == {1: 24.33, 2: 24.33}
    assert sent(result) == {(1, 2): 933}
    fills = book.fills(result)
    assert sum(units for name, units in fills.items() if name.startswith("B ")) == 1_433
    assert sum(units for name, units in fills.items() if name.startswith("S ")) == 567
    assert result.rent_uthb == 0


def test_two_countries_coupled_by_400_mw_have_two_prices_and_a_congestion_surplus():
    """The same two curves: 10 + 0.01 × 900 = 19, 13 + 0.02 × 1 100 = 35, congestion rent 400 × 16 = 6 400 $."""
    book, result = borduria_and_syldavia(400)
    assert prices(result) == {1: 19, 2: 35}
    assert sent(result) == {(1, 2): 400}
    expected = {f"B {number}": 1 for number in range(1, 901)} | {f"S {number}": 1 for number in range(1, 1_101)}
    assert book.fills(result) == expected | {"demand B": 500, "demand S": 1_500}
    assert result.rent_uthb == 6_400 * THB


COSTS = {"wind": 0, "hydro": 0, "coal": 30, "gas": 60, "oil": 80}
PLANTS = {
    1: {"coal": 35_000, "wind": 3_000, "gas": 8_000, "oil": 2_000},  # South Africa
    2: {"hydro": 1_200},  # Mozambique
    3: {"hydro": 600},  # Swaziland
}
LOADS = {1: 42_000, 2: 650, 3: 250}
LINES = {(1, 2): 500, (1, 3): 250, (2, 3): 100}


def southern_africa(zones: int, *industry: tuple[int, float]) -> tuple[Book, ClearingResult]:
    """The first so many countries, with price-sensitive industry (MW, worth) in South Africa."""
    book = Book()
    for zone in range(1, zones + 1):
        book.add(f"{zone} load", BUY, LOADS[zone], ANY_PRICE, zone)
        for plant, megawatts in PLANTS[zone].items():
            book.add(f"{zone} {plant}", SELL, megawatts, COSTS[plant], zone)
    for megawatts, worth in industry:
        book.add("1 industry", BUY, megawatts, worth, 1)
    lines = [ends for ends in LINES if max(ends) <= zones]
    links = tuple(link(number, ends, LINES[ends] * KWH) for number, ends in enumerate(lines, 1))
    return book, book.clear("zonal", network(*[0] * zones, links=links))


@pytest.mark.parametrize(
    ("zones", "industry", "expected_prices", "expected_flows", "expected_fills"),
    [
        (1, [], {1: 60}, {}, {"1 wind": 3_000, "1 coal": 35_000, "1 gas": 4_000, "1 load": 42_000}),
        (
            2,
            [],
            {1: 60, 2: 0},
            {(2, 1): 500},
            {
                "1 wind": 3_000,
                "1 coal": 35_000,
                "1 gas": 3_500,
                "1 load": 42_000,
                "2 hydro": 1_150,
                "2 load": 650,
            },
        ),
        (
            3,
            [],
            {1: 60, 2: 0, 3: 0},
            {(2, 1): 500, (3, 1): 250},
            {
                "1 wind": 3_000,
                "1 coal": 35_000,
                "1 gas": 3_250,
                "1 load": 42_000,
                "2 hydro": 1_150,
                "2 load": 650,
                "3 hydro": 500,
                "3 load": 250,
            },
        ),
        (
            1,
            [(8_000, 70)],
            {1: 70},
            {},
            {"1 wind": 3_000, "1 coal": 35_000, "1 gas": 8_000, "1 load": 42_000, "1 industry": 4_000},
        ),
    ],
)
def test_southern_africa_dispatches_as_in_the_lessons_of_pypsa(
    zones, industry, expected_prices, expected_flows, expected_fills
):
    """PyPSA, "Simple electricity market examples": one, two, three zones, and industry of which half is served."""
    book, result = southern_africa(zones, *industry)
    assert prices(result) == expected_prices
    assert sent(result) == expected_flows
    assert book.fills(result) == expected_fills
    worth = {1: expected_prices[1]} | {zone: 0 for zone in range(2, zones + 1)}
    rent = sum(units * (worth[end] - worth[start]) for (start, end), units in expected_flows.items())
    assert result.rent_uthb == rent * THB


def test_a_loss_and_a_tariff_on_the_line_part_the_prices_without_congestion():
    """The rule of losses and tariffs on lines in EUPHEMIA's public description (ATC model); the figures are our own.

    The importer's price, less losses, covers the exporter's price and the tariff: an exporter at 40, a line that loses
    5 % and costs 1 per sent MWh: (40 + 1) / 0.95 in the importing zone.
    """
    book = Book()
    book.add("export", SELL, 1_000, 40, 1)
    book.add("import", BUY, 95, 100, 2)
    line = link(1, (1, 2), 500 * KWH, wheeling=THB, loss_ppm=50_000)
    result = book.clear("zonal", network(0, 0, links=(line,)))
    assert prices(result) == {1: 40, 2: pytest.approx(41 / 0.95, abs=1e-6)}
    assert book.fills(result) == {"export": 100, "import": 95}
    assert (result.lost_wh, result.link_wheeling_uthb) == (5 * KWH, 100 * THB)
    cheaper = Book()
    cheaper.add("export", SELL, 1_000, 40, 1)
    cheaper.add("import", BUY, 95, 43, 2)  # less than (40 + 1) / 0.95: nothing flows
    assert cheaper.clear("zonal", network(0, 0, links=(line,))).volume_wh == 0

"""The same book through the production mechanism and through the reference, and what differs.

Belongs here: drawing books and networks that hurt, turning rows into both forms, comparing whole results. Does not
belong here: the rules (reference.py, reference_zonal.py).
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.rules import Network, Rules
from tests.unit.market import reference
from tests.unit.market.books import book_of, link, network, order_row

# few prices and times make ties, single Wh make every rounding show, great Wh make sums that 32 bits don't hold
TICKS = st.sampled_from([(300, 310), (300, 301, 302), tuple(range(250, 350, 7)), tuple(range(200, 800))])
SIZES = st.sampled_from([(1,), (1, 2, 3), (5, 10, 100), (1, 999, 1_000_000), tuple(range(1, 3_000, 13))])
FEES = st.sampled_from([0, 1, 100, 333, 2_500])
ZONE_WHEELINGS = st.sampled_from([0, 0, 10_000, 54_321, 100_000])


@st.composite
def rows_of(draw, zones: int = 1, most: int = 30) -> list[dict[str, Any]]:
    """Orders of a book: mostly both sides, sometimes crowded at one price, time or quantity, sometimes one-sided."""
    ticks, sizes, times = draw(TICKS), draw(SIZES), draw(st.integers(0, 5))
    sides = draw(st.sampled_from([(0, 1), (0, 1), (0, 1, 1, 1), (0, 0, 0, 1), (0,), (1,)]))
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(sides),
                st.sampled_from(sizes),
                st.sampled_from(ticks),
                st.integers(1, zones),
                st.integers(0, times),
            ),
            max_size=most,
        )
    )
    numbers = draw(st.permutations(range(1, len(drawn) + 1)))
    return [
        order_row(number, side, wh, cents * 10_000, zone_id=zone, broker_us=time)
        for number, (side, wh, cents, zone, time) in zip(numbers, drawn, strict=True)
    ]


@st.composite
def networks(draw, most_zones: int = 4, losses: tuple[int, ...] = (0,)) -> Network:
    """Up to a link between any two zones and sometimes a second one, with idle, full and wide capacities."""
    zones = draw(st.integers(1, most_zones))
    pairs = [(a, b) for a in range(1, zones + 1) for b in range(1, zones + 1) if a != b]
    ends = draw(st.lists(st.sampled_from(pairs), max_size=zones + 1)) if pairs else []
    capacities = st.sampled_from([0, 1, 2, 5, 50, 1_000_000_000])
    wheelings = draw(st.sampled_from([(0,), (0, 10_000), (5_100, 123_457, 1)]))
    links = tuple(
        link(
            number,
            pair,
            draw(capacities),
            wheeling=draw(st.sampled_from(wheelings)),
            loss_ppm=draw(st.sampled_from(losses)),
            back=draw(capacities),
        )
        for number, pair in enumerate(ends, 1)
    )
    return network(*draw(st.lists(ZONE_WHEELINGS, min_size=zones, max_size=zones)), links=links)


def crowded(seed: int, losses: tuple[int, ...] = (0,)) -> tuple[list[dict[str, Any]], Network, int]:
    """A book, network and fee from a seed: denser than what hypothesis draws, so that most zones trade and couple."""
    rng = random.Random(seed)  # noqa: S311 - a test's own numbers
    zones, tie = rng.randint(1, 4), rng.random() < 0.6
    fees, capacities = rng.choice([0, 100, 333]), [0, 1, 2, 5, 50, 1_000_000]
    wheelings, areas = rng.choice([([0], [0]), ([0, 10_000, 5_100, 123_457], [0, 100_000, 54_321])])
    rows = [
        order_row(
            number,
            rng.randrange(2),
            rng.choice([1, 2, 3, 5, 10, 100]) if tie else rng.randint(1, 3_000),
            (rng.choice([300, 400, 500]) if tie else rng.randint(200, 800)) * 10_000,
            zone_id=rng.randint(1, zones),
            broker_us=rng.randint(1, 4),
        )
        for number in range(1, rng.randint(2, 10) + 1)
    ]
    pairs = [(a, b) for a in range(1, zones + 1) for b in range(a + 1, zones + 1) if rng.random() < 0.7]
    links = tuple(
        link(
            number,
            ends if rng.random() < 0.5 else ends[::-1],
            rng.choice(capacities),
            wheeling=rng.choice(wheelings),
            loss_ppm=rng.choice(losses),
            back=rng.choice(capacities),
        )
        for number, ends in enumerate(pairs, 1)
    )
    return rows, network(*(rng.choice(areas) for _ in range(zones)), links=links), fees


def charges_of(net: Network, fee_bp: int) -> reference.Charges:
    return reference.Charges(fee_bp, {zone.zone_id: zone.zone_wheeling_uthb_per_kwh for zone in net.zones})


def orders_of(rows: list[dict[str, Any]]) -> list[reference.Order]:
    return [
        reference.Order(
            row["order_id"],
            row["side"],
            row["energy_wh"],
            row["limit_uthb_per_kwh"],
            row["broker_us"],
            row["zone_id"],
            row["wallet"],
        )
        for row in rows
    ]


def produce(rows: list[dict[str, Any]], net: Network, fee_bp: int, mechanism: str) -> ClearingResult:
    return clear(book_of(rows, net, fee_bp), net, Rules(fee_bp=fee_bp), mechanism)


def filled(result: ClearingResult, rows: list[dict[str, Any]]) -> dict[bytes, int]:
    """Wh of every order of the book, 0 for the ones without a fill."""
    return {**{row["order_id"]: 0 for row in rows}, **dict(result.fills.select("order_id", "filled_wh").rows())}


def money(result: ClearingResult) -> dict[str, tuple[int, ...]]:
    columns = ("wallet", "cost_uthb", "energy_cost_uthb", "value_uthb", "fee_uthb")
    return {row[0]: row[1:] for row in result.traded.select(columns).rows()}


def prices(result: ClearingResult) -> dict[int, int | None]:
    return dict(result.zones.select("zone_id", "price_uthb_per_kwh").rows())


def flows(result: ClearingResult) -> dict[int, tuple[int, ...]]:
    columns = ("link_id", "from_zone", "to_zone", "sent_wh", "delivered_wh")
    return {row[0]: row[1:] for row in result.flows.select(columns).rows() if row[3]}

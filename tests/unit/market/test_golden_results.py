"""Results stay what they were, byte for byte: digests of the first implementation's results over random books.

Belongs here: books from a seed, and the digests. A digest changes only with a rule of domain §5 or §6.
"""

from __future__ import annotations

import random
from hashlib import sha256

import pytest

from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.mechanisms import coupling_solver
from gridtokenx_pipelines.market.roots import result_rows
from gridtokenx_pipelines.market.rules import Network, Rules
from tests.unit.market.books import book_of, link, network, order_row

BOOKS = 24
EXPECTED = {
    "uniform": "e1135de061369df50ba966ed6e67fd1c2e4cf7381b20797b80d555746751c46c",
    "zonal": "5a99b4d8828269150960bd4f86ae58561569c879541a42bf5f439066b3e29230",
    "pay_as_bid": "cea826e43752cba95a4ab182b2100cffdb3a3901ae10d8ae52239365bf6b5af5",
}


def drawn(seed: int) -> tuple[list[dict], Network, int]:
    """A book, network and fee: crowded prices and times, idle and full links, losses."""
    rng = random.Random(seed)  # noqa: S311 - a test's own numbers
    zones, ticks = rng.randint(1, 9), rng.choice([(300, 310, 400), (250, 300, 301), tuple(range(200, 800))])
    rows = [
        order_row(
            number,
            rng.randrange(2),
            rng.choice([1, 3, 10, 500, rng.randint(1, 3_000)]),
            rng.choice(ticks) * 10_000,
            zone_id=rng.randint(1, zones),
            broker_us=rng.randint(1, 40),
        )
        for number in range(1, rng.choice([3, 30, 300]))
    ]
    links = tuple(
        link(
            number,
            tuple(rng.sample(range(1, zones + 1), 2)),  # type: ignore[arg-type]
            rng.choice([0, 1, 50, 500, 10_000]),
            wheeling=rng.choice([0, 0, 10_000, 123_457]),
            loss_ppm=rng.choice([0, 0, 1_000, 20_000, 333_333]),
            back=rng.choice([0, 5, 500, 10_000]),
        )
        for number in range(1, (rng.randint(1, 2 * zones) if zones > 1 else 0) + 1)
    )
    return rows, network(*(rng.choice([0, 0, 54_321]) for _ in range(zones)), links=links), rng.choice([0, 100, 333])


def digest(mechanism: str) -> str:
    total = sha256()
    for seed in range(BOOKS):
        rows, net, fee_bp = drawn(seed)
        book = book_of(rows, net, fee_bp)
        result: ClearingResult = clear(book, net, Rules(fee_bp=fee_bp), mechanism)
        total.update(b"".join(result_rows(result, 3, seed)))
    return total.hexdigest()


@pytest.mark.parametrize("mechanism", list(EXPECTED))
def test_results_are_those_of_the_first_implementation(mechanism):
    assert digest(mechanism) == EXPECTED[mechanism]


@pytest.mark.parametrize(("blocks", "reach"), [(2, 1), (3, 2), (16, 8)])
def test_windows_around_the_price_change_nothing(monkeypatch, blocks, reach):
    monkeypatch.setattr(coupling_solver, "EXACT_GROUPS", 1)
    monkeypatch.setattr(coupling_solver, "EXACT_GROUPS_PER_ZONE", 1)
    monkeypatch.setattr(coupling_solver, "BLOCKS", blocks)
    monkeypatch.setattr(coupling_solver, "REACH", reach)
    assert digest("zonal") == EXPECTED["zonal"]

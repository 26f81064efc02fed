"""Continuous trading with own orders, minimums and orders that leave, against its definition read word by word."""

from __future__ import annotations

import random
import time

import numpy as np
import polars as pl
import pytest

from gridtokenx_pipelines.market.mechanisms import plain_matching
from gridtokenx_pipelines.market.mechanisms.continuous import clear
from gridtokenx_pipelines.market.mechanisms.outcome import Ids, Orders
from gridtokenx_pipelines.market.rules import Network, Zone

NETWORK = Network(zones=(Zone(zone_id=1),))
FOREVER = 2**62


def by_definition(rows: list[dict[str, int]]) -> list[tuple[int, int, int, int]]:
    """(buy, sell, Wh, price) in the order made: every arrival looks through all that rests, nothing is clever."""
    book, made = [], []
    for row in sorted(rows, key=lambda row: (row["time"], row["id"])):
        book = [each for each in book if each["leaves"] > row["time"]]
        if row["leaves"] <= row["time"]:
            continue
        wants, partners = row["wh"], []
        sign = 1 if row["side"] == 0 else -1
        other = [each for each in book if each["side"] != row["side"] and sign * each["limit"] <= sign * row["limit"]]
        for each in sorted(other, key=lambda each: (sign * each["limit"], each["time"], each["id"])):
            if each["wallet"] != row["wallet"] and wants >= max(each["least"], 1):
                partners.append((each, min(wants, each["wh"])))
                wants -= partners[-1][1]
        if row["wh"] - wants < row["least"]:
            partners, wants = [], row["wh"]
        for each, wh in partners:
            each.update(wh=each["wh"] - wh, least=0)
            buy, sell = (row, each) if row["side"] == 0 else (each, row)
            made.append((buy["place"], sell["place"], wh, each["limit"]))
        book = [each for each in book if each["wh"]]
        if wants:
            book.append({**row, "wh": wants, "least": 0 if partners else row["least"]})
    return made


def draw(seed: int) -> list[dict[str, int]]:
    chosen = random.Random(seed)  # noqa: S311 - books, not secrets
    count, most, wallets, span = (
        chosen.randint(0, 30),
        chosen.choice([3, 40]),
        chosen.choice([1, 4, 30]),
        chosen.choice([1, 40]),
    )
    ids = chosen.sample(range(1_000), count)
    rows = []
    for place in range(count):
        wh, now = chosen.randint(1, most), chosen.randint(0, span)
        rows.append(
            {
                "place": place,
                "id": ids[place],
                "side": chosen.randint(0, 1),
                "wh": wh,
                "limit": 100 * chosen.randint(1, 6),
                "time": now,
                "wallet": chosen.randint(1, wallets),
                "least": chosen.choice([0, 0, chosen.randint(0, wh)]) if seed % 3 else 0,
                "leaves": chosen.choice([FOREVER, now + chosen.randint(0, 20)]) if seed % 2 else FOREVER,
            }
        )
    return rows


def orders_of(rows: list[dict[str, int]]) -> Orders:
    columns = {
        name: np.array([row[name] for row in rows], np.int64) for name in ("side", "wh", "limit", "time", "wallet")
    }
    sides = {(row["wallet"], row["side"]) for row in rows}
    both = np.array([(row["wallet"], 1 - row["side"]) in sides for row in rows], np.bool_)
    least = np.array([row["least"] for row in rows], np.int64)
    leaves = np.array([row["leaves"] for row in rows], np.int64)
    return Orders(
        columns["side"],
        np.ones(len(rows), np.int64),
        columns["wh"],
        columns["limit"],
        columns["time"],
        Ids(pl.Series([row["id"].to_bytes(16, "big") for row in rows], dtype=pl.Binary)),
        columns["wallet"],
        own_meet=both if both.any() else None,
        least_wh=least if least.any() else None,
        leaves_us=leaves if (leaves < FOREVER).any() else None,
    )


def matches(rows: list[dict[str, int]]) -> list[tuple[int, int, int, int]]:
    pairs = clear(orders_of(rows), NETWORK).pairs
    assert pairs is not None
    return list(zip(*(column.tolist() for column in pairs), strict=True))


@pytest.mark.parametrize(
    "patience", [plain_matching.PASSES_PER_ROW, 0], ids=["one by one", "whole wallets passed over"]
)
def test_matches_are_those_of_the_definition(patience: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_matching, "PASSES_PER_ROW", patience)
    traded = 0
    for seed in range(400):
        expected = by_definition(draw(seed))
        assert matches(draw(seed)) == expected, seed
        traded += len(expected)
    assert traded > 800


@pytest.mark.parametrize(
    ("ask", "bid"),
    [
        ({"wh": 4_000, "least": 4_000}, {"wh": 1}),  # every bid passes over every ask
        ({"wh": 1}, {"wh": 40_000, "least": 40_000}),  # every bid could look through all asks
        ({"wh": 1, "wallet": 7}, {"wh": 1, "wallet": 7}),  # one wallet on both sides
    ],
    ids=["minimums too large", "minimums out of reach", "own orders"],
)
def test_a_book_in_which_nothing_can_trade_takes_no_time_that_grows_with_its_square(
    ask: dict[str, int], bid: dict[str, int]
) -> None:
    half = 10_000
    same = {"limit": 300, "leaves": FOREVER, "least": 0}
    rows = [
        {**same, "place": n, "id": n, "time": n, "wallet": 10 + n, "side": 1, **ask}
        if n < half
        else {**same, "place": n, "id": n, "time": n, "wallet": 10 + n, "side": 0, **bid}
        for n in range(2 * half)
    ]
    started = time.process_time()
    assert matches(rows) == []
    assert time.process_time() - started < 5  # a pass over all by each would be 100 million steps, about a minute

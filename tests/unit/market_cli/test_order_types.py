"""Order types of book files: a minimum quantity, cancels, amendments that lose their priority; each bad one by name."""

from __future__ import annotations

import pytest

from tests.unit.market_cli.clearing_files import THB, Run, order, write_book

SUFFIXES = [".json", ".csv", ".parquet", ".jsonl"]
AUCTIONS = ["uniform", "pay_as_bid", "zonal"]


def sell(ident: str, wh: int, placed_at: int, **more) -> dict:
    return order(ident, "sell", wh, 3 * THB, placed_at=placed_at, wallet=more.pop("wallet", f"of {ident}"), **more)


def buy(ident: str, wh: int, placed_at: int, **more) -> dict:
    return order(ident, "buy", wh, 4 * THB, placed_at=placed_at, wallet=f"of {ident}", **more)


def pairs(found: dict) -> list[tuple]:
    return [(row["buy_order_id"], row["sell_order_id"], row["energy_wh"]) for row in found["matches"]]


def fills(found: dict) -> dict[str, int]:
    return {row["order_id"]: row["filled_wh"] for row in found["fills"]}


def refused(found: dict) -> list[tuple]:
    return [(row["order_id"], row["field"], row["value"]) for row in found.get("refused", [])]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_minimum_quantity_is_filled_at_least_so_far_at_once_or_passed_over(tmp_path, suffix):
    book = [
        sell("whole", 100, 1, min_wh=60, cancelled_at=None),
        sell("any", 100, 2, min_wh=None, cancelled_at=None),
        buy("small", 50, 3, min_wh=None, cancelled_at=None),
        buy("large", 70, 4, min_wh=0, cancelled_at=None),
    ]
    run = Run("clear", write_book(tmp_path, book, suffix), "--mechanism", "continuous", "--json")
    assert (run.code, run.error) == (0, "")
    assert pairs(run.json) == [("small", "any", 50), ("large", "whole", 70)]


def test_an_arriving_minimum_takes_several_offers_at_once_or_rests_whole(tmp_path):
    book = [sell("a", 40, 1), sell("b", 40, 2), buy("much", 100, 3, min_wh=90), buy("enough", 100, 4, min_wh=80)]
    found = Run("clear", write_book(tmp_path, book), "--mechanism", "continuous", "--json").json
    assert pairs(found) == [("enough", "a", 40), ("enough", "b", 40)]


@pytest.mark.parametrize("mechanism", AUCTIONS)
def test_auctions_refuse_a_minimum_quantity_by_name_and_clear_the_rest(tmp_path, mechanism):
    book = [sell("least", 100, 1, min_wh=60), sell("plain", 100, 2, min_wh=0), buy("bid", 50, 3)]
    run = Run("clear", write_book(tmp_path, book), "--mechanism", mechanism, "--json")
    assert run.code == 1
    assert refused(run.json) == [("least", "min_wh", "60")]
    assert f"must be 0 with {mechanism}" in run.error
    assert fills(run.json) == {"bid": 50, "plain": 50}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"min_wh": 101}, "min_wh"),
        ({"min_wh": -1}, "min_wh"),
        ({"min_wh": 1.5}, "min_wh"),
        ({"min_wh": "some"}, "min_wh"),
        ({"cancelled_at": 4}, "cancelled_at"),
        ({"cancelled_at": "later"}, "cancelled_at"),
        ({"replaces": "nobody"}, "replaces"),
        ({"replaces": "wrong"}, "replaces"),
        ({"replaces": "bid"}, "replaces"),
        ({"replaces": "other"}, "replaces"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_bad_field_is_refused_by_name_and_the_others_clear(tmp_path, wrong, field, suffix):
    empty = {"min_wh": None, "cancelled_at": None, "replaces": None}
    if suffix == ".parquet":  # its columns have one type
        kind = {name: str if isinstance(value, str) else type(value) for name, value in wrong.items()}
        empty = {name: None for name in empty if name in kind}
    book = [sell("wrong", 100, 5, **(empty | wrong)), sell("other", 100, 6, **empty), buy("bid", 150, 7, **empty)]
    run = Run("clear", write_book(tmp_path, book, suffix), "--mechanism", "continuous", "--json")
    assert run.code == 1
    assert [row[:2] for row in refused(run.json)] == [("wrong", field)]
    assert fills(run.json) == {"bid": 100, "other": 100}


@pytest.mark.parametrize("mechanism", AUCTIONS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cancelled_order_is_in_no_auction(tmp_path, mechanism, suffix):
    book = [
        sell("gone", 100, 1, cancelled_at="1970-01-01T00:00:01Z"),
        sell("stays", 100, 2, cancelled_at=None),
        buy("bid", 50, 3, cancelled_at=None),
    ]
    run = Run("clear", write_book(tmp_path, book, suffix), "--mechanism", mechanism, "--json")
    assert (run.code, fills(run.json)) == (0, {"bid": 50, "stays": 50})


def test_a_cancelled_order_trades_until_it_leaves(tmp_path):
    book = [sell("leaves", 100, 1, cancelled_at=4), buy("early", 30, 3), buy("late", 30, 4)]
    found = Run("clear", write_book(tmp_path, book), "--mechanism", "continuous", "--json").json
    assert pairs(found) == [("early", "leaves", 30)]


@pytest.mark.parametrize("mechanism", ["continuous", *AUCTIONS])
def test_an_amended_order_loses_its_priority(tmp_path, mechanism):
    book = [
        sell("first", 100, 1, wallet="ann"),
        sell("second", 100, 2),
        sell("again", 100, 3, wallet="ann", replaces="first"),
        buy("bid", 120, 9),
    ]
    run = Run("clear", write_book(tmp_path, book), "--mechanism", mechanism, "--json")
    assert (run.code, fills(run.json)) == (0, {"bid": 120, "second": 100, "again": 20})


def test_amendments_follow_one_another_and_an_order_is_replaced_once(tmp_path):
    book = [
        sell("1", 100, 1, wallet="ann"),
        sell("2", 90, 2, wallet="ann", replaces="1"),
        sell("3", 80, 3, wallet="ann", replaces="2"),
        sell("late", 70, 4, wallet="ann", replaces="2"),
        sell("of late", 60, 5, wallet="ann", replaces="late"),
        buy("bid", 500, 9),
    ]
    for rows in (book, book[::-1]):
        run = Run("clear", write_book(tmp_path, rows), "--mechanism", "continuous", "--json")
        assert sorted(refused(run.json)) == [("late", "replaces", "2"), ("of late", "replaces", "late")]
        assert fills(run.json) == {"bid": 80, "3": 80}


def test_what_was_traded_before_an_amendment_stays(tmp_path):
    book = [
        sell("old", 100, 1, wallet="ann"),
        buy("early", 40, 2),
        sell("new", 10, 3, wallet="ann", replaces="old"),
        buy("late", 40, 4),
    ]
    found = Run("clear", write_book(tmp_path, book), "--mechanism", "continuous", "--json").json
    assert pairs(found) == [("early", "old", 40), ("late", "new", 10)]


def test_a_cancelled_order_cannot_be_amended_and_two_cannot_replace_each_other(tmp_path):
    book = [
        sell("gone", 100, 1, wallet="ann", cancelled_at=2),
        sell("after", 100, 3, wallet="ann", replaces="gone"),
        sell("x", 10, 5, wallet="bob", replaces="y"),
        sell("y", 10, 5, wallet="bob", replaces="x"),
    ]
    found = Run("clear", write_book(tmp_path, book), "--mechanism", "continuous", "--json").json
    assert sorted(refused(found)) == [("after", "replaces", "gone"), ("x", "replaces", "y"), ("y", "replaces", "x")]

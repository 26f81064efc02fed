"""Certificates locked with sells and passed on: whole examples, reasons, conservation, order independence."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.certificates import (
    CERTIFICATES,
    Unbacked,
    apportion,
    lock,
    pass_on,
    unclaimed_after,
)
from gridtokenx_pipelines.market.clearing import clear
from gridtokenx_pipelines.market.rules import Rules
from tests.unit.market.books import BUY, SELL, THB, network, order_id, order_row


def book_of(rows: list[dict]) -> pl.DataFrame:
    full = [row | {"covered_wh": row["energy_wh"], "net_limit_uthb_per_kwh": row["limit_uthb_per_kwh"]} for row in rows]
    return frames.frame(frames.BOOK, full)


def sell(number: int, wh: int, limit: int, certificate: bytes | None, who: str = "ann", *, at: int = 0) -> dict:
    changes = {"certificate_id": certificate, "wallet": who, "broker_us": at}
    return order_row(number, SELL, wh, limit) | changes


def buy(number: int, wh: int, limit: int, who: str) -> dict:
    return order_row(number, BUY, wh, limit) | {"wallet": who, "broker_us": 0}


def certificates(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(CERTIFICATES), orient="row")


def test_one_certificate_backs_the_better_offer_first_and_no_more_than_it_has():
    book = book_of([sell(1, 600, 3 * THB, b"c", at=1), sell(2, 700, 2 * THB, b"c", at=9), sell(3, 5, 4 * THB, b"c")])
    locks = lock(book, certificates((b"c", "ann", 1_000, 100, True)))
    assert locks.locked.rows() == [(order_id(1), b"c", 300), (order_id(2), b"c", 700)]
    assert locks.unbacked.rows() == [(order_id(3), b"c", int(Unbacked.USED_UP), "used_up")]


def test_what_cannot_back_an_order_is_named_and_takes_nothing_from_the_certificate():
    book = book_of(
        [
            sell(1, 9, THB, b"none"),
            sell(2, 9, THB, b"revoked"),
            sell(3, 9, THB, b"bob's"),
            sell(4, 9, THB, b"old"),
            sell(5, 9, THB, b"empty"),
            buy(6, 9, THB, "ann") | {"certificate_id": b"good"},
            sell(7, 9, THB, b"good"),
            sell(8, 9, THB, None),
        ]
    )
    given_ = certificates(
        (b"revoked", "ann", 9, 100, False),
        (b"bob's", "bob", 9, 100, True),
        (b"old", "ann", 9, 50, True),
        (b"empty", "ann", 0, 100, True),
        (b"good", "ann", 9, 51, True),
    )
    locks = lock(book, given_, at_us=50)
    assert locks.locked.rows() == [(order_id(7), b"good", 9)]
    assert dict(locks.unbacked.select("order_id", "reason").iter_rows()) == {
        order_id(1): "unknown",
        order_id(2): "not_valid",
        order_id(3): "foreign",
        order_id(4): "expired",
        order_id(5): "used_up",
        order_id(6): "not_a_sell",
    }


def test_the_locked_part_of_a_sale_passes_pro_rata_and_the_largest_remainder_takes_the_rest():
    rows = [sell(1, 1_000, 2 * THB, b"c"), buy(2, 500, 4 * THB, "x"), buy(3, 300, 4 * THB, "y"), buy(4, 200, THB, "z")]
    book = book_of(rows)
    given_ = certificates((b"c", "ann", 601, 100, True))
    result = clear(book, network(0), Rules(), "uniform")
    locked = lock(book, given_).locked
    passed = pass_on(locked, result.matches)
    # 601 over 500 : 300 is 375.625 and 225.375
    assert passed.select("buyer", "energy_wh").rows() == [("x", 376), ("y", 225)]
    assert unclaimed_after(given_, passed) == {b"c": 0}


def test_certificates_that_cannot_be_are_an_error():
    twice = certificates((b"c", "ann", 1, 1, True), (b"c", "bob", 1, 1, True))
    with pytest.raises(ValueError, match="one an id"):
        lock(book_of([]), twice)
    with pytest.raises(ValueError, match="unclaimed_wh was -1"):
        lock(book_of([]), certificates((b"c", "ann", -1, 1, True)))
    with pytest.raises(ValueError, match="must lie in 0…3"):
        apportion(4, [1, 2])


@given(st.lists(st.integers(0, 2**40), max_size=8), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_shares_add_up_and_lie_within_one_wh_of_their_quota_and_within_their_weight(weights, part):
    total = sum(weights) * part // 10**6
    shares = apportion(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert share <= weight
        assert abs(share * sum(weights) - total * weight) < max(sum(weights), 1)


NAMES = [b"c1", b"c2", b"c3", b"lost"]
wallets = st.sampled_from(["ann", "bob", "cid"])
books = st.tuples(
    st.lists(
        st.tuples(st.integers(1, 900), st.integers(2, 5), wallets, st.sampled_from([None, *NAMES]), st.integers(0, 60)),
        max_size=8,
    ),
    st.lists(st.tuples(st.integers(1, 900), st.integers(2, 6), st.sampled_from("xyz")), max_size=6),
    st.lists(st.tuples(wallets, st.integers(0, 1_200), st.integers(0, 90), st.booleans()), min_size=3, max_size=3),
)


@given(books, st.sampled_from(["uniform", "pay_as_bid", "continuous"]), st.randoms(use_true_random=False))
@settings(max_examples=120, deadline=None)
def test_nothing_is_passed_twice_or_beyond_what_was_unclaimed_locked_and_sold(made, mechanism, random):
    sells, buys, owned = made
    rows = [sell(n, wh, limit * THB, name, who, at=at) for n, (wh, limit, who, name, at) in enumerate(sells)]
    rows += [buy(100 + n, wh, limit * THB, who) for n, (wh, limit, who) in enumerate(buys)]
    given_ = certificates(*((name, *rest) for name, rest in zip(NAMES, owned, strict=False)))
    book = book_of(rows)
    result = clear(book, network(0), Rules(fee_bp=0), mechanism)
    locks = lock(book, given_)
    passed = pass_on(locks.locked, result.matches)

    naming = {row["order_id"] for row in rows if row["certificate_id"] is not None}
    locked = dict(locks.locked.select("order_id", "locked_wh").iter_rows())
    assert set(locked) | set(locks.unbacked["order_id"]) == naming
    assert not set(locked) & set(locks.unbacked["order_id"])
    filled = dict(result.fills.select("order_id", "filled_wh").iter_rows())
    by_order = dict(passed.group_by("sell_order_id").agg(pl.col("energy_wh").sum()).iter_rows())
    assert by_order == {k: min(wh, filled.get(k, 0)) for k, wh in locked.items() if min(wh, filled.get(k, 0))}
    left = unclaimed_after(given_, passed)
    unclaimed = dict(given_.select("certificate_id", "unclaimed_wh").iter_rows())
    of_certificate = dict(locks.locked.group_by("certificate_id").agg(pl.col("locked_wh").sum()).iter_rows())
    assert all(of_certificate.get(name, 0) <= unclaimed[name] for name in unclaimed)
    assert all(left[name] >= 0 for name in unclaimed)
    assert sum(unclaimed.values()) - sum(left.values()) == passed["energy_wh"].sum()
    bought = dict(result.matches.group_by("buyer").agg(pl.col("energy_wh").sum()).iter_rows())
    assert all(wh <= bought[who] for who, wh in passed.group_by("buyer").agg(pl.col("energy_wh").sum()).iter_rows())

    random.shuffle(rows)
    again = lock(book_of(rows), given_.reverse())
    assert again.locked.equals(locks.locked)
    assert again.unbacked.equals(locks.unbacked)
    assert pass_on(again.locked.reverse(), result.matches.reverse()).equals(passed)

"""The price guard: minute prices, the halt at the chain's own rule, resumption, and replay."""

from __future__ import annotations

import pickle

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx_pipelines.market.mechanisms.continuous import Breaker, _Minute
from gridtokenx_pipelines.market.price_guard import (
    ChainHalt,
    Entry,
    GuardState,
    Halt,
    MinutePrice,
    Resumed,
    Resumption,
    Trade,
    Unreadable,
    decode,
    step,
)

SECOND = 1_000_000
START = 1_781_456_400 * SECOND  # a full minute


def trade(seconds: float, price: int, energy_wh: int = 1_000, venue: str = "continuous") -> Trade:
    return Trade(
        trade_id=f"at {seconds}",
        epoch=1_979_396,
        venue=venue,
        timestamp_us=START + round(seconds * SECOND),
        energy_wh=energy_wh,
        price_uthb_per_kwh=price,
    )


def entries(*bodies: object, first: int = 0) -> list[Entry]:
    return [Entry(first + at, body) for at, body in enumerate(bodies)]


def halts(*bodies: object) -> list[tuple[int, int]]:
    events = step(GuardState(), entries(*bodies))
    return [(each.offset, each.reference_uthb_per_kwh) for each in events if isinstance(each, Halt)]


def test_exactly_a_tenth_away_trades_and_one_more_microbaht_halts_on_both_sides() -> None:
    assert halts(trade(0, 3_000_000), trade(1, 3_300_000)) == []
    assert halts(trade(0, 3_000_000), trade(1, 3_300_001)) == [(1, 3_000_000)]
    assert halts(trade(0, 3_200_000), trade(1, 2_880_000)) == []
    assert halts(trade(0, 3_200_000), trade(1, 2_879_999)) == [(1, 3_200_000)]


def test_any_price_of_the_minute_counts_and_none_that_is_older() -> None:
    creeping = [trade(at, 3_000_000 + 250_000 * at) for at in range(2)]
    assert halts(*creeping, trade(2, 3_310_000)) == [(2, 3_000_000)]
    assert halts(trade(0, 3_000_000), trade(60, 3_300_001)) == [(1, 3_000_000)]
    assert halts(trade(0, 3_000_000), trade(60.000001, 8_000_000)) == []


def test_a_halt_stays_until_somebody_resumes_and_then_the_minute_is_forgotten() -> None:
    state = GuardState()
    resumption = Resumption(who="Somchai", timestamp_us=START + 9 * SECOND)
    events = step(
        state,
        entries(trade(0, 3_000_000), trade(1, 4_000_000), trade(2, 3_000_000), resumption, trade(10, 4_000_000)),
    )
    assert events == [
        Halt(
            offset=1,
            trade_id="at 1",
            halted_at_us=START + SECOND,
            price_uthb_per_kwh=4_000_000,
            reference_uthb_per_kwh=3_000_000,
        ),
        Resumed(offset=3, who="Somchai", resumed_at_us=START + 9 * SECOND),
    ]
    assert state.counts == {"trade": 2, "halting": 1, "after_halt": 1, "resumption": 1}
    assert not state.halted


def test_the_chain_s_own_halt_is_one_too_and_comes_once() -> None:
    chain = ChainHalt(timestamp_us=START + SECOND, price_uthb_per_kwh=3_500_000)
    assert halts(trade(0, 3_000_000), chain, chain) == [(1, 3_000_000)]


def test_a_minute_s_price_is_weighted_by_volume_and_rounded_down() -> None:
    events = step(
        GuardState(),
        entries(trade(0, 3_000_000, 1), trade(59, 3_100_000, 2), trade(61, 3_000_000), trade(62, 3_000_000, 5)),
    )
    assert events == [
        MinutePrice(
            offset=2,
            minute=START // (60 * SECOND),
            epoch=1_979_396,
            price_uthb_per_kwh=3_066_666,
            low=3_000_000,
            high=3_100_000,
            volume_wh=3,
            trades=2,
        )
    ]


def test_auctions_trades_are_none_of_its_business() -> None:
    state = GuardState()
    assert step(state, entries(trade(0, 3_000_000), trade(1, 8_000_000, venue="zonal"))) == []
    assert state.counts == {"trade": 1, "auction": 1}


def test_what_can_t_be_read_is_counted_and_stops_nothing() -> None:
    good = msgspec.json.encode(trade(0, 3_000_000))
    bad = [b"", b"{", b"\xff", b"[]", good.replace(b"3000000", b"-1"), good.replace(b"1000,", b"NaN,")]
    bad += [good.replace(b"3000000", b"9" * 30), good.replace(b'"continuous"', b"7")]
    read = [decode(offset, b"energy_trade", value) for offset, value in enumerate([*bad, good])]
    assert [isinstance(each.body, Unreadable) for each in read] == [True] * len(bad) + [False]
    assert isinstance(decode(0, b"resume", good).body, Unreadable)
    state = GuardState()
    assert step(state, read) == []
    assert state.counts == {"unreadable": len(bad), "trade": 1}


PRICES = st.lists(st.tuples(st.integers(0, 40), st.integers(2_000_000, 3_000_000)), max_size=40)


@given(PRICES)
def test_it_halts_where_the_market_s_own_breaker_does(moves: list[tuple[int, int]]) -> None:
    at, bodies, minute, expected = 0, [], _Minute(Breaker()), None
    for offset, (step_seconds, price) in enumerate(moves):
        at += step_seconds
        bodies.append(trade(at, price))
        now = START + at * SECOND
        bounds = minute.bounds(now) or (price, price)
        if expected is None and any(minute.is_far(price, other) for other in bounds):
            expected = offset
        minute.add(price, now)
    found = halts(*bodies)
    assert [offset for offset, _ in found] == ([] if expected is None else [expected])


@given(PRICES, st.lists(st.integers(0, 40), max_size=6))
def test_a_replay_in_other_batches_and_through_bytes_says_the_same(
    moves: list[tuple[int, int]], cuts: list[int]
) -> None:
    at, bodies = 0, []
    for step_seconds, price in moves:
        at += step_seconds
        bodies.append(trade(at, price))
    log = entries(*bodies)
    whole = step(GuardState(), log)
    state, parts = GuardState(), []
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(log)], strict=True):
        parts += step(state, log[max(first - 2, 0) : last])  # some come twice
        state = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own bytes
    assert parts == whole

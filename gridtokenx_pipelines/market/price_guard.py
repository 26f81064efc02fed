"""The price guard of continuous trading: volume-weighted prices by the minute, and the halt (domain §5). Pure.

Belongs here: what a stream of trades says, record by record in the order of its log. Does not belong here: reading it,
or what a halt does to the market. The rule is the chain's own (`match_order`): a price more than 10 % away from any
price in the minute before, both ends included, halts; a resumption clears that minute. So the guard tells a chain that
let something pass from one that didn't, and a replay says the same again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from gridtokenx_pipelines.units import BASIS_POINTS

BOUND_BP, WINDOW_US = 1_000, 60_000_000
CONTINUOUS = "continuous"
Positive = Annotated[int, Meta(gt=0, lt=1 << 62)]


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard reads of an `energy_trade`: time in µs, Wh, µTHB per kWh."""

    trade_id: str
    epoch: Annotated[int, Meta(ge=0)]
    venue: str
    timestamp_us: Annotated[int, Meta(ge=0, lt=1 << 62)]
    energy_wh: Positive
    price_uthb_per_kwh: Positive


class Resumption(msgspec.Struct, frozen=True, kw_only=True):
    """An operator let the market go on."""

    who: str
    timestamp_us: Annotated[int, Meta(ge=0, lt=1 << 62)]


class ChainHalt(msgspec.Struct, frozen=True, kw_only=True):
    """The chain halted by itself: no trade was made at this price."""

    timestamp_us: Annotated[int, Meta(ge=0, lt=1 << 62)]
    price_uthb_per_kwh: Positive


class Unreadable(msgspec.Struct, frozen=True):
    """A record that is none of these."""

    detail: str


class Entry(msgspec.Struct, frozen=True):
    """One record of the log."""

    offset: int
    body: Trade | Resumption | ChainHalt | Unreadable


class MinutePrice(msgspec.Struct, frozen=True, kw_only=True):
    """A minute's trades: `minute` in minutes since 1970; the price is volume-weighted, rounded down to the µTHB."""

    offset: int
    minute: int
    epoch: int
    price_uthb_per_kwh: int
    low: int
    high: int
    volume_wh: int
    trades: int


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """A trade broke the bound: its price, and the price of the minute before that it is too far from."""

    offset: int
    trade_id: str
    halted_at_us: int
    price_uthb_per_kwh: int
    reference_uthb_per_kwh: int


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """A halt ended."""

    offset: int
    who: str
    resumed_at_us: int


Event = MinutePrice | Halt | Resumed


class GuardState(msgspec.Struct):
    """Of one partition of `trades`: prices of the last minute, and the minute that is being summed.

    Only the lowest and the highest price of the window can be too far away, so `lows` and `highs` hold (µs, price) of
    those that are, or will be, the lowest and the highest.
    """

    offset: int = -1
    now_us: int = 0
    halted: bool = False
    lows: deque[tuple[int, int]] = msgspec.field(default_factory=deque)
    highs: deque[tuple[int, int]] = msgspec.field(default_factory=deque)
    minute: int = -1
    epoch: int = 0
    value: int = 0
    volume_wh: int = 0
    low: int = 0
    high: int = 0
    trades: int = 0
    counts: dict[str, int] = {}


def decode(offset: int, kind: bytes, value: bytes) -> Entry:
    """A record by its `kind` header and value; what can't be read says why and stops nothing."""
    try:
        if kind == b"resume":
            return Entry(offset, msgspec.json.decode(value, type=Resumption))
        if kind == b"halted":
            return Entry(offset, msgspec.json.decode(value, type=ChainHalt))
        return Entry(offset, msgspec.json.decode(value, type=Trade))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Entry(offset, Unreadable(str(error)))


def step(state: GuardState, entries: Iterable[Entry]) -> list[Event]:
    """Apply records in offset order, in place; those at or below the state's offset were applied before."""
    events: list[Event] = []
    for entry in entries:
        if entry.offset <= state.offset:
            continue
        state.offset = entry.offset
        match entry.body:
            case Trade() as trade if trade.venue == CONTINUOUS:
                _trade(state, trade, events)
            case Trade():
                _count(state, "auction")  # one price for all, judged by its own breaker before it is committed
            case Resumption() as resumption:
                _count(state, "resumption")
                if state.halted:
                    state.halted = False
                    state.lows.clear()
                    state.highs.clear()
                    events.append(
                        Resumed(offset=entry.offset, who=resumption.who, resumed_at_us=resumption.timestamp_us)
                    )
            case ChainHalt() as halt:
                _count(state, "chain_halt")
                state.now_us = max(state.now_us, halt.timestamp_us)
                if not state.halted:
                    _halt(state, "chain", halt.price_uthb_per_kwh, events)
            case Unreadable():
                _count(state, "unreadable")
    return events


def _count(state: GuardState, what: str) -> None:
    state.counts[what] = state.counts.get(what, 0) + 1


def _trade(state: GuardState, trade: Trade, events: list[Event]) -> None:
    # the log's order is the order of matching; a clock that steps back must not bring an old minute to life
    state.now_us = now = max(state.now_us, trade.timestamp_us)
    price = trade.price_uthb_per_kwh
    _sum(state, trade, events)
    if state.halted:
        _count(state, "after_halt")
        return
    if _too_far(state, price):
        _count(state, "halting")
        _halt(state, trade.trade_id, price, events)
        return
    _count(state, "trade")
    for queue, sign in ((state.lows, 1), (state.highs, -1)):
        while queue and sign * queue[-1][1] >= sign * price:
            queue.pop()
        queue.append((now, price))


def _too_far(state: GuardState, price: int) -> list[int]:
    for queue in (state.lows, state.highs):
        while queue and queue[0][0] < state.now_us - WINDOW_US:
            queue.popleft()
    bounds = [queue[0][1] for queue in (state.lows, state.highs) if queue]
    return [other for other in bounds if abs(price - other) * BASIS_POINTS > BOUND_BP * other]


def _halt(state: GuardState, trade_id: str, price: int, events: list[Event]) -> None:
    far = _too_far(state, price)
    state.halted = True
    events.append(
        Halt(
            offset=state.offset,
            trade_id=trade_id,
            halted_at_us=state.now_us,
            price_uthb_per_kwh=price,
            # the chain's clock is of whole seconds and may see a price that this minute lacks by then
            reference_uthb_per_kwh=far[0] if far else price,
        )
    )


def _sum(state: GuardState, trade: Trade, events: list[Event]) -> None:
    minute, price = state.now_us // WINDOW_US, trade.price_uthb_per_kwh
    if minute != state.minute:
        if state.trades:
            events.append(
                MinutePrice(
                    offset=state.offset,
                    minute=state.minute,
                    epoch=state.epoch,
                    price_uthb_per_kwh=state.value // state.volume_wh,
                    low=state.low,
                    high=state.high,
                    volume_wh=state.volume_wh,
                    trades=state.trades,
                )
            )
        state.minute, state.epoch = minute, trade.epoch
        state.value = state.volume_wh = state.trades = 0
        state.low = state.high = price
    state.value += price * trade.energy_wh
    state.volume_wh += trade.energy_wh
    state.low, state.high = min(state.low, price), max(state.high, price)
    state.trades += 1

"""Continuous double auction: orders arrive one by one and trade at the resting order's (net) limit (domain §5).

Belongs here: matching in arrival order, own orders passed over, minimum quantities, orders that leave, the breaker of
the last minute. Does not belong here: settlement of matches (on chain), auctions.

- Arrival and priority are by time, then id; the best resting net limit first, at one limit the earliest.
- Self-trade prevention: a wallet's own resting orders are passed over and stay, so the next wallet's order gets the
  trade. Nobody loses one: whatever crosses an order of another wallet trades with it.
- A minimum quantity holds for an order's first execution: the arriving order trades at least that much at once or
  rests whole; a resting one is passed over by orders too small for it. After that its rest trades in any quantity.
- The breaker: a match at a price more than 10 % away from any price in the minute before is not made, and nothing
  more is until an operator resumes. Then the minute is forgotten, and the orders that waited arrive in their order.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.kernel import order_of
from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Outcome, Pairs
from gridtokenx_pipelines.market.mechanisms.plain_matching import filled_by, match_plain
from gridtokenx_pipelines.market.mechanisms.resting import NUMBER, NUMBER_BITS, GuardedSide, Reach, RestingSide
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.units import BASIS_POINTS

FOREVER = 2**63 - 1


class Breaker(NamedTuple):
    """The halt's bound and window, and the times (µs, ascending) at which an operator resumed the market."""

    bound_bp: int = 1_000
    window_us: int = 60_000_000
    resumed_us: tuple[int, ...] = ()


def clear(orders: Orders, network: Network, breaker: Breaker | None = None) -> Outcome:
    """All zones as one area; links are ignored. There is no zone price, each match has its own, in order of time.

    `breaker=None`: no halt. What was matched before a halt stands; `Outcome.halts` says when and why it came.
    """
    idle: dict[int, int | None] = {zone.zone_id: None for zone in network.zones}
    if breaker is None and orders.least_wh is None:
        plain = match_plain(orders)
        if plain is not None:
            return Outcome(filled_by(plain, len(orders.side)), idle, pairs=plain, one_area=True)
    session = _Session(orders, breaker)
    session.run()
    pairs = Pairs(*np.array(session.made, np.int64).reshape(-1, 4).T.copy())
    return Outcome(
        filled_by(pairs, len(orders.side)),
        idle,
        pairs=pairs,
        one_area=True,
        halts=tuple(session.halts),
        halted=session.halted_us is not None,
    )


class _Minute:
    """Prices of the window: lowest and highest, as two queues of candidates."""

    def __init__(self, breaker: Breaker) -> None:
        self.bound_bp, self.window_us = breaker.bound_bp, breaker.window_us
        self.low: deque[tuple[int, int]] = deque()
        self.high: deque[tuple[int, int]] = deque()

    def add(self, price: int, now: int) -> None:
        for queue, sign in ((self.low, 1), (self.high, -1)):
            while queue and sign * queue[-1][1] >= sign * price:
                queue.pop()
            queue.append((now, price))

    def bounds(self, now: int) -> tuple[int, int] | None:
        """Lowest and highest price since a window ago; None if there was none."""
        for queue in (self.low, self.high):
            while queue and queue[0][0] < now - self.window_us:
                queue.popleft()
        return (self.low[0][1], self.high[0][1]) if self.low else None

    def is_far(self, price: int, other: int) -> bool:
        return abs(price - other) * BASIS_POINTS > self.bound_bp * abs(other)


class _Session:
    """One book's session; `left` is what each row still wants, `least` its minimum until its first execution."""

    def __init__(self, orders: Orders, breaker: Breaker | None) -> None:
        rows = order_of(orders.keys(np.arange(len(orders.side))))
        self.rows: list[int] = rows.tolist()
        numbers = np.empty(len(rows), np.int64)
        numbers[rows] = np.arange(len(rows))
        self.number: list[int] = numbers.tolist()
        self.is_sell: list[bool] = orders.is_sell.tolist()
        self.limit: list[int] = orders.limit.tolist()
        self.time: list[int] = orders.time_us.tolist()
        self.wallet: list[int] = list(range(len(rows))) if orders.wallet is None else orders.wallet.tolist()
        self.left: list[int] = orders.wh.tolist()
        self.least: list[int] | None = None if orders.least_wh is None else orders.least_wh.tolist()
        self.leaves: list[int] | None = None if orders.leaves_us is None else orders.leaves_us.tolist()
        self.sides = (RestingSide(), RestingSide())
        self.guards: tuple[GuardedSide, GuardedSide] | None = None
        self.reach: tuple[Reach, Reach] | None = None
        if self.least is not None:
            self._guard(self.least)
        self.breaker = breaker
        self.minute = _Minute(breaker) if breaker is not None else None
        self.resumes = deque(breaker.resumed_us if breaker is not None else ())
        self.halted_us: int | None = None
        self.waiting: list[int] = []
        self.made: list[tuple[int, int, int, int]] = []
        self.halts: list[str] = []

    def _guard(self, least: list[int]) -> None:
        rows = range(len(least))
        sides = [[row for row in rows if self.is_sell[row] == sells] for sells in (False, True)]
        kept = [[row for row in side if least[row]] for side in sides]
        bids, asks = ([self._key(row) for row in side] for side in kept)
        of_bids, of_asks = ([self.wallet[row] for row in side] for side in kept)
        self.guards = GuardedSide(bids, of_bids), GuardedSide(asks, of_asks)
        ranks = [(self._key(row) >> NUMBER_BITS for row in side) for side in sides]
        self.reach = Reach(ranks[0]), Reach(ranks[1])

    def _key(self, row: int) -> int:
        rank = self.limit[row] if self.is_sell[row] else -self.limit[row]
        return rank << NUMBER_BITS | self.number[row]

    def run(self) -> None:
        """Let all orders arrive."""
        for row in self.rows:
            now = self.time[row]
            if self.halted_us is not None:
                self._resume(now)
            if self.halted_us is None:
                self._enter(row, now)
            else:
                self.waiting.append(row)
        self._resume(FOREVER)

    def _resume(self, now: int) -> None:
        """Apply the resumptions up to now, each with the orders that waited for it."""
        while self.halted_us is not None and self.resumes and self.resumes[0] <= now:
            resumed = self.resumes.popleft()
            if resumed < self.halted_us or self.breaker is None:
                continue
            self.halted_us, self.minute = None, _Minute(self.breaker)
            waited, self.waiting = self.waiting, []
            for row in waited:
                if self.halted_us is None:
                    self._enter(row, resumed)
                else:
                    self.waiting.append(row)

    def _enter(self, row: int, now: int) -> None:
        if self.leaves is not None and self.leaves[row] <= now:
            return
        self._arrive(row, now)
        if self.left[row] and self.halted_us is not None:
            self.waiting.append(row)
        elif self.left[row]:
            self._rest(row)
            if self.reach is not None:
                self.reach[self.is_sell[row]].add(self._key(row) >> NUMBER_BITS, self.left[row])

    def _rest(self, row: int) -> None:
        side, key = self.is_sell[row], self._key(row)
        if self.guards is not None and self.least is not None and self.least[row]:
            self.guards[side].add(key, self.least[row])
        else:
            self.sides[side].add(key, self.wallet[row])

    def _arrive(self, row: int, now: int) -> None:
        """Trade an order with the best of the other side, as far as limits, minimums and the breaker let it."""
        side = not self.is_sell[row]
        # the rank of a resting bid is its negated limit
        worst = -self.limit[row] if self.is_sell[row] else self.limit[row]
        if self.reach is not None and self.least is not None and self.reach[side].up_to(worst) < self.least[row]:
            return
        wants, taken = self.left[row], []
        own: list[tuple[int, int]] = []
        whole: list[int] = []
        while wants and (resting := self._best(row, wants, worst, now, own)) is not None:
            wh = min(wants, self.left[resting])
            taken.append((resting, wh))
            wants -= wh
            if self._is_guarded(resting) and self.guards is not None:
                self.guards[side].drop(self._key(resting))
                whole.append(resting)
            elif wh == self.left[resting]:
                self.sides[side].drop_first()
                whole.append(resting)
        # the breaker looks at matches that would be made: not at those of an order that can't reach its minimum
        short = self.least is not None and self.left[row] - wants < self.least[row]
        lets = 0 if short else self._until_halt(row, taken, now)
        if self.least is not None and sum(wh for _, wh in taken[:lets]) < self.least[row]:
            lets = 0
        for resting, wh in taken[:lets]:
            self._match(row, resting, wh, now)
        self.sides[side].put_back(own)
        for resting in whole:
            if self.left[resting]:
                self._rest(resting)

    def _is_guarded(self, row: int) -> bool:
        return self.least is not None and self.least[row] > 0

    def _best(self, row: int, wants: int, worst: int, now: int, own: list[tuple[int, int]]) -> int | None:
        """The best resting order that lets so many Wh trade with it; own wallets passed over are added to `own`."""
        side, mine, found = not self.is_sell[row], self.wallet[row], None
        free = self.sides[side]
        while (first := free.first()) is not None and first[0] >> NUMBER_BITS <= worst:
            key, wallet = first
            if self._has_left(key, now):
                free.drop_first()
            elif wallet == mine:
                own.append(free.pass_over())
            else:
                found = key
                break
        while self.guards is not None and (guarded := self.guards[side].first(wants, mine)) is not None:
            if guarded >> NUMBER_BITS > worst or (found is not None and found < guarded):
                break
            if self._has_left(guarded, now):
                self.guards[side].drop(guarded)
            else:
                found = guarded
                break
        return None if found is None else self.rows[found & NUMBER]

    def _has_left(self, key: int, now: int) -> bool:
        row = self.rows[key & NUMBER]
        if self.leaves is None or self.leaves[row] > now:
            return False
        if self.reach is not None:
            self.reach[self.is_sell[row]].add(key >> NUMBER_BITS, -self.left[row])
        return True

    def _until_halt(self, row: int, taken: list[tuple[int, int]], now: int) -> int:
        """How many of the matches come before one that the breaker forbids."""
        minute = self.minute
        if minute is None or not taken:
            return len(taken)
        bounds = minute.bounds(now)
        low, high = bounds if bounds is not None else (self.limit[taken[0][0]],) * 2
        for place, (resting, _) in enumerate(taken):
            price = self.limit[resting]
            far = [other for other in (low, high) if minute.is_far(price, other)]
            if far:
                self.halted_us = now
                self.halts.append(
                    f"price at {now} µs was {price} µTHB/kWh, must lie within {minute.bound_bp} basis points of "
                    f"{far[0]}, a price of the {minute.window_us} µs before; an operator may resume"
                )
                return place
            low, high = min(low, price), max(high, price)
        return len(taken)

    def _match(self, row: int, resting: int, wh: int, now: int) -> None:
        self.left[row] -= wh
        self.left[resting] -= wh
        if self.reach is not None:
            self.reach[self.is_sell[resting]].add(self._key(resting) >> NUMBER_BITS, -wh)
        if self.least is not None:
            self.least[row] = self.least[resting] = 0
        price = self.limit[resting]
        self.made.append((resting, row, wh, price) if self.is_sell[row] else (row, resting, wh, price))
        if self.minute is not None:
            self.minute.add(price, now)

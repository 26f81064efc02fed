"""Self-trade prevention in auctions: a wallet's own orders never trade with each other, and nobody else loses by it.

Belongs here: what one price lets different wallets trade, and taking off what a wallet could only trade with itself.
Does not belong here: who meets whom (pairing.py), matching order by order (continuous.py, pay_as_bid.py).

The rule. An auction's fills stand if every wallet's bought Wh b and sold Wh s fit the volume V: b + s ≤ V. Then pairs
exist in which nobody meets itself, and pairing.py finds them. Otherwise, with one price for all, different wallets can
trade min(D, S, D + S − b − s for each wallet) of the demand and supply at a price. The price is then the one at which
they trade most (the lowest such at which no order better than it is left out but a wallet's own), unless some order of
another wallet would get less there than the auction had given it: then the auction's own price stays, at which all
others get at least that. Each side is served by priority, a wallet's own orders no further than the others can take.
So prevention never costs another wallet's order a Wh, and without own orders that cross it changes nothing. Coupled
zones: see `couple_wallets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.kernel import Bools, Crossing, Int64s, cross, serve, sortable
from gridtokenx_pipelines.market.mechanisms.outcome import Orders, Outcome
from gridtokenx_pipelines.market.pairing import unpaired_own
from gridtokenx_pipelines.market.prices import rounded_midpoint
from gridtokenx_pipelines.units import I64_MAX


class Sums(NamedTuple):
    """Wh per wallet number: bought (or bid for) and sold (or offered)."""

    bought: Int64s
    sold: Int64s


def sums_of(orders: Orders, wh: Int64s) -> Sums:
    """Wh per wallet of those that stand on both sides; 0 for the others."""
    if orders.wallet is None or orders.own_meet is None:
        return Sums(np.zeros(0, np.int64), np.zeros(0, np.int64))
    sums = np.zeros((2, int(orders.wallet.max(initial=-1)) + 1), np.int64)
    rows = np.flatnonzero(orders.own_meet)
    np.add.at(sums, (orders.side[rows], orders.wallet[rows]), wh[rows])
    return Sums(sums[0], sums[1])


def cross_wallets(orders: Orders) -> Crossing:
    """`kernel.cross` between different wallets: volume, price and fills (the rule above)."""
    free = cross(orders.is_sell, orders.limit, orders.wh, orders.keys)
    if orders.own_meet is None or free.price_uthb_per_kwh is None:
        return free
    own = sums_of(orders, free.filled)
    too_much = own.bought + own.sold > free.volume_wh
    if not too_much.any():
        return free
    stays = _settled(orders, free.price_uthb_per_kwh, moves=False)
    curve = _Curve(orders, free.price_uthb_per_kwh)
    if curve.volume_at(free.price_uthb_per_kwh) < int(curve.volume.max()):
        moved = _settled(orders, int(curve.levels[np.argmax(curve.volume)]), moves=True)
        others = ~too_much[orders.wallet]
        if (moved.filled[others] >= free.filled[others]).all():
            return moved
    return stays


class _Curve:
    """Largest volume between different wallets at each limit of the book, and at one more price."""

    def __init__(self, orders: Orders, price: int) -> None:
        self.levels, code = np.unique(np.append(orders.limit, price), return_inverse=True)
        code = code.reshape(-1)[:-1].astype(np.int64)
        demand, supply = self._sides(code, orders.wh, orders.is_sell)
        most = np.maximum(demand, supply)
        # a wallet binds only where its own orders cross and make up more than the longer side
        total = sums_of(orders, orders.wh)
        own = np.zeros(len(self.levels), np.int64)
        both = (total.bought > 0) & (total.sold > 0)
        wallets = orders.wallet if orders.wallet is not None else code
        for wallet in np.flatnonzero(both & (total.bought + total.sold > int(most.min()))).tolist():
            rows = np.flatnonzero(wallets == wallet)
            bids, asks = self._sides(code[rows], orders.wh[rows], orders.is_sell[rows])
            np.maximum(own, np.where((bids > 0) & (asks > 0), bids + asks, 0), out=own)
        self.volume = np.minimum(np.minimum(demand, supply), demand + supply - own)

    def _sides(self, code: Int64s, wh: Int64s, is_sell: Bools) -> tuple[Int64s, Int64s]:
        sums = np.zeros(2 * len(self.levels), np.int64)
        np.add.at(sums, code + is_sell * len(self.levels), wh)
        bids, asks = sums.reshape(2, -1)
        return np.cumsum(bids[::-1])[::-1], np.cumsum(asks)

    def volume_at(self, price: int) -> int:
        """Volume at one of the levels."""
        return int(self.volume[np.searchsorted(self.levels, price)])


def _fills(orders: Orders, price: int) -> tuple[Int64s, Int64s]:
    """Fills at a price, and what each row may get at most: its Wh less what only its own wallet could take."""
    eligible = np.where(orders.is_sell, orders.limit <= price, orders.limit >= price)
    offered = orders.wh * eligible
    own = sums_of(orders, offered)
    demand, supply = int(offered[~orders.is_sell].sum()), int(offered[orders.is_sell].sum())
    volume = min(demand, supply)
    both = np.flatnonzero((own.bought > 0) & (own.sold > 0))
    longest = max(both.tolist(), key=lambda wallet: int(own.bought[wallet] + own.sold[wallet]), default=None)
    if longest is not None and own.bought[longest] + own.sold[longest] > max(demand, supply):
        # one wallet has more than all the others: they are served whole, and take of it what they want
        bought, sold = int(own.bought[longest]), int(own.sold[longest])
        volume = demand - bought + supply - sold
        _hold(orders, offered, longest, False, supply - sold)
        _hold(orders, offered, longest, True, demand - bought)
    else:
        is_sell = demand <= supply  # the longer side is the one that is not served whole
        mine, others = (own.sold, own.bought) if is_sell else (own.bought, own.sold)
        for wallet in both[mine[both] + others[both] > volume].tolist():
            _hold(orders, offered, wallet, is_sell, volume - int(others[wallet]))
    filled = np.zeros(len(orders.side), np.int64)
    for side in (~orders.is_sell, orders.is_sell):
        rows = np.flatnonzero(side & (offered > 0))
        filled[rows] = serve(offered[rows], volume, _priority(orders, rows))
    return filled, offered


def _hold(orders: Orders, offered: Int64s, wallet: int, is_sell: bool, most_wh: int) -> None:
    """Cut a wallet's offered Wh on one side, by priority."""
    rows = np.flatnonzero((orders.wallet == wallet) & (orders.is_sell == is_sell) & (offered > 0))
    offered[rows] = serve(offered[rows], most_wh, _priority(orders, rows))


def _priority(orders: Orders, rows: Int64s) -> list[np.ndarray]:
    rank = np.where(orders.is_sell[rows], orders.limit[rows], -orders.limit[rows])
    return [sortable(rank), *orders.keys(rows)]


def _settled(orders: Orders, price: int, *, moves: bool) -> Crossing:
    """Fills at a price; if it `moves`, to where only a wallet's own better orders are left out, to the midpoint."""
    filled, offered = _fills(orders, price)
    seen: set[int] = set()
    while moves and price not in seen:
        seen.add(price)
        better = np.where(orders.is_sell, orders.limit < price, orders.limit > price)
        left = np.flatnonzero(better & (filled < offered))
        if len(left):
            price = int(orders.limit[left[np.argmax(np.abs(orders.limit[left] - price))]])
            filled, offered = _fills(orders, price)
    volume = int(filled[orders.is_sell].sum())
    if not moves or not volume:
        return Crossing(volume, price if volume else None, filled)
    refused = filled < orders.wh
    low = np.where(orders.is_sell, filled > 0, refused & (orders.limit <= price))
    high = np.where(orders.is_sell, refused & (orders.limit >= price), filled > 0)
    lowest, highest = orders.limit.max(where=low, initial=-I64_MAX), orders.limit.min(where=high, initial=I64_MAX)
    return Crossing(volume, int(rounded_midpoint(int(lowest), int(highest))), filled)


def couple_wallets(orders: Orders, couple: Callable[[Orders], Outcome]) -> Outcome:
    """A coupling's outcome between different wallets, for zones of one connected area.

    What a wallet could only trade with itself is taken off both its sides, its least prior orders first: no other
    order, price or flow changes. If another clearing, in which such a wallet offers no more than that on one side,
    trades more and gives no other order less, that one stands; sells are cut before buys.
    """
    best, held = _taken_off(orders, couple(orders))
    if not held:
        return best
    kept, least = sums_of(orders, best.filled), best.filled.copy()
    for wallet in held:
        least[orders.wallet == wallet] = 0
    for is_sell in (True, False):
        wh = orders.wh.copy()
        for wallet in held:
            most = int((kept.sold if is_sell else kept.bought)[wallet])
            rows = np.flatnonzero((orders.wallet == wallet) & (orders.is_sell == is_sell))
            wh[rows] = serve(wh[rows], most, _priority(orders, rows))
        rows = np.flatnonzero(wh > 0)
        part = replace(orders, wh=wh).at(rows)
        found, _ = _taken_off(part, couple(part))
        found = found.in_book(rows, len(orders.side))
        more = int(found.filled[~orders.is_sell].sum()) > int(best.filled[~orders.is_sell].sum())
        if more and (found.filled >= least).all():
            best = found
    return best


def _taken_off(orders: Orders, outcome: Outcome) -> tuple[Outcome, list[int]]:
    """The outcome without what wallets could only trade with themselves, and whose that was."""
    own = unpaired_own(orders, outcome)
    filled = outcome.filled.copy()
    for wallet, wh in own.items():
        for is_sell in (False, True):
            rows = np.flatnonzero((orders.wallet == wallet) & (orders.is_sell == is_sell) & (filled > 0))
            filled[rows] = serve(filled[rows], int(filled[rows].sum()) - wh, _priority(orders, rows))
    return replace(outcome, filled=filled), sorted(own)

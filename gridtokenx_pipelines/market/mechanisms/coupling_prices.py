"""Exact prices of coupled zones from the optimum's structure, as fractions, by bounds and hops (domain §5).

Belongs here: the interval of optimal prices per zone, and one price for each component of coupled zones.
Does not belong here: floats, quantities. Lowest and highest optimal prices are least and greatest fixpoints of
monotone bounds, so each is itself a set of optimal prices, and so is every mean of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.kernel import Bools
from gridtokenx_pipelines.market.mechanisms.coupling import Areas, Floats, Problem
from gridtokenx_pipelines.market.mechanisms.outcome import SELL
from gridtokenx_pipelines.market.prices import rounded_midpoint
from gridtokenx_pipelines.units import PARTS_PER_MILLION

# µTHB/kWh. Zones without orders have an interval too. No optimum needs a price below 0: all energy starts at an ask.
FREE, UNBOUNDED = 0, 10**15
NEAR = 1e-9  # relative; floats closer than this are compared as fractions
SLACK_WH = 1e-4  # a solver's quantity closer than this to a bound is at the bound


class Structure(NamedTuple):
    """Where the optimum lies: per group and arc, the Wh and whether above its lower, below its upper bound."""

    group_wh: Floats
    arc_wh: Floats
    group_some: Bools
    group_less: Bools
    arc_some: Bools
    arc_less: Bools


def structure_of(problem: Problem, group_wh: Floats, arc_wh: Floats) -> Structure:
    """Classify a solver's quantities against their bounds."""
    capacity = np.array([arc.capacity_wh for arc in problem.arcs], np.float64)
    return Structure(
        group_wh,
        arc_wh,
        group_wh > SLACK_WH,
        group_wh < problem.wh - SLACK_WH,
        arc_wh > SLACK_WH,
        arc_wh < capacity - SLACK_WH,
    )


class Hop(NamedTuple):
    """A bound that one zone's price puts on another's: exactly, and nearly as price × scale + shift."""

    target: int
    scale: float
    shift: float
    exact: Callable[[Fraction], Fraction]


class PriceRange:
    """Lowest and highest optimal price per zone index, narrowed as prices are fixed.

    Bounds only ever tighten, so fixing a price starts from the bounds there are and follows the zones it moves.
    """

    def __init__(self, problem: Problem, at: Structure, pinned: Mapping[int, Fraction] | None = None) -> None:
        self.lowest, self.highest = own_bounds(problem, at)
        self._pinned: set[int] = set()
        self._raises: list[list[Hop]] = [[] for _ in range(problem.n_zones)]
        self._lowers: list[list[Hop]] = [[] for _ in range(problem.n_zones)]
        for arc, some, less in zip(problem.arcs, at.arc_some.tolist(), at.arc_less.tolist(), strict=True):
            gain = PARTS_PER_MILLION / arc.kept_ppm
            there = Hop(arc.end, gain, arc.wheeling * gain, arc.price_at_end)
            back = Hop(arc.start, 1 / gain, -arc.wheeling, arc.price_at_start)
            if less:  # sending more must not gain
                self._lowers[arc.start].append(there)
                self._raises[arc.end].append(back)
            if some:  # sending less must not gain
                self._raises[arc.start].append(there)
                self._lowers[arc.end].append(back)
        self._set(pinned or {})
        self._follow(range(problem.n_zones))

    def pin(self, prices: Mapping[int, Fraction]) -> None:
        """Fix zones' prices and narrow the others."""
        self._set(prices)
        self._follow(prices)

    def _set(self, prices: Mapping[int, Fraction]) -> None:
        for zone, price in prices.items():
            self.lowest[zone] = self.highest[zone] = price
        self._pinned.update(prices)

    def _follow(self, zones: Iterable[int]) -> None:
        zones = list(zones)
        for values, hops, sign in ((self.lowest, self._raises, 1), (self.highest, self._lowers, -1)):
            moved = zones
            for _ in range(len(values) + 1):  # no chain of bounds is longer than all zones
                moved = self._round(values, hops, sign, moved)
                if not moved:
                    break

    def _round(self, values: list[Fraction], hops: list[list[Hop]], sign: int, zones: Iterable[int]) -> list[int]:
        moved = set()
        for source in zones:
            value = values[source]
            nearly = float(value)
            for target, scale, shift, exact in hops[source]:
                bound = nearly * scale + shift
                clearly_idle = sign * (bound - float(values[target])) < -NEAR * (1 + abs(bound))
                if clearly_idle or target in self._pinned:
                    continue  # exact fractions are slow, and most hops are far from mattering
                exactly = exact(value)
                if sign * (exactly - values[target]) > 0:
                    values[target] = exactly
                    moved.add(target)
        return sorted(moved)


def own_bounds(problem: Problem, at: Structure) -> tuple[list[Fraction], list[Fraction]]:
    """What each zone's own orders say: accepted asks and refused bids from below, the others from above."""
    sells = problem.side == SELL
    free = FREE if not len(problem.limit) or int(problem.limit.min()) >= 0 else -UNBOUNDED
    lowest, highest = np.full(problem.n_zones, free, np.int64), np.full(problem.n_zones, UNBOUNDED, np.int64)
    below, above = (np.where(sells, *pair) for pair in ((at.group_some, at.group_less), (at.group_less, at.group_some)))
    np.maximum.at(lowest, problem.zone[below], problem.limit[below])
    np.minimum.at(highest, problem.zone[above], problem.limit[above])
    return [Fraction(price) for price in lowest.tolist()], [Fraction(price) for price in highest.tolist()]


def spread(problem: Problem, tree: list[int], anchor: int, price: Fraction) -> dict[int, Fraction]:
    """Prices of an anchor's component: exact fractions along each hop of the tree's arcs."""
    found, frontier = {anchor: price}, [anchor]
    while frontier:
        zone = frontier.pop()
        for place in tree:
            arc = problem.arcs[place]
            if arc.start == zone and arc.end not in found:
                found[arc.end] = arc.price_at_end(found[zone])
                frontier.append(arc.end)
            elif arc.end == zone and arc.start not in found:
                found[arc.start] = arc.price_at_start(found[zone])
                frontier.append(arc.start)
    return found


def exact_prices(problem: Problem, at: Structure, areas: Areas, tree: list[int]) -> tuple[list[Fraction], list[bool]]:
    """Optimal price per zone index, and whether its component trades at all.

    Components with a partly filled order are anchored at its net limit; then, from the lowest zone up, those that
    trade at the rounded midpoint of their interval, kept inside what the prices before it leave; then the idle ones.
    """
    members = areas.members()
    busy_zones = set(problem.zone[at.group_some].tolist())
    for place in np.flatnonzero(at.arc_some).tolist():
        busy_zones |= {problem.arcs[place].start, problem.arcs[place].end}
    pinned: dict[int, Fraction] = {}
    for group in np.flatnonzero(at.group_some & at.group_less).tolist():
        zone = int(problem.zone[group])
        if zone not in pinned:
            pinned |= spread(problem, tree, zone, Fraction(int(problem.limit[group])))
    left = PriceRange(problem, at, pinned)
    lowest, highest = list(left.lowest), list(left.highest)
    busy = [bool(busy_zones.intersection(zones)) for zones in members]
    for trades in (True, False):
        for zones, is_busy in zip(members, busy, strict=True):
            anchor = zones[0]
            if is_busy is not trades or anchor in pinned:
                continue
            wanted = rounded_midpoint(lowest[anchor], highest[anchor])
            price = min(max(Fraction(wanted), left.lowest[anchor]), left.highest[anchor])
            fixed = spread(problem, tree, anchor, price)
            pinned |= fixed
            left.pin(fixed)
    trading = {zone for zones, is_busy in zip(members, busy, strict=True) if is_busy for zone in zones}
    return [pinned[zone] for zone in range(problem.n_zones)], [zone in trading for zone in range(problem.n_zones)]

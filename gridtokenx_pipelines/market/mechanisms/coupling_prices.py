"""Exact prices of coupled zones from the optimum's structure, as fractions, by bounds and hops (domain §5).

Belongs here: the interval of optimal prices per zone, and one price for each component of coupled zones.
Does not belong here: floats, quantities. Lowest and highest optimal prices are least and greatest fixpoints of
monotone bounds, so each is itself a set of optimal prices, and so is every mean of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.mechanisms.coupling import BUY, SELL, Areas, Bools, Floats, Problem
from gridtokenx_pipelines.market.prices import rounded_midpoint

# µTHB/kWh. Zones without orders have an interval too. No optimum needs a price below 0: all energy starts at an ask.
FREE, UNBOUNDED = Fraction(0), Fraction(10**15)
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


class Bounds(NamedTuple):
    """Lowest and highest optimal price per zone index."""

    lowest: list[Fraction]
    highest: list[Fraction]


def own_bounds(problem: Problem, at: Structure) -> Bounds:
    """What each zone's own orders say: accepted asks and refused bids from below, the others from above."""
    lowest, highest = [FREE] * problem.n_zones, [UNBOUNDED] * problem.n_zones
    for side, filled_below, other_below in ((SELL, at.group_some, at.group_less), (BUY, at.group_less, at.group_some)):
        for group in np.flatnonzero((problem.side == side) & filled_below).tolist():
            zone = int(problem.zone[group])
            lowest[zone] = max(lowest[zone], Fraction(int(problem.limit[group])))
        for group in np.flatnonzero((problem.side == side) & other_below).tolist():
            zone = int(problem.zone[group])
            highest[zone] = min(highest[zone], Fraction(int(problem.limit[group])))
    return Bounds(lowest, highest)


def optimal_bounds(problem: Problem, at: Structure, own: Bounds, pinned: dict[int, Fraction]) -> Bounds:
    """Narrow the zones' own bounds through the arcs, given prices already fixed."""
    lowest, highest = list(own.lowest), list(own.highest)
    for zone, price in pinned.items():
        lowest[zone] = highest[zone] = price
    raises: list[tuple[int, int, Callable[[Fraction], Fraction]]] = []
    lowers: list[tuple[int, int, Callable[[Fraction], Fraction]]] = []
    for place, arc in enumerate(problem.arcs):
        if at.arc_less[place]:  # sending more must not gain
            lowers.append((arc.start, arc.end, arc.price_at_end))
            raises.append((arc.end, arc.start, arc.price_at_start))
        if at.arc_some[place]:  # sending less must not gain
            raises.append((arc.start, arc.end, arc.price_at_end))
            lowers.append((arc.end, arc.start, arc.price_at_start))
    for _ in range(problem.n_zones):
        moved = False
        for source, target, hop in raises:
            if target not in pinned and (bound := hop(lowest[source])) > lowest[target]:
                lowest[target], moved = bound, True
        for source, target, hop in lowers:
            if target not in pinned and (bound := hop(highest[source])) < highest[target]:
                highest[target], moved = bound, True
        if not moved:
            break
    return Bounds(lowest, highest)


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
    own = own_bounds(problem, at)
    members = areas.members()
    busy_zones = set(problem.zone[at.group_some].tolist())
    for place in np.flatnonzero(at.arc_some).tolist():
        busy_zones |= {problem.arcs[place].start, problem.arcs[place].end}
    pinned: dict[int, Fraction] = {}
    for group in np.flatnonzero(at.group_some & at.group_less).tolist():
        zone = int(problem.zone[group])
        if zone not in pinned:
            pinned |= spread(problem, tree, zone, Fraction(int(problem.limit[group])))
    whole = optimal_bounds(problem, at, own, pinned)
    busy = [bool(busy_zones.intersection(zones)) for zones in members]
    for trades in (True, False):
        for zones, is_busy in zip(members, busy, strict=True):
            anchor = zones[0]
            if is_busy is not trades or anchor in pinned:
                continue
            wanted = rounded_midpoint(whole.lowest[anchor], whole.highest[anchor])
            left = optimal_bounds(problem, at, own, pinned)
            price = min(max(Fraction(wanted), left.lowest[anchor]), left.highest[anchor])
            pinned |= spread(problem, tree, anchor, price)
    trading = {zone for zones, is_busy in zip(members, busy, strict=True) if is_busy for zone in zones}
    return [pinned[zone] for zone in range(problem.n_zones)], [zone in trading for zone in range(problem.n_zones)]

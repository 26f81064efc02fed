"""Whole Wh for coupled zones from the optimum's structure: flows follow from balances, outermost first (domain §5).

Belongs here: integer fills per group and integer flows per arc that balance every zone to the Wh.
Does not belong here: floats beyond reading the structure, prices.

All orders but the partly filled one are whole; that order takes the rest, then the next by priority. Losses round down
on every link, so the whole Wh can miss the linear optimum by less than one Wh a lossy link; that difference is taken
out of (never added beyond a limit to) the marginal orders of the zone, then of its component. Where a full link can't
be full in whole Wh, as what would feed it is rounded away, it sends less; coupling_check.py holds that to a bound too.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.kernel import Bools
from gridtokenx_pipelines.market.mechanisms.coupling import Problem, forest
from gridtokenx_pipelines.market.mechanisms.coupling_prices import Structure, exact_prices
from gridtokenx_pipelines.market.mechanisms.outcome import BUY, SELL, ClearingCheckError

MOST_REPAIRS = 1_000


class Quantities(NamedTuple):
    """Wh per group and sent Wh per arc; exact price per zone index, and whether the zone's component trades."""

    group_wh: list[int]
    arc_wh: list[int]
    prices: list[Fraction]
    trades: list[bool]


class _Balancer:
    """Balances the components of one optimum; `base` holds each group's Wh before balancing."""

    def __init__(self, problem: Problem, at: Structure) -> None:
        self.problem, self.at = problem, at
        coupled = [place for place in range(len(problem.arcs)) if at.arc_some[place] and at.arc_less[place]]
        areas, in_tree = forest(problem.n_zones, (problem.arcs[place] for place in coupled))
        self.members = areas.members()
        tree = [place for place, joins in zip(coupled, in_tree, strict=True) if joins]
        self.prices, self.trades = exact_prices(problem, at, areas, tree)
        self.base = np.where(at.group_less, at.group_wh.astype(np.int64), problem.wh)
        self.sent = [0] * len(problem.arcs)
        for place in np.flatnonzero(at.arc_some).tolist():
            full = problem.arcs[place].capacity_wh
            self.sent[place] = int(at.arc_wh[place]) if at.arc_less[place] else full
        self.tree: list[list[int]] = [[] for _ in range(problem.n_zones)]
        self.arcs: list[list[int]] = [[] for _ in range(problem.n_zones)]
        for places, lists in ((tree, self.tree), (range(len(problem.arcs)), self.arcs)):
            for place in places:
                lists[problem.arcs[place].start].append(place)
                lists[problem.arcs[place].end].append(place)
        for place in tree:
            self.sent[place] = 0
        partly = np.flatnonzero(at.group_some & at.group_less).tolist()
        self.partly = {int(problem.zone[group]): group for group in reversed(partly)}
        self.fills = self.base.copy()
        self.sign = np.where(problem.side == BUY, -1, 1)
        self.own = np.zeros(problem.n_zones, np.int64)  # Wh sold less bought by the zone's own orders
        np.add.at(self.own, problem.zone, self.fills * self.sign)

    def balance_all(self) -> list[int]:
        """Wh per group with every zone balanced; fills `sent` of the tree's arcs."""
        waiting = list(self.members)
        for _ in range(MOST_REPAIRS):
            if not waiting:
                break
            waiting += self._balance(waiting.pop(0))
        filled: list[int] = self.fills.tolist()
        return filled

    def _balance(self, zones: list[int]) -> list[list[int]]:
        """Balance a component; others that must be balanced again, as a full link to them gave way."""
        problem = self.problem
        roots = [zone for zone in zones if zone in self.partly] or zones[:1]
        path = self._inwards(roots[0])
        again: list[list[int]] = []
        inside = np.isin(problem.zone, np.array(zones))
        base = self.base.copy()
        for _ in range(MOST_REPAIRS):
            stuck, excess = self._sweep(path)
            if not excess:
                return again
            other = self._give_way(zones, excess, wasted=True)
            if other is not None:
                again += [each for each in self.members if other in each and each != zones and each not in again]
                continue
            # nothing in the zone itself could take the Wh: the least prior order on that side gives way, of the zones
            # that the rest of the component reaches through this one
            side = SELL if excess > 0 else BUY
            behind = np.isin(problem.zone, np.array(self._behind(stuck, path)))
            givers = np.flatnonzero(behind & (problem.side == side) & (self.base > 0))
            if not len(givers):
                self.base = base.copy()
                self._refill(inside, zones)
                other = self._give_way(zones, excess, wasted=False)
                if other is None:
                    break
                again += [each for each in self.members if other in each and each != zones and each not in again]
                continue
            giver = int(givers[-1])
            self.base[giver] -= min(abs(excess), int(self.base[giver]))
            self._refill(inside, zones)
        raise ClearingCheckError(
            f"zones {[self.problem.zones[zone] for zone in zones]} could not be balanced to the Wh; "
            "report the book, it is not committed"
        )

    def _refill(self, inside: Bools, zones: list[int]) -> None:
        """Fills of a component's groups as before balancing."""
        self.fills[inside] = self.base[inside]
        self.own[zones] = 0
        np.add.at(self.own, self.problem.zone[inside], (self.fills * self.sign)[inside])

    def _give_way(self, zones: list[int], excess: int, *, wasted: bool) -> int | None:
        """Send a Wh less over a full link out of a component that lacks energy, or into one that has too much.

        `wasted`: only where that Wh would be lost whole. Returns the zone at the other end; None if no link can.
        """
        found = []
        for zone in zones:
            for place in self.arcs[zone]:
                arc, sent = self.problem.arcs[place], self.sent[place]
                if place in self.tree[zone] or not sent or (arc.start if excess < 0 else arc.end) != zone:
                    continue
                arrives = arc.delivered_wh(sent) - arc.delivered_wh(sent - 1)
                if not (wasted and arrives):
                    found.append((arrives, arc.link.loss_ppm == 0, -arc.link.link_id, place))
        if not found:
            return None
        place = min(found)[-1]
        self.sent[place] -= 1
        return self.problem.arcs[place].end if excess < 0 else self.problem.arcs[place].start

    def _inwards(self, root: int) -> list[tuple[int, int | None]]:
        """(zone, arc towards the root), outermost first."""
        order: list[tuple[int, int | None]] = [(root, None)]
        seen, place = {root}, 0
        while place < len(order):
            zone = order[place][0]
            for arc_place in self.tree[zone]:
                arc = self.problem.arcs[arc_place]
                other = arc.end if arc.start == zone else arc.start
                if other not in seen:
                    seen.add(other)
                    order.append((other, arc_place))
            place += 1
        return order[::-1]

    def _behind(self, stuck: int, path: list[tuple[int, int | None]]) -> list[int]:
        """The zone and those farther out."""
        found = {stuck}
        for zone, towards in reversed(path):
            if towards is not None:
                arc = self.problem.arcs[towards]
                if (arc.end if arc.start == zone else arc.start) in found:
                    found.add(zone)
        return sorted(found)

    def _sweep(self, path: list[tuple[int, int | None]]) -> tuple[int, int]:
        """Flows from the balances of one component; the first zone whose excess could not be placed, and that, or 0."""
        for _, towards in path:
            if towards is not None:
                self.sent[towards] = 0
        for zone, towards in path:
            excess = self._excess(zone)
            if towards is not None:
                arc = self.problem.arcs[towards]
                if arc.start == zone:
                    self.sent[towards] = min(max(excess, 0), arc.capacity_wh)
                else:
                    wanted = min(max(-excess, 0), arc.delivered_wh(arc.capacity_wh))
                    self.sent[towards] = arc.sent_for(wanted)
                excess = self._excess(zone)
            excess = self._absorb(zone, excess)
            if excess:
                return zone, excess
        return path[-1][0], 0

    def _excess(self, zone: int) -> int:
        """Wh of the zone sold and arriving, less bought and sent away."""
        total = int(self.own[zone])
        for place in self.arcs[zone]:
            arc, sent = self.problem.arcs[place], self.sent[place]
            if sent:
                total += arc.delivered_wh(sent) if arc.end == zone else -sent
        return total

    def _absorb(self, zone: int, excess: int) -> int:
        """Place a zone's excess (or lack) with its partly filled order, other orders at the price, then by cuts."""
        if not excess:
            return 0
        problem, here = self.problem, self.problem.zone == zone
        grow = np.flatnonzero(here & (problem.side == (BUY if excess > 0 else SELL))).tolist()
        shrink = np.flatnonzero(here & (problem.side == (SELL if excess > 0 else BUY))).tolist()
        at_price = [group for group in grow if int(problem.limit[group]) == self.prices[zone]]
        steps = [(group, True) for group in at_price] + [(group, False) for group in reversed(shrink)]
        if zone in self.partly:
            first = self.partly[zone]
            steps.insert(0, (first, first in grow))
        for group, grows in steps:
            filled = int(self.fills[group])
            taken = min(abs(excess), int(problem.wh[group]) - filled if grows else filled)
            self._change(zone, group, taken if grows else -taken)
            excess += -taken if excess > 0 else taken
            if not excess:
                break
        return excess

    def _change(self, zone: int, group: int, wh: int) -> None:
        self.fills[group] += wh
        self.own[zone] += wh * int(self.sign[group])


def whole_quantities(problem: Problem, at: Structure) -> Quantities:
    """Integer quantities and exact prices of an optimum. Raises ClearingCheckError if a component can't be balanced."""
    balancer = _Balancer(problem, at)
    return Quantities(balancer.balance_all(), balancer.sent, balancer.prices, balancer.trades)

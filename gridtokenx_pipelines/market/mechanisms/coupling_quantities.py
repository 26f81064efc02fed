"""Whole Wh for coupled zones from the optimum's structure: flows follow from balances, outermost first (domain §5).

Belongs here: integer fills per group and integer flows per arc that balance every zone to the Wh.
Does not belong here: floats beyond reading the structure, prices.

All orders but the partly filled one are whole; that order takes the rest, then the next by priority. Losses round down
on every link, so the whole Wh can miss the linear optimum by less than one Wh a lossy link; that difference is taken
out of (never added beyond a limit to) the marginal orders of the zone, then of its component.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.market.mechanisms.coupling import BUY, SELL, Problem, forest
from gridtokenx_pipelines.market.mechanisms.coupling_prices import Structure, exact_prices
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingCheckError

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
        self.tree = [place for place, joins in zip(coupled, in_tree, strict=True) if joins]
        self.prices, self.trades = exact_prices(problem, at, areas, self.tree)
        self.base = [
            int(wh + 0.5) if not less else int(wh) for wh, less in zip(at.group_wh, at.group_less, strict=True)
        ]
        self.sent = [0] * len(problem.arcs)
        for place in np.flatnonzero(at.arc_some).tolist():
            if place not in self.tree:
                full = problem.arcs[place].capacity_wh
                self.sent[place] = int(at.arc_wh[place]) if at.arc_less[place] else full
        partly = np.flatnonzero(at.group_some & at.group_less).tolist()
        self.partly = {int(problem.zone[group]): group for group in reversed(partly)}
        self.sides = [
            [np.flatnonzero((problem.zone == zone) & (problem.side == side)).tolist() for side in (BUY, SELL)]
            for zone in range(problem.n_zones)
        ]

    def balance_all(self) -> list[int]:
        """Wh per group with every zone balanced; fills `sent` of the tree's arcs."""
        fills = list(self.base)
        for zones in self.members:
            self._balance(zones, fills)
        return fills

    def _balance(self, zones: list[int], fills: list[int]) -> None:
        roots = [zone for zone in zones if zone in self.partly] or zones[:1]
        path = self._inwards(zones, roots[0])
        for _ in range(MOST_REPAIRS):
            excess = self._sweep(path, fills)
            if not excess:
                return
            # nothing in the zone itself could take the Wh: the component's least prior order on that side gives way
            side = SELL if excess > 0 else BUY
            givers = [group for member in zones for group in self.sides[member][side] if self.base[group] > 0]
            if not givers:
                break
            giver = max(givers)
            self.base[giver] -= min(abs(excess), self.base[giver])
            for member in zones:
                for group in (*self.sides[member][BUY], *self.sides[member][SELL]):
                    fills[group] = self.base[group]
        raise ClearingCheckError(
            f"zones {[self.problem.zones[zone] for zone in zones]} could not be balanced to the Wh; "
            "report the book, it is not committed"
        )

    def _inwards(self, zones: list[int], root: int) -> list[tuple[int, int | None]]:
        """(zone, arc towards the root), outermost first."""
        order: list[tuple[int, int | None]] = [(root, None)]
        seen, place = {root}, 0
        while place < len(order):
            zone = order[place][0]
            for arc_place in self.tree:
                arc = self.problem.arcs[arc_place]
                other = arc.end if arc.start == zone else arc.start if arc.end == zone else zone
                if other not in seen:
                    seen.add(other)
                    order.append((other, arc_place))
            place += 1
        return order[::-1]

    def _sweep(self, path: list[tuple[int, int | None]], fills: list[int]) -> int:
        """Flows from the balances of one component; the first zone's excess that could not be placed, or 0."""
        for _, towards in path:
            if towards is not None:
                self.sent[towards] = 0
        for zone, towards in path:
            excess = self._excess(zone, fills)
            if towards is not None:
                arc = self.problem.arcs[towards]
                if arc.start == zone:
                    self.sent[towards] = min(max(excess, 0), arc.capacity_wh)
                else:
                    wanted = min(max(-excess, 0), arc.delivered_wh(arc.capacity_wh))
                    self.sent[towards] = arc.sent_for(wanted)
                excess = self._excess(zone, fills)
            excess = self._absorb(zone, excess, fills)
            if excess:
                return excess
        return 0

    def _excess(self, zone: int, fills: list[int]) -> int:
        """Wh of the zone sold and arriving, less bought and sent away."""
        buys, sells = self.sides[zone]
        total = sum(fills[group] for group in sells) - sum(fills[group] for group in buys)
        for arc, sent in zip(self.problem.arcs, self.sent, strict=True):
            if sent and arc.end == zone:
                total += arc.delivered_wh(sent)
            elif sent and arc.start == zone:
                total -= sent
        return total

    def _absorb(self, zone: int, excess: int, fills: list[int]) -> int:
        """Place a zone's excess (or lack) with its partly filled order, other orders at the price, then by cuts."""
        problem, (buys, sells) = self.problem, self.sides[zone]
        grow, shrink = (buys, sells) if excess > 0 else (sells, buys)
        at_price = [group for group in grow if int(problem.limit[group]) == self.prices[zone]]
        steps = [(group, True) for group in at_price] + [(group, False) for group in reversed(shrink)]
        if zone in self.partly:
            first = self.partly[zone]
            steps.insert(0, (first, first in grow))
        for group, grows in steps:
            room = int(problem.wh[group]) - fills[group] if grows else fills[group]
            taken = min(abs(excess), room)
            fills[group] += taken if grows else -taken
            excess += -taken if excess > 0 else taken
        return excess


def whole_quantities(problem: Problem, at: Structure) -> Quantities:
    """Integer quantities and exact prices of an optimum. Raises ClearingCheckError if a component can't be balanced."""
    balancer = _Balancer(problem, at)
    fills = balancer.balance_all()
    return Quantities(fills, balancer.sent, balancer.prices, balancer.trades)

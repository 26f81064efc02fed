"""The strict check of a coupled result in integers: what a solver found is believed only after this (domain §5).

Belongs here: balance per zone to the Wh, capacities, limits, complementary slackness. Does not belong here: repairing.
Slackness is held to one µTHB a hop, and to one Wh a zone and for each lossy link at it: losses round down per link.
What they round away adds up along a component of coupled zones, where its partly filled order takes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridtokenx_pipelines.market.mechanisms.coupling import Arc, Problem, forest
from gridtokenx_pipelines.market.mechanisms.outcome import BUY, ClearingCheckError
from gridtokenx_pipelines.units import PARTS_PER_MILLION


def check(problem: Problem, group_wh: Sequence[int], arc_wh: Sequence[int], prices: Sequence[int]) -> None:
    """Raise ClearingCheckError unless fills, flows and whole prices (also of idle zones) are an equilibrium."""
    _check_quantities(problem, group_wh, arc_wh)
    rounded, slack = _slack_wh(problem, arc_wh, prices)
    _check_orders(problem, group_wh, prices, slack)
    _check_arcs(problem, arc_wh, prices, rounded)


def _fail(what: str, value: object, bound: object) -> None:
    raise ClearingCheckError(f"{what} was {value}, must be {bound}; the result is not committed, report the book")


def _check_quantities(problem: Problem, group_wh: Sequence[int], arc_wh: Sequence[int]) -> None:
    filled = np.array(group_wh, np.int64)
    for group in np.flatnonzero((filled < 0) | (filled > problem.wh)).tolist():
        _fail(f"fill of group {group}", group_wh[group], f"0…{problem.wh[group]} Wh")
    sums = np.zeros(problem.n_zones, np.int64)
    np.add.at(sums, problem.zone, np.where(problem.side == BUY, -filled, filled))
    balance = sums.tolist()
    used: set[int] = set()
    for arc, sent in zip(problem.arcs, arc_wh, strict=True):
        if not 0 <= sent <= arc.capacity_wh:
            _fail(f"flow over link {arc.link.link_id}", sent, f"0…{arc.capacity_wh} Wh")
        if sent and arc.link.link_id in used:
            _fail(f"link {arc.link.link_id}", "sending both ways", "used in one direction an epoch")
        if sent:
            used.add(arc.link.link_id)
        balance[arc.start] -= sent
        balance[arc.end] += arc.delivered_wh(sent)
    for zone, excess in zip(problem.zones, balance, strict=True):
        if excess:
            _fail(f"balance of zone {zone}", f"{excess} Wh", "0")


def _slack_wh(problem: Problem, arc_wh: Sequence[int], prices: Sequence[int]) -> tuple[list[int], list[int]]:
    """Wh per zone that rounding can take from its component: of lossy links alone, and with one for each zone."""
    rounded, slack = [0] * problem.n_zones, [0] * problem.n_zones
    lossy = {arc.link.link_id: (arc.start, arc.end) for arc in problem.arcs if arc.link.loss_ppm}
    for ends in lossy.values():
        for zone in ends:
            rounded[zone] += 1
    coupled = (
        arc
        for arc, sent in zip(problem.arcs, arc_wh, strict=True)
        if sent and abs(_gain(arc, prices)) <= PARTS_PER_MILLION
    )
    for zones in forest(problem.n_zones, coupled)[0].members():
        together = sum(rounded[zone] for zone in zones)
        for zone in zones:
            rounded[zone], slack[zone] = together, together + len(zones)
    return rounded, slack


def _gain(arc: Arc, prices: Sequence[int]) -> int:
    """What a kWh sent over the arc gains, in ppm of a µTHB."""
    return prices[arc.end] * arc.kept_ppm - (prices[arc.start] + arc.wheeling) * PARTS_PER_MILLION


def _check_orders(problem: Problem, group_wh: Sequence[int], prices: Sequence[int], slack: Sequence[int]) -> None:
    filled, price = np.array(group_wh, np.int64), np.array(prices, np.int64)[problem.zone]
    gains = np.where(problem.side == BUY, problem.limit - price, price - problem.limit)
    for group in np.flatnonzero((filled > 0) & (gains < 0)).tolist():
        zone, limit = problem.zones[int(problem.zone[group])], int(problem.limit[group])
        _fail(f"net limit {limit} of a filled order in zone {zone}", f"{-gains[group]} µTHB worse", "met")
    left_out = np.zeros(problem.n_zones, np.int64)
    np.add.at(left_out, problem.zone, np.where(gains >= 1, problem.wh - filled, 0))
    unserved: list[int] = left_out.tolist()
    for zone, wh in enumerate(unserved):
        if wh > slack[zone]:
            _fail(f"energy left out at a gain in zone {problem.zones[zone]}", f"{wh} Wh", f"at most {slack[zone]} Wh")


def _check_arcs(problem: Problem, arc_wh: Sequence[int], prices: Sequence[int], rounded: Sequence[int]) -> None:
    for arc, sent in zip(problem.arcs, arc_wh, strict=True):
        gain = _gain(arc, prices)
        # a link that gains is full, but for what other lossy links round away that feed it or that it feeds
        away = max(rounded[arc.start], rounded[arc.end]) - (arc.link.loss_ppm > 0)
        least = arc.capacity_wh - max(away, 0)
        if gain > PARTS_PER_MILLION and sent < least:
            _fail(f"flow over link {arc.link.link_id} that gains {gain} ppm µTHB/kWh", sent, f"at least {least} Wh")
        if gain < -PARTS_PER_MILLION and sent > 0:
            _fail(f"flow over link {arc.link.link_id} that loses {-gain} ppm µTHB/kWh", sent, "0 Wh")

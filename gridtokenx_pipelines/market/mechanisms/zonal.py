"""Zonal coupling: zones balance, energy flows over links with capacity, wheeling and loss (domain §5).

Belongs here: the way from a book to a checked result. Does not belong here: its steps (coupling*.py).
Zones that no usable link reaches clear as `uniform` does, without a solver.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from math import floor

import numpy as np

from gridtokenx_pipelines.market.kernel import Int64s, serve
from gridtokenx_pipelines.market.mechanisms.coupling import Problem, arcs_of, forest, problem_of
from gridtokenx_pipelines.market.mechanisms.coupling_check import check
from gridtokenx_pipelines.market.mechanisms.coupling_program import find_optimum
from gridtokenx_pipelines.market.mechanisms.coupling_quantities import whole_quantities
from gridtokenx_pipelines.market.mechanisms.outcome import Flow, Orders, Outcome
from gridtokenx_pipelines.market.mechanisms.selftrade import couple_wallets, cross_wallets
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.units import value_ceil_uthb


def clear(orders: Orders, network: Network) -> Outcome:
    """Clear all zones together. Raises ClearingCheckError rather than returning a result that does not check."""
    filled = np.zeros(len(orders.side), np.int64)
    prices: dict[int, int | None] = {zone.zone_id: None for zone in network.zones}
    flows: dict[int, Flow] = {link.link_id: Flow(link, link.from_zone, link.to_zone, 0, 0, 0) for link in network.links}
    for zones, rows in _areas(orders, network):
        part = orders if rows is None else orders.at(rows)
        if part.is_sell.all() or not part.is_sell.any():
            continue  # nobody to trade with in this area
        if len(zones) == 1:
            alone = cross_wallets(part)
            prices[zones[0]] = alone.price_uthb_per_kwh
            filled[slice(None) if rows is None else rows] = alone.filled
            continue
        inside = tuple(zone for zone in network.zones if zone.zone_id in zones)
        links = tuple(link for link in network.links if link.from_zone in zones and link.to_zone in zones)
        couple = partial(_coupled, network=Network(zones=inside, links=links))
        found = couple(part) if part.own_meet is None else couple_wallets(part, couple)
        filled[slice(None) if rows is None else rows] = found.filled
        flows |= {flow.link.link_id: flow for flow in found.flows}
        prices |= found.prices
    return Outcome(filled, prices, [flows[link_id] for link_id in sorted(flows)])


def _areas(orders: Orders, network: Network) -> Iterator[tuple[list[int], Int64s | None]]:
    """Zones joined by usable links, with their rows of the book (None: all of them)."""
    zones, arcs = arcs_of(network)
    areas, _ = forest(len(zones), arcs)
    members = areas.members()
    if len(members) == 1:
        yield list(zones), None
        return
    number = np.zeros(len(zones), np.int64)
    for place, inside in enumerate(members):
        number[inside] = place
    area = number[np.searchsorted(np.array(zones, np.int64), orders.zone)]
    order = np.argsort(area, kind="stable")
    ends = np.searchsorted(area[order], np.arange(len(members) + 1))
    for inside, (start, end) in zip(members, pairwise(ends), strict=True):
        if start < end:
            yield [zones[zone] for zone in inside], order[start:end]


def _coupled(orders: Orders, network: Network) -> Outcome:
    problem = problem_of(orders, network)
    whole = whole_quantities(problem, find_optimum(problem, orders))
    prices = [floor(price) for price in whole.prices]
    check(problem, whole.group_wh, whole.arc_wh, prices)
    flows = [
        Flow(
            arc.link,
            problem.zones[arc.start],
            problem.zones[arc.end],
            sent,
            arc.delivered_wh(sent),
            value_ceil_uthb(sent, arc.wheeling),
        )
        for arc, sent in zip(problem.arcs, whole.arc_wh, strict=True)
        if sent
    ]
    published = {
        zone: price if trades else None for zone, price, trades in zip(problem.zones, prices, whole.trades, strict=True)
    }
    return Outcome(_to_orders(problem, orders, np.array(whole.group_wh, np.int64)), published, flows)


def _to_orders(problem: Problem, orders: Orders, group_wh: Int64s) -> Int64s:
    """Serve the orders of each group in priority order."""
    filled: Int64s = orders.wh * (group_wh == problem.wh)[problem.group_of]
    partly = (group_wh > 0) & (group_wh < problem.wh)
    rows = np.flatnonzero(partly[problem.group_of])
    rows = rows[np.argsort(problem.group_of[rows], kind="stable")]
    groups, starts = np.unique(problem.group_of[rows], return_index=True)
    for group, mine in zip(groups.tolist(), np.split(rows, starts[1:]), strict=False):
        filled[mine] = serve(orders.wh[mine], int(group_wh[group]), orders.keys(mine))
    return filled

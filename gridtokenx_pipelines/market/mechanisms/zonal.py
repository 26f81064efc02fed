"""Zonal coupling: zones balance, energy flows over links with capacity, wheeling and loss (domain §5).

Belongs here: the way from a book to a checked result. Does not belong here: its steps (coupling*.py).
Zones that no usable link reaches clear as `uniform` does, without a solver.
"""

from __future__ import annotations

from math import floor

import numpy as np

from gridtokenx_pipelines.market.mechanisms.coupling import BUY, SELL, Problem, forest, problem_of
from gridtokenx_pipelines.market.mechanisms.coupling_check import check
from gridtokenx_pipelines.market.mechanisms.coupling_program import find_optimum
from gridtokenx_pipelines.market.mechanisms.coupling_quantities import whole_quantities
from gridtokenx_pipelines.market.mechanisms.outcome import Flow, Int64s, Orders, Outcome
from gridtokenx_pipelines.market.mechanisms.uniform import cross, fill
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.units import value_ceil_uthb


def clear(orders: Orders, network: Network) -> Outcome:
    """Clear all zones together. Raises ClearingCheckError rather than returning a result that does not check."""
    problem = problem_of(orders, network)
    areas, _ = forest(problem.n_zones, problem.arcs)
    filled = np.zeros(len(orders.side), np.int64)
    prices: dict[int, int | None] = {zone: None for zone in problem.zones}
    flows: dict[int, Flow] = {link.link_id: Flow(link, link.from_zone, link.to_zone, 0, 0, 0) for link in network.links}
    for members in areas.members():
        zones = [problem.zones[zone] for zone in members]
        rows = np.flatnonzero(np.isin(orders.zone, np.array(zones)))
        if len(np.unique(orders.side[rows])) < len((BUY, SELL)):
            continue  # nobody to trade with in this area
        part = _rows_of(orders, rows)
        if len(zones) == 1:
            filled[rows], prices[zones[0]] = _alone(part)
            continue
        inside = tuple(zone for zone in network.zones if zone.zone_id in zones)
        links = tuple(link for link in network.links if link.from_zone in zones and link.to_zone in zones)
        filled[rows], found, sent = _coupled(part, Network(zones=inside, links=links))
        prices |= found
        flows |= {flow.link.link_id: flow for flow in sent}
    return Outcome(filled, prices, [flows[link_id] for link_id in sorted(flows)])


def _rows_of(orders: Orders, rows: Int64s) -> Orders:
    ids = [orders.order_id[row] for row in rows.tolist()]
    return Orders(orders.side[rows], orders.zone[rows], orders.wh[rows], orders.limit[rows], orders.time_us[rows], ids)


def _alone(orders: Orders) -> tuple[Int64s, int | None]:
    buys, sells = orders.of_side(BUY), orders.of_side(SELL)
    result = cross(orders.limit[buys], orders.wh[buys], orders.limit[sells], orders.wh[sells])
    filled = np.zeros(len(orders.side), np.int64)
    filled[buys], filled[sells] = result.bought, result.sold
    return filled, result.price_uthb_per_kwh


def _coupled(orders: Orders, network: Network) -> tuple[Int64s, dict[int, int | None], list[Flow]]:
    problem = problem_of(orders, network)
    whole = whole_quantities(problem, find_optimum(problem, orders.wh))
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
    return _to_orders(problem, orders, whole.group_wh), published, flows


def _to_orders(problem: Problem, orders: Orders, group_wh: list[int]) -> Int64s:
    """Serve the orders of each group in priority order."""
    filled = np.zeros(len(orders.side), np.int64)
    for group in np.flatnonzero(np.array(group_wh) > 0).tolist():
        rows = np.flatnonzero(problem.group_of == group)
        filled[rows] = fill(orders.wh[rows], group_wh[group])
    return filled

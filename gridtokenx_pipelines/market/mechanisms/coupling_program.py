"""The optimum of zonal coupling, and its lexicographic refinement where it is not unique (domain §5).

Belongs here: which optimum it is. Does not belong here: the solver (coupling_solver.py), anything that is settled; what
is settled is computed in integers from the structure found here, and checked.

Most welfare first. If the optimum's free columns (orders and links exactly at the price) leave a choice, the choice
is narrowed on that face alone: largest volume, least sent, marginal orders by priority, lowest flow by link id.
"""

from __future__ import annotations

import numpy as np

from gridtokenx_pipelines.market.kernel import Bools
from gridtokenx_pipelines.market.mechanisms.coupling import Floats, Problem, forest
from gridtokenx_pipelines.market.mechanisms.coupling_prices import PriceRange, Structure, structure_of
from gridtokenx_pipelines.market.mechanisms.coupling_solver import Program, most_welfare, program_of
from gridtokenx_pipelines.market.mechanisms.outcome import BUY, SELL, Orders

DUAL_TOLERANCE = 1e-7


def find_optimum(problem: Problem, orders: Orders) -> Structure:
    """The lexicographic optimum's structure."""
    n_groups = len(problem.zone)
    program = program_of(problem, problem.zone, problem.side, problem.wh)
    wheeling = np.array([arc.wheeling for arc in problem.arcs], np.float64)
    found = most_welfare(problem, program, wheeling)
    at = structure_of(problem, found[:n_groups], found[n_groups:])
    free = _free_columns(problem, at)
    if _is_settled(problem, free):
        return at
    program = _pin(program, found, ~free)
    is_buy = np.concatenate([problem.side == BUY, np.zeros(len(problem.arcs), bool)])
    is_arc = np.arange(len(free)) >= n_groups
    for cost in (np.where(is_buy, -1.0, 0.0), np.where(is_arc, 1.0, 0.0)):
        if not (free & (cost != 0)).any():
            continue
        found, reduced, _ = program.solve(cost)
        decided = free & (np.abs(reduced) > DUAL_TOLERANCE)
        program, free = _pin(program, found, decided), free & ~decided
        if _is_settled(problem, free):
            return structure_of(problem, found[:n_groups], found[n_groups:])
    for side in (BUY, SELL):
        rivals = free[:n_groups] & (problem.side == side)
        if rivals.sum() > 1:
            found = _by_priority(problem, program, rivals, orders)
            decided = np.concatenate([rivals, np.zeros(len(problem.arcs), bool)])
            program, free = _pin(program, found, decided), free & ~decided
    return structure_of(problem, *_by_link_id(problem, program, free, found))


def _free_columns(problem: Problem, at: Structure) -> Bools:
    """Columns exactly at the price: only they can differ between two optima, whatever optimal prices are taken."""
    bounds = PriceRange(problem, at)
    price = [(low + high) / 2 for low, high in zip(bounds.lowest, bounds.highest, strict=True)]
    is_whole = np.array([value.denominator == 1 for value in price], np.bool_)
    whole_price = np.array([int(value) for value in price], np.int64)
    groups = is_whole[problem.zone] & (problem.limit == whole_price[problem.zone])
    arcs = np.array([price[arc.end] == arc.price_at_end(price[arc.start]) for arc in problem.arcs], bool)
    between = np.concatenate([at.group_some & at.group_less, at.arc_some & at.arc_less])
    free: Bools = np.concatenate([groups, arcs]) | between
    return free


def _is_settled(problem: Problem, free: Bools) -> bool:
    """Whether the free columns leave no choice: no cycle of links, at most one group of orders in each area."""
    n_groups = len(problem.zone)
    areas, in_tree = forest(problem.n_zones, (problem.arcs[place] for place in np.flatnonzero(free[n_groups:])))
    roots = [areas.find(int(zone)) for zone in problem.zone[free[:n_groups]]]
    return all(in_tree) and len(roots) == len(set(roots))


def _pin(program: Program, found: Floats, columns: Bools) -> Program:
    """Hold columns where they are, a hair wide so that rounding in the solver can't make it infeasible."""
    near_low, near_high = np.abs(found - program.lower) < 1e-6, np.abs(found - program.upper) < 1e-6
    lower = np.where(columns, np.where(near_low, program.lower, np.maximum(found - 1e-6, program.lower)), program.lower)
    upper = np.where(
        columns, np.where(near_high, program.upper, np.minimum(found + 1e-6, program.upper)), program.upper
    )
    lower = np.where(columns & near_high, program.upper, lower)
    upper = np.where(columns & near_low, program.lower, upper)
    return Program(program.matrix, lower, np.maximum(lower, upper))


def _by_priority(
    problem: Problem,
    program: Program,
    rivals: Bools,
    orders: Orders,
) -> Floats:
    """Serve the marginal orders of all zones by priority: single orders with falling weights.

    Without losses the feasible fills of one side form a polymatroid, on which falling weights give exactly the order
    by order choice; with losses (an exact tie across a lossy link) they are a deterministic stand-in for it.
    """
    order_group, order_wh = problem.group_of, orders.wh
    rows = orders.by_priority(np.flatnonzero(rivals[order_group]))
    n_groups, others = len(problem.zone), np.flatnonzero(~rivals)
    split = program_of(
        problem,
        np.concatenate([problem.zone[order_group[rows]], problem.zone[others]]),
        np.concatenate([problem.side[order_group[rows]], problem.side[others]]),
        np.concatenate([order_wh[rows], problem.wh[others]]),
    )
    lower = np.concatenate([np.zeros(len(rows)), program.lower[:n_groups][others], program.lower[n_groups:]])
    upper = np.concatenate([order_wh[rows], program.upper[:n_groups][others], program.upper[n_groups:]])
    weight = np.zeros(len(lower))
    weight[: len(rows)] = -np.linspace(2.0, 1.0, len(rows))
    found = Program(split.matrix, lower, upper).solve(weight).x
    groups = np.zeros(n_groups)
    np.add.at(groups, order_group[rows], found[: len(rows)])
    groups[others] = found[len(rows) : len(rows) + len(others)]
    return np.concatenate([groups, found[len(rows) + len(others) :]])


def _by_link_id(problem: Problem, program: Program, free: Bools, found: Floats) -> tuple[Floats, Floats]:
    """Lowest flow over the first free link, then the next, until flows can't differ."""
    n_groups = len(problem.zone)
    link_of = np.concatenate([np.full(n_groups, -1), [arc.link.link_id for arc in problem.arcs]])
    for link_id in np.unique(link_of[n_groups:][free[n_groups:]]).tolist():
        if _is_settled(problem, free):
            break
        mine = free & (link_of == link_id)
        found = program.solve(mine.astype(np.float64)).x
        program, free = _pin(program, found, mine), free & ~mine
    return found[:n_groups], found[n_groups:]

"""The linear program of zonal coupling, and its lexicographic refinement where the optimum is not unique (domain §5).

Belongs here: finding the optimum with a float solver (HiGHS). Does not belong here: anything that is settled; what is
settled is computed in integers from the structure found here, and checked.

Most welfare first. If the optimum's free columns (orders and links exactly at the price) leave a choice, the choice
is narrowed on that face alone: largest volume, least sent, marginal orders by priority, lowest flow by link id.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog  # type: ignore[import-untyped]
from scipy.sparse import csc_array  # type: ignore[import-untyped]

from gridtokenx_pipelines.market.mechanisms.coupling import BUY, SELL, Bools, Floats, Problem, forest
from gridtokenx_pipelines.market.mechanisms.coupling_prices import (
    Structure,
    optimal_bounds,
    own_bounds,
    structure_of,
)
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingCheckError, Int64s
from gridtokenx_pipelines.units import PARTS_PER_MILLION

PRICE_SCALE = 1_000.0  # costs of some thousands keep HiGHS's absolute tolerance of 1e-7 far below one µTHB
DUAL_TOLERANCE = 1e-7


class Program(NamedTuple):
    """Columns: the groups (or single orders), then the arcs; one balance row per zone."""

    matrix: csc_array
    lower: Floats
    upper: Floats

    def solve(self, cost: Floats) -> tuple[Floats, Floats]:
        """Least cost: quantities and reduced costs. Raises ClearingCheckError if the solver finds no optimum."""
        found = linprog(
            cost,
            A_eq=self.matrix,
            b_eq=np.zeros(self.matrix.shape[0]),
            bounds=np.stack([self.lower, self.upper], axis=1),
            method="highs-ds",
        )
        if found.status != 0:
            raise ClearingCheckError(f"solver ended with status {found.status}: {found.message}")
        return found.x, found.lower.marginals + found.upper.marginals


def program_of(problem: Problem, zone: Int64s, side: Int64s, wh: Int64s) -> Program:
    """Balance per zone: bought − sold + sent − delivered = 0."""
    n_columns, n_arcs = len(zone), len(problem.arcs)
    starts = np.array([arc.start for arc in problem.arcs], np.int64)
    ends = np.array([arc.end for arc in problem.arcs], np.int64)
    kept = np.array([arc.kept_ppm / PARTS_PER_MILLION for arc in problem.arcs], np.float64)
    arc_columns = np.arange(n_columns, n_columns + n_arcs)
    matrix = csc_array(
        (
            np.concatenate([np.where(side == BUY, 1.0, -1.0), np.ones(n_arcs), -kept]),
            (
                np.concatenate([zone, starts, ends]),
                np.concatenate([np.arange(n_columns), arc_columns, arc_columns]),
            ),
        ),
        shape=(problem.n_zones, n_columns + n_arcs),
    )
    upper = np.concatenate([wh, [arc.capacity_wh for arc in problem.arcs]]).astype(np.float64)
    return Program(matrix, np.zeros(n_columns + n_arcs), upper)


def find_optimum(problem: Problem, order_wh: Int64s) -> Structure:
    """The lexicographic optimum's structure; `order_wh`: Wh of the book's rows, in priority order per side."""
    n_groups = len(problem.zone)
    program = program_of(problem, problem.zone, problem.side, problem.wh)
    wheeling = np.array([arc.wheeling for arc in problem.arcs], np.float64)
    welfare = np.concatenate([np.where(problem.side == BUY, -problem.limit, problem.limit), wheeling]) / PRICE_SCALE
    found, _ = program.solve(welfare)
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
        found, reduced = program.solve(cost)
        decided = free & (np.abs(reduced) > DUAL_TOLERANCE)
        program, free = _pin(program, found, decided), free & ~decided
        if _is_settled(problem, free):
            return structure_of(problem, found[:n_groups], found[n_groups:])
    for side in (BUY, SELL):
        rivals = free[:n_groups] & (problem.side == side)
        if rivals.sum() > 1:
            found = _by_priority(problem, program, rivals, order_wh)
            decided = np.concatenate([rivals, np.zeros(len(problem.arcs), bool)])
            program, free = _pin(program, found, decided), free & ~decided
    return structure_of(problem, *_by_link_id(problem, program, free, found))


def _free_columns(problem: Problem, at: Structure) -> Bools:
    """Columns exactly at the price: only they can differ between two optima, whatever optimal prices are taken."""
    bounds = optimal_bounds(problem, at, own_bounds(problem, at), {})
    price = [(low + high) / 2 for low, high in zip(bounds.lowest, bounds.highest, strict=True)]
    zone_price = {zone: int(value) for zone, value in enumerate(price) if value.denominator == 1}
    whole_price = np.array([zone_price.get(zone, -1) for zone in range(problem.n_zones)], np.int64)
    groups = problem.limit == whole_price[problem.zone]
    arcs = np.array([price[arc.end] == arc.price_at_end(price[arc.start]) for arc in problem.arcs], bool)
    between = np.concatenate([at.group_some & at.group_less, at.arc_some & at.arc_less])
    free: Bools = np.concatenate([groups, arcs]) | between
    return free


def _is_settled(problem: Problem, free: Bools) -> bool:
    """Whether the free columns leave no choice: no cycle of links, at most one group of orders in each area."""
    n_groups = len(problem.zone)
    areas, in_tree = forest(problem.n_zones, (arc for place, arc in enumerate(problem.arcs) if free[n_groups + place]))
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
    order_wh: Int64s,
) -> Floats:
    """Serve the marginal orders of all zones by priority: single orders with falling weights.

    Without losses the feasible fills of one side form a polymatroid, on which falling weights give exactly the order
    by order choice; with losses (an exact tie across a lossy link) they are a deterministic stand-in for it.
    """
    order_group = problem.group_of
    rows = np.flatnonzero(rivals[order_group])
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
    found, _ = Program(split.matrix, lower, upper).solve(weight)
    groups = np.zeros(n_groups)
    np.add.at(groups, order_group[rows], found[: len(rows)])
    groups[others] = found[len(rows) : len(rows) + len(others)]
    return np.concatenate([groups, found[len(rows) + len(others) :]])


def _by_link_id(problem: Problem, program: Program, free: Bools, found: Floats) -> tuple[Floats, Floats]:
    """Lowest flow over the first free link, then the next, until flows can't differ."""
    n_groups = len(problem.zone)
    for link_id in sorted({arc.link.link_id for arc in problem.arcs}):
        if _is_settled(problem, free):
            break
        mine = np.array([False] * n_groups + [arc.link.link_id == link_id for arc in problem.arcs]) & free
        if mine.any():
            found, _ = program.solve(mine.astype(np.float64))
            program, free = _pin(program, found, mine), free & ~mine
    return found[:n_groups], found[n_groups:]

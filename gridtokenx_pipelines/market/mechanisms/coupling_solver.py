"""The linear program of zonal coupling and the float solver that it goes to (HiGHS).

Belongs here: the program's columns and rows, one solve, and `most_welfare`, which leaves the solver only the price
levels that matter. Does not belong here: the choice between equal optima (coupling_program.py), anything settled.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gridtokenx_pipelines.market.kernel import Bools, Int64s
from gridtokenx_pipelines.market.mechanisms.coupling import Floats, Problem
from gridtokenx_pipelines.market.mechanisms.outcome import BUY, ClearingCheckError
from gridtokenx_pipelines.units import PARTS_PER_MILLION

if TYPE_CHECKING:
    from scipy.sparse import csc_array  # type: ignore[import-untyped]

PRICE_SCALE = 1_000.0  # costs of some thousands keep HiGHS's absolute tolerance of 1e-7 far below one µTHB
EXACT_GROUPS, EXACT_GROUPS_PER_ZONE = 2_000, 32  # so many columns the solver takes faster than they are windowed
BLOCKS = 16  # of neighbouring limits, a zone and side, where there are more
REACH = 8  # groups that a window has at least on each side of a price
MOST_ZOOMS, WIDEN = 8, 4


class Solution(NamedTuple):
    """Quantities and reduced costs per column, and the balance rows' prices (of a welfare program: zone prices)."""

    x: Floats
    reduced: Floats
    prices: Floats


class Program(NamedTuple):
    """Columns: the groups (or single orders), then the arcs; one balance row per zone."""

    matrix: csc_array
    lower: Floats
    upper: Floats

    def solve(self, cost: Floats) -> Solution:
        """Least cost over the columns that aren't fixed. Raises ClearingCheckError if the solver finds no optimum."""
        found = self.attempt(cost)
        if isinstance(found, str):
            raise ClearingCheckError(f"solver ended with {found}")
        return found

    def attempt(self, cost: Floats) -> Solution | str:
        """The same, or the solver's words if it finds no optimum."""
        from scipy.optimize import linprog  # type: ignore[import-untyped] # noqa: PLC0415 - half a second of import

        x, reduced = self.lower.copy(), np.zeros(len(self.lower))
        free = np.flatnonzero(self.upper > self.lower)
        if not len(free):
            return Solution(x, reduced, np.zeros(self.matrix.shape[0]))
        x[free] = 0
        target = -(self.matrix @ x)
        found = linprog(
            cost[free],
            A_eq=self.matrix[:, free],
            b_eq=target,
            bounds=np.stack([self.lower[free], self.upper[free]], axis=1),
            method="highs-ds",
        )
        if found.status != 0:
            return f"status {found.status}: {found.message}"
        x[free], reduced[free] = found.x, found.lower.marginals + found.upper.marginals
        return Solution(x, reduced, -found.eqlin.marginals)


def program_of(problem: Problem, zone: Int64s, side: Int64s, wh: Int64s) -> Program:
    """Balance per zone: bought − sold + sent − delivered = 0."""
    from scipy.sparse import csc_array  # noqa: PLC0415 - see Program.attempt

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


class _Windows:
    """Per zone, the limits between which the price is sought; all groups outside are whole or out."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        order = np.lexsort((problem.limit, problem.zone))
        starts = np.searchsorted(problem.zone[order], np.arange(problem.n_zones + 1))
        self._limits = [problem.limit[order[start:end]] for start, end in pairwise(starts)]
        self._rank = np.lexsort((problem.limit, problem.side, problem.zone))
        self.width = np.array([len(limits) for limits in self._limits], np.int64)
        self.low, self.high = np.full(problem.n_zones, -np.inf), np.full(problem.n_zones, np.inf)

    def inside(self) -> Bools:
        """Which groups the solver is to decide."""
        limit, zone = self._problem.limit, self._problem.zone
        found: Bools = (limit >= self.low[zone]) & (limit <= self.high[zone])
        return found

    def outside_wh(self) -> Floats:
        """Wh of each group if it is outside: all of it where its limit is better than the window."""
        limit, zone, wh = self._problem.limit, self._problem.zone, self._problem.wh
        better = np.where(self._problem.side == BUY, limit > self.high[zone], limit < self.low[zone])
        return np.where(better, wh, 0).astype(np.float64)

    def close_in(self, price: Floats, zones: Bools, width: Int64s) -> None:
        """Put the windows of some zones around prices, this many groups each way."""
        for zone in np.flatnonzero(zones).tolist():
            limits, reach = self._limits[zone], int(width[zone])
            place = int(np.searchsorted(limits, price[zone]))
            self.width[zone] = reach
            self.low[zone] = limits[place - reach] if place > reach else -np.inf
            self.high[zone] = limits[place + reach] if place + reach < len(limits) - 1 else np.inf

    def blocks(self, inside: Bools) -> Int64s:
        """A block number for each group inside: neighbours by limit in one zone and side share one."""
        rows = self._rank[inside[self._rank]]
        segment = self._problem.zone[rows] * 2 + self._problem.side[rows]
        size = np.bincount(segment, minlength=2 * self._problem.n_zones)
        start = np.cumsum(size) - size
        place = np.arange(len(rows)) - start[segment]
        block = np.where(size[segment] > BLOCKS, place * BLOCKS // np.maximum(size[segment], 1), place)
        number = np.zeros(len(inside), np.int64)
        number[rows] = np.unique(segment * BLOCKS + block, return_inverse=True)[1]
        return number[inside]


def most_welfare(problem: Problem, program: Program, wheeling: Floats) -> Floats:
    """An optimum of most welfare, as Wh per column.

    Blocks of neighbouring limits say roughly where each zone's price lies, and windows close in around it until the
    solver can take every level in them by itself. Outside, all is whole or out; that is right if the prices found lie
    inside, else the windows open again.
    """
    windows, arcs = _Windows(problem), np.zeros(len(problem.arcs), np.bool_)
    cost = np.concatenate([np.where(problem.side == BUY, -problem.limit, problem.limit), wheeling]) / PRICE_SCALE
    for _ in range(MOST_ZOOMS):
        inside = windows.inside()
        count = np.bincount(problem.zone[inside], minlength=problem.n_zones)
        if count.sum() <= max(EXACT_GROUPS, EXACT_GROUPS_PER_ZONE * problem.n_zones):
            break
        price = _rough_prices(problem, program, wheeling, windows)
        if price is None:
            break
        windows.close_in(price, count > 2 * REACH, np.maximum(3 * count // (2 * BLOCKS) + 1, REACH))
    while True:
        fixed = np.concatenate([~windows.inside(), arcs])
        outside = np.concatenate([windows.outside_wh(), np.zeros(len(arcs))])
        found = Program(
            program.matrix, np.where(fixed, outside, program.lower), np.where(fixed, outside, program.upper)
        ).attempt(cost)
        if not fixed.any():
            if isinstance(found, str):
                raise ClearingCheckError(f"solver ended with {found}")
            return found.x
        if isinstance(found, str):  # too little is left to balance the zones with
            windows.low[:], windows.high[:] = -np.inf, np.inf
            continue
        price = found.prices * PRICE_SCALE
        missed = (price < windows.low) | (price > windows.high)
        if not missed.any():
            return found.x
        windows.close_in(price, missed, np.where(missed, WIDEN * windows.width, windows.width))


def _rough_prices(problem: Problem, program: Program, wheeling: Floats, windows: _Windows) -> Floats | None:
    """Zone prices of the program with one column a block; None if the solver finds none."""
    inside = windows.inside()
    block = windows.blocks(inside)
    n_blocks, wh = int(block.max()) + 1, problem.wh[inside].astype(np.float64)
    total, worth = np.zeros(n_blocks), np.zeros(n_blocks)
    np.add.at(total, block, wh)
    np.add.at(worth, block, wh * problem.limit[inside])
    zone, side = np.zeros(n_blocks, np.int64), np.zeros(n_blocks, np.int64)
    zone[block], side[block] = problem.zone[inside], problem.side[inside]
    # what lies outside is one more column a zone, and held
    outside = windows.outside_wh() * np.where(problem.side == BUY, 1.0, -1.0)
    needed = np.zeros(problem.n_zones)
    np.add.at(needed, problem.zone, outside)
    zones = np.arange(problem.n_zones)
    merged = program_of(
        problem, np.concatenate([zone, zones]), np.concatenate([side, np.full(len(zones), BUY)]), np.zeros(0, np.int64)
    )
    capacity = program.upper[len(problem.zone) :]
    lower = np.concatenate([np.zeros(n_blocks), needed, np.zeros(len(capacity))])
    upper = np.concatenate([total, needed, capacity])
    limit = worth / total
    cost = np.concatenate([np.where(side == BUY, -limit, limit), np.zeros(len(zones)), wheeling]) / PRICE_SCALE
    found = Program(merged.matrix, lower, upper).attempt(cost)
    return None if isinstance(found, str) else found.prices * PRICE_SCALE

"""A linear program in exact rational arithmetic, for checking the market on small cases.

Belongs here: a dense simplex on fractions with Bland's rule and lexicographic objectives. Does not belong here: the
market's own constraints (reference_zonal.py). Slow on purpose: every number is a fraction, nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

Terms = Mapping[str, Fraction | int]


class Infeasible(ArithmeticError):
    """No point satisfies the constraints."""


class Unbounded(ArithmeticError):
    """An objective grows without end."""


@dataclass
class Program:
    """Maximise objectives in order of rank over x ≥ 0: the second among the best of the first, and so on."""

    rows: list[tuple[dict[str, Fraction], Fraction]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)

    def equal(self, terms: Terms, value: Fraction | int) -> None:
        for name in terms:
            self.names.setdefault(name, len(self.names))
        self.rows.append(({name: Fraction(factor) for name, factor in terms.items()}, Fraction(value)))

    def at_most(self, terms: Terms, value: Fraction | int) -> None:
        self.equal({**terms, f"slack {len(self.rows)}": 1}, value)

    def best(self, objectives: Sequence[Terms]) -> dict[str, Fraction]:
        """The lexicographically best point. Raises Infeasible or Unbounded."""
        width, height = len(self.names), len(self.rows)
        table = []
        for number, (terms, value) in enumerate(self.rows):
            sign = -1 if value < 0 else 1
            line = [Fraction(0)] * (width + height) + [sign * value]
            for name, factor in terms.items():
                line[self.names[name]] = sign * factor
            line[width + number] = Fraction(1)
            table.append(line)
        basis = [width + number for number in range(height)]
        # the helpers of the start basis must leave first: that is the objective above all others
        costs = [[Fraction(0)] * width + [Fraction(-1)] * height + [Fraction(0)]]
        for objective in objectives:
            line = [Fraction(0)] * (width + height + 1)
            for name, factor in objective.items():
                line[self.names[name]] = Fraction(factor)
            costs.append(line)
        for line in table:  # reduced costs of the start basis
            costs[0] = [cost + entry for cost, entry in zip(costs[0], line, strict=True)]
        for number in range(height):
            costs[0][width + number] = Fraction(0)
        _improve(table, costs, basis, width)
        if costs[0][-1] != 0:
            raise Infeasible(f"constraints miss each other by {costs[0][-1]}")
        point = dict.fromkeys(self.names, Fraction(0))
        order = list(self.names)
        for line, column in zip(table, basis, strict=True):
            if column < width:
                point[order[column]] = line[-1]
        return point


def _improve(table: list[list[Fraction]], costs: list[list[Fraction]], basis: list[int], width: int) -> None:
    while True:
        entering = next((column for column in range(width) if _gains(costs, column)), None)
        if entering is None:
            return
        leaving, least = None, None
        for row, line in enumerate(table):
            if basis[row] >= width and line[-1] == 0 and line[entering] != 0:
                leaving = row  # a helper at 0 must not grow again, so it leaves whatever the sign
                break
            if line[entering] > 0:
                ratio = line[-1] / line[entering]
                if least is None or ratio < least or (ratio == least and basis[row] < basis[leaving or 0]):
                    leaving, least = row, ratio
        if leaving is None:
            raise Unbounded("nothing bounds the objective")
        _pivot(table, costs, leaving, entering)
        basis[leaving] = entering


def _gains(costs: list[list[Fraction]], column: int) -> bool:
    for line in costs:
        if line[column]:
            return line[column] > 0
    return False


def _pivot(table: list[list[Fraction]], costs: list[list[Fraction]], row: int, column: int) -> None:
    factor = table[row][column]
    table[row] = [entry / factor if entry else entry for entry in table[row]]
    used = [(place, entry) for place, entry in enumerate(table[row]) if entry]
    for line in [*(line for number, line in enumerate(table) if number != row), *costs]:
        times = line[column]
        if times:
            for place, entry in used:
                line[place] -= times * entry

"""A contract's rules on a frame, in polars: milliseconds on an epoch, so every epoch is checked.

Belongs here: columns and types, nulls, ranges, choices, the key, emptiness. Does not belong here: rules between tables.
"""

from __future__ import annotations

import msgspec
import polars as pl

from gridtokenx_pipelines.quality.contract import Column, Contract


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A broken rule: how many rows break it and the first of them."""

    contract: str
    rule: str
    column: str
    rows: int
    failing: pl.DataFrame

    @property
    def words(self) -> str:
        """The rule, the bound and how often it is broken."""
        return f"{self.contract}.{self.column}: {self.rule}, broken by {self.rows} rows"


MAX_ROWS = 20


def _misfits(column: Column) -> list[tuple[str, pl.Expr]]:
    """Rule and the expression that is true where it is broken. A null breaks only the null rule."""
    value = pl.col(column.name)
    rules = [] if column.nullable else [("must not be null", value.is_null())]
    if column.choices:
        rules.append((f"must be {column.bounds}", ~value.is_in(column.choices)))
    elif column.minimum is not None or column.maximum is not None:
        outside = pl.lit(value=False)
        if column.minimum is not None:
            outside |= value < column.minimum
        if column.maximum is not None:
            outside |= value > column.maximum
        if column.kind.is_float():
            # NaN compares false with everything: without this it would pass every range
            outside |= value.is_nan()
        unit = "" if column.unit == "–" else f" {column.unit}"
        rules.append((f"must be {column.bounds}{unit}", outside))
    return [(rule, broken.fill_null(value=False)) for rule, broken in rules]


def violations(contract: Contract, frame: pl.DataFrame) -> list[Violation]:
    """Every broken rule of the contract, shape first: with a wrong shape the rest isn't looked at."""
    shape = _shape(contract, frame)
    if shape:
        return shape
    found = []
    if frame.is_empty() and not contract.may_be_empty:
        found.append(_violation(contract, "must have rows", contract.key[0], frame, 1))
    rules = [(column.name, rule, broken) for column in contract.columns for rule, broken in _misfits(column)]
    if not frame.is_empty():
        # one pass over the frame for all rules; rows are only looked for where a count says that there are some
        counts = frame.select(broken.sum().alias(str(number)) for number, (_, _, broken) in enumerate(rules)).row(0)
        for (name, rule, broken), count in zip(rules, counts, strict=True):
            if count:
                found.append(_violation(contract, rule, name, frame.filter(broken), count))
        doubled = frame.filter(pl.struct(contract.key).is_duplicated())
        if not doubled.is_empty():
            name = ", ".join(contract.key)
            found.append(_violation(contract, "must be unique", name, doubled.sort(contract.key), doubled.height))
    return found


def holds(contract: Contract, frame: pl.DataFrame, part: str) -> bool:
    """Whether `violations` would find nothing in any part of the frame: rows of equal value in column `part`.

    One pass over many epochs; which rule is broken, where and by which rows, `violations` says for a part alone. An
    empty part has no row here: whether one may be empty is the caller's to see.
    """
    if _shape(contract, frame):
        return False
    broken = [rule for column in contract.columns for _, rule in _misfits(column)]
    broken.append(pl.struct(part, *contract.key).is_duplicated())
    return frame.is_empty() or not any(
        frame.select(rule.any().alias(str(number)) for number, rule in enumerate(broken)).row(0)
    )


def _shape(contract: Contract, frame: pl.DataFrame) -> list[Violation]:
    found = []
    for name, kind in contract.schema.items():
        if name not in frame.columns:
            found.append(_violation(contract, "must be a column", name, frame.clear(), frame.height))
        elif frame.schema[name] != kind and frame.schema[name] != pl.Null:
            rule = f"must be of type {kind.__name__}, was {frame.schema[name]}"
            found.append(_violation(contract, rule, name, frame.head(MAX_ROWS), frame.height))
    return found


def _violation(contract: Contract, rule: str, column: str, rows: pl.DataFrame, count: int) -> Violation:
    return Violation(contract=contract.name, rule=rule, column=column, rows=count, failing=rows.head(MAX_ROWS))

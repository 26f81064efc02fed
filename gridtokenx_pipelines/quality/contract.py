"""What a table promises: columns with type, unit, range and meaning, its key and how fresh it is.

Belongs here: the shape of a contract. Does not belong here: the tables (contracts.py), or checking them
(violations.py in polars, expectations.py in Great Expectations; both read only this).
"""

from __future__ import annotations

import msgspec
import polars as pl

# identifiers have no unit, and a reader of the docs should see that it wasn't forgotten
NO_UNIT = "–"


class Column(msgspec.Struct, frozen=True):
    """One column. `minimum` and `maximum` are included; `choices` are all values allowed; None: not bounded."""

    name: str
    meaning: str
    kind: type[pl.DataType] = pl.Int64
    unit: str = NO_UNIT
    minimum: int | float | None = None
    maximum: int | float | None = None
    nullable: bool = False
    choices: tuple[int | str, ...] = ()

    @property
    def bounds(self) -> str:
        """The range in words, for the docs and for a failing check."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if self.minimum is None and self.maximum is None:
            return NO_UNIT
        if self.maximum is None:
            return f"≥ {self.minimum:,}"
        if self.minimum is None:
            return f"≤ {self.maximum:,}"
        return f"{self.minimum:,} … {self.maximum:,}"


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One table. `asset` and `frame` say where it lies (Parquet); `fresh_minutes` after the end of its partition."""

    name: str
    asset: str
    frame: str
    meaning: str
    owner: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    fresh_minutes: int
    # False where an epoch rightly has no row at all: no trade, no link
    may_be_empty: bool = True

    @property
    def schema(self) -> dict[str, type[pl.DataType]]:
        """Column names and types, in their order."""
        return {column.name: column.kind for column in self.columns}

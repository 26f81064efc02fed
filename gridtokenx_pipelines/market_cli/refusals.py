"""What is wrong with a book from a file: which row and field, its value, the bound and the remedy.

Belongs here: refusals of rows and errors of whole books. Does not belong here: the checks that find them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import polars as pl

SCHEMA = {"row": pl.Int64, "field": pl.String, "value": pl.String, "bound": pl.String, "remedy": pl.String}
LONGEST_VALUE = 80


class BookError(ValueError):
    """A book that can't be cleared as a whole; the message gives value, bound and remedy."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """One refused row: the file's line where it begins (None in a file without lines), its number counted from 1."""

    row: int
    line: int | None
    order_id: str | None
    field: str
    value: str
    bound: str
    remedy: str

    @property
    def reason(self) -> str:
        """One sentence."""
        place = f"row {self.row}" if self.line is None else f"line {self.line}"
        return f"{place}: {self.field} was {self.value}, must be {self.bound}; {self.remedy}"


def faults(rows: pl.Series, values: pl.Series, field: str, bound: str, remedy: str) -> pl.DataFrame:
    """Frame of SCHEMA for rows (numbers from 0) whose field's value is out of bounds."""
    said = values.cast(pl.String, strict=False).fill_null("missing").str.slice(0, LONGEST_VALUE)
    return pl.DataFrame({"row": rows.cast(pl.Int64), "value": said}).select(
        "row", pl.lit(field).alias("field"), "value", pl.lit(bound).alias("bound"), pl.lit(remedy).alias("remedy")
    )


def marked(values: pl.Series, bad: pl.Series, field: str, bound: str, remedy: str) -> list[pl.DataFrame]:
    """Faults of the rows that are bad (null: judged before), none where there is none."""
    if not bad.any():
        return []
    rows = bad.fill_null(False).arg_true()
    return [faults(rows, values.gather(rows), field, bound, remedy)]


def together(found: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """All faults, a row's first one only, by row."""
    frames = list(found)
    if not frames:
        return pl.DataFrame(schema=SCHEMA)
    frame = pl.concat(frames)
    return frame.unique("row", keep="first", maintain_order=True).sort("row")

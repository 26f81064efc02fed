"""Time series of a CSV file, regular and without gaps or refused by name.

Belongs here: reading, the checks, interpolation. Does not belong here: what the columns mean (weather.py, profiles.py).
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.simulation.fleet.errors import ProfileError, ProfileGapError

Floats = NDArray[np.float64]


class Table:
    """Columns at regular instants; seconds since 1970."""

    def __init__(self, name: str, start: int, every: int, columns: dict[str, Floats]) -> None:
        self.name, self.start, self.every = name, start, every
        self._columns = columns
        self.end = start + every * len(next(iter(columns.values())))

    @property
    def names(self) -> tuple[str, ...]:
        """Columns without the time."""
        return tuple(self._columns)

    def has(self, name: str) -> bool:
        """Whether the file has the column."""
        return name in self._columns

    def column(self, name: str) -> Floats:
        """All values of a column."""
        return self._columns[name]

    def at(self, name: str, seconds: Floats, default: float | None = None) -> Floats:
        """Interpolated values, those at the ends held; `default` where the column is absent."""
        if name not in self._columns and default is not None:
            return np.full(len(seconds), default)
        values = self._columns[name]
        found: Floats = np.interp(seconds, self.start + self.every * np.arange(len(values)), values)
        return found

    def require(self, start: int, end: int) -> None:
        """Raise ProfileGapError unless the table covers start … end."""
        if start < self.start or end > self.end:
            raise ProfileGapError(
                f"{self.name} covers {_stamp(self.start)} to {_stamp(self.end)}, must cover {_stamp(start)} to "
                f"{_stamp(end)}; shorten the run or extend the file"
            )


def read_table(path: Path, needed: Sequence[str] = (), known: Sequence[str] | None = None) -> Table:
    """Read a CSV whose first column is `time`. Raises ProfileGapError, ProfileError with the row's number."""
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            rows = [row for row in csv.reader(handle) if row]
    except (OSError, UnicodeError) as error:
        raise ProfileError(f"{path} could not be read ({error}); correct the path or the encoding (UTF-8)") from error
    if not rows or rows[0][0] != "time" or len(set(rows[0])) != len(rows[0]) or len(rows[0]) < 2:
        raise ProfileError(f"{path}: the header must be `time` and at least one other name, each once; correct it")
    names = rows[0][1:]
    for name in needed:
        if name not in names:
            raise ProfileError(f"{path} had no column {name}, must have {', '.join(needed)}; add it")
    for name in names if known is not None else ():
        if name not in (known or ()):
            raise ProfileError(f"{path} had a column {name}, may have {', '.join(known or ())}; remove it")
    if len(rows) < 3:
        raise ProfileGapError(f"{path} had {len(rows) - 1} rows, must have at least 2; extend it")
    times, values = [], np.empty((len(rows) - 1, len(names)))
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names) + 1:
            raise ProfileGapError(f"{path}, row {number}: {len(row)} fields, must be {len(names) + 1}; fill the gap")
        times.append(_seconds(path, number, row[0]))
        for place, text in enumerate(row[1:]):
            values[number - 2, place] = _value(path, number, names[place], text)
    every = times[1] - times[0]
    for number, (before, after) in enumerate(itertools.pairwise(times), start=3):
        if after - before != every or every <= 0:
            raise ProfileGapError(
                f"{path}, row {number}: {_stamp(after)} follows {_stamp(before)}, instants must be {every} s apart; "
                "fill the gap"
            )
    return Table(str(path), times[0], every, {name: values[:, place] for place, name in enumerate(names)})


def _seconds(path: Path, number: int, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ProfileError(f"{path}, row {number}: time was {text!r}, must be ISO 8601; correct it") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _value(path: Path, number: int, name: str, text: str) -> float:
    if not text.strip() or text.strip().lower() in ("nan", "null", "na"):
        raise ProfileGapError(f"{path}, row {number}: {name} was empty, must be a number; fill the gap")
    try:
        value = float(text)
    except ValueError as error:
        raise ProfileError(f"{path}, row {number}: {name} was {text!r}, must be a number; correct it") from error
    if not math.isfinite(value):
        raise ProfileGapError(f"{path}, row {number}: {name} was {text!r}, must be finite; fill the gap")
    return value


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

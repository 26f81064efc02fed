"""What a stage tells about an epoch: facts and small tables, free of any tool that shows them.

Belongs here: the shape of a report. Does not belong here: rendering (assets/render.py), computing.
"""

from __future__ import annotations

import msgspec
import polars as pl

Fact = int | float | str | bool | None


class EpochReport(msgspec.Struct, frozen=True, kw_only=True):
    """One stage's report on one epoch: `changed` is False where the epoch was done before and was left alone."""

    epoch: int
    changed: bool
    facts: dict[str, Fact] = {}
    tables: dict[str, pl.DataFrame] = {}

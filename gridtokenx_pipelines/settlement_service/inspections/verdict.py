"""The outcome of one check on one epoch, and how verdicts are made from failing rows.

Belongs here: the shape of a verdict. Does not belong here: what any check looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
import polars as pl

# enough for an operator to see the pattern; a verdict is stored as metadata with every run
MAX_FAILING_ROWS = 20


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One check on one epoch: `detail` gives value, bound and remedy; `failing` the first offending rows."""

    check: str
    epoch: int
    passed: bool
    detail: str
    failing: pl.DataFrame | None = None


def verdict(check: str, epoch: int, failing: pl.DataFrame, held: str, broken: str) -> Verdict:
    """Passed if there is no failing row; `held` and `broken` say what was found."""
    if failing.is_empty():
        return Verdict(check=check, epoch=epoch, passed=True, detail=held)
    detail = f"{failing.height} × {broken}"
    return Verdict(check=check, epoch=epoch, passed=False, detail=detail, failing=failing.head(MAX_FAILING_ROWS))


def verdicts(
    check: str,
    epochs: Sequence[int],
    failing: pl.DataFrame,
    held: Callable[[int], str],
    broken: str,
) -> list[Verdict]:
    """One verdict per epoch from failing rows of all of them (column `epoch`); `held` words a passed epoch."""
    by_epoch = {key[0]: part for key, part in failing.group_by("epoch", maintain_order=True)}
    nothing = failing.clear()
    return [verdict(check, epoch, by_epoch.get(epoch, nothing), held(epoch), broken) for epoch in epochs]


def failed(found: Iterable[Verdict]) -> list[Verdict]:
    """Those that did not pass, in their order."""
    return [one for one in found if not one.passed]


def first_failed_epoch(found: Iterable[Verdict]) -> int | None:
    """The earliest epoch with a failed verdict, or None: everything from there on must wait."""
    return min((one.epoch for one in failed(found)), default=None)

"""Two frames of the same thing, stored and recomputed: which rows lack, which are too many, which columns differ.

Belongs here: the comparison, on columns, for a whole range at once. Does not belong here: what the frames mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gridtokenx_pipelines.audit.findings import Finding

MOST_ROWS = 2_000  # findings of one comparison: beyond that nobody reads on, the first epochs are named all the same


def differences(
    stage: str,
    what: str,
    stored: pl.DataFrame,
    recomputed: pl.DataFrame,
    key: Sequence[str],
    *,
    epoch: str = "epoch",
) -> list[Finding]:
    """Findings for every row and column that differ; both frames must have the columns of `recomputed`.

    `key` identifies a row and includes `epoch`, the column that says to which epoch a finding belongs. A key that is
    there twice is a finding too.
    """
    columns = [name for name in recomputed.columns if name not in key]
    stored = stored.select(*key, *columns)
    found = _twice(stage, what, stored, key, epoch)
    if stored.height == recomputed.height and stored.sort(key).equals(recomputed.select(*key, *columns).sort(key)):
        return found
    stored = stored.unique(key, keep="first")
    joined = stored.with_columns(_there=pl.lit(True)).join(
        recomputed.select(*key, *columns).with_columns(_made=pl.lit(True)),
        on=key,
        how="full",
        coalesce=True,
        suffix="_new",
        nulls_equal=True,
    )
    lacking = joined.filter(pl.col("_there").is_null())
    found += [_of(stage, what, row, key, epoch, "row is not stored") for row in _rows(lacking, key)]
    extra = joined.filter(pl.col("_made").is_null())
    found += [
        _of(stage, what, row, key, epoch, "row is stored, and follows from no input") for row in _rows(extra, key)
    ]
    both = joined.filter(pl.col("_there").is_not_null() & pl.col("_made").is_not_null())
    for name in columns:
        other = both.filter(pl.col(name).ne_missing(pl.col(f"{name}_new")))
        for row in _rows(other, [*key, name, f"{name}_new"]):
            found.append(_changed(stage, what, row, key, epoch, name))
    return found


def _rows(frame: pl.DataFrame, columns: Sequence[str]) -> list[dict[str, object]]:
    return frame.select(columns).head(MOST_ROWS).to_dicts()


def _twice(stage: str, what: str, stored: pl.DataFrame, key: Sequence[str], epoch: str) -> list[Finding]:
    doubled = stored.filter(pl.struct(key).is_duplicated()).unique(key, keep="first", maintain_order=True)
    return [_of(stage, what, row, key, epoch, "row is stored twice") for row in _rows(doubled, key)]


def _name(what: str, row: dict[str, object], key: Sequence[str], epoch: str) -> str:
    ids = " ".join(f"{name}={shown(row[name])}" for name in key if name != epoch)
    return f"{what} {ids}".rstrip()


def _of(stage: str, what: str, row: dict[str, object], key: Sequence[str], epoch: str, detail: str) -> Finding:  # noqa: PLR0917
    return Finding(epoch=_number(row[epoch]), stage=stage, what=_name(what, row, key, epoch), detail=detail)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _changed(stage: str, what: str, row: dict[str, object], key: Sequence[str], epoch: str, name: str) -> Finding:  # noqa: PLR0917
    stored, recomputed = row[name], row[f"{name}_new"]
    by = recomputed - stored if _is_amount(stored) and _is_amount(recomputed) else None  # type: ignore[operator]
    return Finding(
        epoch=_number(row[epoch]),
        stage=stage,
        what=_name(what, row, key, epoch),
        detail=f"{name} was {shown(stored)}, recomputed {shown(recomputed)}"
        + (f" ({by:+,})" if by is not None else ""),
        stored=shown(stored),
        recomputed=shown(recomputed),
        by=by,
    )


def _is_amount(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as a finding shows it: bytes in hex, nothing as `none`."""
    if isinstance(value, bytes):
        return value.hex()
    return "none" if value is None else str(value)

"""Columns of people's files as integers: what is a whole number, a side, an instant, and what isn't.

Belongs here: conversions of raw columns with the faults they find. Does not belong here: files, limits of the market.
Nothing is rounded: 1500 and 1500.0 are 1500, 1500.5 is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.market_cli.refusals import marked

WHOLE = r"^[+-]?\d+(?:\.0*)?$"
LARGEST_EXACT_FLOAT = 2**53
SIDES = {"buy": 0, "sell": 1, "0": 0, "1": 1}
ISO_BOUND = "µs since 1970 or an ISO 8601 time such as 2026-01-27T12:00:00Z"


class Parsed(NamedTuple):
    """Int64 values (null where there is a fault) and the faults."""

    values: pl.Series
    faults: list[pl.DataFrame]


def whole_numbers(raw: pl.Series, field: str, *, lowest: int, highest: int, bound: str, remedy: str) -> Parsed:
    """Whole numbers within bounds; null and empty are faults."""
    values = _integers(raw)
    good = (values.is_not_null() & (values >= lowest) & (values <= highest)).fill_null(False)
    return Parsed(_where(values, good), marked(raw, ~good, field, bound, remedy))


def sides(raw: pl.Series) -> Parsed:
    """0 buy, 1 sell, from the words or the numbers."""
    text = _text(raw).str.to_lowercase().str.strip_suffix(".0")
    values = text.replace_strict(SIDES, default=None, return_dtype=pl.Int64)
    return Parsed(values, marked(raw, values.is_null(), "side", "buy, sell, 0 (buy) or 1 (sell)", "correct it"))


def instants(raw: pl.Series, field: str, *, needed: bool = True) -> Parsed:
    """Instants in µs since 1970, UTC; times without a zone are UTC. A null is a fault where one is `needed`."""
    if isinstance(raw.dtype, pl.Datetime):
        zoned = raw.dt.convert_time_zone("UTC") if raw.dtype.time_zone else raw
        values = zoned.dt.epoch("us")
    else:
        values = _integers(raw)
        if raw.dtype == pl.String and values.null_count():
            values = values.fill_null(_iso(_text(raw)))
    bad = values.is_null() if needed else values.is_null() & raw.is_not_null()
    return Parsed(values, marked(raw, bad, field, ISO_BOUND, "correct it"))


def _iso(text: pl.Series) -> pl.Series:
    utc = text.str.replace(r"(?:[Zz]|\+00:?00)$", "").str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
    found = pl.Series([None] * len(text), dtype=pl.Int64)
    for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
        found = found.fill_null(utc.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us"))
    zoned = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_unit="us", time_zone="UTC")
    return found.fill_null(zoned.dt.epoch("us"))


def _text(raw: pl.Series) -> pl.Series:
    return raw.cast(pl.String, strict=False).str.strip_chars()


def _integers(raw: pl.Series) -> pl.Series:
    """Int64 where the value is a whole number that 64 bits hold, else null."""
    if raw.dtype.is_integer():
        return raw.cast(pl.Int64, strict=False)
    if raw.dtype.is_float():
        exact = (raw.floor() == raw) & (raw.abs() <= LARGEST_EXACT_FLOAT)
        return _where(raw, exact.fill_null(False)).cast(pl.Int64, strict=False)
    if raw.dtype == pl.String or raw.dtype.is_decimal():
        text = _text(raw)
        plain = text.str.contains(WHOLE).fill_null(False)
        digits = _where(text, plain).str.replace(r"\.0*$", "").str.replace(r"^\+", "").cast(pl.Int64, strict=False)
        if plain.all():
            return digits
        # 1e3 is whole too, and what JSON or a spreadsheet may write
        return digits.fill_null(_integers(_where(text, ~plain).cast(pl.Float64, strict=False)))
    return pl.Series([None] * len(raw), dtype=pl.Int64)


def _where(values: pl.Series, good: pl.Series) -> pl.Series:
    if good.all():
        return values
    return values.zip_with(good, pl.Series([None], dtype=values.dtype).new_from_index(0, len(values)))


def epoch_number(words: str) -> int:
    """An epoch from its key (2026-01-27T12:00Z) or number. Raises ValueError."""
    return int(words) if words.isdecimal() else epoch_of_key(words)

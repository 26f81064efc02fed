"""Names and ids as keys that sort fast: ordered by their bytes, without comparing strings.

Belongs here: the order of a column of text or bytes, and 64-bit keys that rank it. Does not belong here: what the names
stand for. Sorting a million wallets as strings takes longer than clearing them.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from gridtokenx_pipelines.market.kernel import Int64s, UInt64s, order_of

KEY_BYTES = 8
KEYS = 2
FEW = 256  # so few are sorted as they are


def keys_of(names: pl.Series) -> list[UInt64s]:
    """The bytes behind what all names begin with, in 64-bit keys, first key first; equal ones may still differ.

    `names`: text or binary, without nulls.
    """
    if not len(names):
        return [np.zeros(0, np.uint64)] * KEYS
    text = names.cast(pl.Binary)
    first, last = bytes(text.min()), bytes(text.max())  # type: ignore[arg-type] # bytes, as not empty
    shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    if int(text.bin.size().min()) < shared + KEY_BYTES * KEYS:  # type: ignore[arg-type] # an integer
        text = text + pl.Series([bytes(KEY_BYTES * KEYS)], dtype=pl.Binary)
    return [
        text.bin.slice(shared + at * KEY_BYTES, KEY_BYTES).bin.reinterpret(dtype=pl.UInt64, endianness="big").to_numpy()
        for at in range(KEYS)
    ]


def are_distinct(names: pl.Series) -> bool:
    """Whether no two are equal (now and then False although none are: two names may share a hash)."""
    hashes = np.sort(names.hash().to_numpy())
    return not (hashes[1:] == hashes[:-1]).any()


def order_of_names(names: pl.Series) -> Int64s:
    """Row numbers in ascending order of the names' bytes; rows of equal names in no particular order."""
    if len(names) <= FEW:
        return names.cast(pl.Binary).arg_sort().to_numpy().astype(np.int64)
    keys = keys_of(names)
    order = order_of(keys)
    return _settle(names, order, _ties(keys, order))


def ranks_of_names(names: pl.Series) -> tuple[UInt64s, ...]:
    """Keys that rank the names exactly, equal only for equal names."""
    keys = keys_of(names)
    order = order_of(keys)
    same = _ties(keys, order)
    if not same.any():
        return tuple(keys)
    order = _settle(names, order, same)
    ordered = names.gather(order)
    first = (ordered != ordered.shift(1)).fill_null(True).to_numpy()
    rank = np.empty(len(order), np.uint64)
    rank[order] = np.cumsum(first).astype(np.uint64)
    return (rank,)


def _ties(keys: list[UInt64s], order: Int64s) -> np.ndarray:
    """Whether each ordered row but the first has the keys of the row before."""
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for key in keys:
        if not same.any():
            break
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    return same


def _settle(names: pl.Series, order: Int64s, same: np.ndarray) -> Int64s:
    """Put rows whose keys are equal in order by the names themselves."""
    if not same.any():
        return order
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    rows = order[places]
    run = np.cumsum(~np.concatenate([[False], same]))[places]
    order[places] = rows[np.lexsort((names.gather(rows).cast(pl.Binary).rank("dense").to_numpy(), run))]
    return order

"""Names and ids as keys that sort fast: ordered by their bytes, without comparing strings.

Belongs here: the order of a column of text or bytes, and 64-bit keys that rank it. Does not belong here: what the names
stand for. Sorting a million wallets as strings takes longer than clearing them.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from gridtokenx_pipelines.market.kernel import Bools, Int64s, UInt64s, order_of_one

KEY_BYTES = 8
FEW = 256  # so few are sorted as they are


def keys_of(names: pl.Series, shared: int | None = None) -> UInt64s:
    """The 8 bytes behind what all names begin with (or behind the first `shared` ones); equal ones may still differ.

    `names`: text or binary, without nulls.
    """
    if not len(names):
        return np.zeros(0, np.uint64)
    text = names.cast(pl.Binary)
    start = shared_bytes(text) if shared is None else shared
    if int(text.bin.size().min()) < start + KEY_BYTES:  # type: ignore[arg-type] # an integer
        text = text + pl.Series([bytes(KEY_BYTES)], dtype=pl.Binary)
        short = text.bin.size() < start + KEY_BYTES
        if short.any():  # nothing is left of them behind the start
            text = text.set(short, bytes(start + KEY_BYTES))
    found: UInt64s = text.bin.slice(start, KEY_BYTES).bin.reinterpret(dtype=pl.UInt64, endianness="big").to_numpy()
    return found


def shared_bytes(text: pl.Series) -> int:
    """How many bytes all names (binary) begin with."""
    first, last = bytes(text.min()), bytes(text.max())  # type: ignore[arg-type] # bytes, as not empty
    return next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))


def are_distinct(names: pl.Series) -> bool:
    """Whether no two are equal (now and then False although none are: two names may share a hash)."""
    hashes = np.sort(names.hash().to_numpy())
    return not (hashes[1:] == hashes[:-1]).any()


def order_of_names(names: pl.Series) -> Int64s:
    """Row numbers in ascending order of the names' bytes; rows of equal names in no particular order."""
    if len(names) <= FEW:
        return names.cast(pl.Binary).arg_sort().to_numpy().astype(np.int64)
    return _ordered(names)[0]


def ranks_of_names(names: pl.Series) -> tuple[UInt64s, ...]:
    """Keys that rank the names exactly, equal only for equal names."""
    order, same = _ordered(names)
    if not same.any():
        return (keys_of(names),) if not len(names) else (_ranks(order, ~same),)
    ordered = names.gather(order)
    differs = (ordered != ordered.shift(1)).fill_null(True).to_numpy()[1:]
    return (_ranks(order, differs),)


def _ranks(order: Int64s, differs: Bools) -> UInt64s:
    rank = np.empty(len(order), np.uint64)
    rank[order] = np.concatenate([[0], np.cumsum(differs)]).astype(np.uint64)
    return rank


def _ordered(names: pl.Series) -> tuple[Int64s, Bools]:
    """Row numbers in order of the names, and which rows have the 16 bytes of the one before behind what all share."""
    if not len(names):
        return order_of_one(np.zeros(0, np.uint64))
    text = names.cast(pl.Binary)
    shared = shared_bytes(text)
    order, same = order_of_one(keys_of(text, shared))
    if not same.any():
        return order, same
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    rows = order[places]
    run = np.cumsum(~np.concatenate([[False], same]))[places]
    some = text.gather(rows)
    second = keys_of(some, shared + KEY_BYTES)
    by_key = np.lexsort((second, run))
    order[places] = rows[by_key]
    ordered, run = second[by_key], run[by_key]
    equal = (ordered[1:] == ordered[:-1]) & (run[1:] == run[:-1])
    same[:] = False
    same[places[1:][equal] - 1] = True
    return _settle(text, order, same), same


def _settle(names: pl.Series, order: Int64s, same: Bools) -> Int64s:
    """Put rows whose keys are equal in order by the names themselves."""
    if not same.any():
        return order
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    rows = order[places]
    run = np.cumsum(~np.concatenate([[False], same]))[places]
    order[places] = rows[np.lexsort((names.gather(rows).rank("dense").to_numpy(), run))]
    return order

"""Integer column kernels of clearing: the crossing of two sides, serving by priority, orders of keys. numpy alone.

Belongs here: what runs over every order of a book, and `clear_uniform_arrays`, the uniform auction without frames.
Does not belong here: zones, charges, frames, the rules of mechanisms.

Nothing here sorts a book. Only orders exactly at the marginal limit can be partly served, so that limit is found by
histograms that zoom in on it, all others are whole or out, and time and id are looked at among those few alone
(docs/decisions/0008-clearing-kernel.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridtokenx_pipelines.market.prices import rounded_midpoint
from gridtokenx_pipelines.units import I64_MAX

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Keys = Callable[[Int64s], Sequence[UInt64s]]

BUCKET_BITS = 13  # 8 192 buckets a side stay in the second-level cache
BLOCK = 1 << 16  # rows at a time, so that what lies between two steps stays there too
PLACES_PER_ROW = 4  # a table up to this span a row is faster than searching
_SIGN = np.int64(-(2**63))


class Margin(NamedTuple):
    """Where two sides meet: Wh traded, the marginal limit, and Wh of bids strictly above and asks strictly below."""

    volume_wh: int
    limit: int
    above_wh: int
    below_wh: int


class Crossing(NamedTuple):
    """Wh traded, price (None: no trade), Wh filled per row."""

    volume_wh: int
    price_uthb_per_kwh: int | None
    filled: Int64s


def places(values: Int64s, known: Int64s) -> Int64s:
    """Place of each value among the known ones (ascending, each once); of an unknown value, some place of them."""
    if not len(known) or int(known[-1] - known[0]) > PLACES_PER_ROW * len(values):
        return np.minimum(np.searchsorted(known, values), max(len(known) - 1, 0))
    table = np.zeros(int(known[-1] - known[0]) + 1, np.int64)
    table[known - known[0]] = np.arange(len(known))
    found: Int64s = table[np.clip(values, known[0], known[-1]) - known[0]]
    return found


def exact_sum(values: Int64s) -> int:
    """Σ as a Python integer: never wraps, whatever the values."""
    if not len(values):
        return 0
    if max(abs(int(values.max())), abs(int(values.min()))) * len(values) <= I64_MAX:
        return int(values.sum())
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def exact_dot(first: Int64s, second: Int64s) -> int:
    """Σ first × second as a Python integer."""
    if not len(first):
        return 0
    most = max(abs(int(first.max())), abs(int(first.min()))) * max(abs(int(second.max())), abs(int(second.min())))
    chunk = I64_MAX // max(most, 1)
    if not chunk:
        return sum(one * other for one, other in zip(first.tolist(), second.tolist(), strict=True))
    return sum(
        int(np.dot(first[start : start + chunk], second[start : start + chunk]))
        for start in range(0, len(first), chunk)
    )


def sortable(values: Int64s) -> UInt64s:
    """Signed integers as unsigned ones of the same order."""
    return (values ^ _SIGN).view(np.uint64)


def find_margin(is_sell: Bools, limit: Int64s, wh: Int64s) -> Margin | None:
    """Margin of the largest volume that one price lets trade; None if nothing can. Rows in any order.

    The marginal limit is the lowest at which asks at or below it reach bids above it. Sums must fit 64 bits.
    """
    if not len(limit):
        return None
    low, high = int(limit.min()), int(limit.max())
    above = below = 0  # of the rows outside the window [low, high]
    while True:
        shift = max((high - low).bit_length() - BUCKET_BITS, 0)
        sums = _histogram(is_sell, limit, wh, low=low, shift=shift, buckets=(high - low >> shift) + 1)
        bids, asks = sums
        demand = above + bids.sum() - np.cumsum(bids)  # above each bucket
        supply = below + np.cumsum(asks)  # up to and with it
        at = int(np.argmax(supply >= demand))
        above, below = int(demand[at]), int(supply[at] - asks[at])
        if not shift:
            volume = min(above + int(bids[at]), int(supply[at]))
            return Margin(volume, low + at, above, below) if volume else None
        low, high = low + (at << shift), min(low + (at + 1 << shift) - 1, high)
        inside = np.flatnonzero((limit >= low) & (limit <= high))
        is_sell, limit, wh = is_sell[inside], limit[inside], wh[inside]


def _histogram(is_sell: Bools, limit: Int64s, wh: Int64s, *, low: int, shift: int, buckets: int) -> Int64s:
    """Wh per side and bucket of limits."""
    sums = np.zeros(2 * buckets, np.int64)
    place, offset = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    for start in range(0, len(limit), BLOCK):
        part = limit[start : start + BLOCK]
        here, side = place[: len(part)], offset[: len(part)]
        np.subtract(part, low, out=here)
        if shift:
            np.right_shift(here, shift, out=here)
        np.multiply(is_sell[start : start + BLOCK], np.int64(buckets), out=side)
        here += side
        np.add.at(sums, here, wh[start : start + BLOCK])
    return sums.reshape(2, buckets)


def _split(is_sell: Bools, limit: Int64s, wh: Int64s, level: int) -> tuple[Int64s, Int64s]:
    """Wh per row with rows better than the level whole and the others out; the rows at the level."""
    filled, at = np.empty(len(limit), np.int64), []
    for start in range(0, len(limit), BLOCK):
        part = limit[start : start + BLOCK]
        whole = np.where(is_sell[start : start + BLOCK], part < level, part > level)
        np.multiply(wh[start : start + BLOCK], whole, out=filled[start : start + BLOCK])
        at.append(np.flatnonzero(part == level) + start)
    return filled, np.concatenate(at)


def serve(wh: Int64s, quantity_wh: int, keys: Sequence[UInt64s]) -> Int64s:
    """Wh per row when rows are served by the first key, ties by the next, up to a quantity; then by row."""
    filled = np.zeros(len(wh), np.int64)
    rows = np.arange(len(wh))
    for key in keys:
        if quantity_wh <= 0:
            return filled
        mine, amounts = key[rows], wh[rows]
        last, before = _reaching(mine, amounts, quantity_wh)
        if last is None:
            filled[rows] = amounts
            return filled
        first = rows[mine < last]
        filled[first] = wh[first]
        quantity_wh -= before
        rows = rows[mine == last]
        if len(rows) == 1:
            break
    amounts = wh[rows]
    filled[rows] = np.clip(quantity_wh - (np.cumsum(amounts) - amounts), 0, amounts)
    return filled


def _reaching(key: UInt64s, wh: Int64s, quantity_wh: int) -> tuple[np.uint64 | None, int]:
    """Lowest key up to which the rows reach the quantity (None: all together fall short or just do), Wh before it."""
    if int(wh.sum()) <= quantity_wh:
        return None, 0
    low, high, before = int(key.min()), int(key.max()), 0
    while True:
        shift = max((high - low).bit_length() - BUCKET_BITS, 0)
        place = ((key - np.uint64(low)) >> np.uint64(shift)).astype(np.int64)
        sums = np.zeros((high - low >> shift) + 1, np.int64)
        np.add.at(sums, place, wh)
        reached = before + np.cumsum(sums)
        at = int(np.searchsorted(reached, quantity_wh))
        before = int(reached[at] - sums[at])
        if not shift:
            return np.uint64(low + at), before
        low, high = low + (at << shift), min(low + (at + 1 << shift) - 1, high)
        inside = np.flatnonzero(place == at)
        key, wh = key[inside], wh[inside]


def cross(is_sell: Bools, limit: Int64s, wh: Int64s, keys: Keys) -> Crossing:
    """Largest volume, equilibrium price and fills by priority (domain §5). Rows in any order.

    `keys(rows)`: what ranks rows of one limit, first key first (time, then id).
    """
    margin = find_margin(is_sell, limit, wh)
    if margin is None:
        return Crossing(0, None, np.zeros(len(limit), np.int64))
    level = margin.limit
    filled, at = _split(is_sell, limit, wh, level)
    sells = is_sell[at]
    some = less = False
    touched = []
    for rows, served in ((at[~sells], margin.above_wh), (at[sells], margin.below_wh)):
        amounts = wh[rows]
        quantity = margin.volume_wh - served
        if 0 < quantity < exact_sum(amounts):
            filled[rows] = serve(amounts, quantity, keys(rows))
            some = some or bool(((filled[rows] > 0) & (filled[rows] < amounts)).any())
            less = True
        elif quantity:
            filled[rows] = amounts
        touched.append((bool(len(rows)) and quantity > 0, bool(len(rows)) and quantity < exact_sum(amounts)))
    if some:
        return Crossing(margin.volume_wh, level, filled)
    (bids_in, bids_out), (asks_in, asks_out) = touched
    # all limits below the level are accepted offers or rejected bids, all above accepted bids or rejected offers
    lowest = level if less or asks_in or bids_out else int(limit.max(where=limit < level, initial=-I64_MAX))
    highest = level if less or bids_in or asks_out else int(limit.min(where=limit > level, initial=I64_MAX))
    return Crossing(margin.volume_wh, int(rounded_midpoint(lowest, highest)), filled)


def clear_uniform_arrays(  # noqa: PLR0917 (a column an argument)
    side: Int64s, limit: Int64s, wh: Int64s, time_us: Int64s, id_high: UInt64s, id_low: UInt64s
) -> Crossing:
    """The uniform auction on bare columns, every order's fill included: side 0 buys, 1 sells; net limits in µTHB/kWh.

    Priority is limit, time, id (128 bits in two halves). Nothing is checked here but that sums fit 64 bits:
    raises OverflowError. `clearing.clear` is the door with checks, charges and frames.
    """
    if exact_sum(wh) > I64_MAX:
        raise OverflowError(f"energy added up to {exact_sum(wh)} Wh, must not exceed {I64_MAX}; split the book")

    def keys(rows: Int64s) -> Sequence[UInt64s]:
        return sortable(time_us[rows]), id_high[rows], id_low[rows]

    return cross(side.astype(np.bool_), limit, wh, keys)


def order_of(keys: Sequence[UInt64s]) -> Int64s:
    """Row numbers in ascending order of the keys, first key first; only ties look at the next ones, then at the row."""
    order, same = order_of_one(keys[0])
    for key in keys[1:]:
        if not same.any():
            break
        settle_ties(order, same, key)
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    return order


def order_of_one(key: UInt64s) -> tuple[Int64s, Bools]:
    """Row numbers in ascending order of one key, rows of equal keys by number; which rows equal the one before.

    The key's bits that differ and the row's number are sorted as one number, several times faster than numpy sorts
    places. Where both don't fit 64 bits the key's last ones are left out, and looked at where rows then seem equal.
    """
    if not len(key):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    packed = key - key.min()
    union = int(np.bitwise_or.reduce(packed))
    idle = (union & -union).bit_length() - 1 if union else 0
    row_bits = (len(key) - 1).bit_length()
    lost = max(union.bit_length() - idle + row_bits - 64, 0)
    packed >>= np.uint64(idle + lost)
    packed <<= np.uint64(row_bits)
    packed |= np.arange(len(key), dtype=np.uint64)
    packed.sort()
    order = (packed & np.uint64((1 << row_bits) - 1)).astype(np.int64)
    packed >>= np.uint64(row_bits)
    same: Bools = packed[1:] == packed[:-1]
    if lost and same.any():
        settle_ties(order, same, key)
        ordered = key[order]
        same = ordered[1:] == ordered[:-1]
    return order, same


def settle_ties(order: Int64s, same: Bools, key: UInt64s) -> None:
    """Put rows that equal the one before (`same`, of each but the first) in order of a key, then of their number."""
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    places = np.flatnonzero(tied)
    run = np.cumsum(~np.concatenate([[False], same]))[places]
    rows = order[places]
    order[places] = rows[np.lexsort((key[rows], run))]

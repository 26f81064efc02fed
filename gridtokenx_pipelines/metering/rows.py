"""Accepted readings of a shard as columns, linked per meter in the order of seq.

Belongs here: finding a reading's neighbours, inserting, the last reading up to an instant, dropping what is no longer
needed. Does not belong here: judging. A reading that comes in order, as nearly all do, costs one look at its meter's
newest row; disorder walks back as many rows as it is deep.
"""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

NONE = -1
_COLUMNS = ("slot", "seq", "timestamp_us", "production_wh", "consumption_wh", "digest", "late")
Ints = npt.NDArray[np.int64]


def as_numpy(column: array[int]) -> Ints:
    """The column's own memory as int64; don't append to the column while the view lives."""
    return np.frombuffer(column, dtype=np.int64) if len(column) else np.empty(0, dtype=np.int64)


class Rows:
    """Columns of equal length; `prev` links a row to its meter's next lower seq, `head` a slot to its highest."""

    def __init__(self) -> None:
        self.slot, self.seq, self.timestamp_us = array("q"), array("q"), array("q")
        self.production_wh, self.consumption_wh = array("q"), array("q")
        self.digest, self.late, self.prev = array("q"), array("q"), array("q")
        self.head = array("q")

    def __len__(self) -> int:
        return len(self.slot)

    def add_slot(self) -> None:
        """A further meter, without readings."""
        self.head.append(NONE)

    def neighbours(self, slot: int, seq: int) -> tuple[int, int]:
        """Rows with the highest seq ≤ `seq` and the lowest above it; -1 where there is none."""
        above, row, seqs, prev = NONE, self.head[slot], self.seq, self.prev
        while row != NONE and seqs[row] > seq:
            above, row = row, prev[row]
        return row, above

    def insert(
        self,
        slot: int,
        above: int,
        *,
        seq: int,
        timestamp_us: int,
        production_wh: int,
        consumption_wh: int,
        digest: int,
        late: bool,
    ) -> int:
        """Link a reading in right below row `above` (-1: as the meter's newest); returns its row."""
        row = len(self.slot)
        self.slot.append(slot)
        self.seq.append(seq)
        self.timestamp_us.append(timestamp_us)
        self.production_wh.append(production_wh)
        self.consumption_wh.append(consumption_wh)
        self.digest.append(digest)
        self.late.append(late)
        if above == NONE:
            self.prev.append(self.head[slot])
            self.head[slot] = row
        else:
            self.prev.append(self.prev[above])
            self.prev[above] = row
        return row

    def last_at(self, slot: int, time_us: int, on_time_only: bool) -> int:
        """The meter's last row up to and including an instant, or -1; `on_time_only` passes over late ones."""
        row, times, prev = self.head[slot], self.timestamp_us, self.prev
        while row != NONE and (times[row] > time_us or (on_time_only and self.late[row])):
            row = prev[row]
        return row

    def around(self, slot: int, time_us: int) -> tuple[int, int]:
        """The meter's last row up to an instant and the first after it; -1 where there is none."""
        after, row, times, prev = NONE, self.head[slot], self.timestamp_us, self.prev
        while row != NONE and times[row] > time_us:
            after, row = row, prev[row]
        return row, after

    def compact(self, keep_after_us: Ints, whole_after_us: int, bucket_us: int) -> None:
        """Drop what no later judgement needs, so that memory does not grow with the number of readings.

        Kept per slot: rows after `whole_after_us`, the last one up to `keep_after_us[slot]` (the former neighbour of
        what comes), and of those between, where a missing meter waits for its boundaries to be interpolated, the first
        and last of each bucket (start, end] of `bucket_us`.
        """
        columns = {name: as_numpy(getattr(self, name)).copy() for name in _COLUMNS}
        slots, times = columns["slot"], columns["timestamp_us"]
        order = np.lexsort((times, slots))
        slots, times = slots[order], times[order]
        cut = keep_after_us[slots]
        old = times <= cut
        next_is_other = np.append(slots[1:] != slots[:-1], True) if len(slots) else np.empty(0, dtype=bool)
        next_is_kept = np.append(times[1:] > cut[1:], True) if len(slots) else np.empty(0, dtype=bool)
        is_floor = old & (next_is_other | next_is_kept)
        bucket = -(-times // bucket_us)
        changes = np.append((bucket[1:] != bucket[:-1]) | (slots[1:] != slots[:-1]), True)[: len(slots)]
        is_edge = changes | np.concatenate(([True], changes[:-1]))[: len(slots)]
        kept = order[is_floor | (~old & ((times > whole_after_us) | is_edge))]
        for name in _COLUMNS:
            setattr(self, name, array("q", columns[name][kept].tobytes()))
        self._relink()

    def _relink(self) -> None:
        # rows now lie sorted by slot and time, which is also by seq
        slots = as_numpy(self.slot)
        rows = np.arange(len(slots), dtype=np.int64)
        starts = np.append(True, slots[1:] != slots[:-1])[: len(slots)]
        head = np.full(len(self.head), NONE, dtype=np.int64)
        head[slots] = rows  # the last assignment of a slot wins: its highest row
        self.prev = array("q", np.where(starts, NONE, rows - 1).astype(np.int64).tobytes())
        self.head = array("q", head.tobytes())

"""Registers at epoch boundaries, kept for the resettlement horizon in compact columns.

Belongs here: which reading, or estimate, stands at a boundary of a meter, its revision, and finding the boundary
readings around a late one. Does not belong here: judging, or building net energy rows (epoch_close.py).
"""

from __future__ import annotations

from array import array

import msgspec
import numpy as np

from gridtokenx_pipelines.metering.rows import Ints, as_numpy

READING, ESTIMATE = 1, 2


class BoundaryRegister(msgspec.Struct, frozen=True, gc=False):
    """Registers (Wh) at one boundary of one meter; an estimate has no reading's seq, so seq is -1."""

    seq: int
    timestamp_us: int
    production_wh: int
    consumption_wh: int
    digest: int = 0
    state: int = READING
    revision: int = 0


class _Columns:
    """One boundary, by slot. State 0: nothing known of that meter there."""

    __slots__ = ("consumption_wh", "digest", "production_wh", "revision", "seq", "state", "timestamp_us")

    def __init__(self) -> None:
        self.state, self.revision = array("B"), array("H")
        self.seq, self.timestamp_us, self.digest = array("q"), array("q"), array("q")
        self.production_wh, self.consumption_wh = array("q"), array("q")

    def grow(self, length: int) -> None:
        missing = length - len(self.state)
        if missing > 0:
            for name in self.__slots__:
                column = getattr(self, name)
                column.frombytes(bytes(missing * column.itemsize))


class Boundaries:
    """By number of the epoch that starts at the boundary; ascending numbers are put first to last."""

    def __init__(self) -> None:
        self._by_epoch: dict[int, _Columns] = {}

    def __len__(self) -> int:
        return len(self._by_epoch)

    def get(self, epoch: int, slot: int) -> BoundaryRegister | None:
        """What stands at the start of `epoch`, or None."""
        columns = self._by_epoch.get(epoch)
        if columns is None or slot >= len(columns.state) or not columns.state[slot]:
            return None
        return BoundaryRegister(
            columns.seq[slot],
            columns.timestamp_us[slot],
            columns.production_wh[slot],
            columns.consumption_wh[slot],
            columns.digest[slot],
            columns.state[slot],
            columns.revision[slot],
        )

    def put(self, epoch: int, slot: int, register: BoundaryRegister) -> None:
        """Set, or replace, what stands at the start of `epoch`."""
        columns = self._by_epoch.setdefault(epoch, _Columns())
        columns.grow(slot + 1)
        columns.state[slot], columns.revision[slot] = register.state, register.revision
        columns.seq[slot], columns.timestamp_us[slot] = register.seq, register.timestamp_us
        columns.production_wh[slot], columns.consumption_wh[slot] = register.production_wh, register.consumption_wh
        columns.digest[slot] = register.digest

    def put_many(self, epoch: int, slots: int, slot: Ints, columns: tuple[Ints, Ints, Ints, Ints, Ints]) -> None:
        """Set readings (seq, time, production, consumption, digest) of several slots; `slots`: how many there are."""
        at = self._by_epoch.setdefault(epoch, _Columns())
        at.grow(slots)
        np.frombuffer(at.state, dtype=np.uint8)[slot] = READING
        np.frombuffer(at.revision, dtype=np.uint16)[slot] = 0
        targets = at.seq, at.timestamp_us, at.production_wh, at.consumption_wh, at.digest
        for target, values in zip(targets, columns, strict=True):
            as_numpy(target)[slot] = values

    def around(
        self, slot: int, seq: int, newest: int, oldest: int
    ) -> tuple[BoundaryRegister | None, BoundaryRegister | None]:
        """The boundary readings with the highest seq ≤ `seq` and the lowest above it, from `newest` back.

        A walk back rather than a search: late readings lie near the end, and missing boundaries break the order.
        """
        above: BoundaryRegister | None = None
        for epoch in range(newest, oldest - 1, -1):
            found = self.get(epoch, slot)
            if found is None or found.state != READING:
                continue
            if found.seq <= seq:
                return found, above
            above = found
        return None, above

    def prune(self, oldest: int) -> None:
        """Forget boundaries before the start of epoch `oldest`."""
        for epoch in [epoch for epoch in self._by_epoch if epoch < oldest]:
            del self._by_epoch[epoch]

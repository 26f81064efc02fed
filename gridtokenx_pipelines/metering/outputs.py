"""What a shard hands out: frames of net energy and corrections, dead letters, closed epochs, counts.

Belongs here: their columns (docs/reference/contract.md) and structs. Does not belong here: how they come about
(window.py, epoch_close.py) or where they go (messaging, streaming).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from gridtokenx_pipelines.metering.readings import Measured, Raw, RejectReason
from gridtokenx_pipelines.metering.registry import MeterRecord
from gridtokenx_pipelines.metering.rows import Ints

NET_ENERGY_SCHEMA: dict[str, type[pl.DataType]] = {
    "meter_id": pl.String,
    "wallet": pl.String,
    "zone_id": pl.Int64,
    "epoch": pl.Int64,
    "revision": pl.Int64,
    "production_start_wh": pl.Int64,
    "consumption_start_wh": pl.Int64,
    "production_end_wh": pl.Int64,
    "consumption_end_wh": pl.Int64,
    "production_wh": pl.Int64,
    "consumption_wh": pl.Int64,
    "net_wh": pl.Int64,
    "readings": pl.Int64,
    "estimated": pl.Boolean,
    "missing": pl.Boolean,
    "first_seq": pl.Int64,
    "last_seq": pl.Int64,
    "late": pl.Boolean,
    "booked_epoch": pl.Int64,
}
CORRECTION_SCHEMA: dict[str, type[pl.DataType]] = {
    "meter_id": pl.String,
    "wallet": pl.String,
    "boundary_epoch": pl.Int64,
    "revision": pl.Int64,
    "production_delta_wh": pl.Int64,
    "consumption_delta_wh": pl.Int64,
    "seq": pl.Int64,
    "timestamp_us": pl.Int64,
}
NetEnergyRow = tuple[
    str, str, int, int, int, int, int, int, int, int, int, int, int, bool, bool, int | None, int | None, bool, int
]
CorrectionRow = tuple[str, str, int, int, int, int, int | None, int | None]


class DeadLetter(msgspec.Struct, frozen=True):
    """A refused record, whole, with its numbered reason."""

    partition: int
    raw: Raw
    reason: RejectReason
    detail: str


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An accepted reading with the Wh since the meter's reading before it (None where that one is not kept).

    `reading` is None where only the interval of an earlier accepted reading changed, as one came between.
    """

    record: MeterRecord
    timestamp_us: int
    reading: Measured | None
    generation_wh: int | None
    consumption_wh: int | None


class AcceptedRun(NamedTuple):
    """Readings accepted as columns, by meter and in its order of seq; `interval` is False for a meter's very first."""

    records: Sequence[MeterRecord | None]  # by slot
    slot: Ints
    timestamp_us: Ints
    readings: Sequence[Measured]
    generation_wh: Ints
    consumption_wh: Ints
    interval: npt.NDArray[np.bool_]

    def rows(self) -> list[Accepted]:
        """One by one."""
        return self._at(slice(None))

    def newest(self) -> list[Accepted]:
        """The last of each meter."""
        return self._at(np.flatnonzero(np.append(self.slot[1:] != self.slot[:-1], True)))

    def _at(self, which: Ints | slice) -> list[Accepted]:
        readings = self.readings if isinstance(which, slice) else [self.readings[at] for at in which.tolist()]
        known = self.interval[which].tolist()
        return list(
            map(
                Accepted,
                [self.records[slot] for slot in self.slot[which].tolist()],
                self.timestamp_us[which].tolist(),
                readings,
                [wh if each else None for wh, each in zip(self.generation_wh[which].tolist(), known, strict=True)],
                [wh if each else None for wh, each in zip(self.consumption_wh[which].tolist(), known, strict=True)],
            )
        )


class ClosedEpoch(msgspec.Struct, frozen=True):
    """An epoch that this partition closed, and the offsets (both included) it archives; none if last < first."""

    epoch: int
    first_offset: int
    last_offset: int


class Progress(msgspec.Struct, frozen=True):
    """How far a partition has come; the watermark and epoch are None before its first tick."""

    partition: int
    partitions: int
    watermark_us: int | None
    closed_epoch: int | None
    offset: int


class Outputs:
    """What one batch gave, in the order it came about."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.net_energy_rows: list[NetEnergyRow] = []
        self.correction_rows: list[CorrectionRow] = []
        self.dead_letters: list[DeadLetter] = []
        self._accepted: list[Accepted | AcceptedRun] = []
        self.closed: list[ClosedEpoch] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.totals: dict[tuple[str, str], int] = {}  # counts of the partition since its beginning
        self.progress: Progress | None = None

    def accept(self, readings: Accepted | AcceptedRun) -> None:
        """Note what was accepted."""
        self._accepted.append(readings)

    @property
    def accepted(self) -> list[Accepted]:
        """All of it one by one: made when asked for, as few ask."""
        return [one for each in self._accepted for one in (each.rows() if isinstance(each, AcceptedRun) else (each,))]

    def newest(self) -> list[Accepted]:
        """Of what was accepted enough to hold each meter's newest."""
        return [one for each in self._accepted for one in (each.newest() if isinstance(each, AcceptedRun) else (each,))]

    def net_energy(self) -> pl.DataFrame:
        """Rows per meter, epoch and revision."""
        return pl.DataFrame(self.net_energy_rows, schema=NET_ENERGY_SCHEMA, orient="row")

    def corrections(self) -> pl.DataFrame:
        """Rows per meter, boundary and revision."""
        return pl.DataFrame(self.correction_rows, schema=CORRECTION_SCHEMA, orient="row")

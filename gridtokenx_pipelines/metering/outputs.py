"""What a shard hands out: frames of net energy and corrections, dead letters, closed epochs, counts.

Belongs here: their columns (docs/reference/contract.md) and structs. Does not belong here: how they come about
(window.py, epoch_close.py) or where they go (messaging, streaming).
"""

from __future__ import annotations

from collections import Counter

import msgspec
import polars as pl

from gridtokenx_pipelines.metering.readings import Measured, Raw, RejectReason
from gridtokenx_pipelines.metering.registry import MeterRecord

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
        self.accepted: list[Accepted] = []
        self.closed: list[ClosedEpoch] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.totals: dict[tuple[str, str], int] = {}  # counts of the partition since its beginning
        self.progress: Progress | None = None

    def net_energy(self) -> pl.DataFrame:
        """Rows per meter, epoch and revision."""
        return pl.DataFrame(self.net_energy_rows, schema=NET_ENERGY_SCHEMA, orient="row")

    def corrections(self) -> pl.DataFrame:
        """Rows per meter, boundary and revision."""
        return pl.DataFrame(self.correction_rows, schema=CORRECTION_SCHEMA, orient="row")

"""The archive: every record of a partition and epoch as it came, signed bytes and all, in one Parquet file.

Belongs here: gathering a closed epoch's offsets and writing them. Does not belong here: reading them back for an audit.
Records are held until their epoch closes; what this process hasn't seen, after a restart, is read from the topic again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from gridtokenx_pipelines.metering.outputs import ClosedEpoch
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.store.parquet import ParquetStore

ASSET = "archive"
SCHEMA = {
    "partition": pl.Int64,
    "offset": pl.Int64,
    "broker_us": pl.Int64,
    "key": pl.Binary,
    "value": pl.Binary,
    "sig": pl.Binary,
    "pub": pl.Binary,
    "kind": pl.Binary,
}
MOST_HELD_BYTES = 64 << 20  # of a partition; beyond it the epoch is read from the topic once more
Fetch = Callable[[int, int, int], Sequence[Raw]]  # partition, first and last offset


def frame_of(partition: int, raws: Sequence[Raw]) -> pl.DataFrame:
    """Records in offset order as the archive's columns; a header that was not there is null."""
    return pl.DataFrame(
        {
            "partition": [partition] * len(raws),
            "offset": [raw.offset for raw in raws],
            "broker_us": [raw.broker_us for raw in raws],
            "key": [raw.key for raw in raws],
            "value": [raw.value for raw in raws],
            **{name: [raw.header(name) or None for raw in raws] for name in ("sig", "pub", "kind")},
        },
        schema=SCHEMA,
    )


class Archive:
    """Files `archive/date=…/epoch=…/partition-N.parquet`; writing one again gives the same file."""

    def __init__(self, store: ParquetStore, fetch: Fetch) -> None:
        self._store, self._fetch = store, fetch
        self._held: dict[int, list[Raw]] = {}
        self._bytes: dict[int, int] = {}

    def add(self, partition: int, raws: Sequence[Raw], closed: Sequence[ClosedEpoch]) -> None:
        """Take a batch in, and write the epochs that it closed."""
        held = self._held.setdefault(partition, [])
        held.extend(raws)
        size = self._bytes.get(partition, 0) + sum(len(raw.value) for raw in raws)
        for epoch in closed:
            self._write(partition, epoch)
        held = self._held[partition]
        if closed:
            size = sum(len(raw.value) for raw in held)
        if size > MOST_HELD_BYTES:
            held.clear()
            size = 0
        self._bytes[partition] = size

    def _write(self, partition: int, closed: ClosedEpoch) -> None:
        held = self._held[partition]
        first_held = held[0].offset if held else closed.last_offset + 1
        before: Sequence[Raw] = ()
        if closed.first_offset < first_held and closed.first_offset <= closed.last_offset:
            before = self._fetch(partition, closed.first_offset, min(first_held - 1, closed.last_offset))
        within = [raw for raw in held if closed.first_offset <= raw.offset <= closed.last_offset]
        self._held[partition] = [raw for raw in held if raw.offset > closed.last_offset]
        frame = frame_of(partition, [*before, *within])
        self._store.write(ASSET, closed.epoch, f"partition-{partition}", frame)

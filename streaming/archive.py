"""The archive's writer: every record of a partition and epoch as it came, signed bytes and all, in one Parquet file.

Belongs here: gathering a closed epoch's offsets and writing them. Does not belong here: the layout, reading, compacting
(store/archive.py). Records are held until their epoch closes; what this process hasn't seen, after a restart, is read
from the topic again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from gridtokenx_pipelines.messaging.influx_points import lines_of_records
from gridtokenx_pipelines.metering.outputs import ClosedEpoch, DeadLetter
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import RegistryView
from gridtokenx_pipelines.metering.verify import Message
from gridtokenx_pipelines.store.archive import (
    ASSET,
    SCHEMA,
    ArchiveError,
    Named,
    SignedArchive,
    frame_of,
    index_frame,
    named_by,
    raws_of,
    write_epoch,
    write_registry,
)
from gridtokenx_pipelines.store.parquet import ParquetStore

__all__ = ["ASSET", "SCHEMA", "Archive", "frame_of"]

MOST_HELD_BYTES = 64 << 20  # of a partition; beyond it the epoch is read from the topic once more
_TAKEN = pl.col("reason_code").is_null() & pl.col("kind").is_null()
Fetch = Callable[[int, int, int], Sequence[Raw]]  # partition, first and last offset
Refused = Callable[[int, int, int], Mapping[int, int]]  # the same → reason codes by offset
Registered = Callable[[], Sequence[bytes]]


def _nothing_known(_partition: int, _first: int, _last: int) -> Mapping[int, int]:
    return {}


def archived_points(folder: Path, registry: RegistryView) -> Callable[[int, int], Sequence[str] | None]:
    """InfluxDB's points of a partition's archived epoch; None while its file isn't written."""
    archive = SignedArchive(folder)

    def points(partition: int, epoch: int) -> Sequence[str] | None:
        try:
            records = archive.read(partition, epoch)
        except ArchiveError:
            return None
        try:
            before = raws_of(archive.read(partition, epoch - 1).filter(_TAKEN))
        except ArchiveError:
            before = []  # the flow's first epoch
        return lines_of_records(before, raws_of(records.filter(_TAKEN)), registry)

    return points


class Archive:
    """Files `archive/date=…/epoch=…/partition-N.parquet` with an index each; writing one again gives the same file.

    `refused` tells the reason codes of records that an earlier process refused, `registered` the registry's messages,
    kept beside the records so that they can be verified when the topics are long gone.
    """

    def __init__(
        self,
        store: ParquetStore,
        fetch: Fetch,
        refused: Refused = _nothing_known,
        registered: Registered | None = None,
    ) -> None:
        self._store, self._fetch, self._refused, self._registered = store, fetch, refused, registered
        self._held: dict[int, list[Raw]] = {}
        self._named: dict[int, list[Named | None]] = {}  # whom each held record names, so that none is decoded twice
        self._bytes: dict[int, int] = {}
        self._codes: dict[int, dict[int, int]] = {}
        self._kept = 0  # registry messages written so far

    def add(
        self,
        partition: int,
        messages: Sequence[Message],
        closed: Sequence[ClosedEpoch],
        letters: Sequence[DeadLetter] = (),
    ) -> None:
        """Take a batch in, and write the epochs that it closed."""
        held = self._held.setdefault(partition, [])
        held.extend([message.raw for message in messages])
        self._named.setdefault(partition, []).extend(map(named_by, messages))
        codes = self._codes.setdefault(partition, {})
        codes.update((letter.raw.offset, letter.reason.value) for letter in letters)
        size = self._bytes.get(partition, 0) + sum([len(message.raw.value) for message in messages])
        for epoch in closed:
            self._write(partition, epoch)
        if closed:
            size = sum([len(raw.value) for raw in held])
            self._keep_registry()
        if size > MOST_HELD_BYTES:
            held.clear()
            self._named[partition].clear()
            size = 0
        self._bytes[partition] = size

    def _keep_registry(self) -> None:
        if self._registered is not None:
            messages = self._registered()
            if len(messages) > self._kept:
                write_registry(self._store.root, messages)
                self._kept = len(messages)

    def _write(self, partition: int, closed: ClosedEpoch) -> None:
        held, named, codes = self._held[partition], self._named[partition], self._codes[partition]
        first_held = held[0].offset if held else closed.last_offset + 1
        before: Sequence[Raw] = ()
        if closed.first_offset < first_held and closed.first_offset <= closed.last_offset:
            last = min(first_held - 1, closed.last_offset)
            before = self._fetch(partition, closed.first_offset, last)
            codes.update(self._refused(partition, closed.first_offset, last))
        first, end = (bisect_left(held, at, key=_offset) for at in (closed.first_offset, closed.last_offset + 1))
        frame = frame_of(partition, [*before, *held[first:end]], codes)
        index = None
        if not before:
            offsets = [raw.offset for raw in held[first:end]]
            index = index_frame(closed.epoch, zip(offsets, named[first:end], strict=True))
        write_epoch(self._store, closed.epoch, partition, frame, index)
        # in place: the caller holds the lists too
        del held[:end], named[:end]
        self._codes[partition] = {offset: code for offset, code in codes.items() if offset > closed.last_offset}


def _offset(raw: Raw) -> int:
    return raw.offset

"""The signed archive for its readers: records of every partition and epoch as they came, and an index by meter.

Belongs here: the layout, reading, compacting. Does not belong here: gathering a closed epoch's records
(streaming/archive.py), or judging them (metering/recheck.py). **The door for audits** is `SignedArchive`:

    archive = SignedArchive(folder)                      # the folder in which `archive/` lies
    for partition in archive.partitions(first, last):
        for frame in archive.replay(partition, first, last):   # one frame an epoch, in offset order
            raws = raws_of(frame)                         # what Verifier.messages and window.step take
    archive.registry()                                    # RegistryView of all that was in force
    archive.of_meter("MEA-001", first, last)              # one meter's records only, by the index

An epoch's files hold what *came* until its partition closed it, so a late reading lies in a later epoch's file.
`archive/date=…/epoch=…/partition-N.parquet` and `index-N.parquet`; a compacted day has `archive/date=…/day/` with the
same two names instead, `epoch` being a column. A file is there whole or not at all.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import polars as pl

from gridtokenx_pipelines.epochs import EPOCH_SECONDS, EPOCHS_PER_DAY
from gridtokenx_pipelines.metering.readings import KIND_TICK, Block, Raw, Reading, Tick, time_us
from gridtokenx_pipelines.metering.registry import RegistryView, decode_record
from gridtokenx_pipelines.metering.verify import Message
from gridtokenx_pipelines.store.parquet import ParquetStore

ASSET, DAY, REGISTRY = "archive", "day", "registry.jsonl"
SCHEMA = {
    "partition": pl.Int64,
    "offset": pl.Int64,
    "broker_us": pl.Int64,
    "key": pl.Binary,
    "value": pl.Binary,
    "sig": pl.Binary,
    "pub": pl.Binary,
    "kind": pl.Binary,
    "reason_code": pl.Int64,  # null: not refused
}
INDEX_SCHEMA = {
    "meter_id": pl.String,
    "offset": pl.Int64,
    "epoch": pl.Int64,
    "first_us": pl.Int64,
    "last_us": pl.Int64,
}
_EPOCH_FOLDER = re.compile(r"epoch=(\d{8}T\d{4}Z)$")
_PARTITION_FILE = re.compile(r"partition-(\d+)\.parquet$")
ROW_GROUP = 20_000


class ArchiveError(LookupError):
    """The archive lacks what was asked for: names it, what there is, and the remedy."""


# what no column can hold was refused as a bad field, and is found by its offset
_Time = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | datetime


class _Stamped(msgspec.Struct, gc=False):
    timestamp: _Time = 0


class _Said(msgspec.Struct, gc=False):
    """Just enough of a record to find it again."""

    meter_id: str = ""
    timestamp: _Time = 0
    readings: tuple[_Stamped, ...] = ()


_SAID = msgspec.json.Decoder(_Said)


def frame_of(partition: int, raws: Sequence[Raw], refused: Mapping[int, int] | None = None) -> pl.DataFrame:
    """Records in offset order as the archive's columns; a header that was not there is null; refused: offset → code."""
    codes = refused or {}
    proofs = [raw.proof() for raw in raws]
    none = pl.repeat(None, len(raws), dtype=pl.Int64, eager=True)
    return pl.DataFrame(
        {
            "partition": pl.repeat(partition, len(raws), dtype=pl.Int64, eager=True),
            "offset": [raw.offset for raw in raws],
            "broker_us": [raw.broker_us for raw in raws],
            "key": [raw.key for raw in raws],
            "value": [raw.value for raw in raws],
            "sig": [signature or None for signature, _, _ in proofs],
            "pub": [pub or None for _, pub, _ in proofs],
            "kind": [kind or None for _, _, kind in proofs],
            "reason_code": [codes.get(raw.offset) for raw in raws] if codes else none,
        },
        schema=SCHEMA,
    )


def raws_of(frame: pl.DataFrame) -> list[Raw]:
    """The records of an archive frame as they were read from the topic, for `Verifier.messages`."""
    return [
        Raw(
            row["offset"],
            row["broker_us"],
            row["value"],
            tuple((name, row[name]) for name in ("sig", "pub", "kind") if row[name] is not None),
            row["key"],
        )
        for row in frame.iter_rows(named=True)
    ]


Named = tuple[str, int, int]  # meter, first and last timestamp in µs


def named_by(message: Message) -> Named | None:
    """Which meter a judged record names, and from when to when; refused ones too, where they can be read at all."""
    body = message.body
    if isinstance(body, Reading):
        at = body.timestamp_us
        return body.meter_id, at, at
    if isinstance(body, Block):
        times = [each.timestamp_us for each in body.readings]
        return body.meter_id, min(times), max(times)
    return None if isinstance(body, Tick) else _named(message.raw.value, message.raw.header("kind"))


def index_of(frame: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Which meter each record names, sorted by meter and offset, read from the records themselves."""
    columns = frame.select("offset", "value", "kind").iter_rows()
    return index_frame(epoch, ((offset, _named(value, kind)) for offset, value, kind in columns))


def index_frame(epoch: int, named: Iterable[tuple[int, Named | None]]) -> pl.DataFrame:
    """The index of an epoch's records (offset, whom it names), sorted by meter and offset."""
    found = [(offset, each) for offset, each in named if each is not None]
    return pl.DataFrame(
        {
            "meter_id": [each[0] for _, each in found],
            "offset": [offset for offset, _ in found],
            "epoch": pl.repeat(epoch, len(found), dtype=pl.Int64, eager=True),
            "first_us": [each[1] for _, each in found],
            "last_us": [each[2] for _, each in found],
        },
        schema=INDEX_SCHEMA,
    ).sort("meter_id", "offset")


def _named(value: bytes, kind: bytes | None) -> Named | None:
    said = None if kind == KIND_TICK else _said(value)
    if said is None or not said.meter_id:
        return None
    times = [time_us(each.timestamp) for each in said.readings] or [time_us(said.timestamp)]
    return said.meter_id, min(times), max(times)


def _said(value: bytes) -> _Said | None:
    try:
        return _SAID.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def write_epoch(
    store: ParquetStore, epoch: int, partition: int, frame: pl.DataFrame, index: pl.DataFrame | None = None
) -> None:
    """Write, or replace, a partition's records of an epoch and their index; the records last, as they are the proof."""
    store.write(ASSET, epoch, f"index-{partition}", index_of(frame, epoch) if index is None else index)
    store.write(ASSET, epoch, f"partition-{partition}", frame)


def write_registry(folder: Path, messages: Sequence[bytes]) -> None:
    """Keep the registry's messages beside the records they explain; a shorter list never replaces a longer one."""
    target = folder / ASSET / REGISTRY
    if target.is_file() and len(target.read_bytes().splitlines()) >= len(messages):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{REGISTRY}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(b"".join(message + b"\n" for message in messages))
    os.replace(temporary, target)


class SignedArchive:
    """The archive under one folder, compacted or not; epochs are those in which records came."""

    def __init__(self, folder: str | Path) -> None:
        self._store = ParquetStore(folder)
        self.root = self._store.root / ASSET

    def registry(self) -> RegistryView:
        """All registry records that the archive was written under. Raises ArchiveError if they aren't there."""
        path = self.root / REGISTRY
        if not path.is_file():
            raise ArchiveError(f"{path} is not there; name the folder in which a telemetry flow wrote archive/")
        return RegistryView(decode_record(line) for line in path.read_bytes().splitlines())

    def epochs(self, partition: int) -> list[int]:
        """Epochs with records of a partition, ascending."""
        loose = {_epoch_of(path.parent) for path in self.root.glob(f"date=*/epoch=*/partition-{partition}.parquet")}
        for path in self.root.glob(f"date=*/{DAY}/partition-{partition}.parquet"):
            loose.update(_column(path, "epoch"))
        return sorted(loose)

    def partitions(self, first_epoch: int | None = None, last_epoch: int | None = None) -> list[int]:
        """Partitions that have records (in the epochs first…last, both included)."""
        found = {int(match[1]) for path in self.root.glob("date=*/*/*") if (match := _PARTITION_FILE.search(path.name))}
        return sorted(each for each in found if _within(self.epochs(each), first_epoch, last_epoch))

    def read(self, partition: int, epoch: int) -> pl.DataFrame:
        """A partition's records of one epoch in offset order. Raises ArchiveError."""
        if self._store.exists(ASSET, epoch, f"partition-{partition}"):
            # written again after a compaction: the same records, by the flow's word
            return self._store.read(ASSET, epoch, f"partition-{partition}").sort("offset")
        path = self._day(epoch) / f"partition-{partition}.parquet"
        if path.is_file():
            found = pl.scan_parquet(path, hive_partitioning=False).filter(pl.col("epoch") == epoch).drop("epoch")
            frame = found.collect()
            if not frame.is_empty() or epoch in _column(path, "epoch"):
                return frame.sort("offset")
        raise ArchiveError(f"the archive has no epoch {epoch} of partition {partition} under {self.root}")

    def replay(self, partition: int, first_epoch: int, last_epoch: int) -> Iterator[pl.DataFrame]:
        """Records by epoch in which they came, first…last both included, in the order the flow applied them."""
        for epoch in _within(self.epochs(partition), first_epoch, last_epoch):
            yield self.read(partition, epoch)

    def index(self, meter_id: str, first_epoch: int, last_epoch: int) -> pl.DataFrame:
        """Where a meter's records lie: `INDEX_SCHEMA` and partition, by offset; parquet's statistics skip the rest."""
        frames = [pl.DataFrame(schema={**INDEX_SCHEMA, "partition": pl.Int64})]
        for path in sorted(self.root.glob("date=*/*/index-*.parquet")):
            if not self._may_hold(path, first_epoch, last_epoch):
                continue
            found = pl.scan_parquet(path, hive_partitioning=False).filter(
                (pl.col("meter_id") == meter_id) & pl.col("epoch").is_between(first_epoch, last_epoch)
            )
            partition = int(path.stem.removeprefix("index-"))
            frames.append(found.with_columns(partition=pl.lit(partition, pl.Int64)).collect())
        return pl.concat(frames).unique(["partition", "offset"]).sort("partition", "offset")

    def of_meter(self, meter_id: str, first_epoch: int, last_epoch: int) -> pl.DataFrame:
        """One meter's records that came in epochs first…last, with the column `epoch`, by partition and offset."""
        frames = [pl.DataFrame(schema={**SCHEMA, "epoch": pl.Int64})]
        places = self.index(meter_id, first_epoch, last_epoch)
        for (partition, epoch), group in places.group_by(["partition", "epoch"], maintain_order=True):
            whole = self.read(int(str(partition)), int(str(epoch)))
            mine = whole.filter(pl.col("offset").is_in(group["offset"].implode()))
            frames.append(mine.with_columns(epoch=pl.lit(epoch, pl.Int64)))
        return pl.concat(frames).sort("partition", "offset")

    def _day(self, epoch: int) -> Path:
        return self.root / f"date={datetime.fromtimestamp(epoch * EPOCH_SECONDS, UTC):%Y-%m-%d}" / DAY

    def _may_hold(self, path: Path, first_epoch: int, last_epoch: int) -> bool:
        if path.parent.name != DAY:
            return first_epoch <= _epoch_of(path.parent) <= last_epoch
        start = _epoch_of_date(path.parent.parent)
        return start <= last_epoch and first_epoch < start + EPOCHS_PER_DAY

    def compact(self, date: str) -> int:
        """Put a UTC day's files together, one pair a partition, and drop the small ones; how many those were.

        Each day file is written and synced before anything is dropped, so a crash leaves the records twice at worst,
        and running it again ends the same. A day still being written can be compacted too: what comes later is added.
        """
        folder = self.root / f"date={date}"
        small = sorted(folder.glob("epoch=*/partition-*.parquet"))
        partitions = sorted({int(match[1]) for path in small if (match := _PARTITION_FILE.search(path.name))})
        for partition in partitions:
            epochs = [_epoch_of(path.parent) for path in small if path.name == f"partition-{partition}.parquet"]
            self._compact(folder, partition, epochs)
        for path in small:
            (path.parent / path.name.replace("partition-", "index-")).unlink(missing_ok=True)
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        return len(small)

    def _compact(self, folder: Path, partition: int, epochs: list[int]) -> None:
        records = [self.read(partition, epoch).with_columns(epoch=pl.lit(epoch, pl.Int64)) for epoch in sorted(epochs)]
        index = [index_of(frame, epoch) for frame, epoch in zip(records, sorted(epochs), strict=True)]
        former = folder / DAY / f"partition-{partition}.parquet"
        if former.is_file():
            others = ~pl.col("epoch").is_in(epochs)
            records.append(pl.read_parquet(former, hive_partitioning=False).filter(others))
            known = pl.read_parquet(former.with_name(f"index-{partition}.parquet"), hive_partitioning=False)
            index.append(known.filter(others))
        former.parent.mkdir(parents=True, exist_ok=True)
        _replace(former.with_name(f"index-{partition}.parquet"), pl.concat(index).sort("meter_id", "offset"))
        _replace(former, pl.concat(records).sort("offset"))


def _replace(target: Path, frame: pl.DataFrame) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    with open(temporary, "wb") as handle:
        frame.write_parquet(handle, compression="zstd", row_group_size=ROW_GROUP)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, target)


def _column(path: Path, name: str) -> list[int]:
    return pl.scan_parquet(path, hive_partitioning=False).select(pl.col(name).unique()).collect()[name].to_list()


def _epoch_of(folder: Path) -> int:
    match = _EPOCH_FOLDER.search(folder.name)
    if match is None:
        raise ArchiveError(f"{folder} is no epoch's folder; keep other files out of the archive")
    return int(datetime.strptime(match[1], "%Y%m%dT%H%MZ").replace(tzinfo=UTC).timestamp()) // EPOCH_SECONDS


def _epoch_of_date(folder: Path) -> int:
    day = datetime.strptime(folder.name.removeprefix("date="), "%Y-%m-%d").replace(tzinfo=UTC)
    return int(day.timestamp()) // EPOCH_SECONDS


def _within(epochs: list[int], first: int | None, last: int | None) -> list[int]:
    return [each for each in epochs if (first is None or each >= first) and (last is None or each <= last)]

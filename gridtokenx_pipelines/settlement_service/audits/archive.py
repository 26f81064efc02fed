"""The archive as an audit reads it: files found, hashed, opened one by one where one can't be read.

Belongs here: which files there are and what is in them. Does not belong here: verifying or replaying
(audit/readings.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import polars as pl

from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.metering.registry import RegistryError, RegistryView
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store.archive import ASSET, DAY, ArchiveError, SignedArchive

# a broken Parquet file may make polars panic, which is no ordinary exception
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)
FOLDER = "epoch=%Y%m%dT%H%MZ"
RECORD_COLUMNS = {name: pl.Int64 for name in ("epoch", "partition", "offset", "broker_us")} | {
    name: pl.Binary for name in ("key", "value", "sig", "pub", "kind")
}


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a range of archived epochs, the file each (epoch, partition) came from, the registry (None: not kept),
    and what can't be read."""

    records: pl.DataFrame
    files: dict[tuple[int, int], Path]
    registry: RegistryView | None
    findings: tuple[Finding, ...]


def root_of(services: Services) -> Path:
    """The folder in which `archive/` lies: the data folder, beside the frames."""
    return services.parquet.root.parent


def read(services: Services, first: int, last: int) -> Archive:
    """Every archived record of epochs first…last (both ends included) that is there, compacted or not."""
    archive = SignedArchive(root_of(services))
    loose = loose_files(root_of(services), first, last)
    parts, findings = [], []
    for paths in (list(loose.values()), _days(archive.root, first, last)):
        frame, bad = _read(paths)
        parts.append(frame.filter(pl.col("epoch").is_between(first, last)))
        findings += [_unreadable(path, error, max(first, 0)) for path, error in bad]
    # a file written again after a compaction has the same records: the loose one is read
    compacted = parts[1].join(parts[0].select("epoch", "partition").unique(), on=["epoch", "partition"], how="anti")
    files = {place: path for place, path in loose.items()}
    for epoch, partition, path in compacted.select("epoch", "partition", "path").unique().iter_rows():
        files[epoch, partition] = Path(path)
    bad_paths = {path for path, _ in _named(findings)}
    files = {place: path for place, path in files.items() if str(path) not in bad_paths}
    registry: RegistryView | None = None
    try:
        registry = archive.registry()
    except ArchiveError:
        registry = None
    except RegistryError as error:
        findings.append(Finding(epoch=last, stage="archive", what="archive registry.jsonl", detail=str(error)))
    return Archive(
        records=pl.concat([parts[0], compacted]).drop("path"),
        files=files,
        registry=registry,
        findings=tuple(findings),
    )


def loose_files(folder: Path, first: int, last: int, kind: str = "partition") -> dict[tuple[int, int], Path]:
    """Files of single epochs by (epoch, partition), in order; `kind`: partition (the records) or index."""
    ends = [datetime.fromtimestamp(max(epoch, 0) * EPOCH_SECONDS, UTC) for epoch in (first, last)]
    days = [f"date={each:%Y-%m-%d}" for each in ends]
    found = {}
    for day in sorted((folder / ASSET).glob("date=*")):
        if not days[0] <= day.name <= days[1]:
            continue
        for path in sorted(day.glob(f"epoch=*/{kind}-*.parquet")):
            epoch = _epoch_of(str(path))
            if first <= epoch <= last:
                found[epoch, int(path.stem.removeprefix(f"{kind}-"))] = path
    return found


def _days(root: Path, first: int, last: int) -> list[Path]:
    day = "date=%Y-%m-%d"
    within = [datetime.fromtimestamp(epoch * EPOCH_SECONDS, UTC).strftime(day) for epoch in (first, last)]
    paths = root.glob(f"date=*/{DAY}/partition-*.parquet")
    return [path for path in sorted(paths) if within[0] <= path.parent.parent.name <= within[1]]


def digest_of(path: Path) -> bytes:
    """sha256 of a file's bytes."""
    return sha256(path.read_bytes()).digest()


def _read(paths: list[Path]) -> tuple[pl.DataFrame, list[tuple[Path, str]]]:
    """All files at once; where that fails, one by one, so that a broken one is named and the others count."""
    try:
        return _scan(paths), []
    except UNREADABLE:
        good, bad = [], []
        for path in paths:
            try:
                _scan([path])
            except UNREADABLE as error:
                bad.append((path, str(error).splitlines()[0]))
            else:
                good.append(path)
        return _scan(good), bad


def _scan(paths: list[Path]) -> pl.DataFrame:
    if not paths:
        return pl.DataFrame(schema=RECORD_COLUMNS | {"path": pl.String})
    # files of a day have the epoch as a column, those of an epoch have it in their folder's name
    lazy = pl.scan_parquet(paths, hive_partitioning=False, include_file_paths="path")
    frame = lazy.collect()
    if "epoch" not in frame.columns:
        known = frame.select(pl.col("path").unique()).with_columns(
            epoch=pl.col("path").map_elements(_epoch_of, return_dtype=pl.Int64)
        )
        frame = frame.join(known, on="path", how="left")
    return frame.select(*(pl.col(name).cast(kind) for name, kind in RECORD_COLUMNS.items()), "path")


def _epoch_of(path: str) -> int:
    started = datetime.strptime(Path(path).parent.name, FOLDER).replace(tzinfo=UTC)
    return int(started.timestamp()) // EPOCH_SECONDS


def _unreadable(path: Path, error: str, otherwise: int) -> Finding:
    epoch = _epoch_of(str(path)) if path.parent.name.startswith("epoch=") else otherwise
    return Finding(
        epoch=epoch,
        stage="archive",
        what=f"archive {path.stem}",
        detail=f"can't be read: {error}; restore it from the backup",
        stored=str(path),
    )


def _named(findings: list[Finding]) -> list[tuple[str, Finding]]:
    return [(each.stored, each) for each in findings if each.stored]

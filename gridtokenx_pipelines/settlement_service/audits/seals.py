"""Sealing what was settled, and finding out whether it is still what was sealed.

Belongs here: a run's seals of tables and files, written once with the statements, compared by an audit. Does not belong
here: hashing rows (store/seals.py). A seal finds any changed byte, also one that no recomputation depends on; what
the change means, the other stages say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.settlement_service.audits import archive as archives
from gridtokenx_pipelines.settlement_service.audits.inputs import Gathered
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit
from gridtokenx_pipelines.store import seals as store

# frames of an epoch that run 0 seals, and those that every run writes anew
FROZEN = (
    ("net_energy", "rows"),
    *(("order_book", name) for name in ("book", "rejected", "balances")),
    *(("clearing_results", name) for name in ("fills", "matches", "zones", "flows", "traded")),
)
REWRITTEN = (("epoch_statement", "participants"), ("epoch_statement", "operator"))
# an archive's file may be written a moment after its epoch settled; so long are epochs looked at again
LATE_EPOCHS = 96
READERS = 2
File = tuple[int, int, str, Path]  # epoch, run, what, path


def seal(services: Services, epochs: Sequence[int]) -> int:
    """Seal every finalised run of these epochs that is not sealed yet, and archive files that came late; how many."""
    first, last = epochs[0] - LATE_EPOCHS, epochs[-1]
    with services.engine.begin() as connection:
        there = store.seals(connection, first, last)
        known = set(there.select("epoch", "run", "what").iter_rows())
        runs = [each for each in store.finalised_runs(connection, first, last) if each[0] >= epochs[0]]
        open_runs = [(epoch, run) for epoch, run in runs if (epoch, run, "runs") not in known]
        made = _tables(connection, open_runs)
        again = {epoch for epoch, run, _ in known if run == 0} | {epoch for epoch, run in open_runs if run == 0}
        files = [each for each in _files(services, runs, again, first, last) if each[:3] not in known]
        made = pl.concat([made, _sealed_files(files)])
        if made.is_empty():
            return 0
        store.save(connection, made)
        for (epoch, run), part in sorted(made.partition_by("epoch", "run", as_dict=True).items()):
            if (epoch, run) in open_runs:
                detail = {"epoch": epoch, "run": run, "seals": digest_of(part), "sealed": sorted(part["what"])}
                audit.append(connection, at=datetime.now(UTC), who="settlement", what="run_sealed", detail=detail)
    return made.height


def _tables(connection: Connection, runs: Sequence[tuple[int, int]]) -> pl.DataFrame:
    if not runs:
        return pl.DataFrame(schema=store.SEALS)
    found = store.digests(connection, runs[0][0], runs[-1][0])
    wanted = pl.DataFrame(list(runs), schema={"epoch": pl.Int64, "run": pl.Int64}, orient="row")
    return found.join(wanted, on=["epoch", "run"], how="semi")


def digest_of(seals: pl.DataFrame) -> str:
    """One hash over a run's seals, as the audit log keeps it."""
    hashed = sha256()
    for what, digest in seals.sort("what").select("what", "sha256").iter_rows():
        hashed.update(what.encode() + b"\0" + digest)
    return hashed.hexdigest()


def _files(services: Services, runs: Iterable[tuple[int, int]], sealed: set[int], first: int, last: int) -> list[File]:
    found: list[File] = []
    for epoch, run in runs:
        for asset, name in (*FROZEN, *REWRITTEN) if run == 0 else REWRITTEN:
            path = services.parquet.path(asset, epoch, name)
            if path.is_file():
                found.append((epoch, run, f"frame {asset}/{name}", path))
    for kind in ("partition", "index"):
        archive = archives.loose_files(archives.root_of(services), first, last, kind)
        found += [
            (epoch, 0, f"archive {kind}-{number}", path) for (epoch, number), path in archive.items() if epoch in sealed
        ]
    return found


def _sealed_files(files: Iterable[File]) -> pl.DataFrame:
    with ThreadPoolExecutor(READERS, "seals") as pool:
        return pl.DataFrame(list(pool.map(_sealed_file, files)), schema=store.SEALS, orient="row")


def _sealed_file(file: File) -> tuple[int, int, str, bytes, bytes, int]:
    epoch, run, what, path = file
    records = pl.read_parquet(path, hive_partitioning=False)
    content = contents_of(records) if what.startswith("archive partition") else _rows_of(records)
    return epoch, run, what, archives.digest_of(path), content, records.height


def contents_of(records: pl.DataFrame) -> bytes:
    """What archived records hash to, whatever file they lie in."""
    hashed = sha256()
    columns = ("offset", "broker_us", "key", "value", "sig", "pub", "kind")
    for offset, broker_us, *parts in records.sort("offset").select(columns).iter_rows():
        hashed.update(offset.to_bytes(8, "little") + broker_us.to_bytes(8, "little", signed=True))
        for part in parts:
            hashed.update(b"\xff" if part is None else len(part).to_bytes(4, "little") + part)
    return hashed.digest()


def compare(services: Services, connection: Connection, gathered: Gathered) -> list[Finding]:
    """Every seal of the range against what it seals now. A run that was never sealed says nothing."""
    first, last = gathered.first, gathered.last
    seals = store.seals(connection, first, last)
    if seals.is_empty():
        return []
    now = store.digests(connection, first, last, sealed_only=True)
    both = seals.join(now, on=["epoch", "run", "what"], how="left", suffix="_now")
    tables = both.filter(pl.col("what").is_in(list(store.TABLES)))
    found = [
        _changed(row["epoch"], row["run"], row["what"], row["rows"], row["rows_now"])
        for row in tables.filter(pl.col("sha256").ne_missing(pl.col("sha256_now"))).iter_rows(named=True)
    ]
    found += _log(connection, seals, first, last)
    return found + _compare_files(services, gathered, seals.filter(~pl.col("what").is_in(list(store.TABLES))))


def _changed(epoch: int, run: int, what: str, then: int, now: int | None) -> Finding:
    return Finding(
        epoch=epoch,
        stage="seal",
        what=what,
        detail=f"is not what was sealed with run {run}: {then} rows then, {now or 0} now",
        stored=str(now or 0),
        recomputed=str(then),
    )


def _log(connection: Connection, seals: pl.DataFrame, first: int, last: int) -> list[Finding]:
    """The log vouches for a run's seals as they were written with it; archive files may have been added since."""
    said = store.logged(connection, first, last)
    sealed_then = _sealed_names(connection, first, last)
    found = []
    for (epoch, run), part in sorted(seals.partition_by("epoch", "run", as_dict=True).items()):
        place = (int(epoch), int(run))
        names = sealed_then.get(place)
        vouched = part if names is None else part.filter(pl.col("what").is_in(names))
        if said.get(place) != digest_of(vouched):
            detail = f"seals of run {run} are not those that the audit log tells of"
            found.append(Finding(epoch=place[0], stage="seal", what="seals", detail=detail))
    return found


def _sealed_names(connection: Connection, first: int, last: int) -> dict[tuple[int, int], list[str]]:
    return store.logged_names(connection, first, last)


def _compare_files(services: Services, gathered: Gathered, seals: pl.DataFrame) -> list[Finding]:
    last_run = dict(seals.group_by("epoch").agg(pl.col("run").max()).iter_rows())
    found = []
    root = archives.root_of(services)
    indexes, records = (
        archives.loose_files(root, gathered.first, gathered.last, kind) for kind in ("index", "partition")
    )
    for row in seals.iter_rows(named=True):
        epoch, run, what = row["epoch"], row["run"], row["what"]
        kind, _, name = what.partition(" ")
        if kind == "archive" and name.startswith("index-"):
            found += _index(row, (row["epoch"], int(name.removeprefix("index-"))), indexes, records)
            continue
        if kind == "archive":
            found += _archive_file(gathered, row, int(name.removeprefix("partition-")))
            continue
        asset, _, frame = name.partition("/")
        if (asset, frame) in REWRITTEN and run != last_run[epoch]:
            continue  # a later run wrote it anew
        path = services.parquet.path(asset, epoch, frame)
        if not path.is_file():
            found += _compacted(services, row, asset, frame)
        elif archives.digest_of(path) != row["sha256"]:
            detail = f"file's bytes are not those that were sealed with run {run}"
            found.append(Finding(epoch=epoch, stage="seal", what=what, detail=detail))
    return found


def _rows_of(frame: pl.DataFrame) -> bytes:
    """What a frame's rows hash to, whatever file they lie in."""
    texts = [pl.col(name).bin.encode("hex") for name, kind in frame.schema.items() if kind == pl.Binary]
    return sha256(frame.with_columns(texts).write_csv().encode()).digest()


def _compacted(services: Services, row: Mapping[str, Any], asset: str, frame: str) -> list[Finding]:
    """A frame whose day was put into one file since: its rows are held to their seal."""
    epoch, what = row["epoch"], row["what"]
    if not services.parquet.exists(asset, epoch, frame):
        return [Finding(epoch=epoch, stage="seal", what=what, detail="file is not there; restore it")]
    try:
        same = _rows_of(services.parquet.read(asset, epoch, frame)) == row["content"]
    except archives.UNREADABLE as error:
        detail = f"its day's file can't be read: {str(error).splitlines()[0]}; restore it"
        return [Finding(epoch=epoch, stage="seal", what=what, detail=detail)]
    detail = "its rows, compacted since, are not those that were sealed"
    return [] if same else [Finding(epoch=epoch, stage="seal", what=what, detail=detail)]


def _index(
    row: Mapping[str, Any],
    place: tuple[int, int],
    indexes: Mapping[tuple[int, int], Path],
    records: Mapping[tuple[int, int], Path],
) -> list[Finding]:
    """The index by meter; a compaction makes it anew of the records, so only a loose one is held to its seal."""
    epoch, what = row["epoch"], row["what"]
    path = indexes.get(place)
    if path is None:
        compacted = place not in records
        gone = "file is not there; compact the day, which makes it anew"
        return [] if compacted else [Finding(epoch=epoch, stage="seal", what=what, detail=gone)]
    same = archives.digest_of(path) == row["sha256"]
    detail = "file's bytes are not those that were sealed"
    return [] if same else [Finding(epoch=epoch, stage="seal", what=what, detail=detail)]


def _archive_file(gathered: Gathered, row: Mapping[str, Any], number: int) -> list[Finding]:
    epoch, what = row["epoch"], row["what"]
    path = gathered.archived.files.get((epoch, number))
    if path is None:
        return []  # the archive's own stage has said that it can't be read, or is not there
    if path.parent.name.startswith("epoch="):
        same = archives.digest_of(path) == row["sha256"]
        detail = "file's bytes are not those that were sealed"
    else:
        mine = (pl.col("epoch") == epoch) & (pl.col("partition") == number)
        same = contents_of(gathered.archived.records.filter(mine)) == row["content"]
        detail = "its records, compacted since, are not those that were sealed"
    return [] if same else [Finding(epoch=epoch, stage="seal", what=what, detail=detail)]

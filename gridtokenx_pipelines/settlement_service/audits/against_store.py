"""What was recomputed against what is stored: tables and frozen frames, stage by stage.

Belongs here: which stored thing answers to which recomputed one. Does not belong here: the comparison of two frames
(audit/compare.py), the chain's side (against_chain.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from gridtokenx_pipelines.audit.compare import differences
from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.audit.postings import POSTED, counted, postings
from gridtokenx_pipelines.audit.recompute import Recomputed
from gridtokenx_pipelines.market.frames import BOOK, FILLS, FLOWS, MATCHES, TRADED, ZONES
from gridtokenx_pipelines.metering.outputs import CORRECTION_SCHEMA
from gridtokenx_pipelines.settlement.frames import CLEARING, LATE, METER_ENTRIES, WALLET_ENTRIES
from gridtokenx_pipelines.settlement_service.audits.archive import UNREADABLE
from gridtokenx_pipelines.settlement_service.audits.inputs import Gathered
from gridtokenx_pipelines.store.parquet import EPOCH, ParquetStore

SUMS = ("volume_wh", "lost_wh", "link_wheeling_uthb", "rent_uthb", "welfare_uthb")
STATUS_OF_AN_ORDER = ("status", "reason")


def compare_store(gathered: Gathered, made: Recomputed, parquet: ParquetStore) -> list[Finding]:
    """All findings of database and frames against the recomputation, of the epochs that ran."""
    frames = FrozenFrames(parquet, gathered.ran)
    # a void epoch's book and result may lie there still; nothing follows from them
    traded = FrozenFrames(parquet, [epoch for epoch in gathered.ran if epoch not in gathered.given.voided])
    return [
        *_net_energy(gathered, frames),
        *_corrections(gathered),
        *_orders(gathered, made),
        *_books(gathered, made, traded),
        *_clearings(gathered, made, traded),
        *_ledger(gathered, made),
        *frames.findings,
        *traded.findings,
    ]


class FrozenFrames:
    """Frozen frames of many epochs read at once; a file that lacks or can't be read is a finding and left out."""

    def __init__(self, parquet: ParquetStore, epochs: Sequence[int]) -> None:
        self._parquet, self._epochs = parquet, epochs
        self.findings: list[Finding] = []
        self.read: set[int] = set()

    def stacked(self, stage: str, asset: str, name: str, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
        """The frames of all epochs with `epoch` in front; `read` says of which epochs there was one."""
        paths = {epoch: self._parquet.path(asset, epoch, name) for epoch in self._epochs}
        there = {epoch: path for epoch, path in paths.items() if path.is_file()}
        compacted = {epoch for epoch in paths.keys() - there.keys() if self._parquet.exists(asset, epoch, name)}
        for epoch in paths.keys() - there.keys() - compacted:
            self._finding(epoch, stage, asset, name, "file is not there; restore it, or materialise its asset again")
        try:
            frame = _scan(there, columns)
        except UNREADABLE:
            for epoch, path in list(there.items()):
                try:
                    _scan({epoch: path}, columns)
                except UNREADABLE as error:
                    self._finding(epoch, stage, asset, name, f"can't be read: {str(error).splitlines()[0]}")
                    del there[epoch]
            frame = _scan(there, columns)
        old, bad = _of_days(paths, compacted, columns)
        for epoch in sorted(bad):
            self._finding(epoch, stage, asset, name, "its day's file can't be read; restore it from the backup")
        self.read = set(there) | (compacted - bad)
        return pl.concat([frame, old])

    def _finding(self, epoch: int, stage: str, asset: str, name: str, detail: str) -> None:
        self.findings.append(Finding(epoch=epoch, stage=stage, what=f"frame {asset}/{name}", detail=detail))


def _scan(paths: Mapping[int, Path], columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    if not paths:
        return pl.DataFrame(schema={"epoch": pl.Int64, **columns})
    named = pl.DataFrame(
        {"_path": [str(path) for path in paths.values()], "_epoch": list(paths)},
        schema={"_path": pl.String, "_epoch": pl.Int64},
    )
    rows = pl.scan_parquet(list(paths.values()), hive_partitioning=False, include_file_paths="_path").collect()
    wanted = [pl.col(name).cast(kind) for name, kind in columns.items() if name != "epoch"]
    return rows.join(named, on="_path", how="left").select(pl.col("_epoch").alias("epoch"), *wanted)


def _of_days(
    paths: Mapping[int, Path], compacted: set[int], columns: Mapping[str, type[pl.DataType]]
) -> tuple[pl.DataFrame, set[int]]:
    """Rows of epochs whose day was compacted, each day's file read once; epochs whose file can't be read."""
    parts, bad = [pl.DataFrame(schema={"epoch": pl.Int64, **columns})], set()
    days: dict[Path, set[int]] = {}
    for epoch in compacted:
        days.setdefault(paths[epoch].parent.parent / paths[epoch].name, set()).add(epoch)
    for path, epochs in days.items():
        wanted = [pl.col(name).cast(kind) for name, kind in columns.items() if name != "epoch"]
        try:
            rows = pl.read_parquet(path, hive_partitioning=False).filter(pl.col(EPOCH).is_in(list(epochs)))
            parts.append(rows.select(pl.col(EPOCH).alias("epoch"), *wanted))
        except UNREADABLE:
            bad |= epochs
    return pl.concat(parts), bad


def _net_energy(gathered: Gathered, frames: FrozenFrames) -> list[Finding]:
    """Rows by the epoch that books them: the archive gives those of its whole epochs."""
    whole = pl.col("booked_epoch").is_in(list(gathered.replayed))
    key = ["booked_epoch", "epoch", "meter_id", "revision"]
    replayed = gathered.replay.net_energy.filter(whole)
    stored = gathered.stored.net_energy.cast(dict(replayed.schema)).filter(whole)  # type: ignore[arg-type]
    if not stored.is_empty():
        # a missing meter's registers are 0 in the replay and may be null in a table that was filled by hand
        registers = [f"{side}_{end}_wh" for side in ("production", "consumption") for end in ("start", "end")]
        stored = stored.with_columns(
            pl.when("missing").then(pl.col(registers).fill_null(0)).otherwise(pl.col(registers))
        )
    found = differences("net_energy", "net_energy", stored, replayed, key, epoch="booked_epoch")
    schema = {name: kind for name, kind in replayed.schema.items()}
    frozen = frames.stacked("net_energy", "net_energy", "rows", schema)  # type: ignore[arg-type]
    on_time = (pl.col("revision") == 0) & pl.col("epoch").is_in(list(gathered.replayed & frames.read))
    found += differences(
        "net_energy",
        "frame net_energy/rows",
        frozen.filter(on_time),
        replayed.filter(on_time),
        ["epoch", "meter_id", "revision"],
    )
    return found


def _corrections(gathered: Gathered) -> list[Finding]:
    """Corrections of boundaries in the range, and that what is booked names a run that is there."""
    mine = pl.col("boundary_epoch").is_in(list(gathered.replayed))
    key = ["boundary_epoch", "meter_id", "revision"]
    stored = gathered.stored.corrections
    found = differences(
        "net_energy",
        "corrections",
        stored.select(*CORRECTION_SCHEMA).filter(mine),
        gathered.replay.corrections.filter(mine),
        key,
        epoch="boundary_epoch",
    )
    seqs = gathered.stored.runs["seq"].to_list()
    lost = stored.filter(
        ((pl.col("status") == "booked") != (pl.col("booked_seq") > 0).fill_null(False))
        | ((pl.col("booked_seq") > 0) & ~pl.col("booked_seq").is_in(seqs))
        | ((pl.col("booked_seq") > 0) & pl.col("booked_run_epoch").ne_missing(pl.col("boundary_epoch")))
    )
    for row in lost.iter_rows(named=True):
        found.append(
            Finding(
                epoch=row["boundary_epoch"],
                stage="ledger",
                what=f"corrections meter_id={row['meter_id']} revision={row['revision']}",
                detail=f"is {row['status']} in run {row['booked_seq']} of {row['booked_run_epoch']}; no such run moved "
                "it",
            )
        )
    return found


def _orders(gathered: Gathered, made: Recomputed) -> list[Finding]:
    """What became of every order, from its fill or its refusal."""
    key = ["epoch", "wallet", "nonce"]
    given = gathered.given.orders.filter(pl.col("epoch").is_in(list(made.cleared)))
    own = made.rejected.filter(~pl.col("is_mandate")).select(*key, "reason")
    filled = made.fills.select("epoch", "wallet", "order_id", "filled_wh")
    concluded = (
        given.join(own, on=key, how="left")
        .join(filled, on=["epoch", "wallet", "order_id"], how="left")
        .with_columns(
            status=pl.when(pl.col("reason").is_not_null())
            .then(pl.lit("rejected"))
            .when(pl.col("filled_wh").is_null())
            .then(pl.lit("expired"))
            .when(pl.col("filled_wh") >= pl.col("energy_wh"))
            .then(pl.lit("filled"))
            .otherwise(pl.lit("partly_filled"))
        )
        .select(*key, *STATUS_OF_AN_ORDER)
    )
    stored = gathered.stored.orders.join(given.select(key), on=key, how="semi")
    return differences("orders", "orders", stored, concluded, key)


def _books(gathered: Gathered, made: Recomputed, frames: FrozenFrames) -> list[Finding]:
    book = frames.stacked("order_book", "order_book", "book", BOOK)
    there = pl.col("epoch").is_in(list(frames.read))
    key = ["epoch", "wallet", "order_id"]
    found = differences("order_book", "frame order_book/book", book, made.books.filter(there), key)
    refused = {name: kind for name, kind in made.rejected.schema.items()}
    rejected = frames.stacked("order_book", "order_book", "rejected", refused)  # type: ignore[arg-type]
    there = pl.col("epoch").is_in(list(frames.read))
    found += differences(
        "order_book",
        "frame order_book/rejected",
        rejected,
        made.rejected.filter(there),
        ["epoch", "wallet", "order_id", "nonce"],
    )
    held = {"owner": pl.String, "grid_wh": pl.Int64, "thbc_uthb": pl.Int64}
    balances = frames.stacked("order_book", "order_book", "balances", held).rename({"owner": "wallet"})
    covers = made.covers.filter(pl.col("epoch").is_in(list(frames.read)))
    # a wallet that holds nothing may have no row
    some = (pl.col("grid_wh") != 0) | (pl.col("thbc_uthb") != 0)
    found += differences(
        "order_book", "frame order_book/balances", balances.filter(some), covers.filter(some), ["epoch", "wallet"]
    )
    return found + _roots(gathered, made, "order_book", "book_root")


def _roots(gathered: Gathered, made: Recomputed, stage: str, name: str) -> list[Finding]:
    roots = [(epoch, getattr(each, name)) for epoch, each in made.cleared.items()]
    frame = pl.DataFrame(roots, schema={"epoch": pl.Int64, name: pl.Binary}, orient="row")
    return differences(stage, "market_epochs", _cleared_rows(gathered, made), frame, ["epoch"])


def _cleared_rows(gathered: Gathered, made: Recomputed) -> pl.DataFrame:
    return gathered.stored.epochs.filter(pl.col("epoch").is_in(list(made.cleared)))


def _clearings(gathered: Gathered, made: Recomputed, frames: FrozenFrames) -> list[Finding]:
    cleared = pl.col("epoch").is_in([epoch for epoch, each in made.cleared.items() if each.result is not None])
    found: list[Finding] = []
    tables: list[tuple[str, str, pl.DataFrame, Mapping[str, type[pl.DataType]], list[str]]] = [
        ("fills", "fills", made.fills, FILLS, ["epoch", "order_id"]),
        ("order_matches", "matches", made.matches, MATCHES, ["epoch", "match_id"]),
        ("zone_results", "zones", made.zones, ZONES, ["epoch", "zone_id"]),
        ("flows", "flows", made.flows, FLOWS, ["epoch", "link_id"]),
        ("", "traded", made.traded, TRADED, ["epoch", "wallet"]),
    ]
    for table, name, recomputed, schema, key in tables:
        if table:
            stored = gathered.stored.cleared[table].filter(cleared)
            found += differences("clearing", table, stored, recomputed, key)
        frame = frames.stacked("clearing", "clearing_results", name, schema)
        there = cleared & pl.col("epoch").is_in(list(frames.read))
        what = f"frame clearing_results/{name}"
        found += differences("clearing", what, frame.filter(there), recomputed.filter(there), key)
    sums = [
        (epoch, each.result.halted, each.result.mechanism, *(getattr(each.result, name) for name in SUMS))
        for epoch, each in made.cleared.items()
        if each.result is not None
    ]
    schema = {"epoch": pl.Int64, "halted": pl.Boolean, "mechanism": pl.String} | dict.fromkeys(SUMS, pl.Int64)
    recomputed = pl.DataFrame(sums, schema=schema, orient="row")
    found += differences("clearing", "market_epochs", gathered.stored.epochs.filter(cleared), recomputed, ["epoch"])
    return found + _roots(gathered, made, "clearing", "result_root")


def _ledger(gathered: Gathered, made: Recomputed) -> list[Finding]:
    stored, ledger = gathered.stored, made.ledger
    booked = pl.col("seq").is_in(list(ledger.bookings))
    found = [
        *differences(
            "ledger",
            "settlements",
            stored.wallet_entries.filter(booked),
            ledger.wallet_entries(),
            ["seq", "epoch", "wallet"],
        ),
        *differences(
            "ledger",
            "meter_settlements",
            stored.meter_entries.filter(booked),
            ledger.meter_entries(),
            ["seq", "epoch", "meter_id"],
        ),
    ]
    for frame, what, schema in (
        (stored.wallet_entries, "settlements", WALLET_ENTRIES),
        (stored.meter_entries, "meter_settlements", METER_ENTRIES),
    ):
        key = next(name for name in ("wallet", "meter_id") if name in schema)
        orphans = frame.join(
            stored.runs.select("seq", "epoch", "run", "kind"), on=["seq", "epoch", "run", "kind"], how="anti"
        )
        found += [
            Finding(
                epoch=row["epoch"],
                stage="ledger",
                what=f"{what} seq={row['seq']} {key}={row[key]}",
                detail="belongs to no run",
            )
            for row in orphans.iter_rows(named=True)
        ]
    epoch_of = dict(stored.runs.select("seq", "epoch").iter_rows())
    posted = counted(stored.posted.filter(booked).select(*POSTED))
    expected = postings(ledger.bookings, stored.deposits, stored.moved)
    posted, expected = (_by_run(frame, epoch_of) for frame in (posted, expected))
    found += differences(
        "ledger", "ledger_entries", posted, expected, [c for c in expected.columns if c != "times"], epoch="run_epoch"
    )
    found += _deposits(gathered, made, epoch_of)
    return found + _runs(gathered)


def _by_run(rows: pl.DataFrame, epoch_of: Mapping[int, int]) -> pl.DataFrame:
    """Rows with the epoch of the run that they belong to or follow: a deposit's own epoch is when it first covers."""
    return rows.with_columns(run_epoch=pl.col("seq").replace_strict(epoch_of, default=0, return_dtype=pl.Int64))


def _deposits(gathered: Gathered, made: Recomputed, epoch_of: Mapping[int, int]) -> list[Finding]:
    return [
        Finding(
            epoch=epoch_of[row["after_seq"]],
            stage="ledger",
            what=f"deposits reference={row['reference']}",
            detail=f"debt_repaid_uthb was {row['debt_repaid_uthb']}, recomputed {made.ledger.repaid[row['reference']]}",
            stored=str(row["debt_repaid_uthb"]),
            recomputed=str(made.ledger.repaid[row["reference"]]),
            by=made.ledger.repaid[row["reference"]] - row["debt_repaid_uthb"],
        )
        for row in gathered.stored.deposits.iter_rows(named=True)
        if row["reference"] in made.ledger.repaid and made.ledger.repaid[row["reference"]] != row["debt_repaid_uthb"]
    ]


def _runs(gathered: Gathered) -> list[Finding]:
    """The runs that must be there: run 0 of a cleared epoch, a late run where rows are booked late; each once."""
    runs = gathered.stored.runs.filter(pl.col("status") != "voided")
    found = []
    expectations: list[tuple[str, int, set[int], Callable[[int], str]]] = [
        (
            "run 0",
            CLEARING,
            set(gathered.stored.epochs.filter(pl.col("book_root").is_not_null())["epoch"]),
            lambda _: "epoch is cleared, and no run 0 is booked",
        ),
        (
            "late run",
            LATE,
            set(
                gathered.given.net_energy.filter(
                    (pl.col("revision") > 0) | (pl.col("epoch").is_in(list(gathered.given.voided)) & ~pl.col("missing"))
                )["booked_epoch"]
            )
            & set(gathered.ran),
            lambda _: "rows are booked late with this epoch, and no run carries them",
        ),
    ]
    for what, kind, wanted, words in expectations:
        there = set(runs.filter(pl.col("kind") == kind)["epoch"])
        found += [
            Finding(epoch=epoch, stage="ledger", what=what, detail=words(epoch)) for epoch in sorted(wanted - there)
        ]
        if kind == LATE:
            found += [
                Finding(
                    epoch=epoch,
                    stage="ledger",
                    what=what,
                    detail="is booked, and no row is booked late with this epoch",
                )
                for epoch in sorted(there - wanted)
            ]
    seqs = dict(runs.filter(pl.col("run") == 0).select("epoch", "seq").iter_rows())
    for epoch, seq in gathered.stored.epochs.select("epoch", "seq").iter_rows():
        if seq is not None and seqs.get(epoch) != seq:
            detail = f"seq was {seq}, its run 0 has {seqs.get(epoch)}"
            found.append(Finding(epoch=epoch, stage="ledger", what="market_epochs", detail=detail))
    return found

"""Seals of settled runs: a hash of every table's rows, made where the rows are, and kept for good.

Belongs here: which columns of which table are final once a run is settled, their hashes as SQL, the table `seals`. Does
not belong here: files (settlement_service/audits/seals.py) or judging. What may still change is left out: a receipt's
commitment, an outbox row's attempts, a deposit booked after the run.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.settlement.frames import METER_ENTRIES, WALLET_ENTRIES
from gridtokenx_pipelines.store.audited import CLEARED, CONCLUDED, POSTED, SIGNED
from gridtokenx_pipelines.store.energy import NET_ENERGY
from gridtokenx_pipelines.store.grid import LIMITS, STATES
from gridtokenx_pipelines.store.postgres import quoted, read_frame, upsert
from gridtokenx_pipelines.store.settled import RECEIPTS

SEALS: Final = {
    "epoch": pl.Int64,
    "run": pl.Int64,
    "what": pl.String,
    "sha256": pl.Binary,
    "content": pl.Binary,
    "rows": pl.Int64,
}


class Sealed(NamedTuple):
    """A sealed table: its columns, the order of its rows, and how a row finds its run (`r` is table `runs`)."""

    columns: tuple[str, ...]
    order: tuple[str, ...]
    joined: str


# run 0 seals what is the epoch's own; every run seals its entries and transactions
OF_EPOCH = "t.epoch = r.epoch AND r.run = 0"
OF_SEQ = "t.seq = r.seq"
TABLES: Final = {
    "market_epochs": Sealed(
        ("epoch", "status", "halted", "seq", "mechanism", "book_root", "result_root", "volume_wh", "lost_wh",
         "link_wheeling_uthb", "rent_uthb", "welfare_uthb", "fingerprint", "cleared_at", "settled_at"),
        ("epoch",), OF_EPOCH,
    ),
    **{table: Sealed(("epoch", *schema), tuple(schema)[:1], OF_EPOCH) for table, schema in CLEARED.items()},
    "orders": Sealed((*SIGNED, "cancelled_at_us"), ("wallet", "nonce"), OF_EPOCH),
    "net_energy": Sealed(
        tuple(NET_ENERGY), ("epoch", "meter_id", "revision"), "t.booked_epoch = r.epoch AND r.run = 0"
    ),
    "grid_states": Sealed(tuple(STATES), ("epoch",), OF_EPOCH),
    "grid_limits": Sealed(tuple(LIMITS), ("link_id",), OF_EPOCH),
    "runs": Sealed(
        ("seq", "epoch", "run", "kind", "cause", "header", "metering_root", "root", "plan", "status"), ("seq",), OF_SEQ
    ),
    "settlements": Sealed(tuple(WALLET_ENTRIES), ("wallet",), OF_SEQ),
    "meter_settlements": Sealed(tuple(METER_ENTRIES), ("meter_id",), OF_SEQ),
    "ledger_entries": Sealed(tuple(POSTED), ("entry_id",), OF_SEQ),
    "corrections": Sealed(tuple(CONCLUDED), ("meter_id", "boundary_epoch", "revision"), "t.booked_seq = r.seq"),
    "blockchain_transactions": Sealed(
        tuple(name for name in RECEIPTS if name != "commitment"), ("step", "idx"), "t.epoch = r.epoch AND t.run = r.run"
    ),
    "outbox": Sealed(
        ("epoch", "kind", "run", "step", "idx", "signature", "transaction", "last_valid_block_height"),
        ("step", "idx"), "t.epoch = r.epoch AND t.run = r.run",
    ),
}  # fmt: skip


def digests(connection: Connection, first: int, last: int, *, sealed_only: bool = False) -> pl.DataFrame:
    """What each table's rows hash to now, a row per (epoch, run, what); only finalised runs.

    With `sealed_only`, of a sealed run's rows of `ledger_entries` as many count as were sealed.
    """
    # tables that grew since they were last analysed look small to the planner, and a nested loop over them is quadratic
    connection.execute(text("SET LOCAL enable_nestloop = off"))
    parts = [_digests(connection, table, first, last, sealed_only) for table in TABLES]
    connection.execute(text("SET LOCAL enable_nestloop = on"))
    return pl.concat(parts)


def _digests(connection: Connection, table: str, first: int, last: int, sealed_only: bool) -> pl.DataFrame:
    columns, order, joined = TABLES[table]
    row = ", ".join(f"t.{quoted(name)}" for name in columns)
    by = ", ".join(f"t.{quoted(name)}" for name in order)
    counted = ""
    if table == "ledger_entries" and sealed_only:
        # a deposit that came later stands under the same seq
        counted = (
            " LEFT JOIN (SELECT epoch, run, rows AS sealed FROM seals WHERE what = 'ledger_entries') s "
            "USING (epoch, run) WHERE n <= coalesce(sealed, n)"
        )
    return read_frame(
        connection,
        "WITH hashed AS ("  # noqa: S608 - our own names
        f"SELECT r.epoch, r.run, ROW({row})::text AS line, row_number() OVER (PARTITION BY r.seq ORDER BY {by}) AS n "
        f"FROM runs r JOIN {quoted(table)} t ON {joined} "
        "WHERE r.status = 'finalised' AND r.epoch BETWEEN :first AND :last) "
        "SELECT epoch, run, CAST(:what AS TEXT) AS what, "
        "sha256(convert_to(string_agg(line, E'\\n' ORDER BY n), 'UTF8')) AS sha256, "
        f"NULL::bytea AS content, count(*) AS rows FROM hashed{counted} GROUP BY epoch, run",
        {"first": first, "last": last, "what": table},
        SEALS,
    )


def seals(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """All seals of the range's epochs."""
    return read_frame(
        connection,
        "SELECT epoch, run, what, sha256, content, rows FROM seals WHERE epoch BETWEEN :first AND :last",
        {"first": first, "last": last},
        SEALS,
    )


def save(connection: Connection, made: pl.DataFrame) -> int:
    """Insert seals; one that is there is kept. Returns the new ones."""
    return upsert(connection, "seals", made, ("epoch", "run", "what"), update=False)


def finalised_runs(connection: Connection, first: int, last: int) -> list[tuple[int, int]]:
    """(epoch, run) of the range's finalised runs, in order."""
    rows = connection.execute(
        text(
            "SELECT epoch, run FROM runs WHERE status = 'finalised' AND epoch BETWEEN :first AND :last "
            "ORDER BY epoch, run"
        ),
        {"first": first, "last": last},
    )
    return [(int(epoch), int(run)) for epoch, run in rows]


def logged(connection: Connection, first: int, last: int) -> dict[tuple[int, int], str]:
    """What the audit log says each run's seals hash to, by (epoch, run); the first word counts."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (1, 2) (detail->>'epoch')::bigint, (detail->>'run')::bigint, detail->>'seals' "
            "FROM audit_logs WHERE what = 'run_sealed' AND (detail->>'epoch')::bigint BETWEEN :first AND :last "
            "ORDER BY 1, 2, id"
        ),
        {"first": first, "last": last},
    )
    return {(int(epoch), int(run)): digest for epoch, run, digest in rows}


def logged_names(connection: Connection, first: int, last: int) -> dict[tuple[int, int], list[str]]:
    """Which seals the audit log tells of, by (epoch, run)."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (1, 2) (detail->>'epoch')::bigint, (detail->>'run')::bigint, detail->'sealed' "
            "FROM audit_logs WHERE what = 'run_sealed' AND (detail->>'epoch')::bigint BETWEEN :first AND :last "
            "ORDER BY 1, 2, id"
        ),
        {"first": first, "last": last},
    )
    return {(int(epoch), int(run)): list(names) for epoch, run, names in rows}

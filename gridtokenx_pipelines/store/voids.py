"""What a void takes out of the ledger and the market's tables, and what it leaves on record.

Belongs here: SQL on `voids`, `voided_runs`, `voided_epochs`, `voided_rows`, the reversal of double-entry rows. Does not
belong here: which runs are void (chain/voids.py), booking anything again (settlement_service/voids.py). Nothing is
lost: rows move to `voided_rows` as they stood, and every double-entry row that no longer counts gets its reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store import deposits, movements
from gridtokenx_pipelines.store.postgres import copy_in, quoted, read_frame

VOIDED_RUNS = {
    "void_id": pl.Int64,
    "epoch": pl.Int64,
    "run": pl.Int64,
    "kind": pl.Int64,
    "booked_seq": pl.Int64,
    "on_chain": pl.Boolean,
    "used_seq": pl.Int64,
}
OF_RUNS = ("meter_settlements", "settlements")
OF_EPOCHS = ("fills", "order_matches", "zone_results", "flows", "market_epochs")
WITH_WALLETS = ("settlements", "meter_settlements", "fills")


class VoidRow(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a void."""

    void_id: int
    at: datetime
    reason: str
    decided_by: str
    from_seq: int | None
    next_seq: int


def next_void(connection: Connection) -> int:
    """The number that the next void gets."""
    return int(connection.execute(text("SELECT coalesce(max(void_id), 0) + 1 FROM voids")).scalar_one())


def known(connection: Connection, epochs: Sequence[int]) -> set[tuple[int, int]]:
    """(epoch, run) of the runs of these epochs that are void on the chain, and taken back here."""
    rows = connection.execute(
        text("SELECT epoch, run FROM voided_runs WHERE on_chain AND epoch = ANY(:epochs)"), {"epochs": list(epochs)}
    )
    return {(int(epoch), int(run)) for epoch, run in rows}


def begin(connection: Connection, row: VoidRow) -> None:
    """Write the head of a void."""
    connection.execute(
        text(
            "INSERT INTO voids (void_id, at, reason, decided_by, from_seq, next_seq) "
            "VALUES (:void_id, :at, :reason, :decided_by, :from_seq, :next_seq)"
        ),
        msgspec.structs.asdict(row),
    )


def reverse_entries(connection: Connection, because: str, from_seq: int) -> None:
    """Post the reverse of every standing row of the runs from `from_seq` on and of what was booked after them, and
    bring balances and accounts back to where they stood."""
    newest = connection.execute(text("SELECT coalesce(max(entry_id), 0) FROM ledger_entries")).scalar_one()
    connection.execute(
        text(
            "INSERT INTO ledger_entries (seq, epoch, debit, credit, unit, amount, memo, reverses) "
            "SELECT seq, epoch, credit, debit, unit, amount, :because || ': ' || memo, entry_id "
            "FROM standing_entries WHERE seq >= :seq ORDER BY entry_id"
        ),
        {"because": because, "seq": from_seq},
    )
    moved = (
        "WITH moved AS (SELECT account, unit, sum(amount)::bigint AS amount FROM ("
        "SELECT debit AS account, unit, amount FROM ledger_entries WHERE entry_id > :newest UNION ALL "
        "SELECT credit, unit, -amount FROM ledger_entries WHERE entry_id > :newest) each GROUP BY account, unit) "
    )
    sums = (
        "coalesce((SELECT amount FROM moved WHERE account = {0} AND unit = 'GRID'), 0)",
        "coalesce((SELECT amount FROM moved WHERE account = {0} AND unit = 'THBC'), 0)",
    )
    grid, cash = (each.format("b.owner") for each in sums)
    debt = sums[1].format("'debt:' || b.owner")
    connection.execute(
        text(
            f"{moved} UPDATE balances b SET grid_wh = b.grid_wh + {grid}, thbc_uthb = b.thbc_uthb + {cash}, "  # noqa: S608 - ours
            f"debt_uthb = b.debt_uthb + {debt}"
        ),
        {"newest": newest},
    )
    grid, cash = (each.format("a.account") for each in sums)
    connection.execute(
        text(
            f"{moved} UPDATE market_accounts a SET grid_wh = a.grid_wh + {grid}, thbc_uthb = a.thbc_uthb + {cash}"  # noqa: S608 - ours
        ),
        {"newest": newest},
    )


def take_runs(connection: Connection, void_id: int, from_seq: int) -> None:
    """Move the runs from `from_seq` on with their entries to the record, and let their corrections wait again."""
    for table in OF_RUNS:
        _keep(connection, void_id, table, "seq >= :seq", {"seq": from_seq})
    _keep(connection, void_id, "runs", "seq >= :seq", {"seq": from_seq})
    connection.execute(
        text(
            "UPDATE balances SET seq = coalesce((SELECT max(s.seq) FROM settlements s WHERE s.wallet = owner), 0) "
            "WHERE seq >= :seq"
        ),
        {"seq": from_seq},
    )
    connection.execute(text("UPDATE market_accounts SET seq = :seq - 1 WHERE seq >= :seq"), {"seq": from_seq})
    connection.execute(
        text(
            "UPDATE corrections SET status = 'waiting', booked_seq = NULL, booked_run_epoch = NULL, x_wh = NULL, "
            "reason = NULL, concluded_after = NULL "
            "WHERE status IN ('booked', 'recorded') AND greatest(concluded_after, booked_seq) >= :seq"
        ),
        {"seq": from_seq},
    )


def take_epochs(connection: Connection, void_id: int, epochs: Sequence[int], at: datetime) -> None:
    """Move what these epochs cleared to the record: they are settled, empty; their orders expire."""
    for table in OF_EPOCHS:
        _keep(
            connection, void_id, table, "epoch = ANY(:epochs)", {"epochs": list(epochs)}, remove=table in OF_EPOCHS[:-1]
        )
    connection.execute(
        text(
            "INSERT INTO market_epochs AS old (epoch, status, halted, seq, volume_wh, lost_wh, link_wheeling_uthb, "
            "rent_uthb, welfare_uthb, settled_at) SELECT epoch, 'settled', TRUE, NULL, 0, 0, 0, 0, 0, :at "
            "FROM unnest(CAST(:epochs AS BIGINT[])) AS epoch ON CONFLICT (epoch) DO UPDATE SET status = 'settled', "
            "halted = TRUE, seq = NULL, book_root = NULL, result_root = NULL, volume_wh = 0, lost_wh = 0, "
            "link_wheeling_uthb = 0, rent_uthb = 0, welfare_uthb = 0, settled_at = EXCLUDED.settled_at"
        ),
        {"epochs": list(epochs), "at": at},
    )
    connection.execute(
        text(
            "UPDATE orders SET status = 'expired', reason = 'epoch_voided' WHERE epoch = ANY(:epochs) "
            "AND status IN ('pending', 'filled', 'partly_filled', 'expired')"
        ),
        {"epochs": list(epochs)},
    )


def forget_transactions(connection: Connection, runs: Sequence[tuple[int, int, int]]) -> None:
    """Drop what the outbox holds for runs (epoch, kind, run) that will never apply; receipts of what landed stay."""
    for epoch, kind, run in runs:
        connection.execute(
            text("DELETE FROM outbox WHERE epoch = :epoch AND kind = :kind AND run = :run AND step <> 'void'"),
            {"epoch": epoch, "kind": kind, "run": run},
        )


class Between(msgspec.Struct, frozen=True, kw_only=True):
    """Deposits and movements that were booked after runs, as rows; `after_seq` in each."""

    given: list[dict[str, Any]]
    moved: list[dict[str, Any]]

    def post(self, connection: Connection, after_seq: int | None = None) -> int:
        """Book them (those after one run) anew, after the newest run that stands; how many."""
        given, moved = (
            [row for row in rows if after_seq in (None, row["after_seq"])] for rows in (self.given, self.moved)
        )
        for row in given:
            of = {"reference": row["reference"], "amount_uthb": row["amount_uthb"], "epoch": row["epoch"]}
            if row["owner"] in deposits.ACCOUNTS:
                deposits.fund(connection, account=row["owner"], **of)
            else:
                deposits.deposit(connection, wallet=row["owner"], **of)
            connection.execute(
                text("UPDATE deposits SET chain_reference = :chain WHERE reference = :reference"),
                {"chain": row["chain_reference"], "reference": row["reference"]},
            )
        for row in moved:
            movements.book(connection, movements.Leg(**{n: row[n] for n in movements.Leg.__struct_fields__}))
        return len(given) + len(moved)


def take_movements(connection: Connection, from_seq: int) -> Between:
    """Take out the deposits and movements that followed the runs from `from_seq` on, in the order they were booked."""
    given = read_frame(
        connection,
        "SELECT d.reference, d.owner, d.amount_uthb, d.epoch, d.chain_reference, d.after_seq FROM deposits d LEFT JOIN "
        "(SELECT memo, min(entry_id) AS entry_id FROM ledger_entries WHERE reverses IS NULL GROUP BY memo) l "
        "ON l.memo IN ('deposit ' || d.reference, 'funded ' || d.reference) "
        "WHERE d.after_seq >= :seq ORDER BY l.entry_id, d.reference",
        {"seq": from_seq},
        {
            "reference": pl.String,
            "owner": pl.String,
            "amount_uthb": pl.Int64,
            "epoch": pl.Int64,
            "chain_reference": pl.String,
            "after_seq": pl.Int64,
        },
    ).to_dicts()
    moved = movements.movements(connection).filter(pl.col("after_seq") >= from_seq).to_dicts()
    connection.execute(text("DELETE FROM deposits WHERE after_seq >= :seq"), {"seq": from_seq})
    connection.execute(text("DELETE FROM chain_movements WHERE after_seq >= :seq"), {"seq": from_seq})
    return Between(given=given, moved=moved)


def save_runs(connection: Connection, rows: pl.DataFrame, epochs: dict[int, int], void_id: int) -> None:
    """Write which runs a void took back (VOIDED_RUNS), and with which epoch the energy of each voided epoch goes."""
    copy_in(connection, "voided_runs", rows.select(*VOIDED_RUNS))
    mapped = pl.DataFrame(
        [(epoch, void_id, booked) for epoch, booked in epochs.items()],
        schema={"epoch": pl.Int64, "void_id": pl.Int64, "booked_epoch": pl.Int64},
        orient="row",
    )
    copy_in(connection, "voided_epochs", mapped)


def voids(connection: Connection) -> pl.DataFrame:
    """All voided runs with the void they belong to, in order."""
    names = ", ".join(f"r.{name}" for name in VOIDED_RUNS if name != "void_id")
    return read_frame(
        connection,
        "SELECT v.void_id, to_char(v.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS at, v.reason, "  # noqa: S608
        f"v.decided_by, {names} FROM voids v JOIN voided_runs r USING (void_id) "
        "ORDER BY v.void_id, r.booked_seq NULLS LAST, r.epoch, r.run",
        schema={
            "void_id": pl.Int64,
            "at": pl.String,
            "reason": pl.String,
            "decided_by": pl.String,
            **{name: kind for name, kind in VOIDED_RUNS.items() if name != "void_id"},
        },
    )


def of_wallet(connection: Connection, wallet: str, first: int, last: int) -> list[dict[str, Any]]:
    """What void runs of these epochs had booked for a wallet, and why they are void; nothing of it counts."""
    rows = connection.execute(
        text(
            "SELECT r.epoch, (r.content->>'run')::bigint AS run, (r.content->>'traded_wh')::bigint AS traded_wh, "
            "(r.content->>'cost_uthb')::bigint AS cost_uthb, (r.content->>'proceeds_uthb')::bigint AS proceeds_uthb, "
            "(r.content->>'refund_uthb')::bigint AS refund_uthb, v.reason, "
            "to_char(v.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS voided_at "
            "FROM voided_rows r JOIN voids v USING (void_id) WHERE r.of_table = 'settlements' AND r.wallet = :wallet "
            "AND r.epoch BETWEEN :first AND :last ORDER BY r.epoch, run, v.void_id"
        ),
        {"wallet": wallet, "first": first, "last": last},
    )
    return [dict(row._mapping) for row in rows]


def _keep(
    connection: Connection, void_id: int, table: str, where: str, values: dict[str, object], *, remove: bool = True
) -> None:
    wallet = "wallet" if table in WITH_WALLETS else "NULL"
    connection.execute(
        text(
            f"INSERT INTO voided_rows (void_id, of_table, epoch, wallet, content) "  # noqa: S608 - our own names
            f"SELECT :void, CAST(:table AS TEXT), epoch, {wallet}, to_jsonb(t) FROM {quoted(table)} t WHERE {where}"
        ),
        {"void": void_id, "table": table, **values},
    )
    if remove:
        connection.execute(text(f"DELETE FROM {quoted(table)} WHERE {where}"), values)  # noqa: S608 - our own names

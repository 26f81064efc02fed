"""What an audit reads of a range: every table whole, a query each, as it is stored now.

Belongs here: range reads as bound SQL, and the state before a run. Does not belong here: recomputing or judging
(audit/).
"""

from __future__ import annotations

from typing import Final

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.market.frames import FILLS, FLOWS, MATCHES, ZONES
from gridtokenx_pipelines.settlement.frames import BALANCES, LEDGER_ROWS, METER_ENTRIES, WALLET_ENTRIES, MarketAccounts
from gridtokenx_pipelines.store.energy import CORRECTIONS, NET_ENERGY
from gridtokenx_pipelines.store.movements import Leg, movements, rows_of
from gridtokenx_pipelines.store.orders import ORDERS
from gridtokenx_pipelines.store.participants import MANDATES
from gridtokenx_pipelines.store.postgres import quoted, read_frame

RUNS: Final = {
    "seq": pl.Int64,
    "epoch": pl.Int64,
    "run": pl.Int64,
    "kind": pl.Int64,
    "status": pl.String,
    "cause": pl.String,
    "header": pl.Binary,
    "metering_root": pl.Binary,
    "root": pl.Binary,
    "plan": pl.Binary,
}
EPOCHS: Final = {
    "epoch": pl.Int64,
    "status": pl.String,
    "halted": pl.Boolean,
    "seq": pl.Int64,
    "mechanism": pl.String,
    "book_root": pl.Binary,
    "result_root": pl.Binary,
    **dict.fromkeys(("volume_wh", "lost_wh", "link_wheeling_uthb", "rent_uthb", "welfare_uthb"), pl.Int64),
    "fingerprint": pl.String,
}
SIGNED: Final = {
    **ORDERS,
    "market": pl.Binary,
    "message": pl.Binary,
    "signature": pl.Binary,
    "status": pl.String,
    "reason": pl.String,
    "partition": pl.Int64,
    "offset": pl.Int64,
}
CONCLUDED: Final = {
    **CORRECTIONS,
    "booked_seq": pl.Int64,
    "booked_run_epoch": pl.Int64,
    "x_wh": pl.Int64,
    "status": pl.String,
    "reason": pl.String,
}
POSTED: Final = {"entry_id": pl.Int64, "seq": pl.Int64, "epoch": pl.Int64, **LEDGER_ROWS}
CLEARED: Final = {"fills": FILLS, "order_matches": MATCHES, "zone_results": ZONES, "flows": FLOWS}
DEPOSITS: Final = {
    "reference": pl.String,
    "owner": pl.String,
    **dict.fromkeys(("amount_uthb", "debt_repaid_uthb", "epoch", "after_seq"), pl.Int64),
}
LETTERS: Final = {"partition": pl.Int64, "offset": pl.Int64, "reason_code": pl.Int64, "value": pl.Binary}


def between(  # noqa: PLR0917 - a table, a schema and two ends
    connection: Connection, table: str, schema: dict[str, object], first: int, last: int, column: str = "epoch"
) -> pl.DataFrame:
    """Rows of a table whose `column` lies in first…last, in no order that matters."""
    names = ", ".join(map(quoted, schema))
    return read_frame(
        connection,
        f"SELECT {names} FROM {quoted(table)} WHERE {quoted(column)} BETWEEN :first AND :last",  # noqa: S608
        {"first": first, "last": last},
        schema,
    )


def epochs(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Market epochs of the range."""
    return between(connection, "market_epochs", EPOCHS, first, last).sort("epoch")


def runs(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Runs of the range's epochs, by seq."""
    return between(connection, "runs", RUNS, first, last).sort("seq")


def net_energy(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Every revision of the range's epochs, and the late rows and voided epochs' rows that are booked in it."""
    names = ", ".join(NET_ENERGY)
    return read_frame(
        connection,
        f"SELECT {names} FROM net_energy WHERE epoch BETWEEN :first AND :last "  # noqa: S608
        "OR (revision > 0 AND booked_epoch BETWEEN :first AND :last) "
        "OR booked_epoch IN (SELECT epoch FROM voided_epochs WHERE booked_epoch BETWEEN :first AND :last)",
        {"first": first, "last": last},
        NET_ENERGY,
    )


def mandates(connection: Connection) -> pl.DataFrame:
    """All mandates ever set."""
    return read_frame(connection, f"SELECT {', '.join(MANDATES)} FROM mandates", schema=MANDATES)  # noqa: S608


def corrections(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Corrections of boundaries in the range, with what became of them."""
    return between(connection, "corrections", CONCLUDED, first, last, "boundary_epoch")


def entries(connection: Connection, first: int, last: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Wallet and meter entries of the range's runs."""
    wallets = between(connection, "settlements", dict(WALLET_ENTRIES), first, last)
    return wallets, between(connection, "meter_settlements", dict(METER_ENTRIES), first, last)


def deposits(connection: Connection) -> pl.DataFrame:
    """All deposits and fundings in the order in which they were booked."""
    return read_frame(
        connection,
        "SELECT d.reference, d.owner, d.amount_uthb, d.debt_repaid_uthb, d.epoch, d.after_seq FROM deposits d "
        "LEFT JOIN standing_entries l ON l.seq = d.after_seq "
        "AND l.memo IN ('deposit ' || d.reference, 'funded ' || d.reference) ORDER BY d.after_seq, l.entry_id",
        schema=DEPOSITS,
    )


def posted(connection: Connection, seqs: list[int]) -> pl.DataFrame:
    """Double-entry rows of these runs and of the deposits after them, without those that a void took back."""
    return read_frame(
        connection,
        f"SELECT {', '.join(POSTED)} FROM standing_entries WHERE seq = ANY(:seqs)",  # noqa: S608
        {"seqs": seqs},
        POSTED,
    )


def posted_by_movements(connection: Connection) -> pl.DataFrame:
    """The double-entry rows that movements on chain follow as: seq, epoch and LEDGER_ROWS."""
    parts = [pl.DataFrame(schema={"seq": pl.Int64, "epoch": pl.Int64, **LEDGER_ROWS})]
    for row in movements(connection).iter_rows(named=True):
        leg = Leg(**{name: row[name] for name in Leg.__struct_fields__})
        place = [pl.lit(row[name], pl.Int64).alias(to) for name, to in (("after_seq", "seq"), ("epoch", "epoch"))]
        parts.append(rows_of(leg, row["debt_delta_uthb"]).select(*place, pl.all()))
    return pl.concat(parts)


def dead_letters(connection: Connection) -> pl.DataFrame:
    """Refused readings by place and reason."""
    return read_frame(
        connection,
        f"SELECT {', '.join(map(quoted, LETTERS))} FROM dead_letters WHERE topic = :topic",  # noqa: S608
        {"topic": "meter-readings"},
        LETTERS,
    )


def partitions(connection: Connection) -> int | None:
    """How many partitions the telemetry flow reads; None before it reported any."""
    found = connection.execute(text("SELECT max(partitions) FROM stream_progress WHERE flow = 'telemetry'")).scalar()
    return None if found is None else int(found)


def balances_before(connection: Connection, seq: int) -> pl.DataFrame:
    """Every wallet's balances before a run: after its last entry under that seq, and the deposits booked since."""
    return read_frame(
        connection,
        """
        WITH last AS (
            SELECT DISTINCT ON (wallet) wallet, seq, grid_after_wh, thbc_after_uthb, debt_after_uthb
            FROM settlements WHERE seq < :seq ORDER BY wallet, seq DESC
        ), moved AS (
            SELECT owner, after_seq, amount_uthb AS cash, 0 AS grid FROM deposits
            WHERE owner NOT IN ('supplier', 'platform', 'grid_operator')
            UNION ALL SELECT owner, after_seq, cash_uthb, grid_wh FROM chain_movements
        ), since AS (
            SELECT m.owner, sum(m.cash) AS cash, sum(m.grid) AS grid
            FROM moved m LEFT JOIN last ON last.wallet = m.owner
            WHERE m.after_seq < :seq AND m.after_seq >= coalesce(last.seq, 0) GROUP BY m.owner
        ), stands AS (
            SELECT coalesce(last.wallet, since.owner) AS owner,
                coalesce(last.grid_after_wh, 0) + coalesce(since.grid, 0) AS grid,
                -- cash less debt: one of the two is 0, as every credit pays debt first
                coalesce(last.thbc_after_uthb, 0) - coalesce(last.debt_after_uthb, 0) + coalesce(since.cash, 0) AS net
            FROM last FULL JOIN since ON since.owner = last.wallet
        )
        SELECT owner, grid::bigint AS grid_wh, greatest(net, 0)::bigint AS thbc_uthb,
            greatest(-net, 0)::bigint AS debt_uthb FROM stands ORDER BY owner
        """,
        {"seq": seq},
        dict(BALANCES),
    )


def accounts_before(connection: Connection, seq: int) -> MarketAccounts:
    """The market's accounts before a run, from everything booked and funded until then."""
    row = connection.execute(
        text(
            """
            SELECT
                (SELECT coalesce(sum(bought_back_wh - returned_wh), 0) FROM settlements WHERE seq < :seq),
                (SELECT coalesce(sum(paid_to_supplier_uthb + debt_repaid_uthb - buy_back_uthb - refund_uthb), 0)
                    FROM settlements WHERE seq < :seq)
                + (SELECT coalesce(sum(debt_repaid_uthb), 0) FROM deposits WHERE after_seq < :seq)
                - (SELECT coalesce(sum(debt_delta_uthb), 0) FROM chain_movements WHERE after_seq < :seq),
                (SELECT coalesce(sum(fee_uthb), 0) FROM settlements WHERE seq < :seq)
                + (SELECT coalesce(sum(fee_uthb), 0) FROM chain_movements WHERE after_seq < :seq),
                (SELECT coalesce(sum(zone_wheeling_uthb), 0) FROM settlements WHERE seq < :seq)
                + (SELECT coalesce(sum(zone_wheeling_uthb), 0) FROM chain_movements WHERE after_seq < :seq)
                + (SELECT coalesce(sum(m.link_wheeling_uthb + m.rent_uthb), 0) FROM market_epochs m
                    JOIN runs r ON r.epoch = m.epoch AND r.run = 0 WHERE r.seq < :seq)
            """
        ),
        {"seq": seq},
    ).one()
    funded = {
        owner: int(amount)
        for owner, amount in connection.execute(
            text("SELECT owner, sum(amount_uthb) FROM deposits WHERE after_seq < :seq GROUP BY owner"), {"seq": seq}
        )
        if owner in ("supplier", "platform", "grid_operator")
    }
    return MarketAccounts(
        supplier_grid_wh=int(row[0]),
        supplier_thbc_uthb=int(row[1]) + funded.get("supplier", 0),
        platform_thbc_uthb=int(row[2]) + funded.get("platform", 0),
        grid_operator_thbc_uthb=int(row[3]) + funded.get("grid_operator", 0),
    )


def states(connection: Connection, first: int, last: int) -> dict[int, tuple[str | None, int, int]]:
    """Status word (null: no row), runs booked and runs finalised of each epoch that has either."""
    rows = connection.execute(
        text(
            "SELECT coalesce(m.epoch, r.epoch), max(m.status), count(r.seq), "
            "count(r.seq) FILTER (WHERE r.status IN ('finalised', 'voided')) "
            "FROM market_epochs m FULL JOIN runs r ON r.epoch = m.epoch "
            "WHERE coalesce(m.epoch, r.epoch) BETWEEN :first AND :last GROUP BY 1"
        ),
        {"first": first, "last": last},
    )
    return {int(epoch): (status, int(count), int(final)) for epoch, status, count, final in rows}

"""The ledger in Postgres: runs in order without gaps, balances, entries, double-entry rows.

Belongs here: SQL on `runs`, `settlements`, `meter_settlements`, `balances`, `market_accounts`, `ledger_entries`. Does
not belong here: arithmetic of runs (settlement/ledger.py), deposits (deposits.py). A booking is computed and written
in one transaction: `state_before` takes the ledger's lock, `book` writes what was computed from that state.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.settlement.batches import RunPlan
from gridtokenx_pipelines.settlement.frames import (
    BALANCES,
    LATE,
    METER_ENTRIES,
    WALLET_ENTRIES,
    Booking,
    MarketAccounts,
)
from gridtokenx_pipelines.store.energy import conclude_corrections
from gridtokenx_pipelines.store.postgres import copy_in, read_frame, upsert

LEDGER_LOCK = 0x6C65_6467_6572  # "ledger"


class StaleBookingError(RuntimeError):
    """A booking made from a state that is no longer the ledger's last one."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a booking with `seq` is computed from: everything after seq − 1, deposits included."""

    seq: int
    balances: pl.DataFrame
    accounts: MarketAccounts


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A booked run; `new` is False where it was booked before."""

    seq: int
    epoch: int
    run: int
    kind: int
    status: str
    new: bool = False


def state_before(connection: Connection) -> State:
    """The state that the next run is booked on; holds the ledger's lock until the transaction ends."""
    lock_ledger(connection)
    return State(seq=last_seq(connection) + 1, balances=balances(connection), accounts=market_accounts(connection))


def balances(connection: Connection) -> pl.DataFrame:
    """Balances of all households, by wallet."""
    return read_frame(
        connection, "SELECT owner, grid_wh, thbc_uthb, debt_uthb FROM balances ORDER BY owner", schema=BALANCES
    )


def market_accounts(connection: Connection) -> MarketAccounts:
    """Balances of the market's own accounts."""
    rows = {
        name: (grid, cash)
        for name, grid, cash in connection.execute(text("SELECT account, grid_wh, thbc_uthb FROM market_accounts"))
    }
    return MarketAccounts(
        supplier_grid_wh=rows["supplier"][0],
        supplier_thbc_uthb=rows["supplier"][1],
        platform_thbc_uthb=rows["platform"][1],
        grid_operator_thbc_uthb=rows["grid_operator"][1],
    )


def runs_of(connection: Connection, epoch: int) -> list[Run]:
    """Runs booked for an epoch, in order of run."""
    found = connection.execute(
        text("SELECT seq, epoch, run, kind, status FROM runs WHERE epoch = :epoch ORDER BY run"), {"epoch": epoch}
    )
    return [Run(**each._mapping) for each in found]


def open_runs(connection: Connection) -> list[Run]:
    """Runs not finalised yet, in order of seq: what a restart has to bring to the chain."""
    found = connection.execute(
        text("SELECT seq, epoch, run, kind, status FROM runs WHERE status IN ('booked', 'attested') ORDER BY seq")
    )
    return [Run(**each._mapping) for each in found]


def last_seq(connection: Connection) -> int:
    """The seq of the newest run, booked or void on the chain with a seq of its own; 0 before the first."""
    sql = "SELECT greatest((SELECT max(seq) FROM runs), (SELECT max(used_seq) FROM voided_runs), 0)"
    return int(connection.execute(text(sql)).scalar_one())


def next_run(connection: Connection, epoch: int) -> int:
    """The number that the next run of an epoch gets: after those booked, and those that are void on the chain."""
    void = connection.execute(
        text("SELECT coalesce(max(run), -1) FROM voided_runs WHERE epoch = :epoch AND on_chain"), {"epoch": epoch}
    ).scalar_one()
    return max([int(void), *(each.run for each in runs_of(connection, epoch))]) + 1


def book(connection: Connection, booking: Booking, cause: str = "") -> Run:
    """Write a booking; returns the run that is there if (epoch, run), or the epoch's late run, is booked already.

    Corrections of a resettlement are concluded with it. Raises StaleBookingError if the booking was not made from the
    present state: then read `state_before` again, in the same transaction as `book`.
    """
    lock_ledger(connection)
    for each in runs_of(connection, booking.epoch):
        if each.run == booking.run or (booking.kind == LATE and each.kind == LATE):
            return each
    last = last_seq(connection)
    if booking.seq != last + 1:
        raise StaleBookingError(
            f"booking has seq {booking.seq}, next is {last + 1}; compute it from state_before again"
        )
    _require_present_state(connection, booking)
    connection.execute(
        text("INSERT INTO runs (seq, epoch, run, kind, cause) VALUES (:seq, :epoch, :run, :kind, :cause)"),
        {"seq": booking.seq, "epoch": booking.epoch, "run": booking.run, "kind": booking.kind, "cause": cause},
    )
    copy_in(connection, "settlements", booking.wallet_entries)
    copy_in(connection, "meter_settlements", booking.meter_entries)
    copy_ledger_rows(connection, booking.ledger_rows, booking.seq, booking.epoch)
    upsert(connection, "balances", _balances_after(booking.wallet_entries), ("owner",))
    _write_accounts(connection, booking.accounts, booking.seq)
    connection.execute(
        text("UPDATE market_epochs SET seq = :seq WHERE epoch = :epoch AND :run = 0"),
        {"seq": booking.seq, "epoch": booking.epoch, "run": booking.run},
    )
    if booking.corrections is not None:
        conclude_corrections(connection, booking.corrections, booking.seq, booking.epoch)
    return Run(seq=booking.seq, epoch=booking.epoch, run=booking.run, kind=booking.kind, status="booked", new=True)


def book_all(connection: Connection, bookings: Sequence[tuple[Booking, str]]) -> None:
    """Write bookings, each made from the state that the one before leaves, with their causes; a statement a table.

    None of them may be booked already, and none may bring corrections (`book` does both). Raises StaleBookingError if
    the first was not made from the present state, or another not from the one before it.
    """
    lock_ledger(connection)
    last = last_seq(connection)
    present = {owner: amounts for owner, *amounts in balances(connection).iter_rows()}
    for booking, _ in bookings:
        last += 1
        if booking.seq != last:
            raise StaleBookingError(
                f"booking has seq {booking.seq}, next is {last}; compute it from state_before again"
            )
        _follow(present, booking)
    connection.execute(
        text(
            "INSERT INTO runs (seq, epoch, run, kind, cause) SELECT * FROM unnest(CAST(:seqs AS bigint[]), "
            "CAST(:epochs AS bigint[]), CAST(:runs AS integer[]), CAST(:kinds AS integer[]), CAST(:causes AS text[]))"
        ),
        {
            "seqs": [booking.seq for booking, _ in bookings],
            "epochs": [booking.epoch for booking, _ in bookings],
            "runs": [booking.run for booking, _ in bookings],
            "kinds": [booking.kind for booking, _ in bookings],
            "causes": [cause for _, cause in bookings],
        },
    )
    entries = pl.concat([booking.wallet_entries for booking, _ in bookings])
    copy_in(connection, "settlements", entries)
    copy_in(connection, "meter_settlements", pl.concat([booking.meter_entries for booking, _ in bookings]))
    rows = [_with_key(booking.ledger_rows, booking.seq, booking.epoch) for booking, _ in bookings]
    copy_in(connection, "ledger_entries", pl.concat(rows))
    newest = entries.unique("wallet", keep="last", maintain_order=True)
    upsert(connection, "balances", _balances_after(newest), ("owner",))
    _write_accounts(connection, bookings[-1][0].accounts, last)


def save_plan(connection: Connection, plan: RunPlan) -> None:
    """Store the plan of a booked run; the same plan again changes nothing, another one raises ValueError."""
    save_plans(connection, [plan])


def save_plans(connection: Connection, plans: Sequence[RunPlan]) -> None:
    """Store the plans of booked runs, as `save_plan` does; none of them is stored where one raises."""
    sql = "SELECT seq, epoch, run, root, metering_root FROM runs WHERE seq = ANY(:seqs)"
    rows = connection.execute(text(sql), {"seqs": [plan.seq for plan in plans]})
    booked = {(seq, epoch, run): (root, metering_root) for seq, epoch, run, root, metering_root in rows}
    for plan in plans:
        found = booked.get((plan.seq, plan.epoch, plan.run))
        if found is None:
            raise ValueError(f"run {plan.run} of epoch {plan.epoch} with seq {plan.seq} is not booked; book it first")
        if found[0] is not None and found != (plan.root, plan.metering_root):
            raise ValueError(
                f"run {plan.run} of epoch {plan.epoch} has root {found[0].hex()}, the new plan has {plan.root.hex()}; "
                "what was planned once is what settles: audit the epoch's inputs"
            )
    connection.execute(
        text(
            "UPDATE runs SET header = p.header, metering_root = p.metering, root = p.root, plan = p.plan "
            "FROM unnest(CAST(:seqs AS bigint[]), CAST(:headers AS bytea[]), CAST(:metering AS bytea[]), "
            "CAST(:roots AS bytea[]), CAST(:plans AS bytea[])) AS p (seq, header, metering, root, plan) "
            "WHERE runs.seq = p.seq"
        ),
        {
            "seqs": [plan.seq for plan in plans],
            "headers": [plan.header for plan in plans],
            "metering": [plan.metering_root for plan in plans],
            "roots": [plan.root for plan in plans],
            "plans": [plan.encode() for plan in plans],
        },
    )


def plan_of(connection: Connection, epoch: int, run: int) -> RunPlan | None:
    """The stored plan of a run, None if it has none yet."""
    raw = connection.execute(
        text("SELECT plan FROM runs WHERE epoch = :epoch AND run = :run"), {"epoch": epoch, "run": run}
    ).scalar()
    return None if raw is None else RunPlan.decode(raw)


def set_status(connection: Connection, seq: int, status: str) -> None:
    """Advance a run: booked → attested → finalised; never back."""
    set_statuses(connection, [seq], status)


def set_statuses(connection: Connection, seqs: Sequence[int], status: str) -> None:
    """Advance these runs, as `set_status` does one."""
    connection.execute(
        text(
            "UPDATE runs SET status = :status WHERE seq = ANY(:seqs) AND "
            "(status = 'booked' AND :status IN ('attested', 'finalised') "
            "OR status = 'attested' AND :status = 'finalised')"
        ),
        {"seqs": list(seqs), "status": status},
    )


def wallet_entries(connection: Connection, first_epoch: int, last_epoch: int) -> pl.DataFrame:
    """Wallet entries of all runs of a range of epochs, both ends included, by seq and wallet."""
    return _entries(connection, "settlements", WALLET_ENTRIES, "wallet", (first_epoch, last_epoch))


def meter_entries(connection: Connection, first_epoch: int, last_epoch: int) -> pl.DataFrame:
    """Meter entries of all runs of a range of epochs, both ends included, by seq and meter."""
    return _entries(connection, "meter_settlements", METER_ENTRIES, "meter_id", (first_epoch, last_epoch))


def _entries(connection: Connection, table: str, schema: pl.Schema, key: str, epochs: tuple[int, int]) -> pl.DataFrame:
    columns = ", ".join(schema)
    return read_frame(
        connection,
        f"SELECT {columns} FROM {table} WHERE epoch BETWEEN :first AND :last ORDER BY seq, {key}",  # noqa: S608
        {"first": epochs[0], "last": epochs[1]},
        schema,
    )


def ledger_balances(connection: Connection) -> dict[tuple[str, str], int]:
    """Σ debit − Σ credit per (account, unit) over all double-entry rows, accounts at 0 left out."""
    found = connection.execute(
        text(
            "SELECT account, unit, sum(amount)::bigint FROM ("
            "SELECT debit AS account, unit, amount FROM ledger_entries UNION ALL "
            "SELECT credit, unit, -amount FROM ledger_entries) moved GROUP BY account, unit HAVING sum(amount) <> 0"
        )
    )
    return {(account, unit): int(amount) for account, unit, amount in found}


def lock_ledger(connection: Connection) -> None:
    """Hold the ledger for this transaction; whoever else books or deposits waits."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LEDGER_LOCK})


def copy_ledger_rows(connection: Connection, rows: pl.DataFrame, seq: int, epoch: int) -> None:
    """Append double-entry rows (LEDGER_ROWS) of a run, or of what came after run `seq`."""
    copy_in(connection, "ledger_entries", _with_key(rows, seq, epoch))


def _with_key(rows: pl.DataFrame, seq: int, epoch: int) -> pl.DataFrame:
    key = [pl.lit(seq, pl.Int64).alias("seq"), pl.lit(epoch, pl.Int64).alias("epoch")]
    return rows.select(*key, *rows.columns)


def _balances_after(entries: pl.DataFrame) -> pl.DataFrame:
    return entries.select(
        pl.col("wallet").alias("owner"),
        pl.col("grid_after_wh").alias("grid_wh"),
        pl.col("thbc_after_uthb").alias("thbc_uthb"),
        pl.col("debt_after_uthb").alias("debt_uthb"),
        "seq",
    )


def _write_accounts(connection: Connection, accounts: MarketAccounts, seq: int) -> None:
    rows = pl.DataFrame(
        [
            ("supplier", accounts.supplier_grid_wh, accounts.supplier_thbc_uthb, seq),
            ("platform", 0, accounts.platform_thbc_uthb, seq),
            ("grid_operator", 0, accounts.grid_operator_thbc_uthb, seq),
        ],
        schema=["account", "grid_wh", "thbc_uthb", "seq"],
        orient="row",
    )
    upsert(connection, "market_accounts", rows, ("account",))


def _require_present_state(connection: Connection, booking: Booking) -> None:
    """Every touched wallet must stand in the database where its entry starts (a deposit may have come between)."""
    _follow({owner: amounts for owner, *amounts in balances(connection).iter_rows()}, booking)


def _follow(present: dict[str, list[int]], booking: Booking) -> None:
    """Check that the booking starts at these balances (GRID, THBC, debt by owner), and move them to where it ends."""
    moved = booking.wallet_entries.select(
        "wallet",
        grid_before=(
            pl.col("grid_after_wh") - pl.col("minted_wh") + pl.col("burned_wh") - pl.col("traded_wh")
            + pl.col("bought_back_wh") - pl.col("returned_wh")
        ),
        thbc_before=(
            pl.col("thbc_after_uthb") + pl.col("cost_uthb") - pl.col("proceeds_uthb") - pl.col("buy_back_uthb")
            - pl.col("refund_uthb") + pl.col("debt_repaid_uthb") + pl.col("paid_to_supplier_uthb")
        ),
        debt_before=pl.col("debt_after_uthb") - pl.col("debt_delta_uthb"),
        grid_after="grid_after_wh",
        thbc_after="thbc_after_uthb",
        debt_after="debt_after_uthb",
    )  # fmt: skip
    other = []
    for wallet, *amounts in moved.iter_rows():
        stands = present.get(wallet, [0, 0, 0])
        if stands != amounts[:3]:
            other.append({"owner": wallet, "starts at": amounts[:3], "stands at": stands})
        present[wallet] = amounts[3:]
    if other:
        raise StaleBookingError(
            f"{len(other)} wallets don't stand where the booking starts, such as {other[0]}; "
            "compute it from state_before, in the same transaction"
        )

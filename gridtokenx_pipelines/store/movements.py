"""What moves balances besides runs and deposits: withdrawals, GRID put back, matches on chain; requests and orders.

Belongs here: SQL on `chain_movements`, `withdrawal_requests`, `chain_orders`, `chain_progress`, and the booking of a
leg in the ledger. Does not belong here: reading the chain (chain/market_events.py), which events there are.

A household's cash and debt are booked as one number, cash − debt: every credit pays debt first and every charge takes
cash first, so what came in between on the chain changes when a bill was paid, never the sum.
"""

from __future__ import annotations

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.settlement.double_entry import (
    BRIDGE,
    CLEARING,
    GRID_OPERATOR,
    PLATFORM,
    RESIDUAL,
    SUPPLIER,
    row,
)
from gridtokenx_pipelines.settlement.frames import LEDGER_ROWS
from gridtokenx_pipelines.store.ledger import copy_ledger_rows, last_seq, lock_ledger
from gridtokenx_pipelines.store.postgres import read_frame

READER = "market"
MOVEMENTS = {
    "reference": pl.String,
    "leg": pl.Int64,
    "kind": pl.String,
    "owner": pl.String,
    "counterparty": pl.String,
    **dict.fromkeys(
        (
            "grid_wh",
            "cash_uthb",
            "debt_delta_uthb",
            "cost_uthb",
            "proceeds_uthb",
            "fee_uthb",
            "zone_wheeling_uthb",
            "price_uthb_per_kwh",
            "slot",
            "event_seq",
            "epoch",
            "after_seq",
        ),
        pl.Int64,
    ),
}


class ShortOfGrid(ValueError):
    """A withdrawal took GRID that a booked run has burned already: that run must be booked again first."""


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """What one event did to one household; Wh and µTHB, in positive, out negative."""

    reference: str
    leg: int
    kind: str
    owner: str
    counterparty: str | None = None
    grid_wh: int = 0
    cash_uthb: int = 0
    cost_uthb: int = 0
    proceeds_uthb: int = 0
    fee_uthb: int = 0
    zone_wheeling_uthb: int = 0
    price_uthb_per_kwh: int | None = None
    slot: int
    event_seq: int
    epoch: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger has booked of the chain's own running totals."""

    deposited_uthb: int
    funded_uthb: int
    withdrawn_uthb: int
    withdrawn_grid_wh: int
    deposited_grid_wh: int
    matched_wh: int
    order_seq: int


class ReadUpTo(msgspec.Struct, frozen=True, kw_only=True):
    """How far the market's history is booked."""

    signature: str | None = None
    continuous_from: int = 0
    continuous_end: int = 0


def totals(connection: Connection) -> Totals:
    """The ledger's side of the chain's running totals."""
    found = connection.execute(
        text(
            """
            SELECT
              (SELECT coalesce(sum(amount_uthb), 0) FROM deposits
               WHERE owner NOT IN ('supplier', 'platform', 'grid_operator')) AS deposited_uthb,
              (SELECT coalesce(sum(amount_uthb), 0) FROM deposits
               WHERE owner IN ('supplier', 'platform', 'grid_operator')) AS funded_uthb,
              coalesce(-sum(cash_uthb) FILTER (WHERE kind = 'withdrawal'), 0) AS withdrawn_uthb,
              coalesce(-sum(grid_wh) FILTER (WHERE kind = 'withdrawal'), 0) AS withdrawn_grid_wh,
              coalesce(sum(grid_wh) FILTER (WHERE kind = 'grid_deposit'), 0) AS deposited_grid_wh,
              coalesce(sum(grid_wh) FILTER (WHERE kind = 'match' AND grid_wh > 0), 0) AS matched_wh,
              (SELECT coalesce(max(number), 0) FROM chain_orders) AS order_seq
            FROM chain_movements
            """
        )
    ).one()
    return Totals(**{name: int(value) for name, value in found._mapping.items()})


def read_up_to(connection: Connection) -> ReadUpTo:
    """Where the last reading of the market's history ended."""
    found = connection.execute(
        text("SELECT signature, continuous_from, continuous_end FROM chain_progress WHERE name = :name"),
        {"name": READER},
    ).one_or_none()
    return ReadUpTo() if found is None else ReadUpTo(**found._mapping)


def save_read_up_to(connection: Connection, reached: ReadUpTo) -> None:
    """Note how far it has been booked, in the transaction that booked it."""
    connection.execute(
        text(
            "INSERT INTO chain_progress AS old (name, signature, continuous_from, continuous_end) "
            "VALUES (:name, :signature, :continuous_from, :continuous_end) ON CONFLICT (name) DO UPDATE SET "
            "signature = EXCLUDED.signature, continuous_from = EXCLUDED.continuous_from, "
            "continuous_end = EXCLUDED.continuous_end"
        ),
        {"name": READER, **msgspec.structs.asdict(reached)},
    )


def movements(connection: Connection) -> pl.DataFrame:
    """All legs in the order of the chain."""
    return read_frame(
        connection,
        f"SELECT {', '.join(MOVEMENTS)} FROM chain_movements ORDER BY event_seq, reference, leg",  # noqa: S608 - ours
        schema=MOVEMENTS,
    )


def is_booked(connection: Connection, leg: Leg) -> bool:
    """Whether the leg is in the ledger."""
    sql = "SELECT 1 FROM chain_movements WHERE reference = :reference AND leg = :leg"
    found = connection.execute(text(sql), {"reference": leg.reference, "leg": leg.leg}).scalar()
    return found is not None


def book(connection: Connection, leg: Leg) -> bool:
    """Move a household's balance as the chain did, once per (reference, leg); False if it is booked already.

    Raises ShortOfGrid where the ledger has spent GRID that left on the chain.
    """
    lock_ledger(connection)
    after_seq = last_seq(connection)
    found = connection.execute(
        text("SELECT grid_wh, thbc_uthb, debt_uthb FROM balances WHERE owner = :owner"), {"owner": leg.owner}
    ).one_or_none()
    grid, cash, debt = (0, 0, 0) if found is None else (int(value) for value in found)
    net = cash - debt + leg.cash_uthb
    debt_delta = max(-net, 0) - debt
    values = {**msgspec.structs.asdict(leg), "debt_delta_uthb": debt_delta, "after_seq": after_seq}
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    new = connection.execute(
        text(f"INSERT INTO chain_movements ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"),  # noqa: S608 - ours
        values,
    )
    if not new.rowcount:
        return False
    if grid + leg.grid_wh < 0:
        raise ShortOfGrid(
            f"{leg.owner} holds {grid} Wh in the ledger, {-leg.grid_wh} Wh left on the chain ({leg.reference}); "
            "book its open runs again"
        )
    connection.execute(
        text(
            "INSERT INTO balances AS old (owner, grid_wh, thbc_uthb, debt_uthb, seq) "
            "VALUES (:owner, :grid, :cash, :debt, :seq) ON CONFLICT (owner) DO UPDATE SET "
            "grid_wh = EXCLUDED.grid_wh, thbc_uthb = EXCLUDED.thbc_uthb, debt_uthb = EXCLUDED.debt_uthb"
        ),
        {
            "owner": leg.owner,
            "grid": grid + leg.grid_wh,
            "cash": max(net, 0),
            "debt": max(-net, 0),
            "seq": after_seq,
        },
    )
    for account, amount in (
        (SUPPLIER, -debt_delta),
        (PLATFORM, leg.fee_uthb),
        (GRID_OPERATOR, leg.zone_wheeling_uthb),
    ):
        connection.execute(
            text("UPDATE market_accounts SET thbc_uthb = thbc_uthb + :amount WHERE account = :account"),
            {"amount": amount, "account": account},
        )
    copy_ledger_rows(connection, rows_of(leg, debt_delta), after_seq, leg.epoch)
    return True


def rows_of(leg: Leg, debt_delta: int) -> pl.DataFrame:
    """Double-entry rows of a leg."""
    other, memo = (CLEARING, "matched on chain") if leg.kind == "match" else (BRIDGE, leg.kind.replace("_", " "))
    rows = [
        *row(leg.owner, other, "GRID", leg.grid_wh, memo),
        *row(leg.owner, other, "THBC", leg.cash_uthb, memo),
        *row(PLATFORM, CLEARING, "THBC", leg.fee_uthb, "platform fees"),
        *row(GRID_OPERATOR, CLEARING, "THBC", leg.zone_wheeling_uthb, "zone wheeling"),
        *row(SUPPLIER, leg.owner, "THBC", -debt_delta, "debt repaid"),
        *row(RESIDUAL, f"debt:{leg.owner}", "THBC", -debt_delta, "debt"),
    ]
    return pl.DataFrame(rows, schema=LEDGER_ROWS, orient="row")


def save_requests(connection: Connection, requests: pl.DataFrame) -> None:
    """Replace the open withdrawal requests (wallet, epoch, amount_uthb, energy_wh) by those of now."""
    connection.execute(text("DELETE FROM withdrawal_requests"))
    if requests.height:
        connection.execute(
            text(
                "INSERT INTO withdrawal_requests (wallet, epoch, amount_uthb, energy_wh) "
                "VALUES (:wallet, :epoch, :amount_uthb, :energy_wh)"
            ),
            requests.to_dicts(),
        )


def requests(connection: Connection) -> pl.DataFrame:
    """Open withdrawal requests by wallet."""
    return read_frame(
        connection,
        "SELECT wallet, epoch, amount_uthb, energy_wh FROM withdrawal_requests ORDER BY wallet",
        schema={"wallet": pl.String, **dict.fromkeys(("epoch", "amount_uthb", "energy_wh"), pl.Int64)},
    )


def less_requested(connection: Connection, balances: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Balances without what is asked back by requests before `epoch`, and without what moved in too late to count."""
    asked = (
        requests(connection)
        .filter(pl.col("epoch") < epoch)
        .select(
            pl.col("wallet").alias("owner"), pl.col("energy_wh").alias("_grid"), pl.col("amount_uthb").alias("_cash")
        )
    )
    late = read_frame(
        connection,
        "SELECT owner, sum(greatest(grid_wh, 0))::bigint AS _grid, sum(greatest(cash_uthb, 0))::bigint AS _cash "
        "FROM chain_movements WHERE epoch > :epoch GROUP BY owner",
        {"epoch": epoch},
        {"owner": pl.String, "_grid": pl.Int64, "_cash": pl.Int64},
    )
    taken = pl.concat([asked, late]).group_by("owner").agg(pl.col("_grid", "_cash").sum())
    if taken.is_empty():
        return balances
    return (
        balances.join(taken, on="owner", how="left", maintain_order="left")
        .with_columns(
            grid_wh=(pl.col("grid_wh") - pl.col("_grid").fill_null(0)).clip(lower_bound=0),
            thbc_uthb=(pl.col("thbc_uthb") - pl.col("_cash").fill_null(0)).clip(lower_bound=0),
        )
        .select(balances.columns)
    )


def takes_from_cover(connection: Connection, epoch: int) -> bool:
    """Whether anything makes the cover of orders of `epoch` or later differ from the balances: see `less_requested`."""
    sql = (
        "SELECT EXISTS (SELECT FROM withdrawal_requests) OR EXISTS (SELECT FROM chain_movements WHERE epoch > :epoch) "
        "OR EXISTS (SELECT FROM deposits WHERE epoch > :epoch)"
    )
    return bool(connection.execute(text(sql), {"epoch": epoch}).scalar_one())


def is_continuous(connection: Connection, epoch: int) -> bool:
    """Whether the epoch has no auction, orders on chain being matched one by one instead."""
    reached = read_up_to(connection)
    return reached.continuous_from <= epoch < reached.continuous_end

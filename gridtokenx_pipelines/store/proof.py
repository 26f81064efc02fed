"""The database's side of the ledger proof: every term of the laws, summed where the rows are.

Belongs here: the sums as bound SQL. Does not belong here: the laws (settlement/laws.py), the chain's side (chain/).
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.settlement.frames import METER_AMOUNTS, WALLET_AMOUNTS, Header
from gridtokenx_pipelines.settlement.laws import Law, Sums, laws_from_sums, sums_from_rows
from gridtokenx_pipelines.store.deposits import deposits
from gridtokenx_pipelines.store.ledger import balances, ledger_balances, market_accounts
from gridtokenx_pipelines.store.movements import movements
from gridtokenx_pipelines.store.postgres import read_frame


def ledger_laws(connection: Connection) -> tuple[Law, ...]:
    """The laws over everything booked, from the database alone."""
    return laws_from_sums(ledger_sums(connection))


def ledger_sums(connection: Connection) -> Sums:
    """The laws' terms over all runs booked since the beginning."""
    (trading,) = read_frame(
        connection,
        "SELECT coalesce(sum(lost_wh), 0)::bigint AS lost_wh, "
        "coalesce(sum(link_wheeling_uthb), 0)::bigint AS link_wheeling_uthb, "
        "coalesce(sum(rent_uthb), 0)::bigint AS rent_uthb "
        "FROM market_epochs m WHERE EXISTS (SELECT FROM runs r WHERE r.epoch = m.epoch AND r.run = 0) AND NOT halted",
    ).iter_rows(named=True)
    return sums_from_rows(
        wallet_entries=_sums(connection, "settlements", WALLET_AMOUNTS, ""),
        meter_entries=_sums(connection, "meter_settlements", METER_AMOUNTS, "meter_id"),
        balances=balances(connection),
        accounts=market_accounts(connection),
        headers=[Header(**trading)],
        deposits=deposits(connection),
        ledger=ledger_balances(connection),
        movements=movements(connection),
    )


def _sums(connection: Connection, table: str, columns: tuple[str, ...], key: str) -> pl.DataFrame:
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint AS {name}" for name in columns)
    selected = f"{key}, {sums}" if key else sums
    grouped = f"GROUP BY {key}" if key else ""
    types = {**({key: pl.String} if key else {}), **dict.fromkeys(columns, pl.Int64)}
    return read_frame(connection, f"SELECT {selected} FROM {table} {grouped}", schema=types)  # noqa: S608 - our names

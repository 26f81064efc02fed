"""Households, their meters and their mandates: rows in, frames as of an epoch out.

Belongs here: SQL on `users`, `meters` and `mandates`. Does not belong here: admission on chain (chain/setup.py), what a
mandate orders (market/book.py). Functions take a connection; its transaction is the caller's.
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store.postgres import read_frame, upsert

NO_END = 2**32 - 1
USERS = {"wallet": pl.String, "zone_id": pl.Int64, "user_type": pl.String, "status": pl.String}
METERS = {
    "meter_id": pl.String,
    "wallet": pl.String,
    "zone_id": pl.Int64,
    "meter_type": pl.String,
    "rating_w": pl.Int64,
    "device_key": pl.Binary,
    "status": pl.String,
    "first_epoch": pl.Int64,
    "baseline_production_wh": pl.Int64,
    "baseline_consumption_wh": pl.Int64,
    "baseline_seq": pl.Int64,
    "baseline_timestamp_us": pl.Int64,
    "address": pl.Binary,
}
MANDATES = {
    "wallet": pl.String,
    "effective_epoch": pl.Int64,
    "end_epoch": pl.Int64,
    "sell_min_uthb_per_kwh": pl.Int64,
    "buy_max_uthb_per_kwh": pl.Int64,
    "max_wh": pl.Int64,
    "buy_back": pl.Boolean,
    "set_at_us": pl.Int64,
}


def save_users(connection: Connection, users: pl.DataFrame) -> int:
    """Insert or replace users by wallet."""
    return upsert(connection, "users", users, ("wallet",))


def save_meters(connection: Connection, meters: pl.DataFrame) -> int:
    """Insert or replace meters by id."""
    return upsert(connection, "meters", meters, ("meter_id",))


def save_mandates(connection: Connection, mandates: pl.DataFrame) -> int:
    """Insert or replace mandates by wallet and first epoch; a missing `end_epoch` column means without end."""
    if "end_epoch" not in mandates.columns:
        mandates = mandates.with_columns(pl.lit(NO_END, pl.Int64).alias("end_epoch"))
    return upsert(connection, "mandates", mandates, ("wallet", "effective_epoch"))


def forget_mandates(connection: Connection, keys: pl.DataFrame) -> None:
    """Delete mandates by wallet and first epoch: replaced or revoked before they began, so they never were in force."""
    connection.execute(
        text(
            "DELETE FROM mandates m USING unnest(CAST(:wallets AS text[]), CAST(:epochs AS bigint[])) k(wallet, epoch) "
            "WHERE m.wallet = k.wallet AND m.effective_epoch = k.epoch"
        ),
        {"wallets": keys["wallet"].to_list(), "epochs": keys["effective_epoch"].to_list()},
    )


def users(connection: Connection) -> pl.DataFrame:
    """All users with their chain address (null before they have one), by wallet."""
    return read_frame(
        connection,
        "SELECT wallet, zone_id, user_type, status, trader_address FROM users ORDER BY wallet",
        schema={**USERS, "trader_address": pl.Binary},
    )


def meters(connection: Connection) -> pl.DataFrame:
    """All meters of any status, by id."""
    return read_frame(
        connection,
        "SELECT meter_id, wallet, zone_id, meter_type, rating_w, device_key, status, first_epoch, "
        "baseline_production_wh, baseline_consumption_wh, baseline_seq, baseline_timestamp_us, address "
        "FROM meters ORDER BY meter_id",
        schema=METERS,
    )


def meters_as_of(connection: Connection, epoch: int) -> pl.DataFrame:
    """Active meters that count in `epoch`, by id."""
    return meters(connection).filter((pl.col("status") == "active") & (pl.col("first_epoch") <= epoch))


def mandates_as_of(connection: Connection, epoch: int) -> pl.DataFrame:
    """The mandate in force per wallet in `epoch` (the one that began last, if it has not ended), by wallet.

    A replaced mandate doesn't come back when its successor ends.
    """
    latest = read_frame(
        connection,
        "SELECT DISTINCT ON (wallet) wallet, effective_epoch, end_epoch, sell_min_uthb_per_kwh, buy_max_uthb_per_kwh, "
        "max_wh, buy_back, set_at_us FROM mandates WHERE effective_epoch <= :epoch "
        "ORDER BY wallet, effective_epoch DESC",
        {"epoch": epoch},
        MANDATES,
    )
    return latest.filter(pl.col("end_epoch") > epoch)


def buy_back_as_of(connection: Connection, epoch: int) -> pl.DataFrame:
    """`wallet, buy_back` of the mandates in force, as `settlement.ledger.book_initial` takes it."""
    return mandates_as_of(connection, epoch).select("wallet", "buy_back")


def trader_addresses(connection: Connection) -> dict[str, bytes]:
    """Chain address of each wallet's trader account, where it has one."""
    rows = connection.execute(text("SELECT wallet, trader_address FROM users WHERE trader_address IS NOT NULL"))
    return {wallet: address for wallet, address in rows}


def count(connection: Connection) -> int:
    """How many meters there are, of any status: about what an epoch has rows."""
    return int(connection.execute(text("SELECT count(*) FROM meters")).scalar_one())


def meter_addresses(connection: Connection) -> dict[str, bytes]:
    """Chain address of each meter's account, where it has one."""
    rows = connection.execute(text("SELECT meter_id, address FROM meters WHERE address IS NOT NULL"))
    return {meter: address for meter, address in rows}

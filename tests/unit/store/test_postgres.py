"""Migration and the bulk primitives, on a real Postgres."""

from __future__ import annotations

import threading

import polars as pl
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.store.postgres import copy_in, engine, migrate, read_frame, upsert

CONTRACT_TABLES = {
    *("users", "meters", "mandates", "orders", "dead_letters", "stream_progress", "net_energy", "corrections"),
    *("market_epochs", "fills", "order_matches", "zone_results", "flows", "runs", "settlements", "meter_settlements"),
    *("balances", "market_accounts", "ledger_entries", "outbox", "blockchain_transactions", "audit_logs"),
    *("latest_readings", "meter_readings", "deposits"),
}


def test_migration_makes_every_table_of_the_contract_and_prints_nothing(empty_postgres_url, capfd):
    migrate(empty_postgres_url)
    with engine(empty_postgres_url).connect() as connection:
        present = read_frame(
            connection, "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
        )
    assert set(present["table_name"]) >= CONTRACT_TABLES
    assert capfd.readouterr() == ("", "")


def test_two_processes_may_migrate_at_once(empty_postgres_url):
    errors: list[Exception] = []

    def run() -> None:
        try:
            migrate(empty_postgres_url)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_every_store_column_of_energy_and_money_is_a_64_bit_integer(postgres_url):
    with engine(postgres_url).connect() as connection:
        wrong = read_frame(
            connection,
            "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public' "
            r"AND (column_name LIKE '%\_wh' OR column_name LIKE '%\_uthb%') AND data_type <> 'bigint'",
        )
    assert wrong.rows() == []


def test_rows_come_back_as_they_went_in_with_nulls_bytes_and_awkward_text(postgres_url):
    rows = pl.DataFrame(
        {
            "topic": ["t", "t", "t"],
            "partition": [0, 0, 1],
            "offset": [1, 2, 1],
            "reason_code": [1, 2, 3],
            "reason": ['quote " comma ,', "", "line\nbreak \\ back"],
            "detail": [None, "", "\\N"],
            "value": [b"\x00\xff", None, b""],
        },
        schema_overrides={"value": pl.Binary},
    )
    with engine(postgres_url).begin() as connection:
        copy_in(connection, "dead_letters", rows)
        back = read_frame(
            connection,
            'SELECT topic, partition, "offset", reason_code, reason, detail, value FROM dead_letters ORDER BY 2, 3',
            schema=rows.schema,
        )
    assert back.rows() == rows.rows()


def test_upsert_replaces_or_keeps_rows_of_a_known_key(postgres_url):
    def progress(closed: int) -> pl.DataFrame:
        return pl.DataFrame({"flow": ["telemetry"], "partition": [0], "partitions": [1], "closed_epoch": [closed]})

    key = ("flow", "partition")
    with engine(postgres_url).begin() as connection:
        assert upsert(connection, "stream_progress", progress(5), key) == 1
        assert upsert(connection, "stream_progress", progress(6), key, update=False) == 0
        assert connection.execute(text("SELECT closed_epoch FROM stream_progress")).scalar() == 5
        assert upsert(connection, "stream_progress", progress(7), key) == 1
        assert connection.execute(text("SELECT closed_epoch FROM stream_progress")).scalar() == 7


def test_a_schema_in_another_order_than_the_query_is_refused(postgres_url):
    with engine(postgres_url).connect() as connection, pytest.raises(ValueError, match="select them in that order"):
        read_frame(connection, "SELECT 1 AS a, 2 AS b", schema={"b": pl.Int64, "a": pl.Int64})


def test_a_negative_balance_is_refused_by_the_table_itself(postgres_url):
    with engine(postgres_url).begin() as connection, pytest.raises(Exception, match="violates check constraint"):
        connection.execute(text("INSERT INTO balances (owner, grid_wh) VALUES ('w', -1)"))

"""Dagster's own tables: all of them or none, whatever moment the process that makes them is killed at."""

from __future__ import annotations

import multiprocessing
import time

import sqlalchemy as sa

from gridtokenx_pipelines import dagster_storage


def tables(url: str, schema: str) -> set[str]:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    return set(sa.inspect(engine).get_table_names(schema=schema))


def test_a_start_killed_while_it_makes_the_tables_leaves_a_database_that_the_next_start_completes(empty_postgres_url):
    child = multiprocessing.get_context("spawn").Process(
        target=dagster_storage.create_schema, args=(empty_postgres_url,)
    )
    child.start()
    while not tables(empty_postgres_url, dagster_storage.UNFINISHED) and child.is_alive():
        time.sleep(0.002)
    child.kill()
    child.join()
    left = tables(empty_postgres_url, dagster_storage.SCHEMA)
    assert not left or "asset_check_executions" in left  # all, where the machine was so busy that the kill came late

    dagster_storage.create_schema(empty_postgres_url)

    made = tables(empty_postgres_url, dagster_storage.SCHEMA)
    assert {"runs", "event_logs", "asset_check_executions", "jobs", "instance_info", "alembic_version"} <= made
    assert tables(empty_postgres_url, dagster_storage.UNFINISHED) == set()


def test_two_starts_at_once_make_one_schema(empty_postgres_url):
    spawn = multiprocessing.get_context("spawn")
    starters = [spawn.Process(target=dagster_storage.create_schema, args=(empty_postgres_url,)) for _ in range(2)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert [starter.exitcode for starter in starters] == [0, 0]
    assert "asset_check_executions" in tables(empty_postgres_url, dagster_storage.SCHEMA)

"""Dagster's own storage: in a schema of its own beside the domain's tables, over kept connections.

Belongs here: where and how Dagster keeps runs and events (dagster.yaml names this class). Does not belong here:
anything of the domain. Two facts make it necessary: Dagster's tables and ours both want the name `runs` and the table
`alembic_version`, and dagster-postgres opens a connection per statement, which costs a one-epoch run half its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from dagster._core.storage.config import pg_config
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from gridtokenx_pipelines.dagster_event_log import EventLogWithVerdicts

SCHEMA = "dagster"
UNFINISHED = "dagster_unfinished"
# pooled connections outlive no statement of this length; a range run's batch of events stays far below it
STATEMENT_TIMEOUT_MS = 60_000
POOL_RECYCLE_SECONDS = 3_600
MAX_OVERFLOW = 4


def storage_url(database_url: str, schema: str = SCHEMA) -> sa.URL:
    """The database's URL with psycopg2 spelled out (dagster-postgres fails on psycopg 3) and that schema first."""
    url = sa.make_url(database_url).set(drivername="postgresql+psycopg2")
    return url.update_query_dict({"options": f"-csearch_path={schema}"})


def create_schema(database_url: str) -> None:
    """Create the schema with all of Dagster's tables if it isn't there. Safe when several processes start at once.

    dagster-postgres creates its tables one commit each: killed half-way it would leave some for ever, as it looks only
    for the first. So they are made in a schema of another name, which takes the right one when all are there.
    """
    plain = sa.make_url(database_url).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(plain, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            # held by the session: two starters would both build, and one fail at the name
            connection.execute(sa.text("select pg_advisory_lock(hashtext('gridtokenx dagster schema'))"))
            if SCHEMA in sa.inspect(connection).get_schema_names():
                return
            connection.execute(sa.text(f"drop schema if exists {UNFINISHED} cascade"))
            connection.execute(sa.text(f"create schema {UNFINISHED}"))
            DagsterPostgresStorage(storage_url(database_url, UNFINISHED).render_as_string(hide_password=False))
            connection.execute(sa.text(f"alter schema {UNFINISHED} rename to {SCHEMA}"))
    finally:
        engine.dispose()


class PooledPostgresStorage(DagsterPostgresStorage):
    """Postgres storage for dagster.yaml's `storage: custom`; its `postgres_url` is the domain's DATABASE_URL."""

    @classmethod
    def config_type(cls) -> Any:
        """Same settings as dagster-postgres."""
        return pg_config()

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledPostgresStorage:
        """Open the storage; creates the schema and, once, Dagster's tables in it."""
        database_url = str(config_value["postgres_url"])
        create_schema(database_url)
        url = storage_url(database_url).render_as_string(hide_password=False)
        storage = cls(url, inst_data=inst_data)
        storage._event_log_storage = EventLogWithVerdicts(url)
        for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
            part.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_SECONDS, MAX_OVERFLOW)
        return storage

"""The way to Postgres: engine, migration, and the few primitives that every repository uses.

Belongs here: connections, Alembic, frames in and out in bulk (COPY in, plain tuples out). Does not belong here: any
table's own SQL (the repositories beside this file) or any computing. Frames pass as polars, without pyarrow.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import psycopg2.extensions as pg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x6772_6964_746F_6B78  # "gridtokx": one number, so that every process asks for the same lock
BYTEA_OID = 17


def engine(url: str, pool_size: int = 5) -> Engine:
    """A pooled engine on psycopg2 whose sessions are in UTC; `postgresql://` URLs are taken as they come."""
    if url.startswith("postgresql://"):
        # SQLAlchemy 2.1 would read the bare scheme as psycopg 3
        url = "postgresql+psycopg2://" + url.removeprefix("postgresql://")
    made = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=10,
        pool_pre_ping=True,
        connect_args={"options": "-c timezone=UTC -c bytea_output=hex"},
    )
    event.listen(made, "connect", _bytes_for_bytea)
    return made


def _bytes_for_bytea(connection: Any, _record: object) -> None:
    # psycopg2 hands out memoryviews, which polars and msgspec don't take
    def to_bytes(value: str | None, _cursor: object) -> bytes | None:
        return None if value is None else bytes.fromhex(value[2:])

    pg.register_type(pg.new_type((BYTEA_OID,), "BYTES", to_bytes), connection)


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`; two processes may call it at once, the second waits and finds it done."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    made = engine(url, pool_size=1)
    try:
        with made.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            try:
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
    finally:
        made.dispose()


def read_frame(
    connection: Connection,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> pl.DataFrame:
    """Rows of a bound query as a frame; `schema` gives names and types in the query's order (also of no rows)."""
    result = connection.execute(text(sql), dict(parameters or {}))
    columns = list(result.keys())
    rows = [tuple(row) for row in result.fetchall()]
    wanted = dict(schema) if schema is not None else dict.fromkeys(columns)
    if list(wanted) != columns:
        raise ValueError(f"query gave columns {columns}, the schema names {list(wanted)}; select them in that order")
    return pl.DataFrame(rows, schema=wanted, orient="row", infer_schema_length=None)


def _csv(frame: pl.DataFrame) -> io.BytesIO:
    # COPY's text form of bytea is \x and hex; null is the unquoted empty field, "" the empty string
    binary = [
        (pl.lit("\\x") + pl.col(name).bin.encode("hex")).alias(name)
        for name, kind in frame.schema.items()
        if kind == pl.Binary
    ]
    lines = io.BytesIO()
    frame.with_columns(binary).write_csv(lines, include_header=False, quote_style="non_numeric")
    lines.seek(0)
    return lines


def quoted(name: str) -> str:
    """An identifier for SQL; the names are our own constants, and `offset` is one of Postgres's words."""
    if not name.replace("_", "").isalnum():
        raise ValueError(f"identifier was {name!r}, must be letters, digits and underscores")
    return f'"{name}"'


def copy_in(connection: Connection, table: str, frame: pl.DataFrame) -> None:
    """Append all rows of the frame to the table by COPY, inside the connection's transaction."""
    if frame.is_empty():
        return
    columns = ", ".join(map(quoted, frame.columns))
    with connection.connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {quoted(table)} ({columns}) FROM STDIN WITH (FORMAT csv)", _csv(frame))  # type: ignore[attr-defined]


def upsert(connection: Connection, table: str, frame: pl.DataFrame, key: Sequence[str], update: bool = True) -> int:
    """Insert rows, replacing (or with update=False keeping) those whose key exists; returns the rows written."""
    if frame.is_empty():
        return 0
    names, columns = quoted(f"incoming_{table}"), ", ".join(map(quoted, frame.columns))
    others = [column for column in frame.columns if column not in key]
    action = (
        "UPDATE SET " + ", ".join(f"{quoted(column)} = EXCLUDED.{quoted(column)}" for column in others)
        if update and others
        else "NOTHING"
    )
    connection.exec_driver_sql(
        f"CREATE TEMP TABLE IF NOT EXISTS {names} (LIKE {quoted(table)} INCLUDING DEFAULTS) ON COMMIT DROP"
    )
    connection.exec_driver_sql(f"TRUNCATE {names}")
    copy_in(connection, f"incoming_{table}", frame)
    result = connection.exec_driver_sql(  # identifiers only, each one quoted and checked above
        f"INSERT INTO {quoted(table)} ({columns}) SELECT {columns} FROM {names} "  # noqa: S608
        f"ON CONFLICT ({', '.join(map(quoted, key))}) DO {action}"
    )
    return result.rowcount

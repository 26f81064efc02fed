"""The database that a command asks: the one it is given, or the data folder's own.

Belongs here: reaching it. Does not belong here: SQL. A folder's database is started for the while if nobody runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.stack import Stack, StackError
from gridtokenx_pipelines.store.postgres import engine, migrate


@contextmanager
def database_of(data_dir: Path, url: str | None) -> Iterator[Engine]:
    """An engine on the database at its newest schema. Raises ConfigError for a folder without one, StackError."""
    folder = data_dir.absolute()
    if url:
        with _engine(url) as made:
            yield made
        return
    if not (folder / "pg").is_dir():
        raise ConfigError(
            "--data-dir", str(data_dir), "a folder with a database", "run `gridtokenx demo`, or give --database-url"
        )
    try:
        with Stack(folder) as stack:
            own = stack.postgres()
            migrate(own)
            with _engine(own) as made:
                yield made
    except StackError:
        running = _running(folder)
        if running is None:
            raise
        with _engine(running) as made:
            yield made


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    made = engine(url, pool_size=1)
    try:
        yield made
    finally:
        made.dispose()


def _running(folder: Path) -> str | None:
    try:
        lines = (folder / "pg" / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    # line 4 is the port and line 5 the folder of its socket
    return f"postgresql+psycopg2://postgres:@/postgres?host={lines[4]}&port={lines[3]}" if len(lines) > 4 else None

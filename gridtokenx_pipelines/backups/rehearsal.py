"""The rehearsal: a Postgres backup is restored into a throw-away folder, started and counted.

Belongs here: starting a restored folder beside everything else, and asking it. Does not belong here: judging the
numbers against a chain (`gridtokenx settle reconcile` does that with a restored database).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gridtokenx_pipelines.backups import postgres
from gridtokenx_pipelines.backups.catalogue import BackupError

# what says that it is our database and how far it got
QUESTIONS = {
    "schema": "SELECT version_num FROM alembic_version",
    "settled_epochs": "SELECT count(*) FROM market_epochs WHERE status = 'settled'",
    "newest_epoch": "SELECT coalesce(max(epoch), 0) FROM market_epochs",
    "net_energy_rows": "SELECT count(*) FROM net_energy",
    "receipts": "SELECT count(*) FROM blockchain_transactions",
}


class Rehearsed(msgspec.Struct, frozen=True):
    """What the restored database said, from which backups, and how many seconds it took until it answered."""

    backups: tuple[str, ...]
    seconds: float
    answers: dict[str, str]


@contextmanager
def started(folder: Path, database: str = "postgres") -> Iterator[str]:
    """URL of a server on a restored folder, on a socket inside it only; ended afterwards."""
    user = postgres.unprivileged()
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c archive_mode=off"
    log = folder / "rehearsal.log"
    try:
        postgres.run("pg_ctl", "-w", "-t", "300", "-s", "-D", str(folder), "-l", str(log), "-o", options, "start",
                     user=user)  # fmt: skip
        yield f"postgresql://postgres@/{database}?host={folder}"
    except BackupError as error:
        raise BackupError(f"{error}; the server said: {_last_lines(log)}") from error
    finally:
        if (folder / "postmaster.pid").exists():
            postgres.run("pg_ctl", "-w", "-s", "-D", str(folder), "-m", "fast", "stop", user=user)


def rehearse(root: Path, *, name: str | None = None, database: str, role: str = "") -> Rehearsed:
    """Restore the newest backup (or that of the name), start it, ask it. Raises BackupError where any of it fails."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as scratch:
        os.chmod(scratch, 0o755)  # noqa: S103 - Postgres' own user must get to its folder inside
        began = time.monotonic()
        folder = Path(scratch) / "pg"
        chain = postgres.restore(root, name, folder)
        # nobody else reaches the socket's folder, so whoever asks may be the database's own user
        shutil.copy(folder / "pg_hba.conf", folder / "pg_hba.conf.before")
        (folder / "pg_hba.conf").write_text("local all all trust\n")
        with started(folder, database) as url:
            address = url.replace("postgres@", f"{role}@") if role else url
            answers = {
                name: postgres.run("psql", "-AtX", "-c", question, url=address) for name, question in QUESTIONS.items()
            }
        seconds = time.monotonic() - began
    return Rehearsed(tuple(record.name for record in chain), round(seconds, 1), answers)


def _last_lines(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").splitlines()[-4:]) if log.exists() else "nothing"

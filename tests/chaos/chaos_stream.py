"""The telemetry flow on real Kafka while everything around it is killed or filled up: nothing lost, nothing twice.

Belongs here: faults, when they come, what is counted; as a command (`make chaos-stream`) and as a function for
tests/kafka. Does not belong here: the stream (stream_world.py), the servers. Seeded: the same seed sends the same
records and breaks the same things at the same places of the stream. Exit code 1 if a row doesn't close.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).resolve().parents[2]))  # run as a file: the project may not be installed

import polars as pl
from sqlalchemy import text
from stream_servers import TOKEN, Influx, Postgres
from stream_world import Expected, Fleet, Sent, expected

from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.metering.outputs import NET_ENERGY_SCHEMA
from gridtokenx_pipelines.metering.registry import encode_record
from gridtokenx_pipelines.store.postgres import engine, read_frame

HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 180
FAULTS = ("flow", "process", "broker", "postgres", "influx", "disk", "slow", "supervisor")
WORDS = {
    "flow": "kill -9 of every process of the flow",
    "process": "kill -9 of one process of its cluster",
    "broker": "kill -9 of a broker, 3 s away",
    "postgres": "kill -9 of Postgres, 2 s away",
    "influx": "kill -9 of InfluxDB, 3 s away",
    "disk": "recovery store's disk full for 4 s",
    "slow": "consumer stopped for 4 s",
    "supervisor": "kill -9 of the supervisor, started again",
    "end": "poison, clock jumps: the whole stream",
}
DISK_BYTES = 24 << 20


class Row(NamedTuple):
    """A line of the result: records sent and accounted for once it had recovered."""

    fault: str
    sent: int
    accounted: int
    seconds: float

    @property
    def lost(self) -> int:
        return max(self.sent - self.accounted, 0)

    @property
    def twice(self) -> int:
        return max(self.accounted - self.sent, 0)


class Flow:
    """The telemetry flow under its supervisor."""

    def __init__(self, folder: Path, env: dict[str, str], recovery: Path) -> None:
        self.folder, self.env, self.recovery, self.log = folder, env, recovery, folder / "flow.log"
        self.start()

    def start(self) -> None:
        words = ["supervise", "telemetry", "--recovery", str(self.recovery), "--processes", "2"]
        words += ["--metrics-port", "0", "--snapshot-seconds", "0.5"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gridtokenx_pipelines.cli", "stream", *words],
                env=kept | self.env,
                stdout=out,
                stderr=out,
            )

    def pids(self) -> list[int]:
        """Processes of the present cluster, by the supervisor's last word."""
        started = [json.loads(line) for line in self._lines() if '"started"' in line]
        return [pid for pid in started[-1]["pids"] if Path(f"/proc/{pid}").exists()] if started else []

    def restarts(self) -> int:
        return sum('"restarts"' in line for line in self._lines())

    def _lines(self) -> list[str]:
        return [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("{")]

    def signal(self, number: int, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


class Chaos:
    """One run: a stream that is sent minute by minute, and faults at drawn minutes."""

    def __init__(self, cluster: Any, url: str, folder: Path, *, recovery: Path | None = None, seed: int = 1) -> None:
        self.cluster, self.url, self.draws = cluster, url, random.Random(f"faults {seed}")  # noqa: S311 - seeded
        self.postgres: Postgres | None = None
        self.influx: Influx | None = None
        self.folder, self.recovery = folder, recovery or folder / "recovery"
        self.database, self.sent, self.rows = engine(url), [], []  # type: ignore[var-annotated]
        self.sender = Sender(cluster.bootstrap_servers)
        self.flow: Flow | None = None

    def run(self, fleet: Fleet, faults: tuple[str, ...]) -> list[Row]:
        """Send the fleet's stream and break things on the way; a row for each, and one for the whole."""
        for record in fleet.registry():
            self.sender.send("meter-registry", encode_record(record), key=b"k", partition=0)
        self.sender.flush()
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": self.cluster.bootstrap_servers,
            "DATABASE_URL": self.url,
            "SOLANA_RPC_URL": "http://127.0.0.1:1",
            "GRIDTOKENX_DATA_DIR": str(self.folder),
        }
        if self.influx is not None:
            env |= {"INFLUXDB_URL": self.influx.url, "INFLUXDB_TOKEN": TOKEN}
        self.flow = Flow(self.folder, env, self.recovery)
        minutes = sorted(self.draws.sample(range(4, fleet.minutes - 3), len(faults)))
        due = dict(zip(minutes, self.draws.sample(faults, len(faults)), strict=True))
        began = time.monotonic()
        for minute, batch in enumerate(fleet.records()):
            self._send(batch)
            if minute == 2:
                self._caught_up()
            if minute in due:
                self._break(due[minute])
        self._caught_up()
        self.rows.append(Row("end", len(self.sent), self._accounted(), time.monotonic() - began))
        return self.rows

    def _send(self, batch: list[Sent]) -> None:
        for partition, raw in batch:
            self.sender.send("meter-readings", raw.value, key=raw.key, headers=raw.headers, partition=partition)
        self.sender.flush(120)
        self.sent += batch

    def _break(self, fault: str) -> None:
        began = getattr(self, f"_fault_{fault}")()
        self._caught_up()
        self.rows.append(Row(fault, len(self.sent), self._accounted(), time.monotonic() - began))

    def _fault_flow(self) -> float:
        self._flow.signal(signal.SIGKILL, self._alive())
        return time.monotonic()

    def _fault_process(self) -> float:
        self._flow.signal(signal.SIGKILL, [self.draws.choice(self._alive())])
        return time.monotonic()

    def _fault_broker(self) -> float:
        victim, began = self.draws.choice(self.cluster.nodes), time.monotonic()
        self.cluster.kill_node(victim)
        self._caught_up()  # with the broker still away: two of three go on
        recovered = time.monotonic() - began
        time.sleep(max(3 - recovered, 0))
        self.cluster.start_node(victim)
        return time.monotonic() - recovered

    def _fault_postgres(self) -> float:
        assert self.postgres is not None
        self.postgres.kill()
        time.sleep(2)
        began = time.monotonic()
        self.postgres.start()
        return began

    def _fault_influx(self) -> float:
        assert self.influx is not None
        self.influx.kill()
        began = time.monotonic()
        self._caught_up()  # net energy goes on while it is away
        recovered = time.monotonic() - began
        time.sleep(max(3 - recovered, 0))
        self.influx.start()
        return time.monotonic() - recovered

    def _fault_disk(self) -> float:
        filler = self.recovery / "filler"
        before = self._flow.restarts()
        with open(filler, "wb", buffering=0) as out, contextlib.suppress(OSError):
            while True:
                out.write(bytes(1 << 16))
        with open(filler, "ab", buffering=0) as out, contextlib.suppress(OSError):
            while True:
                out.write(b"\0" * 64)
        deadline = time.monotonic() + 60
        while self._flow.restarts() == before:
            assert time.monotonic() < deadline, "a full disk did not stop the flow"
            time.sleep(0.05)
        time.sleep(4)
        began = time.monotonic()
        filler.unlink()
        return began

    def _fault_slow(self) -> float:
        pids = self._alive()
        self._flow.signal(signal.SIGSTOP, pids)
        time.sleep(4)
        self._flow.signal(signal.SIGCONT, pids)
        return time.monotonic()

    def _fault_supervisor(self) -> float:
        self._flow.process.kill()
        self._flow.process.wait()
        began = time.monotonic()
        deadline = began + 20
        while self._flow.pids():  # its processes die with it
            assert time.monotonic() < deadline, "a process outlived its supervisor"
            time.sleep(0.02)
        self._flow.start()
        return began

    @property
    def _flow(self) -> Flow:
        assert self.flow is not None
        return self.flow

    def _alive(self) -> list[int]:
        deadline = time.monotonic() + 60
        while not (pids := self._flow.pids()):
            assert time.monotonic() < deadline, "the supervisor started nothing"
            time.sleep(0.02)
        return pids

    def _caught_up(self) -> None:
        """Wait until everything sent so far is in the tables."""
        wanted: dict[int, int] = {}
        for partition, raw in self.sent:
            wanted[partition] = max(raw.offset, wanted.get(partition, -1))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(Exception), self.database.connect() as connection:
                rows = connection.execute(
                    text("SELECT partition, \"offset\" FROM stream_progress WHERE flow = 'telemetry'")
                )
                if {int(partition): int(offset) for partition, offset in rows} == wanted:
                    return
            if time.monotonic() > deadline:
                tail = self._flow.log.read_text(errors="replace")[-4_000:]
                raise AssertionError(f"not caught up within {PATIENCE_SECONDS} s:\n{tail}")
            time.sleep(0.05)

    def _accounted(self) -> int:
        with self.database.connect() as connection:
            # every record becomes one of these; corrections are counted beside them, and are no records
            counted = text(
                "SELECT COALESCE(sum(records), 0) FROM stream_counts "
                "WHERE flow = 'telemetry' AND status IN ('accepted', 'duplicate', 'rejected')"
            )
            return int(connection.execute(counted).scalar_one())

    def differences(self, wanted: Expected) -> list[str]:
        """What the tables have otherwise than the pure functions over the same stream, undisturbed."""
        found = []
        with self.database.connect() as connection:
            columns = ", ".join(NET_ENERGY_SCHEMA)
            net: pl.DataFrame = read_frame(
                connection,
                f"SELECT {columns} FROM net_energy ORDER BY meter_id, epoch, revision",  # noqa: S608 - our columns
                None,
                NET_ENERGY_SCHEMA,
            )
            if not net.equals(wanted.net_energy):
                found.append(f"net energy: {net.height} rows, {wanted.net_energy.height} expected, or other numbers")
            letters = connection.execute(
                text('SELECT partition, "offset", reason_code FROM dead_letters ORDER BY 1, 2')
            ).fetchall()
            if [tuple(row) for row in letters] != wanted.letters:
                found.append(f"dead letters: {len(letters)}, {len(wanted.letters)} expected, or other reasons")
            counts = connection.execute(
                text("SELECT status, reason, sum(records)::bigint FROM stream_counts GROUP BY 1, 2")
            )
            if {(status, reason): int(records) for status, reason, records in counts} != wanted.totals:
                found.append("counts by reason differ")
        return found

    def close(self) -> None:
        if self.flow is not None:
            self.flow.stop()
        self.database.dispose()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of few MB, in memory; None where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def table(rows: list[Row]) -> str:
    """The result for people."""
    lines = [f"{'fault':<44}{'sent':>9}{'accounted':>11}{'lost':>6}{'twice':>7}{'recovered s':>13}"]
    for row in rows:
        lines.append(
            f"{WORDS[row.fault]:<44}{row.sent:>9}{row.accounted:>11}{row.lost:>6}{row.twice:>7}{row.seconds:>13.1f}"
        )
    return "\n".join(lines)


def _kafka_module() -> Any:
    spec = importlib.util.spec_from_file_location("kafka_cluster", HERE.parent / "kafka" / "cluster.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kafka_cluster"] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Start everything real, run, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--meters", type=int, default=80)
    parser.add_argument("--minutes", type=int, default=77, help="simulated minutes of readings, a batch each")
    parser.add_argument("--faults", default=",".join(FAULTS), help="which, by comma")
    options = parser.parse_args()
    faults = tuple(options.faults.split(","))
    unknown = sorted(set(faults) - set(FAULTS))
    if unknown:
        parser.error(f"--faults has {unknown[0]}, must be of {', '.join(FAULTS)}")
    kafka = _kafka_module()
    from gridtokenx_pipelines.messaging.apply import admin_client, apply  # noqa: PLC0415
    from gridtokenx_pipelines.messaging.cluster_state import differences, read_state  # noqa: PLC0415
    from gridtokenx_pipelines.messaging.topics import CLUSTER  # noqa: PLC0415

    with contextlib.ExitStack() as open_things:
        folder = Path(open_things.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        try:
            cluster = open_things.enter_context(kafka.running(folder / "kafka", nodes=3))
        except kafka.KafkaMissing as error:
            print(f"skipped: {error}")
            return 0
        admin = admin_client(cluster.bootstrap_servers)
        state = read_state(admin, CLUSTER)
        apply(admin, CLUSTER, state, differences(CLUSTER, state))
        postgres = Postgres(folder / "postgres")
        open_things.callback(postgres.stop)
        influx = Influx.find(folder / "influx")
        if influx is None:
            print("skipped: InfluxDB, no influxd (INFLUXD, PATH or ../shared/bin)")
            faults = tuple(fault for fault in faults if fault != "influx")
        else:
            open_things.callback(influx.kill)
        disk = open_things.enter_context(small_disk(folder / "disk"))
        if disk is None:
            print("skipped: full disk, this user may not mount a small one")
            faults = tuple(fault for fault in faults if fault != "disk")
        chaos = Chaos(cluster, postgres.url, folder / "data", recovery=disk, seed=options.seed)
        chaos.folder.mkdir()
        open_things.callback(chaos.close)
        chaos.postgres, chaos.influx = postgres, influx
        return _report(chaos, Fleet(options.seed, options.meters, options.minutes), faults)


def _report(chaos: Chaos, fleet: Fleet, faults: tuple[str, ...]) -> int:
    rows = chaos.run(fleet, faults)
    wanted = expected(chaos.sent, fleet.registry())
    wrong = chaos.differences(wanted)
    print(table(rows))
    reasons = sorted(reason for status, reason in wanted.totals if status == "rejected")
    print(f"refused: {len(wanted.letters)} records for {len(reasons)} reasons ({', '.join(reasons)})")
    print(f"net energy: {wanted.net_energy.height} rows, corrections: {wanted.corrections.height}")
    for words in wrong:
        print(f"WRONG {words}")
    ended = chaos.flow.stop() if chaos.flow is not None else 0
    print(f"polite end: code {ended}")
    return 1 if wrong or ended or any(row.lost or row.twice for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

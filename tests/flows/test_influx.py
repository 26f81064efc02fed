"""Accepted readings in a real InfluxDB, and a dead one that holds nothing up."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from metering_world import EPOCH, START_US, Stream, registry_of, run

from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.messaging.influx import InfluxWriter
from gridtokenx_pipelines.messaging.influx_points import line_of
from gridtokenx_pipelines.messaging.influx_schema import BUCKET, DAILY, HOURLY, ORGANISATION, TASKS
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.state import ShardState
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import step
from gridtokenx_pipelines.store.parquet import ParquetStore
from streaming.archive import Archive, archived_points

TOKEN = "a-token-of-no-value"  # noqa: S105 - of this test's own server


class Server:
    """A real influxd that can be ended and started again on the same data."""

    def __init__(self, program: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        options = ["--http-bind-address", f"127.0.0.1:{port}", "--reporting-disabled", "--ui-disabled"]
        for name in ("bolt-path", "sqlite-path", "engine-path"):
            options += [f"--{name}", str(folder / name)]
        self._command = [program, *options, "--log-level", "error"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1)  # noqa: S310 - our own server
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = os.environ.get("INFLUXD") or shutil.which("influxd")
    packed = sorted(Path(__file__).parents[3].glob("shared/bin/influxd-*.xz"))
    if not found and packed:
        found = str(tmp_path_factory.mktemp("influxd") / "influxd")
        with lzma.open(packed[-1]) as source, open(found, "wb") as target:
            shutil.copyfileobj(source, target)
        os.chmod(found, 0o755)  # noqa: S103 - a program
    if not found:
        pytest.skip("no influxd: set INFLUXD to its path")
    return found


@pytest.fixture
def server(program: str, tmp_path: Path) -> Iterator[Server]:
    """Set up with the organisation and the raw bucket, running."""
    yield from set_up(Server(program, tmp_path))


def set_up(made: Server) -> Iterator[Server]:
    made.start()
    from influxdb_client import InfluxDBClient  # noqa: PLC0415
    from influxdb_client.domain.onboarding_request import OnboardingRequest  # noqa: PLC0415
    from influxdb_client.service.setup_service import SetupService  # noqa: PLC0415

    with InfluxDBClient(url=made.url, token="") as client:
        request = OnboardingRequest(username="u", password="password", org=ORGANISATION, bucket=BUCKET, token=TOKEN)  # noqa: S106
        SetupService(client.api_client).post_setup(request)
    yield made
    made.stop()


def outputs_of_three_readings() -> Outputs:
    stream = Stream()
    stream.tick(0)
    stream.read(11, 0, 1, 0)
    stream.read(13, 20, 11, 6)
    stream.read(12, 10, 5, 2)  # between the two: the later interval shrinks
    return run(stream.raws, registry_of())[1]


def points(url: str, field: str, bucket: str = BUCKET) -> list[tuple[str, str, str, float]]:
    """(meter, zone, time, value) of a field, in the order of meter and time."""
    from influxdb_client import InfluxDBClient  # noqa: PLC0415

    with InfluxDBClient(url=url, token=TOKEN, org=ORGANISATION) as client:
        tables = client.query_api().query(
            f'from(bucket: "{bucket}") |> range(start: 2026-01-01T00:00:00Z, stop: 2027-01-01T00:00:00Z) '
            f'|> filter(fn: (r) => r._field == "{field}")'
        )
    return sorted(
        (row["meter_serial"], row["zone_id"], row.get_time().isoformat(), row.get_value())
        for table in tables
        for row in table.records
    )


def test_intervals_of_a_meter_add_up_whatever_the_order_of_arrival() -> None:
    lines = [line_of(each) for each in outputs_of_three_readings().accepted]
    tags, at = "energy_metrics,meter_serial=MEA-001,meter_type=Hybrid,zone_id=1", START_US * 1_000
    fields = "voltage=230.1,current=4.5,power_factor=0.98"
    assert lines == [
        f"{tags} {fields} {at}",
        f"{tags} {fields},generation=10i,consumption=6i {at + 20 * 10**9}",
        f"{tags} {fields},generation=4i,consumption=2i {at + 10 * 10**9}",
        f"{tags} generation=6i,consumption=4i {at + 20 * 10**9}",
    ]


def wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_points_arrive_in_influxdb_and_later_intervals_replace_earlier_ones(server: Server) -> None:
    writer = InfluxWriter(server.url, TOKEN)
    writer.write(outputs_of_three_readings())
    writer.close(30)
    assert (writer.written, writer.dropped) == (4, 0)
    assert points(server.url, "generation") == [
        ("MEA-001", "1", "2026-01-27T12:00:10+00:00", 4),
        ("MEA-001", "1", "2026-01-27T12:00:20+00:00", 6),
    ]


def test_an_influxdb_that_is_away_costs_points_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    writer = InfluxWriter("http://127.0.0.1:9", TOKEN)
    began = time.monotonic()
    writer.write(outputs_of_three_readings())
    assert time.monotonic() - began < 0.5
    writer.close(30)
    assert (writer.written, writer.dropped) == (0, 4)
    assert [record.levelname for record in caplog.records if "settlement is not affected" in record.message] == [
        "WARNING"
    ]


def hours(quarters: int) -> list[Raw]:
    """A reading every five minutes, two of them refused, one late."""
    stream = Stream()
    stream.tick(0)
    for number in range(quarters * 3):
        at = (number + 1) * 300 - 5
        stream.tick(at)
        stream.read(11 + 2 * number, at, 40 * (number + 1), 10 * (number + 1))
        if number in (2, 5):
            stream.read(11 + 2 * number, at, 1, 1)
        if number == 4:
            stream.read(10 + 2 * number, at - 200, 40 * number + 8, 10 * number + 3)
        stream.tick(at + 40)
    return stream.raws


def test_what_influxdb_missed_while_it_was_away_is_written_from_the_archive(server: Server, tmp_path: Path) -> None:
    raws, registry = hours(8), registry_of()
    archive = Archive(ParquetStore(tmp_path / "data"), lambda *_: [], registered=registry.messages)
    notes, verifier, state = tmp_path / "owed.json", Verifier(3), ShardState(0, 4)

    def play(records: list[Raw], state: ShardState, writer: InfluxWriter) -> ShardState:
        for raw in records:
            messages = verifier.messages([raw])
            state, outputs = step(state, messages, registry)
            archive.add(0, messages, outputs.closed, outputs.dead_letters)
            began = time.monotonic()
            writer.write(outputs)
            assert time.monotonic() - began < 0.2
        return state

    def writer() -> InfluxWriter:
        return InfluxWriter(server.url, TOKEN, archived=archived_points(tmp_path / "data", registry), notes=notes)

    first = writer()
    state = play(raws[:20], state, first)
    wait_until(lambda: first.written >= 6)
    server.stop()
    state = play(raws[20:50], state, first)
    first.close(30)  # the process ends, and Influx is still away
    assert first.owed and json.loads(notes.read_text()) == [list(place) for place in sorted(first.owed)]
    server.start()
    second = writer()
    assert second.owed == first.owed
    state = play(raws[50:], state, second)
    closed = state.closed_epoch
    wait_until(lambda: all(epoch > closed for _, epoch in second.owed))
    second.close(30)
    _, whole = run(raws, registry)
    latest = {each.timestamp_us: each for each in whole.accepted}
    expected = {time_us: each.generation_wh for time_us, each in latest.items() if each.generation_wh is not None}
    found = {
        round(datetime.fromisoformat(when).timestamp() * 1_000_000): value
        for _, _, when, value in points(server.url, "generation")
    }
    assert found == expected and len(expected) == 24 + 1 - 1
    assert sum(found.values()) == 40 * 24 - 40  # the first interval has no reading before it


def test_a_full_queue_makes_a_debt_and_never_waits(tmp_path: Path) -> None:
    outputs = outputs_of_three_readings()
    writer = InfluxWriter("http://127.0.0.1:9", TOKEN, archived=lambda *_: None, notes=tmp_path / "owed.json")
    began = time.monotonic()
    for _ in range(40_000):
        writer.write(outputs)
    assert time.monotonic() - began < 5
    assert writer._queued <= 100_000
    writer.close(0.1)
    assert writer.owed == {(0, EPOCH - 2), (0, EPOCH - 1)}  # the watermark is 30 s behind
    assert writer.dropped == 0
    assert InfluxWriter("http://127.0.0.1:9", TOKEN, notes=tmp_path / "owed.json").owed == writer.owed


def test_buckets_retention_and_tasks_are_applied_shown_first_and_then_as_they_must_be(server: Server) -> None:
    from influxdb_client import InfluxDBClient  # noqa: PLC0415

    command, env = ["influx", "apply"], {"INFLUXDB_URL": server.url, "INFLUXDB_TOKEN": TOKEN}
    shown = CliRunner().invoke(cli, [*command, "--dry-run"], env=env)
    assert shown.exit_code == 1
    assert shown.stdout.splitlines() == [
        "bucket gridtokenx: for good -> 7 days",
        "bucket gridtokenx_hourly: not there -> 90 days",
        "bucket gridtokenx_daily: not there -> for good",
        "task downsample_hourly: not there -> every 1 h",
        "task downsample_daily: not there -> every 24 h",
        "5 differences",
    ]
    applied = CliRunner().invoke(cli, command, env=env)
    assert (applied.exit_code, applied.stdout.splitlines()[-1]) == (0, "as it must be")
    assert CliRunner().invoke(cli, [*command, "--dry-run"], env=env).stdout == "as it must be\n"
    with InfluxDBClient(url=server.url, token=TOKEN, org=ORGANISATION) as client:
        kept = {
            bucket.name: bucket.retention_rules[0].every_seconds if bucket.retention_rules else 0
            for bucket in client.buckets_api().find_buckets().buckets
            if bucket.name.startswith(BUCKET)
        }
        assert kept == {"gridtokenx": 604_800, "gridtokenx_hourly": 7_776_000, "gridtokenx_daily": 0}
        (task,) = client.tasks_api().find_tasks(name="downsample_hourly")
        assert (task.status, task.every, task.offset) == ("active", "1h", "5m")
    wrong = CliRunner().invoke(cli, command, env={**env, "INFLUXDB_TOKEN": "wrong"})
    assert wrong.exit_code == 2 and "check --url, --token" in wrong.output


def test_downsampling_sums_energy_and_averages_the_rest(server: Server) -> None:
    from influxdb_client import InfluxDBClient  # noqa: PLC0415

    writer = InfluxWriter(server.url, TOKEN)
    raws = hours(8)
    writer.write(run(raws, registry_of())[1])
    writer.close(30)
    with InfluxDBClient(url=server.url, token=TOKEN, org=ORGANISATION, timeout=60_000) as client:
        for name in (HOURLY, DAILY):
            client.buckets_api().create_bucket(bucket_name=name)
        for task, span in zip(TASKS, (("12", "14"), ("00", "24")), strict=True):
            begin, end = (f"2026-01-27T{span[0]}:00:00Z", f"2026-01-27T{span[1]}:00:00Z".replace("27T24", "28T00"))
            client.query_api().query(task.script(begin, end))
            client.query_api().query(task.script(begin, end))  # a task that runs again changes nothing
    raw_sum = {hour: 0 for hour in ("12", "13")}
    for _, _, when, value in points(server.url, "generation"):
        raw_sum[when[11:13]] += value
    assert points(server.url, "generation", HOURLY) == [
        ("MEA-001", "1", "2026-01-27T12:00:00+00:00", raw_sum["12"]),
        ("MEA-001", "1", "2026-01-27T13:00:00+00:00", raw_sum["13"]),
    ]
    assert points(server.url, "generation", DAILY) == [
        ("MEA-001", "1", "2026-01-27T00:00:00+00:00", raw_sum["12"] + raw_sum["13"])
    ]
    assert {round(value, 9) for *_, value in points(server.url, "voltage", DAILY)} == {230.1}


def test_a_new_server_is_filled_from_the_archive_by_command(server: Server, tmp_path: Path) -> None:
    raws, registry = hours(4), registry_of()
    archive, verifier = (
        Archive(ParquetStore(tmp_path / "data"), lambda *_: [], registered=registry.messages),
        Verifier(3),
    )
    messages = verifier.messages(raws)
    _, outputs = step(ShardState(0, 4), messages, registry)
    archive.add(0, messages, outputs.closed, outputs.dead_letters)
    command = ["influx", "backfill", "--from", "2026-01-27", "--to", "2026-01-28", "--data-dir", str(tmp_path / "data")]
    done = CliRunner().invoke(cli, [*command, "--url", server.url, "--token", TOKEN])
    assert (done.exit_code, done.output) == (0, "wrote 13 points, 0 refused\n")
    assert len(points(server.url, "generation")) == 12

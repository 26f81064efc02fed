"""Accepted readings in a real InfluxDB, and a dead one that holds nothing up."""

from __future__ import annotations

import lzma
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from metering_world import START_US, Stream, registry_of, run

from gridtokenx_pipelines.messaging.influx import BUCKET, ORGANISATION, InfluxWriter, line_of

TOKEN = "a-token-of-no-value"  # noqa: S105 - of this test's own server


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[str]:
    program = os.environ.get("INFLUXD") or shutil.which("influxd")
    packed = sorted(Path(__file__).parents[3].glob("shared/bin/influxd-*.xz"))
    if not program and packed:
        program = str(tmp_path / "influxd")
        with lzma.open(packed[-1]) as source, open(program, "wb") as target:
            shutil.copyfileobj(source, target)
        os.chmod(program, 0o755)  # noqa: S103 - a program
    if not program:
        pytest.skip("no influxd: set INFLUXD to its path")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = [
        "--http-bind-address",
        f"127.0.0.1:{port}",
        "--reporting-disabled",
        "--ui-disabled",
        "--log-level",
        "error",
    ]
    for name in ("bolt-path", "sqlite-path", "engine-path"):
        options += [f"--{name}", str(tmp_path / name)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1)  # noqa: S310 - our own server
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    from influxdb_client import InfluxDBClient  # noqa: PLC0415
    from influxdb_client.domain.onboarding_request import OnboardingRequest  # noqa: PLC0415
    from influxdb_client.service.setup_service import SetupService  # noqa: PLC0415

    with InfluxDBClient(url=url, token="") as client:
        request = OnboardingRequest(username="u", password="password", org=ORGANISATION, bucket=BUCKET, token=TOKEN)  # noqa: S106
        SetupService(client.api_client).post_setup(request)
    yield url
    process.terminate()
    process.wait(10)


def accepted_of_three_readings() -> list:
    stream = Stream()
    stream.tick(0)
    stream.read(11, 0, 1, 0)
    stream.read(13, 20, 11, 6)
    stream.read(12, 10, 5, 2)  # between the two: the later interval shrinks
    return run(stream.raws, registry_of())[1].accepted


def test_intervals_of_a_meter_add_up_whatever_the_order_of_arrival() -> None:
    lines = [line_of(each) for each in accepted_of_three_readings()]
    tags, at = "energy_metrics,meter_serial=MEA-001,meter_type=Hybrid,zone_id=1", START_US * 1_000
    fields = "voltage=230.1,current=4.5,power_factor=0.98"
    assert lines == [
        f"{tags} {fields} {at}",
        f"{tags} {fields},generation=10i,consumption=6i {at + 20 * 10**9}",
        f"{tags} {fields},generation=4i,consumption=2i {at + 10 * 10**9}",
        f"{tags} generation=6i,consumption=4i {at + 20 * 10**9}",
    ]


def test_points_arrive_in_influxdb_and_later_intervals_replace_earlier_ones(influx: str) -> None:
    from influxdb_client import InfluxDBClient  # noqa: PLC0415

    writer = InfluxWriter(influx, TOKEN)
    writer.write(accepted_of_three_readings())
    writer.close()
    assert (writer.written, writer.dropped) == (4, 0)
    with InfluxDBClient(url=influx, token=TOKEN, org=ORGANISATION) as client:
        tables = client.query_api().query(
            f'from(bucket: "{BUCKET}") |> range(start: 2026-01-27T00:00:00Z, stop: 2026-01-28T00:00:00Z) '
            '|> filter(fn: (r) => r._field == "generation") |> sort(columns: ["_time"])'
        )
    assert [(row["meter_serial"], row["zone_id"], row.get_value()) for table in tables for row in table.records] == [
        ("MEA-001", "1", 4),
        ("MEA-001", "1", 6),
    ]


def test_an_influxdb_that_is_away_costs_points_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    writer = InfluxWriter("http://127.0.0.1:9", TOKEN)
    began = time.monotonic()
    writer.write(accepted_of_three_readings())
    assert time.monotonic() - began < 0.5
    writer.close(30)
    assert (writer.written, writer.dropped) == (0, 4)
    assert [record.levelname for record in caplog.records if "settlement is not affected" in record.message] == [
        "WARNING"
    ]

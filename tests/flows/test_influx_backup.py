"""A backup of a real InfluxDB comes back in another server with every point."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from test_influx import BUCKET, ORGANISATION, TOKEN, Server, points, program, server, set_up

from gridtokenx_pipelines.backups import influx
from gridtokenx_pipelines.backups.catalogue import BackupError
from gridtokenx_pipelines.cli import cli

__all__ = ["program", "server"]  # the fixtures, found by their names


@pytest.fixture
def other(program: str, tmp_path: Path) -> Iterator[Server]:
    """A second, empty server."""
    (tmp_path / "other").mkdir()
    yield from set_up(Server(program, tmp_path / "other"))


def test_influxdb_comes_back_with_every_point_in_another_server(server: Server, other: Server, tmp_path: Path) -> None:
    start = 1_790_000_000
    lines = [
        f"energy_metrics,meter_serial=MEA-{meter:03},zone_id=1 generation={meter}i {start + minute * 60}000000000"
        for meter in range(20)
        for minute in range(60)
    ]
    root = tmp_path / "backups"
    root.mkdir()
    with InfluxDBClient(url=server.url, token=TOKEN, org=ORGANISATION) as client:
        client.write_api(write_options=SYNCHRONOUS).write(bucket=BUCKET, record=lines)
    expected = points(server.url, "generation")
    assert len(expected) == 20 * 60
    record = influx.back_up(root, influx.Server(server.url, TOKEN), datetime.now(UTC))
    assert record.facts == {"buckets": "gridtokenx", "shards": "1"}
    assert TOKEN.encode() not in b"".join(
        path.read_bytes() for path in (root / "influxdb").rglob("*") if path.is_file()
    )

    environment = {"GRIDTOKENX_BACKUP_DIR": str(root), "INFLUXDB_URL": other.url, "INFLUXDB_TOKEN": TOKEN}
    refused = CliRunner().invoke(cli, ["restore", "influxdb"], env=environment)
    assert refused.exit_code == 1
    assert "bucket gridtokenx is there already; --replace drops it" in refused.stderr
    done = CliRunner().invoke(cli, ["restore", "influxdb", "--replace"], env=environment)
    assert done.exit_code == 0, done.output
    assert points(other.url, "generation") == expected
    # tasks and the other buckets are made anew by the command that made them first
    applied = CliRunner().invoke(cli, ["influx", "apply"], env=environment)
    assert applied.exit_code == 0, applied.output
    with pytest.raises(BackupError, match="did not answer"):
        influx.back_up(root, influx.Server("http://127.0.0.1:1", TOKEN), datetime.now(UTC))

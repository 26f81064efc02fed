"""Real servers that chaos may kill and start again on their own data: Postgres from the wheel, InfluxDB.

Belongs here: starting, killing. Does not belong here: when (chaos_stream.py) or Kafka (tests/kafka/cluster.py).
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from gridtokenx_pipelines.embedded_postgres import start_postgres, stop_postgres
from gridtokenx_pipelines.messaging.influx import BUCKET, ORGANISATION
from gridtokenx_pipelines.store.postgres import migrate

TOKEN = "a-token-of-no-value"  # noqa: S105 - of this run's own server


class Postgres:
    """A server with a migrated database in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.url = self._start()
        migrate(self.url)

    def _start(self) -> str:
        uri = str(start_postgres(self._folder).get_uri())
        return uri.replace("postgresql://", "postgresql+psycopg2://", 1)

    def kill(self) -> None:
        """`kill -9` of the postmaster; its children notice and end by themselves."""
        pid = int((self._folder / "pg" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def start(self) -> None:
        """Again, on its data."""
        self._start()

    def stop(self) -> None:
        """For good."""
        stop_postgres(self._folder)


class Influx:
    """An InfluxDB on a port of its own; `find` gives None where the binary is not on this machine."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self._set_up()

    @classmethod
    def find(cls, folder: Path) -> Influx | None:
        """By INFLUXD, the PATH, or ../shared/bin."""
        given = os.environ.get("INFLUXD") or shutil.which("influxd")
        if given:
            return cls(Path(given), folder)
        packed = sorted(Path(__file__).resolve().parents[3].glob("shared/bin/influxd-*.xz"))
        if not packed:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        program = folder / "influxd"
        with lzma.open(packed[-1]) as source, open(program, "wb") as target:
            shutil.copyfileobj(source, target)
        program.chmod(0o755)
        return cls(program, folder)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["--http-bind-address", f"127.0.0.1:{self._port}", "--reporting-disabled", "--ui-disabled"]
        for name in ("bolt-path", "sqlite-path", "engine-path"):
            options += [f"--{name}", str(self._folder / name)]
        command = [str(self._program), *options, "--log-level", "error"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health", timeout=1)  # noqa: S310 - our own server
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("InfluxDB did not answer within 60 s")
            time.sleep(0.05)

    def _set_up(self) -> None:
        from influxdb_client import InfluxDBClient  # noqa: PLC0415 - half a second
        from influxdb_client.domain.onboarding_request import OnboardingRequest  # noqa: PLC0415
        from influxdb_client.service.setup_service import SetupService  # noqa: PLC0415

        with InfluxDBClient(url=self.url, token="") as client:
            request = OnboardingRequest(
                username="u",
                password="password",  # noqa: S106 - of this run's own server
                org=ORGANISATION,
                bucket=BUCKET,
                token=TOKEN,
            )
            SetupService(client.api_client).post_setup(request)

    def pid(self) -> int:
        """Of the server's process."""
        if self._process is None:
            raise RuntimeError("InfluxDB was not started; call start() first")
        return self._process.pid

    def points(self) -> int:
        """How many readings have arrived, counted by their voltage."""
        from influxdb_client import InfluxDBClient  # noqa: PLC0415

        query = (
            f'from(bucket: "{BUCKET}") |> range(start: 2020-01-01T00:00:00Z, stop: 2035-01-01T00:00:00Z) '
            '|> filter(fn: (r) => r._field == "voltage") |> group() |> count()'
        )
        with InfluxDBClient(url=self.url, token=TOKEN, org=ORGANISATION) as client:
            tables: Any = client.query_api().query(query)
        return sum(record.get_value() for table in tables for record in table.records)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

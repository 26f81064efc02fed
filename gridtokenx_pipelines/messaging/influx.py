"""Accepted readings to InfluxDB: measurement `energy_metrics` as names.md has it.

Belongs here: line protocol and a writer that never holds the flow up. Does not belong here: buckets and the hourly task
(deploy), or what a reading means. Points carry event time, so writing one twice changes nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable

from gridtokenx_pipelines.metering.outputs import Accepted

LOG = logging.getLogger(__name__)
MEASUREMENT, BUCKET, ORGANISATION = "energy_metrics", "gridtokenx", "gridtokenx"
QUEUED_BATCHES = 1_000
LINES_PER_WRITE = 5_000
_ESCAPED = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})


def line_of(accepted: Accepted) -> str | None:
    """One point in line protocol, ns; None if nothing is known to write.

    `generation` and `consumption` are Wh since the meter's reading before, so that they add up; where a reading came
    between two earlier ones, the later one's are written again.
    """
    fields = []
    if accepted.reading is not None:
        reading = accepted.reading
        fields += [
            f"voltage={reading.voltage_v!r}",
            f"current={reading.current_a!r}",
            f"power_factor={reading.power_factor!r}",
        ]
    if accepted.generation_wh is not None:
        fields += [f"generation={accepted.generation_wh}i", f"consumption={accepted.consumption_wh}i"]
    if not fields:
        return None
    record = accepted.record
    tags = f"meter_serial={record.meter_id.translate(_ESCAPED)},meter_type={record.meter_type},zone_id={record.zone_id}"
    return f"{MEASUREMENT},{tags} {','.join(fields)} {accepted.timestamp_us * 1_000}"


class InfluxWriter:
    """Writes lines on a thread of its own; when Influx is slow or away, points are dropped and counted, no more."""

    def __init__(self, url: str, token: str, bucket: str = BUCKET, organisation: str = ORGANISATION) -> None:
        # half a second that only those pay who configure InfluxDB
        from influxdb_client import InfluxDBClient  # noqa: PLC0415
        from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415

        self._bucket = bucket
        self._client = InfluxDBClient(url=url, token=token, org=organisation, timeout=10_000, enable_gzip=True)
        self._api = self._client.write_api(write_options=SYNCHRONOUS)
        self._queue: queue.Queue[list[str] | None] = queue.Queue(QUEUED_BATCHES)
        self.written, self.dropped = 0, 0
        self._thread = threading.Thread(target=self._run, name="influx", daemon=True)
        self._thread.start()

    def write(self, accepted: Iterable[Accepted]) -> None:
        """Queue points; returns at once."""
        lines = [line for line in map(line_of, accepted) if line is not None]
        if not lines:
            return
        try:
            self._queue.put_nowait(lines)
        except queue.Full:
            self._drop(len(lines), "queue full")

    def _run(self) -> None:
        ended = False
        while not ended:
            lines: list[str] = []
            batch = self._queue.get()
            while batch is not None:
                lines += batch
                if len(lines) >= LINES_PER_WRITE or self._queue.empty():
                    break
                batch = self._queue.get()
            ended = batch is None
            if lines:
                self._write(lines)

    def _write(self, lines: list[str]) -> None:
        try:
            self._api.write(self._bucket, record=lines)
            self.written += len(lines)
        except Exception as error:  # whatever the client or the network raises: settlement goes on without a chart
            self._drop(len(lines), str(error).splitlines()[0] if str(error) else type(error).__name__)

    def _drop(self, points: int, why: str) -> None:
        if not self.dropped:
            LOG.warning("InfluxDB: points dropped (%s); settlement is not affected", why)
        self.dropped += points

    def close(self, timeout_seconds: float = 5) -> None:
        """Write what is queued, then end."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        self._client.close()

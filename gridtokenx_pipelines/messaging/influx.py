"""The writer of readings to InfluxDB: batches on a thread of its own, and a debt that the archive pays later.

Belongs here: sending, waiting, and what is owed. Does not belong here: what a point says (influx_points.py), buckets
and tasks (influx_schema.py). The flow never waits for InfluxDB: what doesn't fit the queue while it is slow or away is
noted as owed by partition and epoch, and written from the archive once both the server and the epoch's file are there.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from gridtokenx_pipelines.messaging.influx_points import line_of
from gridtokenx_pipelines.messaging.influx_schema import BUCKET, ORGANISATION
from gridtokenx_pipelines.metering.outputs import Accepted, Outputs

LOG = logging.getLogger(__name__)
LINES_PER_WRITE = 5_000
MOST_QUEUED_POINTS = 100_000
WAIT_SECONDS = (0.1, 0.5, 2.0, 5.0, 15.0)
BAD_REQUEST, UNPROCESSABLE = 400, 422  # the points themselves: sending them again changes nothing
EPOCHS_UNTIL_WRITTEN, ASK_AGAIN_SECONDS = 2, 0.5
Place = tuple[int, int]  # partition, epoch
Lines = Callable[[int, int], Sequence[str] | None]  # of a partition's archived epoch; None: not written yet


class InfluxWriter:
    """Queues points and writes them; `owed` is what only the archive has.

    `archived` gives the points of a partition's closed epoch; `notes` is a file that remembers the debt over restarts.
    Without `archived` points that don't fit are dropped and counted.
    """

    def __init__(
        self, url: str, token: str, *, bucket: str = BUCKET, archived: Lines | None = None, notes: Path | None = None
    ) -> None:
        # half a second that only those pay who configure InfluxDB
        from influxdb_client import InfluxDBClient  # noqa: PLC0415
        from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415

        self._client = InfluxDBClient(url=url, token=token, org=ORGANISATION, timeout=10_000, enable_gzip=True)
        self._api = self._client.write_api(write_options=SYNCHRONOUS)
        self._bucket, self._archived, self._notes = bucket, archived, notes
        self._queue: deque[tuple[set[Place], Sequence[Accepted]]] = deque()
        self._later: dict[Place, float] = {}
        self._queued = 0
        self._change = threading.Condition()
        self._ended = False
        self._met: set[int] = set()
        self._closed: dict[int, int] = {}
        self.owed: set[Place] = _read(notes)
        self.written, self.dropped = 0, 0
        self._thread = threading.Thread(target=self._run, name="influx", daemon=True)
        self._thread.start()

    def write(self, outputs: Outputs) -> None:
        """Queue the accepted readings of a batch; returns at once."""
        progress, partition, accepted = outputs.progress, outputs.partition, outputs.accepted
        if progress is None or progress.closed_epoch is None:
            return
        closed_epoch = progress.closed_epoch
        # the files that its records are archived in: those of the epochs it closed, and the open one's
        places = {(partition, closed_epoch + 1), *((partition, closed.epoch) for closed in outputs.closed)}
        with self._change:
            self._closed[partition] = closed_epoch
            if partition not in self._met:
                # what an earlier process had queued when it ended is in one of these two files
                self._met.add(partition)
                self._owe(places | {(partition, closed_epoch)} if self._archived else set())
            if accepted:
                if self._queued + len(accepted) > MOST_QUEUED_POINTS:
                    self._set_aside(places, len(accepted), "the queue is full")
                else:
                    self._queue.append((places, accepted))
                    self._queued += len(accepted)
            self._change.notify()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._change:
                if not self._queue and not self._payable() and not self._ended:
                    self._change.wait(0.5)
                if self._ended and not self._queue:
                    return
                batch, places = self._next()
            if batch:
                lines = [line for line in map(line_of, batch) if line is not None]
                failures = 0 if self._send(lines, places, failures) else failures + 1
            elif place := self._payable():
                failures = 0 if self._pay(place, failures) else failures + 1

    def _next(self) -> tuple[list[Accepted], set[Place]]:
        batch: list[Accepted] = []
        places: set[Place] = set()
        while self._queue and len(batch) < LINES_PER_WRITE:
            of_batch, accepted = self._queue.popleft()
            places |= of_batch
            batch.extend(accepted)
            self._queued -= len(accepted)
        return batch, places

    def _payable(self) -> Place | None:
        if self._archived is None or self._ended:
            return None
        now = time.monotonic()
        return next(
            (
                place
                for place in sorted(self.owed)  # the oldest first, and the same after every restart
                if place[1] <= self._closed.get(place[0], -1) and self._later.get(place, now) <= now
            ),
            None,
        )

    def _pay(self, place: Place, failures: int) -> bool:
        """Write an epoch from the archive; True if that needs no further try right now."""
        lines = self._archived(*place) if self._archived else None
        if lines is None and self._closed[place[0]] < place[1] + EPOCHS_UNTIL_WRITTEN:
            self._later[place] = time.monotonic() + ASK_AGAIN_SECONDS  # its file is still being written
            return True
        lines = lines or ()  # an epoch before the flow's first has none
        for start in range(0, len(lines), LINES_PER_WRITE):
            if not self._send(lines[start : start + LINES_PER_WRITE], {place}, failures):
                return False
        with self._change:
            self.owed.discard(place)
            self._note()
        return True

    def _send(self, lines: Sequence[str], places: set[Place], failures: int) -> bool:
        if not lines:
            return True
        try:
            self._api.write(self._bucket, record="\n".join(lines).encode())
        except Exception as error:  # whatever the client or the network raises: settlement goes on without a chart
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            if getattr(error, "status", None) in (BAD_REQUEST, UNPROCESSABLE):
                LOG.error("InfluxDB refused points: %s", why)
                self.dropped += len(lines)
                return True
            with self._change:
                self._set_aside(places, len(lines), why)
                if not self._ended:
                    self._change.wait(WAIT_SECONDS[min(failures, len(WAIT_SECONDS) - 1)])
            return False
        self.written += len(lines)
        return True

    def _set_aside(self, places: set[Place], points: int, why: str) -> None:
        if not self.owed and not self.dropped:
            LOG.warning("InfluxDB: points set aside (%s); settlement is not affected", why)
        if self._archived is None:
            self.dropped += points
        else:
            self._owe(places)

    def _owe(self, places: set[Place]) -> None:
        if not places <= self.owed:
            self.owed |= places
            self._note()

    def _note(self) -> None:
        if self._notes is not None:
            self._notes.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._notes.with_suffix(".tmp")
            temporary.write_text(json.dumps(sorted(self.owed)))
            os.replace(temporary, self._notes)

    def close(self, timeout_seconds: float = 5) -> None:
        """Write what is queued, then end; what is owed stays noted."""
        with self._change:
            self._ended = True
            self._change.notify()
        self._thread.join(timeout_seconds)
        self._client.close()


def _read(notes: Path | None) -> set[Place]:
    if notes is None or not notes.is_file():
        return set()
    return {(int(partition), int(epoch)) for partition, epoch in json.loads(notes.read_text())}

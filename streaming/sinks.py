"""Where the flows' outputs go: Postgres in one transaction a batch, Kafka, the archive, InfluxDB.

Belongs here: idempotent writes. Does not belong here: computing. Every write may come twice after a crash: rows are
keyed, files are replaced whole, progress never goes back.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import polars as pl
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import InterfaceError, OperationalError

from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.messaging.topics import MAX_MESSAGE_BYTES
from gridtokenx_pipelines.metering.outputs import Accepted
from gridtokenx_pipelines.metering.readings import Raw, meter_named
from gridtokenx_pipelines.store import dead_letters
from gridtokenx_pipelines.store.progress import save_progress

LOG = logging.getLogger(__name__)
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0, 10.0)


class Letter(msgspec.Struct, frozen=True):
    """A dead letter of either flow."""

    topic: str
    partition: int
    raw: Raw
    code: int
    word: str
    detail: str


class _Writer(StatelessSinkPartition[Any]):
    def __init__(self, write: Callable[[list[Any]], None]) -> None:
        self._write = write

    def write_batch(self, items: list[tuple[str, Any]]) -> None:
        self._write([item for _, item in items])


class CallSink(DynamicSink[Any]):
    """A sink that hands each batch's values (without keys) to a function; at least once."""

    def __init__(self, write: Callable[[list[Any]], None]) -> None:
        self._write = write

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Writer:
        """The writer of this worker."""
        return _Writer(self._write)


def in_transaction(engine: Engine, work: Callable[[Connection], None]) -> None:
    """Do the work in one transaction, again after a lost connection; raises the database's error after some 20 s."""
    for wait_seconds in (*RETRY_SECONDS, None):
        try:
            with engine.begin() as connection:
                work(connection)
            return
        except (OperationalError, InterfaceError) as error:
            if wait_seconds is None:
                raise
            LOG.warning("Postgres: %s; trying again in %s s", str(error.orig).strip(), wait_seconds)
            time.sleep(wait_seconds)


def save_flow_progress(
    connection: Connection, flow: str, place: tuple[int, int], marks: tuple[int | None, int | None], offset: int
) -> None:
    """Progress of place (partition, partitions) with marks (watermark µs, closed epoch)."""
    partition, partitions = place
    watermark_us, closed_epoch = marks
    save_progress(
        connection,
        flow,
        partition,
        partitions=partitions,
        watermark_us=watermark_us,
        closed_epoch=closed_epoch,
        offset=offset,
    )


def save_letters(connection: Connection, letters: Iterable[Letter]) -> None:
    """Insert dead letters in bulk, so that a stream of garbage costs no more than a good one; one there is kept."""
    rows = [
        (
            letter.topic,
            letter.partition,
            letter.raw.offset,
            letter.code,
            letter.word,
            letter.detail.replace("\0", ""),  # Postgres's text knows no NUL
            letter.raw.key,
            letter.raw.value,
            json.dumps([[name, value.hex()] for name, value in letter.raw.headers]).replace("\\u0000", ""),
            letter.raw.broker_us,
            meter_named(letter.raw.value),
        )
        for letter in letters
    ]
    if rows:
        dead_letters.save_letters(connection, rows)


def send_letter(sender: Sender, topic: str, letter: Letter) -> None:
    """Queue a refused record whole for its `.rejected` topic, with headers that say why and where it came from."""
    headers = [
        *letter.raw.headers,
        ("reason-code", str(letter.code).encode()),
        ("reason", letter.word.encode()),
        ("detail", letter.detail.encode()),
        ("source", f"{letter.topic}/{letter.partition}/{letter.raw.offset}".encode()),
    ]
    value = letter.raw.value
    if len(value) > MAX_MESSAGE_BYTES:
        # only where a topic lets more through than it should; Postgres has it whole
        headers.append(("truncated-from", str(len(value)).encode()))
        value = value[:MAX_MESSAGE_BYTES]
    sender.send(topic, value, key=letter.raw.key, headers=headers, timestamp_ms=letter.raw.broker_us // 1_000)


LATEST = {
    "meter_id": "TEXT",
    "zone_id": "BIGINT",
    "seq": "BIGINT",
    "timestamp_us": "BIGINT",
    "production_wh": "BIGINT",
    "consumption_wh": "BIGINT",
    "voltage_v": "FLOAT8",
    "current_a": "FLOAT8",
    "power_factor": "FLOAT8",
    "frequency_hz": "FLOAT8",
    "battery_soc": "FLOAT8",
}
_SAVE_LATEST = text(
    f"INSERT INTO latest_readings AS old ({', '.join(LATEST)}) "  # noqa: S608 - our own constants
    f"SELECT * FROM unnest({', '.join(f'CAST(:{name} AS {kind}[])' for name, kind in LATEST.items())}) "
    "ON CONFLICT (meter_id) DO UPDATE SET "
    + ", ".join(f"{name} = EXCLUDED.{name}" for name in LATEST if name != "meter_id")
    + " WHERE EXCLUDED.seq > old.seq"
)


def save_latest(connection: Connection, accepted: Iterable[Accepted]) -> None:
    """Keep each meter's reading of the highest seq."""
    latest: dict[str, Accepted] = {}
    for each in accepted:
        known = latest.get(each.record.meter_id)
        if each.reading is not None and (
            known is None or known.reading is None or each.reading.seq > known.reading.seq
        ):
            latest[each.record.meter_id] = each
    if not latest:
        return
    columns: dict[str, list[Any]] = {
        "meter_id": [_quoted(meter_id) for meter_id in latest],
        "zone_id": [each.record.zone_id for each in latest.values()],
    }
    for name in LATEST:
        if name not in columns:
            columns[name] = [getattr(each.reading, name) for each in latest.values()]
    # as arrays' own text: the driver takes a multiple of the time over lists
    connection.execute(_SAVE_LATEST, {name: _array(values) for name, values in columns.items()})


def _array(values: Iterable[Any]) -> str:
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def rows_as_json(frame: pl.DataFrame) -> Sequence[tuple[dict[str, Any], bytes]]:
    """Each row of a frame with its JSON document."""
    return [(row, msgspec.json.encode(row)) for row in frame.iter_rows(named=True)]

"""The telemetry flow as a process: killed three times in the middle, ended politely, and quick to show a reading."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from metering_world import EPOCH, Stream, gateway_record, meter_record, run
from sqlalchemy import Engine, text

from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.metering.outputs import NET_ENERGY_SCHEMA
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import RegistryView, encode_record
from gridtokenx_pipelines.store.energy import CORRECTIONS
from gridtokenx_pipelines.store.postgres import engine, read_frame
from streaming.archive import frame_of

METERS = {f"MEA-{number:03d}": 1 + 4 * number for number in range(5)}  # all in partition 0
EPOCHS = 6


def records() -> list[object]:
    return [gateway_record(), *(meter_record(meter, zone_id=zone) for meter, zone in METERS.items())]


def day() -> list[Raw]:
    """Readings a minute, with gaps, late ones and some that are refused."""
    stream, late = Stream(), []
    stream.tick(0)
    for minute in range(1, EPOCHS * 15 + 3):
        at = minute * 60
        for number, (meter, zone) in enumerate(METERS.items()):
            seq, who = 100 + 2 * minute, {"meter_id": meter, "signer": meter, "zone_id": zone}
            if number == 1 and 25 < minute < 40:
                continue  # missing at one boundary, caught up at the next
            if number == 2 and minute % 15 == 0:
                late.append((minute + 2, seq + 1, at, minute, who))
            stream.read(seq, at - 1, minute * (10 + number), minute, **who)
            if number == 3 and minute % 7 == 0:
                stream.read(seq, at - 1, 0, 0, **who)  # a replay
        for _, seq, since, then, who in [each for each in late if each[0] == minute]:
            stream.read(seq, since, then * 12 + 1, then, **who)
        stream.tick(at)
        if minute % 5 == 0:
            stream.signed(b"garbage")
    stream.tick(EPOCHS * 900 + 200)
    return stream.raws


def start(broker: str, url: str, folder: Path) -> subprocess.Popen:
    options = ["--brokers", broker, "--database-url", url, "--recovery", str(folder / "recovery")]
    more = ["--archive", str(folder), "--snapshot-seconds", "0.05"]
    return subprocess.Popen(
        [sys.executable, "-m", "streaming.run", "telemetry", *options, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def offset_in(database: Engine) -> int:
    with database.connect() as connection:
        found = connection.execute(text('SELECT max("offset") FROM stream_progress WHERE partition = 0')).scalar()
    return -1 if found is None else found


def wait_for_offset(database: Engine, offset: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 30
    while offset_in(database) < offset:
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline, f"offset {offset} not reached, {offset_in(database)} is"
        time.sleep(0.005)


def send(sender: Sender, raws: list[Raw]) -> None:
    for raw in raws:
        sender.send(
            "meter-readings",
            raw.value,
            key=raw.key,
            headers=raw.headers,
            partition=0,
            timestamp_ms=raw.broker_us // 1_000,
        )
    sender.flush()


@pytest.mark.slow
def test_a_flow_killed_three_times_leaves_the_tables_and_archive_of_an_undisturbed_one(
    broker: str, postgres_url: str, tmp_path: Path
) -> None:
    raws, database, sender = day(), engine(postgres_url), Sender(broker)
    for record in records():
        sender.send("meter-registry", encode_record(record), key=b"k", partition=0)
    send(sender, raws[:1])
    parts = [raws[1:150], raws[150:300], raws[300:400], raws[400:]]
    sent = 1
    for part in parts[:3]:
        process = start(broker, postgres_url, tmp_path)
        wait_for_offset(database, sent - 1, process)
        for each in range(0, len(part), 10):
            send(sender, part[each : each + 10])
            time.sleep(0.004)
        sent += len(part)
        process.kill()
        process.wait()
    process = start(broker, postgres_url, tmp_path)
    send(sender, parts[3])
    wait_for_offset(database, len(raws) - 1, process)
    time.sleep(0.2)
    process.terminate()
    assert (process.wait(10), process.stdout.read()) == (0, b"")

    _, outputs = run(
        [Raw(r.offset, r.broker_us // 1_000 * 1_000, r.value, r.headers, r.key) for r in raws], RegistryView(records())
    )
    assert len(outputs.correction_rows) > 2 and any(row[17] for row in outputs.net_energy_rows)
    with database.connect() as connection:
        columns, order = ", ".join(NET_ENERGY_SCHEMA), "ORDER BY meter_id, epoch, revision"
        net = read_frame(connection, f"SELECT {columns} FROM net_energy {order}", None, NET_ENERGY_SCHEMA)  # noqa: S608
        assert net.equals(outputs.net_energy().sort("meter_id", "epoch", "revision"))
        columns, order = ", ".join(CORRECTIONS), "ORDER BY meter_id, boundary_epoch, revision"
        found = read_frame(connection, f"SELECT {columns} FROM corrections {order}", None, CORRECTIONS)  # noqa: S608
        assert found.equals(outputs.corrections().sort("meter_id", "boundary_epoch", "revision"))
        letters = connection.execute(
            text('SELECT "offset", reason_code, value FROM dead_letters ORDER BY 1')
        ).fetchall()
        assert [tuple(row) for row in letters] == [
            (each.raw.offset, each.reason.value, each.raw.value) for each in outputs.dead_letters
        ]
        latest = connection.execute(text("SELECT meter_id, seq FROM meter_readings ORDER BY 1")).fetchall()
        assert [tuple(row) for row in latest] == [(meter, 100 + 2 * (EPOCHS * 15 + 2)) for meter in METERS]
        progress = connection.execute(
            text("SELECT watermark_us, closed_epoch FROM stream_progress WHERE partition = 0")
        )
        assert tuple(progress.one()) == (outputs.progress.watermark_us, EPOCH + EPOCHS - 1)
    archived = [
        pl.read_parquet(path, hive_partitioning=False)
        for path in sorted(tmp_path.glob("archive/*/*/partition-0.parquet"))
    ]
    whole = frame_of(0, [Raw(r.offset, r.broker_us // 1_000 * 1_000, r.value, r.headers, r.key) for r in raws])
    codes = {each.raw.offset: each.reason.value for each in outputs.dead_letters}
    whole = whole.with_columns(reason_code=pl.Series([codes.get(offset) for offset in whole["offset"]], dtype=pl.Int64))
    assert pl.concat(archived).equals(whole[: sum(map(len, archived))])
    assert len(archived) == len(outputs.closed)


def test_the_flow_starts_with_less_than_three_seconds_of_work_and_shows_a_reading_within_half_a_second(
    broker: str, postgres_url: str, tmp_path: Path
) -> None:
    database, sender, stream = engine(postgres_url), Sender(broker), Stream()
    for record in records():
        sender.send("meter-registry", encode_record(record), key=b"k", partition=0)
    stream.tick(0)
    send(sender, stream.raws)
    process = start(broker, postgres_url, tmp_path)
    wait_for_offset(database, 0, process)
    delays = []
    for seq in range(1, 11):
        raw = stream.read(10 + seq, seq, seq, meter_id="MEA-000", signer="MEA-000")
        at = time.monotonic()
        send(sender, [raw])
        wait_for_offset(database, raw.offset, process)
        delays.append(time.monotonic() - at)
        time.sleep(0.03)
    process.terminate()
    assert process.stdout.read() == b""
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    # processor time: the machine may be busy with other tests
    assert usage.ru_utime + usage.ru_stime < 3
    assert statistics.median(delays) < 0.5, delays


def test_a_flow_without_a_broker_says_so_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streaming.run", "telemetry", "--broker-wait-seconds", "1"]
    options = ["--brokers", "127.0.0.1:1", "--database-url", "postgresql://nobody", "--recovery", str(tmp_path)]
    ended = subprocess.run([*command, *options], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.decode().startswith("telemetry: no Kafka broker answered at 127.0.0.1:1 within 1 s")
    assert len(ended.stderr.splitlines()) == 1

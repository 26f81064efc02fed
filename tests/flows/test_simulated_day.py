"""Both flow processes over a simulated morning on a broker: the tables hold exactly what the manifest expects."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.market.orders import OrderReject
from gridtokenx_pipelines.messaging.kafka import PartitionReader, Sender, partitions_of, read_range
from gridtokenx_pipelines.metering.readings import RejectReason
from gridtokenx_pipelines.simulation.day import day_events, registry_messages
from gridtokenx_pipelines.simulation.messages import total
from gridtokenx_pipelines.simulation.neighbourhood import build_neighbourhood
from gridtokenx_pipelines.store.postgres import engine
from gridtokenx_pipelines.store.progress import complete_through

START = epoch_of_key("2026-06-15T02:00Z")  # nine in the morning in Bangkok
EPOCHS = 9
KILLED_BEFORE = 5  # of the registry's messages and the nine epochs
MARKET = sha256(b"market").digest()


def start(flow: str, broker: str, url: str, folder: Path) -> subprocess.Popen:
    options = ["--brokers", broker, "--database-url", url, "--recovery", str(folder / flow)]
    more = ["--archive", str(folder), "--snapshot-seconds", "0.2", "--market", MARKET.hex()]
    return subprocess.Popen(
        [sys.executable, "-m", "streaming.run", flow, *options, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_until(holds: Callable[[], bool], processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert all(process.poll() is None for process in processes), [p.stdout.read().decode() for p in processes]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_simulated_morning_with_both_flows_killed_once_gives_the_tables_that_its_manifest_expects(
    broker: str, postgres_url: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    cache = Path(pytestconfig.cache.mkdir("simbench"))
    neighbourhood = build_neighbourhood("1-LV-rural1--2-sw", 1, 2, cache_dir=cache)
    sender, database = Sender(broker), engine(postgres_url)
    processes = [start(flow, broker, postgres_url, tmp_path) for flow in ("telemetry", "orders")]
    chunks = list(day_events(neighbourhood, START, EPOCHS, market=MARKET, partitions=4, tick_seconds=15))
    for number, events in enumerate((registry_messages(neighbourhood, START), *(chunk.events for chunk in chunks))):
        if number == KILLED_BEFORE:
            wait_until(lambda: complete_through(database) is not None, processes)
            for process in processes:
                process.kill()
                process.wait()
            processes = [start(flow, broker, postgres_url, tmp_path) for flow in ("telemetry", "orders")]
        for event in events:
            sender.send(
                event.topic,
                event.value,
                key=event.key,
                headers=event.headers,
                partition=event.partition,
                timestamp_ms=event.timestamp_ms,
            )
        sender.flush()
    wait_until(lambda: (complete_through(database) or 0) >= START + EPOCHS - 1, processes)
    for process in processes:
        process.terminate()
        assert (process.wait(10), process.stdout.read()) == (0, b"")

    expected = total(chunk.manifest for chunk in chunks)
    with database.connect() as connection:
        letters = connection.execute(
            text("SELECT topic, reason, reason_code, count(*) FROM dead_letters GROUP BY 1, 2, 3")
        )
        refused = [tuple(row) for row in letters]
        assert {word: n for topic, word, _, n in refused if topic == "meter-readings"} == expected.rejected
        assert {word: n for topic, word, _, n in refused if topic == "orders"} == expected.orders_rejected
        codes = {"meter-readings": RejectReason, "orders": OrderReject}
        assert all(codes[topic][word.upper()] == code for topic, word, code, _ in refused)
        counted = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM corrections), (SELECT count(*) FROM net_energy WHERE missing), "
                "(SELECT count(*) FROM net_energy WHERE revision = 0), (SELECT count(*) FROM latest_readings), "
                "(SELECT count(*) FROM orders WHERE status = 'pending'), "
                "(SELECT count(*) FROM orders WHERE status = 'cancelled')"
            )
        ).one()
        counts = connection.execute(
            text("SELECT status, reason, sum(records) FROM stream_counts GROUP BY 1, 2")
        ).fetchall()
        orders = connection.execute(text("SELECT epoch - :start FROM orders"), {"start": START}).scalars().all()
    meters = len(neighbourhood.meters)
    assert tuple(counted) == (
        expected.corrections,
        expected.missing,
        meters * EPOCHS,
        meters,
        expected.orders - expected.cancels,
        expected.cancels,
    )
    counted_by = {(status, reason): int(records) for status, reason, records in counts}
    assert counted_by["accepted", ""] + counted_by["accepted", "late"] == expected.accepted
    assert (counted_by["accepted", "late"], counted_by["duplicate", ""]) == (expected.late, expected.duplicates)
    assert {
        word: records for (status, word), records in counted_by.items() if status == "rejected"
    } == expected.rejected
    assert set(Counter(orders)) <= set(range(EPOCHS + 1))
    assert published(broker, "net-energy") == {
        b"": meters * EPOCHS + caught_up(postgres_url),
        b"correction": expected.corrections,
    }
    assert len(list(tmp_path.glob("archive/*/*/partition-*.parquet"))) >= 4 * EPOCHS


def caught_up(url: str) -> int:
    with engine(url).connect() as connection:
        return connection.execute(text("SELECT count(*) FROM net_energy WHERE revision > 0")).scalar_one()


def published(broker: str, topic: str) -> Counter[bytes]:
    """Records by their header `kind`, those sent twice after the kill counted once."""
    keys = set()
    for partition in range(partitions_of(broker, topic)):
        _, end = PartitionReader(broker, topic, partition).bounds(5)
        for raw in read_range(broker, (topic, partition), 0, end - 1) if end else ():
            row = json.loads(raw.value)
            epoch = row.get("epoch", row.get("boundary_epoch"))
            keys.add((raw.header("kind"), row["meter_id"], epoch, row["revision"]))
    return Counter(kind for kind, *_ in keys)

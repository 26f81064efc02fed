"""The telemetry flow on a Kafka-protocol broker with a real Postgres: the conformance table once more."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from metering_cases import CASES, Case, row_of
from metering_world import EPOCH, NETWORK, Stream, gateway_record
from sqlalchemy import Connection, Engine, text

from gridtokenx_pipelines.messaging.kafka import OffsetAgedOutError, PartitionReader, Sender, partitions_of, read_range
from gridtokenx_pipelines.messaging.registry_topic import RegistryTopic
from gridtokenx_pipelines.messaging.topics import partition_for_zone
from gridtokenx_pipelines.metering.outputs import NET_ENERGY_SCHEMA
from gridtokenx_pipelines.metering.registry import encode_record
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.store.energy import CORRECTIONS
from gridtokenx_pipelines.store.postgres import engine
from streaming.source import KafkaBatches
from streaming.telemetry import Registry, Shard, build_flow, write_kafka, write_postgres

TABLES = "net_energy, corrections, dead_letters, stream_progress, latest_readings"


@pytest.fixture(scope="module")
def database(new_database) -> Iterator[Engine]:
    made = engine(new_database())
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def mock() -> Iterator[str]:
    from gridtokenx_pipelines.messaging.mock_broker import MockBroker  # noqa: PLC0415

    broker = MockBroker()
    yield broker.bootstrap_servers


def rows_of(connection: Connection, table: str, columns: str, order: str) -> list[tuple]:
    return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY {order}"))]  # noqa: S608


def run_case(case: Case, number: int, brokers: str, database: Engine) -> Stream:
    """Send the case's records to topics of its own and run the real source and sinks over them to their end."""
    from bytewax.testing import run_main  # noqa: PLC0415

    stream, sender = Stream(), Sender(brokers)
    case.build(stream)
    readings, registry_topic = f"meter-readings-{number}", f"meter-registry-{number}"
    for record in (gateway_record(), *case.meters):
        sender.send(registry_topic, encode_record(record), key=b"k")
    for raw in stream.raws:
        sender.send(
            readings, raw.value, key=raw.key, headers=raw.headers, partition=0, timestamp_ms=raw.broker_us // 1_000
        )
    sender.flush()
    stop, last = threading.Event(), len(stream.raws) - 1

    def end_at_the_last(shards: list[Shard]) -> None:
        if any(shard.outputs.progress.offset == last for shard in shards):
            stop.set()

    registry = RegistryTopic(brokers, registry_topic)
    flow = build_flow(
        KafkaBatches(brokers, readings, partitions_of(brokers, readings), stop),
        4,
        Verifier(NETWORK),
        Registry(registry.view, registry.refresh),
        {
            "postgres": partial(write_postgres, database),
            "kafka": partial(write_kafka, sender, 4),
            "end": end_at_the_last,
        },
    )
    run_main(flow)
    registry.close()
    return stream


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_every_message_case_gives_the_same_rows_in_postgres(number: int, mock: str, database: Engine) -> None:
    case = CASES[number]
    with database.begin() as connection:
        connection.execute(text(f"TRUNCATE {TABLES}"))
    stream = run_case(case, number, mock, database)
    with database.connect() as connection:
        rows = rows_of(connection, "net_energy", ", ".join(NET_ENERGY_SCHEMA), "epoch, revision")
        assert sorted(map(row_of, rows)) == sorted(case.rows)
        corrections = rows_of(connection, "corrections", ", ".join(CORRECTIONS), "boundary_epoch, revision")
        assert [(c[2] - EPOCH, c[3], c[4], c[5], c[6]) for c in corrections] == sorted(case.corrections)
        letters = rows_of(connection, "dead_letters", '"offset", reason, value, key', '"offset"')
        assert letters == [
            (offset, word, stream.raws[offset].value, stream.raws[offset].key) for offset, word in sorted(case.rejected)
        ]
        progress = rows_of(connection, "stream_progress", 'flow, partition, partitions, "offset"', "partition")
        assert progress == [("telemetry", 0, 4, len(stream.raws) - 1)]


def test_a_refused_reading_goes_whole_to_the_rejected_topic_with_its_reason(mock: str, database: Engine) -> None:
    number = next(number for number, case in enumerate(CASES) if case.name.startswith("implied power"))
    partitions = partitions_of(mock, "meter-readings.rejected")
    before = [PartitionReader(mock, "meter-readings.rejected", p).bounds(5)[1] for p in range(partitions)]
    stream = run_case(CASES[number], 1_000, mock, database)
    found = []
    for partition, start in enumerate(before):
        end = PartitionReader(mock, "meter-readings.rejected", partition).bounds(5)[1]
        if end > start:
            found += read_range(mock, ("meter-readings.rejected", partition), start, end - 1)
    assert sorted(
        (raw.value, raw.header("reason"), raw.header("reason-code"), raw.header("sig")) for raw in found
    ) == sorted(
        (stream.raws[offset].value, b"over_rating", b"12", stream.raws[offset].header("sig")) for offset in (1, 3)
    )


def test_a_zone_lies_in_one_partition() -> None:
    assert [partition_for_zone(zone, 4) for zone in (1, 2, 4, 5, 63)] == [0, 1, 3, 0, 2]


def test_an_aged_out_offset_is_an_error_and_never_a_jump(mock: str) -> None:
    sender, noise = Sender(mock), random.Random(1)  # noqa: S311 - bytes that zstd can't shrink
    for _ in range(9):  # the mock keeps 5 MB of a partition
        sender.send("small", noise.randbytes(1_000_000), partition=0)
        sender.flush()
    oldest, end = PartitionReader(mock, "small", 0).bounds(5)
    assert 0 < oldest < end == 9
    reader = PartitionReader(mock, "small", 0, 0)
    with pytest.raises(OffsetAgedOutError, match=r"offset 0 of small/0 is no longer kept"):
        for _ in range(50):
            reader.poll(10, 0.1)

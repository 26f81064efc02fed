"""The price guard on a Kafka-protocol broker with a real Postgres: halts, minute prices, an operator's resumption."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from bytewax.testing import run_main
from sqlalchemy import Engine, text

from gridtokenx_pipelines.market.price_guard import Trade
from gridtokenx_pipelines.messaging.kafka import PartitionReader, Sender, partitions_of, read_range
from gridtokenx_pipelines.messaging.mock_broker import MockBroker
from gridtokenx_pipelines.store.market_events import open_halts
from gridtokenx_pipelines.store.postgres import engine
from streaming.price_guard import Guarded, build_flow, write_kafka, write_postgres
from streaming.resume import resume_market
from streaming.source import KafkaBatches

START, SECOND = 1_781_456_400_000_000, 1_000_000


def send_trades(brokers: str, *trades: tuple[float, int]) -> None:
    sender = Sender(brokers)
    for seconds, price in trades:
        trade = Trade(
            trade_id=f"at {seconds}",
            epoch=1_979_396,
            venue="continuous",
            timestamp_us=START + round(seconds * SECOND),
            energy_wh=1_500,
            price_uthb_per_kwh=price,
        )
        headers = [("kind", b"energy_trade")]
        sender.send("trades", msgspec.json.encode(trade), key=b"continuous", headers=headers, partition=0)
    sender.flush()


@pytest.fixture
def guard(postgres_url: str) -> Callable[[str], Engine]:
    database = engine(postgres_url)

    def run(brokers: str) -> Engine:
        """From the beginning to where the topic ends now, as after a crash without any snapshot."""
        stop, last = threading.Event(), PartitionReader(brokers, "trades", 0).bounds(10)[1]
        seen = [0]

        def end_at_the_last(batches: list[Guarded]) -> None:
            seen[0] += sum(sum(batch.counts.values()) == last for batch in batches)
            if seen[0]:
                stop.set()

        sinks: dict[str, Any] = {
            "postgres": partial(write_postgres, database),
            "kafka": partial(write_kafka, Sender(brokers), partitions_of(brokers, "market-events")),
            "end": end_at_the_last,
        }
        run_main(build_flow(KafkaBatches(brokers, "trades", partitions_of(brokers, "trades"), stop), sinks))
        return database

    return run


def events(brokers: str) -> list[tuple[str, dict[str, Any]]]:
    end = PartitionReader(brokers, "market-events", 0).bounds(10)[1]
    raws = read_range(brokers, ("market-events", 0), 0, end - 1) if end else []
    return [(raw.header("event-id").decode(), msgspec.json.decode(raw.value)) for raw in raws]


def test_a_halt_reaches_the_tables_and_the_topic_and_an_operator_ends_it(guard: Any, postgres_url: str) -> None:
    broker = MockBroker()
    brokers = broker.bootstrap_servers
    send_trades(brokers, (0, 3_000_000), (30, 3_200_000), (59, 3_300_001), (61, 3_000_000))
    database = guard(brokers)
    with database.connect() as connection:
        halts = open_halts(connection)
    assert [(halt.partition, halt.offset, halt.trade_id, halt.reference_uthb_per_kwh) for halt in halts] == [
        (0, 2, "at 59", 3_000_000)
    ]
    told = events(brokers)
    assert [name for name, _ in told] == ["trades/0/2/market_halted", "trades/0/3/market_update"]
    assert told[1][1] == {
        "epoch_id": 1_979_396,
        "venue": "continuous",
        "minute": START // (60 * SECOND),
        "clearing_price": "3.166667",
        "total_volume": "4.500",
        "lowest_price": "3.000000",
        "highest_price": "3.300001",
        "trades": 3,
        "price_uthb_per_kwh": 3_166_667,
        "volume_wh": 4_500,
    }

    assert [halt.trade_id for halt in resume_market(postgres_url, brokers, "Somchai")] == ["at 59"]
    assert resume_market(postgres_url, brokers, "Somchai") == []
    send_trades(brokers, (62, 8_000_000))
    database = guard(brokers)  # everything once more: what was told before is told alike
    again = events(brokers)
    assert again[:2] == told and again[2:4] == told
    assert [name for name, _ in again[4:]] == ["trades/0/4/market_resumed"]
    with database.connect() as connection:
        assert open_halts(connection) == []
        assert connection.execute(text("SELECT resumed_by FROM market_halts")).fetchall() == [("Somchai",)]
        audit = connection.execute(text("SELECT who FROM audit_logs WHERE what = 'market_resumed'")).fetchall()
        assert audit == [("Somchai",)]

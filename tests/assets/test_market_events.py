"""What cleared and settled reaches `trades` and `market-events`: after the commit, the same if told again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text

from gridtokenx_pipelines.epochs import end_us
from gridtokenx_pipelines.market.price_guard import Trade, decode
from gridtokenx_pipelines.messaging.kafka import PartitionReader, partitions_of, read_range
from gridtokenx_pipelines.messaging.mock_broker import MockBroker
from gridtokenx_pipelines.settlement_service import clearing
from gridtokenx_pipelines.settlement_service.events import EventPublisher
from gridtokenx_pipelines.settlement_service.services import Services
from tests.assets.market_day import FIRST, seed


def told(brokers: str, topic: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(kind, event id, document) of all records, by partition and offset."""
    found = []
    for partition in range(partitions_of(brokers, topic)):
        end = PartitionReader(brokers, topic, partition).bounds(10)[1]
        found += read_range(brokers, (topic, partition), 0, end - 1) if end else []
    return [
        (raw.header("kind").decode(), raw.header("event-id").decode(), msgspec.json.decode(raw.value)) for raw in found
    ]


def rows(services: Services, sql: str) -> list[tuple[Any, ...]]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_a_cleared_epoch_s_trades_and_events_are_those_of_its_tables(services: Services) -> None:
    broker = MockBroker()
    publishing = replace(services, events=EventPublisher(broker.bootstrap_servers))
    seed(services.engine, 2)
    clearing.clear_epochs(publishing, [FIRST, FIRST + 1])
    trades = told(broker.bootstrap_servers, "trades")
    matches = rows(services, "SELECT epoch, match_id, seller, buyer, energy_wh, price_uthb_per_kwh FROM order_matches")
    assert matches and sorted(
        (each["epoch"], each["trade_id"], each["seller"], each["buyer"], each["energy_wh"], each["price_uthb_per_kwh"])
        for _, _, each in trades
    ) == sorted((match[0], f"{match[0]}/{match[1]}", *match[2:]) for match in matches)
    first = trades[0][2]
    assert first["energy"] == f"{first['energy_wh'] / 1_000:.3f}"
    assert first["timestamp_us"] == end_us(first["epoch"])
    assert datetime.fromisoformat(first["timestamp"]).timestamp() * 1_000_000 == first["timestamp_us"]
    read = decode(0, b"energy_trade", msgspec.json.encode(first)).body
    assert isinstance(read, Trade) and read.venue == "zonal"

    events = told(broker.bootstrap_servers, "market-events")
    transitions = [document for kind, _, document in events if kind == "epoch_transition"]
    assert transitions == [
        {"epoch_id": epoch, "old_status": "expired", "new_status": "cleared"} for epoch in (FIRST, FIRST + 1)
    ]
    assert {each["match_id"] for kind, _, each in events if kind == "order_matched"} == {
        each["trade_id"] for _, _, each in trades
    }
    updates = [each for kind, _, each in events if kind == "market_update"]
    zones = rows(services, "SELECT epoch, zone_id, price_uthb_per_kwh, bought_wh FROM zone_results ORDER BY 1, 2")
    assert sorted((e["epoch_id"], e["zone_id"], e["price_uthb_per_kwh"], e["volume_wh"]) for e in updates) == zones

    clearing.clear_epochs(publishing, [FIRST, FIRST + 1])
    publishing.publish()
    assert told(broker.bootstrap_servers, "trades") == trades
    with services.engine.begin() as connection:  # as if the process had died between sending and noting it
        connection.execute(text("UPDATE market_outbox SET published_at = NULL"))
    publishing.publish()
    again = told(broker.bootstrap_servers, "trades")
    assert len(again) == 2 * len(trades) and len({event_id for _, event_id, _ in again}) == len(trades)
    assert all(each in trades for each in again)


def test_a_broker_that_is_away_holds_no_clearing_up_and_is_told_later(services: Services, caplog: Any) -> None:
    away = replace(services, events=EventPublisher("127.0.0.1:1"))
    seed(services.engine, 1)
    outcome = clearing.clear_epochs(away, [FIRST])
    assert [report.changed for report in outcome.results] == [True]
    assert "market events wait in the outbox: no Kafka broker answered at 127.0.0.1:1" in caplog.text
    assert rows(services, "SELECT event, number, published_at FROM market_outbox") == [("cleared", FIRST, None)]
    broker = MockBroker()
    replace(services, events=EventPublisher(broker.bootstrap_servers)).publish()
    assert len(told(broker.bootstrap_servers, "trades")) == rows(services, "SELECT count(*) FROM order_matches")[0][0]
    assert rows(services, "SELECT count(*) FROM market_outbox WHERE published_at IS NULL") == [(0,)]

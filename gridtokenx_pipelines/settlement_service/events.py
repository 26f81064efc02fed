"""Tells the topics what cleared and settled: `trades` and `market-events`, after the commit, from the committed rows.

Belongs here: the outbox's publisher and the events' form (docs/reference/topics.md). Does not belong here: when an
epoch clears, SQL (store/market_events.py). An event is made from its epoch's rows each time, so one told twice is the
same, by its `event-id`. A broker that is away holds nothing up: what it wasn't told waits in the outbox.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine

from gridtokenx_pipelines.chain.market_events import MarketEvent
from gridtokenx_pipelines.epochs import end_us, epoch_of_us
from gridtokenx_pipelines.market.price_guard import CONTINUOUS
from gridtokenx_pipelines.messaging.connection import Brokers
from gridtokenx_pipelines.messaging.kafka import BrokerError, Sender, partitions_of, wait_for_broker
from gridtokenx_pipelines.messaging.topics import MARKET_EVENTS, TRADES, partition_for_zone
from gridtokenx_pipelines.store.clearing import EpochRow, read_clearing, read_epoch
from gridtokenx_pipelines.store.market_events import mark_published, unpublished
from gridtokenx_pipelines.units import kwh, thb

LOG = logging.getLogger(__name__)
AT_ONCE = 96
WAIT_SECONDS, FLUSH_SECONDS, PAUSE_SECONDS = 2.0, 10.0, 60.0


class Message(NamedTuple):
    """One event; `event_id` is the same however often it is told."""

    topic: str
    zone_id: int
    kind: str
    event_id: str
    document: dict[str, Any]
    venue: str = ""

    @property
    def key(self) -> str:
        """Zone id; of continuous trading, which is one area and so one partition, its name."""
        return self.venue or str(self.zone_id)


class EventPublisher:
    """Publishes the outbox to a cluster; connects when there is something to tell."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers, self._sender, self._not_before = brokers, None, 0.0
        self._partitions: dict[str, int] = {}

    def publish(self, engine: Engine) -> int:
        """Tell all that waits; returns how many epochs' events were told. Never raises for a broker that is away."""
        if time.monotonic() < self._not_before:
            return 0
        told = 0
        try:
            while count := self._publish_some(engine):
                told += count
        except BrokerError as error:
            self._not_before, self._sender = time.monotonic() + PAUSE_SECONDS, None
            LOG.warning("market events wait in the outbox: %s", error)
        return told

    def _publish_some(self, engine: Engine) -> int:
        with engine.begin() as connection:
            waiting = unpublished(connection, AT_ONCE)
            if not waiting:
                return 0
            sender = self._connected()
            for event, number, document in waiting:
                for message in _messages(connection, event, number, document):
                    sender.send(
                        message.topic,
                        msgspec.json.encode(message.document),
                        key=message.key.encode(),
                        headers=[("kind", message.kind.encode()), ("event-id", message.event_id.encode())],
                        partition=partition_for_zone(message.zone_id, self._partitions[message.topic]),
                    )
            sender.flush(FLUSH_SECONDS)
            mark_published(connection, waiting, datetime.now(UTC))
        return len(waiting)

    def _connected(self) -> Sender:
        if self._sender is None:
            wait_for_broker(self._brokers, WAIT_SECONDS)
            self._partitions = {
                topic.name: partitions_of(self._brokers, topic.name, WAIT_SECONDS) for topic in (TRADES, MARKET_EVENTS)
            }
            self._sender = Sender(self._brokers)
        return self._sender


def _messages(connection: Connection, event: str, number: int, document: bytes | None) -> Iterator[Message]:
    if event == "chain" and document is not None:
        told = msgspec.json.decode(document)
        yield Message(TRADES.name, 1, told.pop("kind"), f"chain/{number}", told, CONTINUOUS)
    else:
        yield from events_of(connection, number, event)


def chain_document(event: MarketEvent, owners: Mapping[str, str]) -> bytes | None:
    """What `trades` is told of an event on chain: a continuous trade, the market's halt, its resumption; else None."""
    fields, time_us = event.fields, event.block_time * 1_000_000
    match event.name:
        case "EnergyTraded":
            told = {
                "kind": "energy_trade",
                "trade_id": f"chain/{event.seq}",
                "epoch": epoch_of_us(time_us),
                "venue": CONTINUOUS,
                "seller": owners[fields["seller"]],
                "buyer": owners[fields["buyer"]],
                "energy": _plain(kwh(fields["energy_wh"])),
                "price_per_kwh": _plain(thb(fields["price"])),
                "timestamp": _iso(time_us),
                "timestamp_us": time_us,
                "carbon_saved": None,
                "energy_wh": fields["energy_wh"],
                "price_uthb_per_kwh": fields["price"],
            }
        case "MarketHalted":
            told = {"kind": "halted", "timestamp_us": time_us, "price_uthb_per_kwh": fields["price"]}
        case "MarketResumed":
            told = {"kind": "resume", "timestamp_us": time_us, "who": "the chain's authority"}
        case _:
            return None
    return msgspec.json.encode(told)


def events_of(connection: Connection, epoch: int, event: str) -> Iterator[Message]:
    """The events of a cleared or settled epoch, in a fixed order."""
    row = read_epoch(connection, epoch)
    if row is None:
        raise ValueError(f"epoch {epoch} is in the outbox but not in market_epochs; restore it from the backup")
    if event == "voided":
        yield _transition(epoch, "cleared", "voided")
        return
    halted_or_cleared = "halted" if row.halted else "cleared"
    if event == "settled":
        yield _transition(epoch, halted_or_cleared, "settled")
        return
    yield _transition(epoch, "expired", halted_or_cleared)
    yield from _cleared(connection, row)


def _transition(epoch: int, old: str, new: str) -> Message:
    document = {"epoch_id": epoch, "old_status": old, "new_status": new}
    return Message(MARKET_EVENTS.name, 1, "epoch_transition", f"{epoch}/{new}", document)


def _cleared(connection: Connection, row: EpochRow) -> Iterator[Message]:
    frames, epoch = read_clearing(connection, row.epoch), row.epoch
    for zone in frames.zone_results.iter_rows(named=True):
        price = zone["price_uthb_per_kwh"]
        yield Message(
            MARKET_EVENTS.name,
            zone["zone_id"],
            "market_update",
            f"{epoch}/zone/{zone['zone_id']}",
            {
                "epoch_id": epoch,
                "venue": row.mechanism,
                "zone_id": zone["zone_id"],
                "clearing_price": None if price is None else _plain(thb(price)),
                "total_volume": _plain(kwh(zone["bought_wh"])),
                "price_uthb_per_kwh": price,
                "volume_wh": zone["bought_wh"],
            },
        )
    zones = dict(zip(frames.fills["order_id"], frames.fills["zone_id"], strict=True))
    for match in frames.order_matches.iter_rows(named=True):
        yield from _matched(row, match, zones[match["sell_order_id"]])


def _matched(row: EpochRow, match: dict[str, Any], zone_id: int) -> Iterator[Message]:
    epoch, energy_wh, price = row.epoch, match["energy_wh"], match["price_uthb_per_kwh"]
    trade_id = f"{epoch}/{match['match_id']}"
    exact = {"energy_wh": energy_wh, "price_uthb_per_kwh": price}
    yield Message(
        TRADES.name,
        zone_id,
        "energy_trade",
        trade_id,
        {
            "trade_id": trade_id,
            "epoch": epoch,
            "venue": row.mechanism,
            "seller": match["seller"],
            "buyer": match["buyer"],
            "energy": _plain(kwh(energy_wh)),
            "price_per_kwh": _plain(thb(price)),
            "timestamp": _iso(end_us(epoch)),
            "timestamp_us": end_us(epoch),
            "carbon_saved": None,  # the carbon ledger's to say, per day
            **exact,
        },
    )
    yield Message(
        MARKET_EVENTS.name,
        zone_id,
        "order_matched",
        f"match/{trade_id}",
        {
            "match_id": trade_id,
            "buyer_id": match["buyer"],
            "seller_id": match["seller"],
            "amount": _plain(kwh(energy_wh)),
            "price": _plain(thb(price)),
            **exact,
        },
    )


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(decimal: str) -> str:
    """Without thousands' separators, which are for people."""
    return decimal.replace(",", "")

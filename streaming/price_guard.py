"""The price-guard flow: trades of continuous trading to minute prices and halts, on `market-events` and in Postgres.

Belongs here: wiring. Does not belong here: the rule (market/price_guard.py). One state a partition; continuous trades
all lie in one, as all zones are one area there. Outputs may come twice and have the same `event-id`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from sqlalchemy import Connection, Engine

from gridtokenx_pipelines.market.price_guard import (
    CONTINUOUS,
    Entry,
    Event,
    GuardState,
    Halt,
    MinutePrice,
    Resumed,
    decode,
    step,
)
from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.messaging.topics import MARKET_EVENTS, TRADES
from gridtokenx_pipelines.metering.state import StateVersionError
from gridtokenx_pipelines.store.market_events import end_halts, save_halt
from gridtokenx_pipelines.units import kwh, thb
from streaming.sinks import CallSink, in_transaction
from streaming.source import Batch

FLOW = "price-guard"
SCHEMA, SCHEMA_VERSION = "gridtokenx/price-guard", 1


class Read(NamedTuple):
    """A batch of one partition."""

    partition: int
    entries: list[Entry]


class Guarded(NamedTuple):
    """What a batch led to; `counts` since the partition's beginning."""

    partition: int
    events: list[Event]
    counts: dict[tuple[str, str], int]


class GuardLogic(StatefulBatchLogic[Read, Guarded, bytes]):
    """One partition's `GuardState` in Bytewax's hands."""

    def __init__(self, resume: bytes | None) -> None:
        self._state = GuardState() if resume is None else _from_bytes(resume)

    def on_batch(self, values: list[Read]) -> tuple[list[Guarded], bool]:
        """Apply batches in offset order."""
        given = []
        for partition, entries in values:
            events = step(self._state, entries)
            counts = {
                ("rejected" if what == "unreadable" else "accepted", what): records
                for what, records in self._state.counts.items()
            }
            given.append(Guarded(partition, events, counts))
        return given, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """The state as versioned bytes."""
        return pickle.dumps((SCHEMA, SCHEMA_VERSION, self._state), protocol=5)


def _from_bytes(data: bytes) -> GuardState:
    schema, version, state = pickle.loads(data)  # noqa: S301 - our own recovery store
    if (schema, version) != (SCHEMA, SCHEMA_VERSION):
        raise StateVersionError(
            f"recovered state was {(schema, version)}, must be {(SCHEMA, SCHEMA_VERSION)}; start with an empty "
            "recovery folder, the topic is then replayed from its beginning"
        )
    return state


def build_flow(source: Source[Batch], sinks: dict[str, Callable[[list[Guarded]], None]]) -> Dataflow:
    """The flow over any source of batches; `sinks` by step name are handed what each batch led to."""
    flow = Dataflow(FLOW)

    def read(batches: list[Batch]) -> list[tuple[str, Read]]:
        return [
            (key, Read(int(key), [decode(raw.offset, raw.header("kind"), raw.value) for raw in raws]))
            for key, raws in batches
        ]

    batches = op.input("trades", flow, source)
    entries = op.flat_map_batch("decode", batches, read)
    guarded = op.stateful_batch("guard", entries, GuardLogic)
    for name, write in sinks.items():
        op.output(name, guarded, CallSink(write))
    return flow


def write_postgres(engine: Engine, batches: Sequence[Guarded]) -> None:
    """Halts and their ends: the market reads them there before it commits an epoch."""
    found = [(batch.partition, event) for batch in batches for event in batch.events]
    if not any(isinstance(event, Halt | Resumed) for _, event in found):
        return

    def work(connection: Connection) -> None:
        for partition, event in found:
            if isinstance(event, Halt):
                save_halt(connection, partition, event)
            elif isinstance(event, Resumed):
                end_halts(connection, partition, event.offset, event.resumed_at_us, event.who)

    in_transaction(engine, work)


def write_kafka(sender: Sender, partitions: int, batches: Sequence[Guarded]) -> None:
    """Every event to `market-events`, in the partition of its trades."""
    for batch in batches:
        for event in batch.events:
            kind, document = _document(event)
            sender.send(
                MARKET_EVENTS.name,
                msgspec.json.encode(document),
                key=CONTINUOUS.encode(),
                headers=[
                    ("kind", kind.encode()),
                    ("event-id", f"{TRADES.name}/{batch.partition}/{event.offset}/{kind}".encode()),
                ],
                partition=batch.partition % partitions,
            )
    sender.flush()


def _document(event: Event) -> tuple[str, dict[str, Any]]:
    match event:
        case MinutePrice():
            return "market_update", {
                "epoch_id": event.epoch,
                "venue": CONTINUOUS,
                "minute": event.minute,
                "clearing_price": _plain(thb(event.price_uthb_per_kwh)),
                "total_volume": _plain(kwh(event.volume_wh)),
                "lowest_price": _plain(thb(event.low)),
                "highest_price": _plain(thb(event.high)),
                "trades": event.trades,
                "price_uthb_per_kwh": event.price_uthb_per_kwh,
                "volume_wh": event.volume_wh,
            }
        case Halt():
            return "market_halted", {
                "venue": CONTINUOUS,
                "trade_id": event.trade_id,
                "halted_at_us": event.halted_at_us,
                "price_uthb_per_kwh": event.price_uthb_per_kwh,
                "reference_uthb_per_kwh": event.reference_uthb_per_kwh,
            }
        case Resumed():
            return "market_resumed", {"venue": CONTINUOUS, "resumed_at_us": event.resumed_at_us, "who": event.who}


def _plain(decimal: str) -> str:
    """Without thousands' separators, which are for people."""
    return decimal.replace(",", "")

"""The orders flow: verify, admit per partition, write the book's orders, refusals and the gate's progress.

Belongs here: wiring, and the registry as order intake looks things up in it. Does not belong here: rules (market/).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import bytewax.operators as op
import polars as pl
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from sqlalchemy import Connection, Engine

from gridtokenx_pipelines.epochs import epoch_of_us
from gridtokenx_pipelines.market.intake import IntakeState, step
from gridtokenx_pipelines.market.orders import OrderReject, meter_hash
from gridtokenx_pipelines.market.records import (
    BadRecord,
    CancelRecord,
    IntakeOutputs,
    MeterFacts,
    OrderRecord,
    Record,
    TickRecord,
    WalletFacts,
    read_record,
)
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.messaging.topics import ORDERS, ORDERS_REJECTED
from gridtokenx_pipelines.metering.readings import KIND_TICK, Raw, Tick
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryView, partition_of_zone
from gridtokenx_pipelines.metering.state import MAX_TICK_STEP_US, StateVersionError
from gridtokenx_pipelines.metering.verify import Message, Verifier
from gridtokenx_pipelines.store.orders import ORDERS as ORDER_SCHEMA
from gridtokenx_pipelines.store.orders import cancel, save_orders
from streaming.sinks import CallSink, Letter, in_transaction, save_flow_progress, save_letters, send_letter
from streaming.source import Batch
from streaming.telemetry import Registry

FLOW = "orders"
SCHEMA, SCHEMA_VERSION = "gridtokenx/intake-state", 1
STORED = {
    **ORDER_SCHEMA,
    "market": pl.Binary,
    "message": pl.Binary,
    "signature": pl.Binary,
    "partition": pl.Int64,
    "offset": pl.Int64,
    "status": pl.String,
}


class Market(NamedTuple):
    """What all orders are checked against."""

    network_id: int
    address: bytes
    rules: Rules


class Decoded(NamedTuple):
    """A batch of one partition: its records, and what they say (a tick still unchecked against the registry)."""

    partition: int
    raws: list[Raw]
    records: list[Record | Message]


class Admitted(NamedTuple):
    """What leaves the intake: outputs, progress, and the refused records whole."""

    partition: int
    partitions: int
    outputs: IntakeOutputs
    letters: list[Letter]
    tick_us: int | None
    gate_through: int | None
    offset: int


class RegistryLookup:
    """Order intake's questions, answered from the registry's records with effective epochs."""

    def __init__(self, view: RegistryView, partitions: int) -> None:
        self._view, self._partitions, self._version = view, partitions, -1
        self._ids: dict[bytes, str] = {}
        self._owned: dict[str, list[str]] = {}

    def _current(self) -> None:
        if self._version != self._view.version:
            self._version = self._view.version
            # at once: with several workers another thread may be adding to the view
            known = tuple(self._view)
            self._ids = {meter_hash(meter_id): meter_id for meter_id in known}
            self._owned = {}
            for meter_id in known:
                self._owned.setdefault(self._view.records(meter_id)[-1].wallet, []).append(meter_id)

    def meter(self, hashed_id: bytes) -> MeterFacts | None:
        """Meter by sha256 of its id."""
        self._current()
        meter_id = self._ids.get(hashed_id)
        return None if meter_id is None else _facts(self._view.records(meter_id))

    def wallet(self, wallet: str, epoch: int) -> WalletFacts | None:
        """Wallet over its meters that are active in the epoch."""
        self._current()
        records = [self._view.meter(meter_id, epoch) for meter_id in self._owned.get(wallet, ())]
        owned = [record for record in records if record is not None]
        active = [record for record in owned if record.status == "active" and record.first_epoch <= epoch]
        if not owned:
            return None
        return WalletFacts(
            zone_id=owned[0].zone_id,
            is_active=bool(active),
            may_sell=any(record.meter_type != "Grid" for record in active),
            rating_w=sum(record.rating_w for record in active),
        )

    def knows(self, wallet: str) -> bool:
        """Whether the wallet owns a meter."""
        self._current()
        return wallet in self._owned

    def partition_of(self, zone_id: int) -> int:
        """Partition of a zone's orders."""
        return partition_of_zone(zone_id, self._partitions)


def _facts(records: Sequence[MeterRecord]) -> MeterFacts:
    newest = records[-1]
    ended = [record.effective_epoch for record in records if record.status == "retired"]
    return MeterFacts(
        meter_id=newest.meter_id,
        wallet=newest.wallet,
        zone_id=newest.zone_id,
        rating_w=newest.rating_w,
        produces=newest.meter_type != "Grid",
        first_epoch=newest.first_epoch,
        end_epoch=ended[0] if ended else None,
    )


class Reader:
    """Decodes and verifies orders, cancels and ticks, on a few threads."""

    def __init__(self, network_id: int, threads: int = 2) -> None:
        self._ticks = Verifier(network_id, threads=1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="orders")

    def __call__(self, raws: Sequence[Raw]) -> list[Record | Message]:
        """One record per raw one, in order."""
        return list(self._pool.map(self._read, raws)) if len(raws) > 1 else [self._read(raw) for raw in raws]

    def _read(self, raw: Raw) -> Record | Message:
        if raw.header("kind") == KIND_TICK:
            return self._ticks.messages([raw])[0]
        return read_record(raw.offset, raw.broker_us, raw.value, raw.header("sig"), raw.header("pub"))


class IntakeLogic(StatefulBatchLogic[Decoded, Admitted, bytes]):
    """One partition's `IntakeState` in Bytewax's hands."""

    def __init__(self, resume: bytes | None, partitions: int, market: Market, registry: Registry) -> None:
        self._state = None if resume is None else _from_bytes(resume)
        self._partitions, self._market, self._registry = partitions, market, registry
        self._lookup = RegistryLookup(registry.view, partitions)

    def on_batch(self, values: list[Decoded]) -> tuple[list[Admitted], bool]:
        """Apply batches in offset order."""
        return [self._apply(decoded) for decoded in values], StatefulBatchLogic.RETAIN

    def _apply(self, decoded: Decoded) -> Admitted:
        state = self._state = self._state or IntakeState(
            partition=decoded.partition, network_id=self._market.network_id, market=self._market.address
        )
        if state.partition != decoded.partition:
            raise StateVersionError(f"recovered intake was of partition {state.partition}, must be {decoded.partition}")
        if self._lacks(state, decoded.records):
            self._registry.refresh()
        records = [self._ticked(record) if isinstance(record, Message) else record for record in decoded.records]
        outputs = step(state, records, self._lookup, self._market.rules)
        raws = {raw.offset: raw for raw in decoded.raws}
        letters = [
            Letter(
                ORDERS.name, each.partition, raws[each.offset], each.reason.value, each.reason.name.lower(), each.detail
            )
            for each in outputs.rejected
        ]
        return Admitted(
            state.partition, self._partitions, outputs, letters, state.tick_us, state.gate_through, state.offset
        )

    def _lacks(self, state: IntakeState, records: Sequence[Record | Message]) -> bool:
        """Whether the registry should be read up to its end: an unknown wallet, or an epoch's gate to pass."""
        for record in records:
            if isinstance(record, Message):
                body = record.body
                if isinstance(body, Tick) and epoch_of_us(body.timestamp_us) - 1 != state.gate_through:
                    return True
            elif isinstance(record, OrderRecord | CancelRecord) and not self._lookup.knows(record.wallet):
                return True
        return False

    def _ticked(self, message: Message) -> TickRecord | BadRecord:
        raw, body = message.raw, message.body
        if not isinstance(body, Tick):
            detail = getattr(body, "detail", "no tick")
            return BadRecord(
                offset=raw.offset, broker_us=raw.broker_us, reason=OrderReject.NOT_DECODABLE, detail=detail
            )
        if not message.authentic or not self._registry.view.is_gateway(message.pub, epoch_of_us(body.timestamp_us)):
            detail = f"tick of {body.gateway_id} under key {message.pub.hex() or 'none'} is not a registered gateway's"
            return BadRecord(offset=raw.offset, broker_us=raw.broker_us, reason=OrderReject.SIGNATURE, detail=detail)
        last_us = self._state.tick_us if self._state else None
        if last_us is not None and body.timestamp_us > last_us + MAX_TICK_STEP_US:
            bound = f"at most a year after the last one's {last_us} µs"
            detail = f"tick was {body.timestamp_us} µs, must be {bound}; set the gateway's clock"
            return BadRecord(
                offset=raw.offset, broker_us=raw.broker_us, reason=OrderReject.NOT_DECODABLE, detail=detail
            )
        return TickRecord(offset=raw.offset, tick_us=body.timestamp_us)

    def snapshot(self) -> bytes:
        """The state as versioned bytes."""
        return pickle.dumps((SCHEMA, SCHEMA_VERSION, self._state), protocol=5)


def _from_bytes(data: bytes) -> IntakeState:
    schema, version, state = pickle.loads(data)  # noqa: S301 - our own recovery store
    if (schema, version) != (SCHEMA, SCHEMA_VERSION):
        raise StateVersionError(
            f"recovered state was {(schema, version)}, must be {(SCHEMA, SCHEMA_VERSION)}; start with an empty "
            "recovery folder, the topic is then replayed from its beginning"
        )
    return state


def build_flow(
    source: Source[Batch],
    partitions: int,
    market: Market,
    registry: Registry,
    sinks: dict[str, Callable[[list[Admitted]], None]],
) -> Dataflow:
    """The flow over any source of batches; `sinks` by step name are handed what was admitted and refused."""
    flow, read = Dataflow(FLOW), Reader(market.network_id)

    def verified(batches: list[Batch]) -> list[tuple[str, Decoded]]:
        return [(key, Decoded(int(key), raws, read(raws))) for key, raws in batches]

    batches = op.input("orders", flow, source)
    records = op.flat_map_batch("decode_and_verify", batches, verified)
    admitted = op.stateful_batch("intake", records, lambda resume: IntakeLogic(resume, partitions, market, registry))
    for name, write in sinks.items():
        op.output(name, admitted, CallSink(write))
    return flow


def write_postgres(engine: Engine, batches: Sequence[Admitted]) -> None:
    """Orders, cancels, refusals and the gate in one transaction: a gate has passed only with its orders."""
    rows = [accepted.row() for batch in batches for accepted in batch.outputs.accepted]

    def work(connection: Connection) -> None:
        save_orders(connection, pl.DataFrame(rows, schema=STORED, orient="row"))
        for batch in batches:
            for gone in batch.outputs.cancelled:
                cancel(connection, (gone.wallet, gone.epoch, gone.nonce), gone.cancelled_at_us)
            save_letters(connection, batch.letters)
            place = batch.partition, batch.partitions
            save_flow_progress(connection, FLOW, place, (batch.tick_us, batch.gate_through), batch.offset)

    in_transaction(engine, work)


def write_kafka(sender: Sender, batches: Sequence[Admitted]) -> None:
    """Refused orders and cancels, whole, with their reason."""
    for batch in batches:
        for letter in batch.letters:
            send_letter(sender, ORDERS_REJECTED.name, letter)
    sender.flush()

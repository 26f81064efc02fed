"""The telemetry flow: decode and verify, window per partition, write net energy and everything around it.

Belongs here: wiring. Does not belong here: rules (metering/). The state of a partition lives in the recovery store; its
outputs may come twice and are idempotent by key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import bytewax.operators as op
import polars as pl
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from sqlalchemy import Connection, Engine

from gridtokenx_pipelines.messaging.influx import InfluxWriter
from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.messaging.topics import (
    METER_READINGS,
    METER_READINGS_REJECTED,
    NET_ENERGY,
    partition_for_zone,
)
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.registry import RegistryView
from gridtokenx_pipelines.metering.state import StateVersionError
from gridtokenx_pipelines.metering.verify import Message, Verifier
from gridtokenx_pipelines.metering.window import ShardState, needs_registry, step
from gridtokenx_pipelines.store.energy import save_corrections, save_net_energy
from gridtokenx_pipelines.store.progress import save_counts
from streaming.archive import Archive
from streaming.sinks import (
    CallSink,
    Letter,
    in_transaction,
    rows_as_json,
    save_flow_progress,
    save_latest,
    save_letters,
    send_letter,
)
from streaming.source import Batch

FLOW = "telemetry"


class Registry(NamedTuple):
    """The view that readings are checked against, and how to bring it up to date."""

    view: RegistryView
    refresh: Callable[[], None]


class Decoded(NamedTuple):
    """A batch of one partition on its way to the window."""

    partition: int
    messages: list[Message]


class Shard(NamedTuple):
    """What leaves the window: the batch's records and what they gave."""

    messages: list[Message]
    outputs: Outputs


class ShardLogic(StatefulBatchLogic[Decoded, Shard, bytes]):
    """One partition's `ShardState` in Bytewax's hands."""

    def __init__(self, resume: bytes | None, partitions: int, registry: Registry) -> None:
        self._state = None if resume is None else ShardState.from_bytes(resume)
        self._partitions, self._registry = partitions, registry

    def on_batch(self, values: list[Decoded]) -> tuple[list[Shard], bool]:
        """Apply batches in offset order."""
        given = []
        for partition, messages in values:
            # Bytewax doesn't tell a logic its key, so the first batch does
            state = self._state_of(partition)
            if needs_registry(state, messages, self._registry.view):
                self._registry.refresh()
            self._state, outputs = step(state, messages, self._registry.view)
            given.append(Shard(messages, outputs))
        return given, StatefulBatchLogic.RETAIN

    def _state_of(self, partition: int) -> ShardState:
        state = self._state or ShardState(partition, self._partitions)
        if (state.partition, state.partitions) != (partition, self._partitions):
            raise StateVersionError(
                f"recovered state was of partition {state.partition} of {state.partitions}, must be {partition} of "
                f"{self._partitions}; zones move when partitions are added: replay with an empty recovery folder"
            )
        return state

    def snapshot(self) -> bytes:
        """The state as bytes: Bytewax may pickle what it is given later than it asks."""
        if self._state is None:
            raise AssertionError("a shard was kept without ever getting a batch")
        return self._state.to_bytes()


def build_flow(
    source: Source[Batch],
    partitions: int,
    verifier: Verifier,
    registry: Registry,
    sinks: dict[str, Callable[[list[Shard]], None]],
) -> Dataflow:
    """The flow over any source of batches; `sinks` by step name are handed the shards' outputs."""
    flow = Dataflow(FLOW)

    def verified(batches: list[Batch]) -> list[tuple[str, Decoded]]:
        return [(key, Decoded(int(key), verifier.messages(raws))) for key, raws in batches]

    batches = op.input("readings", flow, source)
    messages = op.flat_map_batch("decode_and_verify", batches, verified)
    shards = op.stateful_batch("window", messages, lambda resume: ShardLogic(resume, partitions, registry))
    for name, write in sinks.items():
        op.output(name, shards, CallSink(write))
    return flow


def write_postgres(engine: Engine, shards: Sequence[Shard]) -> None:
    """All tables of the telemetry flow in one transaction: an epoch counts as closed only with its rows."""
    outputs = [shard.outputs for shard in shards]

    def work(connection: Connection) -> None:
        save_net_energy(connection, pl.concat([each.net_energy() for each in outputs]))
        save_corrections(connection, pl.concat([each.corrections() for each in outputs]))
        save_letters(connection, _letters(outputs))
        save_latest(connection, [newest for each in outputs for newest in each.newest()])
        for each in outputs:
            if (progress := each.progress) is not None:
                place = progress.partition, progress.partitions
                marks = progress.watermark_us, progress.closed_epoch
                save_flow_progress(connection, FLOW, place, marks, progress.offset)
                save_counts(connection, FLOW, progress.partition, each.totals)

    in_transaction(engine, work)


def _letters(outputs: Sequence[Outputs]) -> list[Letter]:
    return [
        Letter(METER_READINGS.name, each.partition, each.raw, each.reason.value, each.reason.word, each.detail)
        for output in outputs
        for each in output.dead_letters
    ]


def write_kafka(sender: Sender, partitions: int, shards: Sequence[Shard]) -> None:
    """Net energy rows, corrections (header `kind`), and refused readings whole with headers that say why."""
    for shard in shards:
        for row, document in rows_as_json(shard.outputs.net_energy()):
            zone_id = row["zone_id"]
            sender.send(
                NET_ENERGY.name,
                document,
                key=str(zone_id).encode(),
                partition=partition_for_zone(zone_id, partitions),
            )
        for row, document in rows_as_json(shard.outputs.corrections()):
            sender.send(
                NET_ENERGY.name,
                document,
                key=row["meter_id"].encode(),
                headers=[("kind", b"correction")],
                partition=shard.outputs.partition % partitions,  # where its meter's net energy goes
            )
        for letter in _letters([shard.outputs]):
            send_letter(sender, METER_READINGS_REJECTED.name, letter)
    sender.flush()


def write_archive(archive: Archive, shards: Sequence[Shard]) -> None:
    """Signed bytes, epoch by epoch."""
    for shard in shards:
        outputs = shard.outputs
        archive.add(outputs.partition, shard.messages, outputs.closed, outputs.dead_letters)


def write_influx(writer: InfluxWriter, shards: Sequence[Shard]) -> None:
    """Accepted readings, without waiting."""
    for shard in shards:
        writer.write(shard.outputs)

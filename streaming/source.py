"""The source of both flows: one partition of a Kafka topic, in batches, resumed by offset.

Belongs here: Bytewax's source protocol over `PartitionReader`. Does not belong here: decoding. One item is
(partition key, batch of records): Bytewax costs per item, so a batch is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from gridtokenx_pipelines.messaging.connection import Brokers
from gridtokenx_pipelines.messaging.kafka import BEGINNING, PartitionReader
from gridtokenx_pipelines.metering.readings import Raw

Batch = tuple[str, list[Raw]]
MOST_RECORDS = 2_000
IDLE = timedelta(milliseconds=10)
Handed = Callable[[int, int, int], None]  # partition, next offset, records of the batch


def key_of_partition(partition: int) -> str:
    """Bytewax keys are strings; partitions keep their order as such."""
    return f"{partition:04d}"


def _unseen(_partition: int, _next_offset: int, _records: int) -> None:
    """Nobody watches."""


class _Partition(StatefulSourcePartition[Batch, int]):
    def __init__(self, reader: PartitionReader, key: str, stop: threading.Event, handed: Handed) -> None:
        self._reader, self._key, self._stop, self._handed = reader, key, stop, handed
        self._idle = False

    def next_batch(self) -> list[Batch]:
        if self._stop.is_set():
            raise StopIteration
        records = self._reader.poll(MOST_RECORDS)
        self._idle = not records
        self._handed(int(self._key), self._reader.next_offset, len(records))
        return [(self._key, records)] if records else []

    def next_awake(self) -> datetime | None:
        # without this Bytewax asks an empty partition every millisecond
        return datetime.now(UTC) + IDLE if self._idle else None

    def snapshot(self) -> int:
        return self._reader.next_offset

    def close(self) -> None:
        self._reader.close()


class KafkaBatches(FixedPartitionedSource[Batch, int]):
    """All partitions of a topic, each from its recovered offset or from its beginning; ends when `stop` is set."""

    def __init__(
        self, brokers: Brokers, topic: str, partitions: int, stop: threading.Event, handed: Handed = _unseen
    ) -> None:
        self._brokers, self._topic, self._partitions, self._stop = brokers, topic, partitions, stop
        self._handed = handed

    def list_parts(self) -> list[str]:
        """Keys of the partitions."""
        return [key_of_partition(partition) for partition in range(self._partitions)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Partition:
        """Open a partition."""
        offset = BEGINNING if resume_state is None else resume_state
        reader = PartitionReader(self._brokers, self._topic, int(for_part), offset)
        return _Partition(reader, for_part, self._stop, self._handed)

"""The registry topic as a `RegistryView` that can be brought up to date at any moment.

Belongs here: reading `meter-registry` up to its present end. Does not belong here: what the records mean. A registry
message that can't be used is logged and kept in `refused`: an operator's slip must not stop all metering.
"""

from __future__ import annotations

import logging
import threading

from gridtokenx_pipelines.messaging.connection import Brokers
from gridtokenx_pipelines.messaging.kafka import PartitionReader, TopicEnds, partitions_of
from gridtokenx_pipelines.messaging.topics import METER_REGISTRY
from gridtokenx_pipelines.metering.registry import RegistryError, RegistryView, decode_record

LOG = logging.getLogger(__name__)
PATIENCE_SECONDS = 30.0


class RegistryTopic:
    """All of the topic's records; `view` is what the pure functions are given."""

    def __init__(self, brokers: Brokers, topic: str = METER_REGISTRY.name) -> None:
        self.view = RegistryView()
        self.refused: list[str] = []
        self._topic, self._lock = topic, threading.Lock()
        partitions = partitions_of(brokers, topic)
        self._ends = TopicEnds(brokers, topic, partitions)
        self._readers = [PartitionReader(brokers, topic, partition) for partition in range(partitions)]

    def refresh(self) -> None:
        """Read up to where the topic ends now. Raises BrokerError if the broker doesn't answer."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        for partition, end in enumerate(self._ends.now(PATIENCE_SECONDS)):
            reader = self._readers[partition]
            if end > max(reader.next_offset, 0):
                for record in reader.read_to(end, PATIENCE_SECONDS):
                    self._add(partition, record.offset, record.value)

    def _add(self, partition: int, offset: int, value: bytes) -> None:
        try:
            self.view.add(decode_record(value))
        except RegistryError as error:
            self.refused.append(f"{self._topic}/{partition}/{offset}: {error}")
            LOG.error("registry message refused: %s", self.refused[-1])

    def close(self) -> None:
        """Leave the broker."""
        for reader in self._readers:
            reader.close()

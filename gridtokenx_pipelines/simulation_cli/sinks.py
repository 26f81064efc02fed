"""Where a fleet's events go: Kafka, a file, or nowhere.

Belongs here: sending. Does not belong here: what is sent. A sink is told of a step's events at once and flushes them,
so that a step is either acknowledged or the run fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from gridtokenx_pipelines.config import kafka_from_env, traces_from_env
from gridtokenx_pipelines.messaging.connection import Brokers, Cluster
from gridtokenx_pipelines.messaging.kafka import BrokerError, Sender, partitions_of, wait_for_broker
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.simulation.messages import READINGS_TOPIC, Event
from gridtokenx_pipelines.simulation_cli.traced import traced_headers

KAFKA, NOWHERE = "kafka", "none"


class SinkError(RuntimeError):
    """Events can't be delivered: names the place and the remedy."""


class Sink(Protocol):
    """Takes events in order."""

    partitions: int | None

    def take(self, events: Iterable[Event]) -> None:
        """Deliver; raises SinkError."""

    def close(self) -> None:
        """No more will come."""


class Nowhere:
    """Counts nothing, keeps nothing: for runs whose books are the result."""

    partitions: int | None = None

    def take(self, events: Iterable[Event]) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing to close."""


class ToFile:
    """One JSON object a line: topic, partition, key, timestamp_ms, headers (hex but `kind`), value as text."""

    partitions: int | None = None

    def __init__(self, path: Path, *, append: bool) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(path, "a" if append else "w", encoding="utf-8")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise SinkError(f"{path} could not be written ({error.strerror}); give another path") from error

    def take(self, events: Iterable[Event]) -> None:
        """Write them."""
        for event in events:
            line = {
                "topic": event.topic,
                "partition": event.partition,
                "key": None if event.key is None else event.key.decode(),
                "timestamp_ms": event.timestamp_ms,
                "headers": {name: value.decode() if name == "kind" else value.hex() for name, value in event.headers},
                "value": event.value.decode(),
            }
            self._handle.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class ToKafka:
    """An idempotent producer; every step is acknowledged before the next."""

    def __init__(self, brokers: Brokers) -> None:
        target, per_million = traces_from_env()
        tracing.configure(target, "meters", per_million)
        try:
            wait_for_broker(brokers)
            self.partitions: int | None = partitions_of(brokers, READINGS_TOPIC)
            self._sender = Sender(brokers)
        except BrokerError as error:
            raise SinkError(str(error)) from error

    def take(self, events: Iterable[Event]) -> None:
        """Send and wait for the acknowledgements."""
        try:
            for event in events:
                self._sender.send(
                    event.topic,
                    event.value,
                    key=event.key,
                    headers=traced_headers(event),
                    partition=event.partition,
                    timestamp_ms=event.timestamp_ms,
                )
            self._sender.flush()
        except BrokerError as error:
            raise SinkError(str(error)) from error

    def close(self) -> None:
        """All was flushed already."""


def sink_of(target: str, *, append: bool = False) -> Sink:
    """`kafka` (KAFKA_BOOTSTRAP_SERVERS), `none`, or a path for a file. Raises SinkError, ConfigError."""
    if target == KAFKA:
        return ToKafka(Cluster(*kafka_from_env()))
    return Nowhere() if target == NOWHERE else ToFile(Path(target), append=append)

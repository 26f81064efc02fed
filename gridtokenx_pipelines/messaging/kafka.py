"""Clients of the Kafka protocol: settings, waiting for the broker, reading a partition in batches, sending.

Belongs here: confluent-kafka and its traps. Does not belong here: what the records mean. Offsets live in the flow's
recovery store, so readers assign partitions themselves and never commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from gridtokenx_pipelines.messaging.connection import Brokers, connection_settings
from gridtokenx_pipelines.messaging.topics import MAX_MESSAGE_BYTES
from gridtokenx_pipelines.metering.readings import Raw, headers_of

LOG = logging.getLogger(__name__)
QUIET = {"log_level": 0}  # librdkafka would print to stderr; its errors come to us by error_cb
BEGINNING = OFFSET_BEGINNING
REPORT_EVERY_SECONDS = 30.0
# a partition's leader is being elected, or has just been: the client learns of the new one in a moment
LEADER_MOVES = (
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._TRANSPORT,
)
REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL)


class BrokerError(RuntimeError):
    """The broker can't be reached, lacks a topic, or refused a record: names what, and the remedy."""


class OffsetAgedOutError(BrokerError):
    """The next record to read is no longer kept: going on would skip data."""


_reported: dict[int, float] = {}


def _report(error: KafkaError) -> None:
    # librdkafka reports each attempt of each client; once a while tells an operator as much
    now = time.monotonic()
    if now - _reported.get(error.code(), -REPORT_EVERY_SECONDS) >= REPORT_EVERY_SECONDS:
        _reported[error.code()] = now
        LOG.warning("broker: %s", error.str())


def producer_settings(brokers: Brokers) -> dict[str, object]:
    """Idempotent, acknowledged by all in-sync replicas, compressed; short linger for latency."""
    return {
        **connection_settings(brokers),
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "zstd",
        "linger.ms": 5,
        "message.max.bytes": 2 * MAX_MESSAGE_BYTES,
        "error_cb": _report,
        **QUIET,
    }


def consumer_settings(brokers: Brokers) -> dict[str, object]:
    """No group, no commits, and an error instead of a jump when an offset has aged out."""
    return {
        **connection_settings(brokers),
        "group.id": "gridtokenx-flows",  # confluent-kafka asks for one even where none is used
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        # the mock broker holds an empty fetch this long whatever arrives meanwhile, so it bounds latency
        "fetch.wait.max.ms": 20,
        "fetch.message.max.bytes": 4 * MAX_MESSAGE_BYTES,
        # what a partition may hold ahead of the flow: 64 MiB of each would be memory spent on a backlog
        "queued.max.messages.kbytes": 8 * 1_024,
        "error_cb": _report,
        **QUIET,
    }


def wait_for_broker(
    brokers: Brokers, timeout_seconds: float = 30, told_to_end: Callable[[], bool] = lambda: False
) -> bool:
    """True once the broker answers, False if told to end before; raises BrokerError naming it after the time is up."""
    refused: list[str] = []

    def note(error: KafkaError) -> None:
        # a wrong password or certificate shows here only; the request itself just times out
        if error.code() in REFUSED:
            refused.append(error.str())

    client = Producer({**connection_settings(brokers), "error_cb": note, **QUIET})
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            # in short turns: an answer that will never come is told as soon as the broker has said why
            client.list_topics(timeout=max(min(1.0, deadline - time.monotonic()), 0.1))
            return True
        except KafkaException as error:
            client.poll(0)
            if told_to_end():
                return False
            if refused:
                raise BrokerError(
                    f"the Kafka broker at {brokers} refused this client ({refused[0]}); correct KAFKA_SASL_USERNAME, "
                    "KAFKA_SASL_PASSWORD, KAFKA_SECURITY_PROTOCOL or KAFKA_SSL_CA_LOCATION"
                ) from error
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"no Kafka broker answered at {brokers} within {timeout_seconds:g} s ({error.args[0].str()}); "
                    "start it or correct KAFKA_BOOTSTRAP_SERVERS"
                ) from error


def partitions_of(brokers: Brokers, topic: str, timeout_seconds: float = 30) -> int:
    """How many partitions a topic has; asking makes it where the broker does so. Raises BrokerError."""
    client = Producer({**connection_settings(brokers), **QUIET})
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            known = client.list_topics(topic, timeout=max(deadline - time.monotonic(), 0.1)).topics[topic]
        except KafkaException as error:
            raise BrokerError(f"topic {topic} at {brokers}: {error.args[0].str()}") from error
        if known.error is None and known.partitions:
            return len(known.partitions)
        if time.monotonic() > deadline:
            raise BrokerError(f"topic {topic} is not on {brokers}; create the topics first")
        time.sleep(0.05)


class PartitionReader:
    """Reads one partition in batches from an offset on, without blocking unless asked to."""

    def __init__(self, brokers: Brokers, topic: str, partition: int, offset: int = BEGINNING) -> None:
        self._topic, self._partition = topic, partition
        self._consumer = Consumer(consumer_settings(brokers))
        self.next_offset = offset
        self._consumer.assign([TopicPartition(topic, partition, offset)])

    def poll(self, most: int, timeout_seconds: float = 0.0) -> list[Raw]:
        """The next records, at most `most`, maybe none. Raises OffsetAgedOutError or BrokerError."""
        records = []
        for message in self._consumer.consume(most, timeout_seconds):
            error = message.error()
            if error is not None:
                self._raise(error)
            else:
                records.append(raw_of(message))
        if records:
            self.next_offset = records[-1].offset + 1
        return records

    def _raise(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise OffsetAgedOutError(
                f"offset {self.next_offset} of {self._topic}/{self._partition} is no longer kept ({error.str()}); "
                "restore the topic, or rebuild the flow from the archive with an empty recovery folder"
            )
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # the library looks for its group's coordinator; we assign and never commit, so no right is needed
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise BrokerError(
                f"this client may not read {self._topic} ({error.str()}); see `gridtokenx kafka apply` and "
                "KAFKA_SASL_USERNAME"
            )
        if error.fatal():
            raise BrokerError(f"{self._topic}/{self._partition}: {error.str()}")
        LOG.warning("%s/%s: %s", self._topic, self._partition, error.str())

    def read_to(self, end: int, timeout_seconds: float = 30) -> list[Raw]:
        """All records from here up to and without offset `end`. Raises BrokerError if they don't come in time."""
        deadline = time.monotonic() + timeout_seconds
        records: list[Raw] = []
        while self.next_offset < end:
            # asked for no more than there are: `consume` waits for all it was asked for
            records += self.poll(min(5_000, end - max(self.next_offset, 0)), 0.2)
            if self.next_offset < end and time.monotonic() > deadline:
                raise BrokerError(
                    f"{self._topic}/{self._partition} gave {len(records)} records, not all up to offset {end} within "
                    f"{timeout_seconds:g} s; check the broker"
                )
        return records

    def bounds(self, timeout_seconds: float) -> tuple[int, int]:
        """Oldest kept offset and the one after the newest, as the broker says now. Raises BrokerError."""
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, self._partition), timeout=timeout_seconds
            )
        except KafkaException as error:
            raise BrokerError(f"{self._topic}/{self._partition}: {error.args[0].str()}; check the broker") from error
        return low, high

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


class TopicEnds:
    """Asks where a topic ends now; by a client of its own, as a consumer's answers wait behind its long polls."""

    def __init__(self, brokers: Brokers, topic: str, partitions: int) -> None:
        self._admin = AdminClient({**connection_settings(brokers), "error_cb": _report, **QUIET})
        self._asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(partitions)}
        self._topic = topic

    def now(self, timeout_seconds: float = 30) -> list[int]:
        """The offset after the newest record, by partition; asks again while leaders move. Raises BrokerError."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = self._admin.list_offsets(self._asked, request_timeout=max(deadline - time.monotonic(), 1.0))
            try:
                ends = {place.partition: result.result().offset for place, result in found.items()}
            except KafkaException as error:
                if error.args[0].code() not in LEADER_MOVES or time.monotonic() > deadline:
                    raise BrokerError(f"end of {self._topic}: {error.args[0].str()}; check the broker") from error
                time.sleep(0.2)
            else:
                return [ends[partition] for partition in sorted(ends)]


def raw_of(message: Message) -> Raw:
    """A broker's message as the domain reads it; its time is the message's own, in µs."""
    return Raw(
        message.offset(),
        message.timestamp()[1] * 1_000,
        message.value() or b"",
        headers_of(message.headers()),
        message.key(),
    )


def read_range(
    brokers: Brokers, place: tuple[str, int], first: int, last: int, timeout_seconds: float = 30
) -> list[Raw]:
    """All kept records of offsets first…last, both included, of place (topic, partition). Raises BrokerError."""
    reader = PartitionReader(brokers, *place, first)
    try:
        return [record for record in reader.read_to(last + 1, timeout_seconds) if record.offset <= last]
    finally:
        reader.close()


class Sender:
    """An idempotent producer that counts what was refused; `flush` raises rather than lose a record."""

    def __init__(self, brokers: Brokers) -> None:
        self._producer = Producer(producer_settings(brokers))
        self._failed: list[str] = []

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Queue a record; blocks while the queue is full."""
        place = {
            name: given for name, given in (("partition", partition), ("timestamp", timestamp_ms)) if given is not None
        }
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers), on_delivery=self._delivered, **place)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}: {error.str()}")

    def flush(self, timeout_seconds: float = 30) -> None:
        """Wait until all queued records are acknowledged; raises BrokerError if any was not."""
        left = self._producer.flush(timeout_seconds)
        failed, self._failed = self._failed, []
        if left or failed:
            raise BrokerError(
                f"{left} records unacknowledged after {timeout_seconds:g} s, {len(failed)} refused "
                f"({failed[0] if failed else 'broker slow or away'}); check the broker"
            )

"""The topics as data (domain §3, names.md), and which partition a zone lies in.

Belongs here: names, partitions, retention, and making them on a real broker. Does not belong here: reading or sending.
"""

from __future__ import annotations

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from gridtokenx_pipelines.metering.registry import partition_of_zone

DAY_MS = 86_400_000
RETENTION_MS = 15 * DAY_MS  # outlasts the resettlement horizon of 14 days by one
FOR_EVER = -1
MAX_MESSAGE_BYTES = 1_048_576


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic; `retention_ms` −1 keeps it whole; `broker_time`: records carry the broker's time, not the sender's."""

    name: str
    partitions: int = 8
    retention_ms: int = RETENTION_MS
    max_message_bytes: int = MAX_MESSAGE_BYTES
    broker_time: bool = False

    def config(self, min_insync_replicas: int) -> dict[str, str]:
        """The broker's settings of the topic."""
        return {
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            "min.insync.replicas": str(min_insync_replicas),
            "compression.type": "producer",
            # event time travels in the messages, and the log's own retention goes by it too
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
        }


METER_READINGS = Topic(name="meter-readings")
# a refused record is kept whole and gets headers that say why, so it needs more room than it had
METER_READINGS_REJECTED = Topic(name="meter-readings.rejected", max_message_bytes=2 * MAX_MESSAGE_BYTES)
METER_REGISTRY = Topic(name="meter-registry", partitions=1, retention_ms=FOR_EVER)
NET_ENERGY = Topic(name="net-energy")
# priority goes by this time (domain §4), so nobody may choose his own
ORDERS = Topic(name="orders", broker_time=True)
ORDERS_REJECTED = Topic(name="orders.rejected", max_message_bytes=2 * MAX_MESSAGE_BYTES)
TRADES = Topic(name="trades", retention_ms=FOR_EVER)
MARKET_EVENTS = Topic(name="market-events")
TOPICS = (
    METER_READINGS,
    METER_READINGS_REJECTED,
    METER_REGISTRY,
    NET_ENERGY,
    ORDERS,
    ORDERS_REJECTED,
    TRADES,
    MARKET_EVENTS,
)


def partition_for_zone(zone_id: int, partitions: int) -> int:
    """Partition of a zone's records: (zone_id − 1) mod partitions."""
    return partition_of_zone(zone_id, partitions)


def create_topics(
    brokers: str, replication: int = 3, min_insync_replicas: int = 2, timeout_seconds: float = 30
) -> None:
    """Make the topics that aren't there yet on a real broker (the mock makes them by itself, with 4 partitions)."""
    admin = AdminClient({"bootstrap.servers": brokers})
    known = admin.list_topics(timeout=timeout_seconds).topics
    wanted = [
        NewTopic(topic.name, topic.partitions, replication, config=topic.config(min(min_insync_replicas, replication)))
        for topic in TOPICS
        if topic.name not in known
    ]
    if not wanted:
        return
    for name, done in admin.create_topics(wanted, operation_timeout=timeout_seconds).items():
        try:
            done.result()
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise RuntimeError(f"topic {name} could not be made: {error.args[0].str()}") from error

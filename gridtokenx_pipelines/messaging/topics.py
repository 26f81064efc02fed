"""The topics and rights as data (domain §3, names.md), read from `cluster.toml`, and which partition a zone lies in.

Belongs here: names, partitions, retention, who may do what. Does not belong here: making them so on a broker
(apply.py), reading or sending (kafka.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from gridtokenx_pipelines.metering.registry import partition_of_zone

DAY_MS = 86_400_000
FOR_EVER = -1
MAX_MESSAGE_BYTES = 1_048_576
CLUSTER_FILE = Path(__file__).with_name("cluster.toml")
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class ClusterFileError(ValueError):
    """The declaration of topics can't be used: names the file, what is wrong, and the bound."""


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic; 0 days keep it whole; `broker_time`: records carry the broker's time, not the sender's."""

    name: Name
    partitions: Annotated[int, Meta(ge=1, le=1_000)]
    keyed_by: str
    retention_days: Annotated[int, Meta(ge=0, le=36_500)]
    max_message_bytes: Annotated[int, Meta(ge=1_024, le=16_777_216)]
    broker_time: bool = False

    @property
    def retention_ms(self) -> int:
        """As Kafka has it; −1 for ever."""
        return self.retention_days * DAY_MS if self.retention_days else FOR_EVER

    def config(self, min_insync_replicas: int, compression: str = "producer") -> dict[str, str]:
        """The broker's settings of the topic."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(self.max_message_bytes),
            "min.insync.replicas": str(min_insync_replicas),
            "compression.type": compression,
            # a replica that was away must never become the leader and drop what was acknowledged
            "unclean.leader.election.enable": "false",
            # event time travels in the messages, and the log's own retention goes by it too
            "message.timestamp.type": "LogAppendTime" if self.broker_time else "CreateTime",
        }


class Principal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who connects, and all that it may do."""

    name: Name
    read: tuple[Name, ...] = ()
    write: tuple[Name, ...] = ()


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: what a cluster must have."""

    replication: Annotated[int, Meta(ge=1, le=15)]
    min_insync_replicas: Annotated[int, Meta(ge=1, le=15)]
    compression: str
    topic: tuple[Topic, ...]
    principal: tuple[Principal, ...] = ()


def read_declaration(path: Path = CLUSTER_FILE) -> Declaration:
    """The declaration of a file. Raises ClusterFileError for one that can't be read or contradicts itself."""
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=Declaration)
    except OSError as error:
        raise ClusterFileError(
            f"{path} must be a readable file ({error.strerror}); name another with --file"
        ) from error
    except msgspec.DecodeError as error:
        raise ClusterFileError(f"{path}: {error}; correct it") from error
    except UnicodeDecodeError as error:
        raise ClusterFileError(f"{path} must be UTF-8 ({error.reason} at byte {error.start}); correct it") from error
    names = [topic.name for topic in found.topic]
    users = [principal.name for principal in found.principal]
    for kind, those in (("topic", names), ("principal", users)):
        twice = sorted({name for name in those if those.count(name) > 1})
        if twice:
            raise ClusterFileError(f"{path}: {kind} {twice[0]} is declared twice, must be once; remove one")
    if found.min_insync_replicas > found.replication:
        raise ClusterFileError(
            f"{path}: min_insync_replicas was {found.min_insync_replicas}, must be at most the replication, "
            f"{found.replication}; no write would ever be acknowledged"
        )
    for principal in found.principal:
        unknown = sorted({*principal.read, *principal.write} - set(names))
        if unknown:
            raise ClusterFileError(f"{path}: {principal.name} names topic {unknown[0]}, which is not declared; add it")
    return found


CLUSTER = read_declaration()
TOPICS = CLUSTER.topic
_BY_NAME = {topic.name: topic for topic in TOPICS}
METER_READINGS = _BY_NAME["meter-readings"]
METER_READINGS_REJECTED = _BY_NAME["meter-readings.rejected"]
METER_REGISTRY = _BY_NAME["meter-registry"]
NET_ENERGY = _BY_NAME["net-energy"]
ORDERS = _BY_NAME["orders"]
ORDERS_REJECTED = _BY_NAME["orders.rejected"]
TRADES = _BY_NAME["trades"]
MARKET_EVENTS = _BY_NAME["market-events"]


def partition_for_zone(zone_id: int, partitions: int) -> int:
    """Partition of a zone's records: (zone_id − 1) mod partitions."""
    return partition_of_zone(zone_id, partitions)

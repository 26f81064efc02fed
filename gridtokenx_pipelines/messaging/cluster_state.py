"""What a cluster has of topics and rights, and the difference from what is declared. Reading only.

Belongs here: asking a real broker, comparing. Does not belong here: changing anything (apply.py), words on the screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from gridtokenx_pipelines.messaging.kafka import BrokerError
from gridtokenx_pipelines.messaging.topics import Declaration, Topic


class TopicState(NamedTuple):
    """A topic as it is: partitions, the fewest replicas of one, the fewest in sync, its settings."""

    partitions: int
    replication: int
    in_sync: int
    config: Mapping[str, str]


class Right(NamedTuple):
    """One access rule; `pattern` PREFIXED: of all topics whose name begins so."""

    principal: str
    operation: str
    topic: str
    host: str = "*"
    permission: str = "ALLOW"
    pattern: str = "LITERAL"

    def binding(self) -> AclBinding:
        """As the broker takes it."""
        return AclBinding(
            ResourceType.TOPIC,
            self.topic,
            ResourcePatternType[self.pattern],
            f"User:{self.principal}",
            self.host,
            AclOperation[self.operation],
            AclPermissionType[self.permission],
        )


class ClusterState(NamedTuple):
    """What the cluster has; `rights` is None where no authorizer guards it."""

    brokers: int
    topics: Mapping[str, TopicState]
    rights: frozenset[Right] | None


class Change(NamedTuple):
    """One difference: `kind` create, config, partitions, replication, grant or revoke."""

    kind: str
    subject: str
    was: str
    must: str

    @property
    def can_be_made(self) -> bool:
        """Whether `apply` makes it; what it can't make, an operator must."""
        return self.kind not in ("partitions", "replication")


def declared_rights(declaration: Declaration) -> frozenset[Right]:
    """Each principal's rights, as rules."""
    return frozenset(
        Right(principal.name, operation, topic)
        for principal in declaration.principal
        for operation, topics in (("READ", principal.read), ("WRITE", principal.write))
        for topic in topics
    )


def read_state(admin: AdminClient, declaration: Declaration, timeout_seconds: float = 30) -> ClusterState:
    """Ask the cluster. Raises BrokerError if it doesn't answer or refuses."""
    try:
        known = admin.list_topics(timeout=timeout_seconds)
        there = [topic for topic in declaration.topic if topic.name in known.topics]
        resources = {ConfigResource(ConfigResource.Type.TOPIC, topic.name): topic for topic in there}
        found = admin.describe_configs(list(resources), request_timeout=timeout_seconds) if resources else {}
        topics = {}
        for resource, future in found.items():
            try:
                settings = future.result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue  # just deleted, or just made: the next broker asked did not know it (yet)
                raise
            partitions = known.topics[resource.name].partitions.values()
            topics[resource.name] = TopicState(
                partitions=len(partitions),
                replication=min(len(each.replicas) for each in partitions),
                in_sync=min(len(each.isrs) for each in partitions),
                config={name: str(entry.value) for name, entry in settings.items()},
            )
        guarded = _is_guarded(admin, min(known.brokers), timeout_seconds)
        rights = _rights(admin, declaration, timeout_seconds) if guarded else None
        return ClusterState(len(known.brokers), topics, rights)
    except KafkaException as error:
        raise BrokerError(f"the cluster did not say what it has: {error.args[0].str()}; check the broker") from error


def _is_guarded(admin: AdminClient, broker_id: int, timeout_seconds: float) -> bool:
    # asked for its rules, a broker without an authorizer says "none" as one does that lets nobody in
    resource = ConfigResource(ConfigResource.Type.BROKER, str(broker_id))
    settings = admin.describe_configs([resource], request_timeout=timeout_seconds)[resource].result()
    return "authorizer.class.name" not in settings or bool(settings["authorizer.class.name"].value)


def _rights(admin: AdminClient, declaration: Declaration, timeout_seconds: float) -> frozenset[Right]:
    """Rules that touch the declared topics, whoever has them, and all topic rules of the declared principals."""
    everything = AclBindingFilter(
        ResourceType.TOPIC, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    bindings = admin.describe_acls(everything, request_timeout=timeout_seconds).result()
    names, users = {topic.name for topic in declaration.topic}, {each.name for each in declaration.principal}
    rights = (
        Right(
            principal=each.principal.removeprefix("User:"),
            operation=each.operation.name,
            topic=each.name,
            host=each.host,
            permission=each.permission_type.name,
            pattern=each.resource_pattern_type.name,
        )
        for each in bindings
    )
    return frozenset(right for right in rights if right.principal in users or _touches(right, names))


def _touches(right: Right, names: set[str]) -> bool:
    if right.pattern == "PREFIXED":
        return any(name.startswith(right.topic) for name in names)
    return right.topic == "*" or right.topic in names


def differences(declaration: Declaration, state: ClusterState) -> list[Change]:
    """All that differs, in the order of the declaration; rights without an authorizer can't differ."""
    changes = [change for topic in declaration.topic for change in _topic(declaration, topic, state)]
    if state.rights is not None:
        must = declared_rights(declaration)
        for kind, rights in (("grant", must - state.rights), ("revoke", state.rights - must)):
            changes += [_right(kind, right) for right in sorted(rights)]
    return changes


def _right(kind: str, right: Right) -> Change:
    words = f"{right.permission.lower()} {right.operation.lower()}"
    words += " (prefix)" * (right.pattern == "PREFIXED") + f" from {right.host}" * (right.host != "*")
    return Change(
        kind, f"{right.principal} {right.topic}", "" if kind == "grant" else words, words if kind == "grant" else ""
    )


def _topic(declaration: Declaration, topic: Topic, state: ClusterState) -> Iterator[Change]:
    there = state.topics.get(topic.name)
    wanted = topic.config(declaration.min_insync_replicas, declaration.compression)
    if there is None:
        words = [f"{topic.partitions} partitions", f"replication {declaration.replication}"]
        words += [f"{name}={value}" for name, value in wanted.items()]
        yield Change("create", topic.name, "", ", ".join(words))
        return
    if there.partitions != topic.partitions:
        yield Change("partitions", topic.name, str(there.partitions), str(topic.partitions))
    if there.replication != declaration.replication:
        yield Change("replication", topic.name, str(there.replication), str(declaration.replication))
    for name, value in wanted.items():
        if there.config.get(name) != value:
            yield Change("config", f"{topic.name} {name}", there.config.get(name, "unset"), value)

"""Makes a cluster what the declaration says, and proves that it is so; SCRAM users beside it.

Belongs here: changes through the admin client. Does not belong here: what must be (cluster.toml), what differs
(cluster_state.py). Nothing is ever deleted but rights: partitions and replicas are an operator's to move.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBindingFilter,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from gridtokenx_pipelines.messaging.cluster_state import (
    Change,
    ClusterState,
    declared_rights,
    differences,
    read_state,
)
from gridtokenx_pipelines.messaging.connection import Brokers, connection_settings
from gridtokenx_pipelines.messaging.kafka import QUIET, BrokerError, wait_for_broker
from gridtokenx_pipelines.messaging.topics import Declaration

VERIFY_SECONDS = 30.0
ANSWERS = 5
SCRAM_ITERATIONS = 8_192


class CannotApply(RuntimeError):
    """The cluster can't be made what is declared: names what, and the remedy."""


def admin_client(brokers: Brokers, timeout_seconds: float = 30) -> AdminClient:
    """An admin client of a broker that answers. Raises BrokerError."""
    wait_for_broker(brokers, timeout_seconds)
    return AdminClient({**connection_settings(brokers), **QUIET})


def obstacles(declaration: Declaration, state: ClusterState, changes: Sequence[Change]) -> list[str]:
    """Why the cluster can't be made so; nothing is changed where there is one."""
    found = []
    if state.brokers < declaration.replication:
        found.append(
            f"the cluster has {state.brokers} brokers, replication {declaration.replication} needs as many; "
            "start more, or give --replication for a cluster of one's own machine"
        )
    for change in changes:
        if change.kind == "partitions":
            found.append(
                f"{change.subject} has {change.was} partitions, must have {change.must}: zones would move, so it isn't "
                "done here; replay into a topic made anew (docs/runbooks/kafka.md)"
            )
        if change.kind == "replication":
            found.append(
                f"{change.subject} has replication {change.was}, must have {change.must}; reassign its partitions "
                "(docs/runbooks/kafka.md)"
            )
    return found


def apply(admin: AdminClient, declaration: Declaration, state: ClusterState, changes: Sequence[Change]) -> None:
    """Make the changes and wait until the cluster shows them all, in sync. Raises CannotApply or BrokerError."""
    stopped = obstacles(declaration, state, changes)
    if stopped:
        raise CannotApply("; ".join(stopped))
    _create(admin, declaration, {change.subject for change in changes if change.kind == "create"})
    _configure(admin, [change for change in changes if change.kind == "config"])
    if state.rights is not None:
        must = declared_rights(declaration)
        grants = [right.binding() for right in sorted(must - state.rights)]
        revokes = [right.binding() for right in sorted(state.rights - must)]
        if grants:
            _wait(admin.create_acls(grants).values(), "rights granted")
        if revokes:
            _wait(admin.delete_acls([_filter(each) for each in revokes]).values(), "rights revoked")
    _verify(admin, declaration, with_rights=state.rights is not None)


def _filter(binding: Any) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.TOPIC,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def _create(admin: AdminClient, declaration: Declaration, names: set[str]) -> None:
    wanted = [
        NewTopic(
            topic.name,
            topic.partitions,
            declaration.replication,
            config=topic.config(declaration.min_insync_replicas, declaration.compression),
        )
        for topic in declaration.topic
        if topic.name in names
    ]
    if wanted:
        _wait(admin.create_topics(wanted, operation_timeout=VERIFY_SECONDS).values(), "topics created")


def _configure(admin: AdminClient, changes: Iterable[Change]) -> None:
    entries: dict[str, list[ConfigEntry]] = {}
    for change in changes:
        topic, name = change.subject.split(" ")
        entry = ConfigEntry(name, change.must, incremental_operation=AlterConfigOpType.SET)
        entries.setdefault(topic, []).append(entry)
    if entries:
        resources = [
            ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=given)
            for topic, given in entries.items()
        ]
        _wait(admin.incremental_alter_configs(resources).values(), "settings changed")


def _wait(futures: Iterable[Any], what: str) -> None:
    for future in futures:
        try:
            future.result(VERIFY_SECONDS)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # made by another one meanwhile: verified below
                raise BrokerError(f"not all {what}: {error.args[0].str()}; run it again") from error


def _verify(admin: AdminClient, declaration: Declaration, with_rights: bool) -> None:
    """The cluster shows a change a moment after it has acknowledged it; replicas come into sync later still."""
    deadline, clean = time.monotonic() + VERIFY_SECONDS, 0
    # any broker answers, and one may lag behind another: each is likely asked by then
    while clean < ANSWERS:
        state = read_state(admin, declaration)
        if not with_rights:
            state = state._replace(rights=None)
        left = differences(declaration, state)
        behind = [name for name, topic in state.topics.items() if topic.in_sync < declaration.min_insync_replicas]
        if not left and not behind:
            clean += 1
            time.sleep(0.05)
            continue
        clean = 0
        if time.monotonic() > deadline:
            words = [f"{change.kind} {change.subject}" for change in left]
            words += [f"{name} has fewer than {declaration.min_insync_replicas} replicas in sync" for name in behind]
            raise CannotApply(
                f"the cluster still differs after {VERIFY_SECONDS:.0f} s: {'; '.join(words)}; see the brokers' logs"
            )
        time.sleep(0.2)


def set_scram_user(admin: AdminClient, name: str, password: bytes) -> None:
    """Give a principal its SCRAM-SHA-512 password, or another one. Raises BrokerError."""
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
    _wait(
        admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, credential, password)]).values(),
        "users set",
    )

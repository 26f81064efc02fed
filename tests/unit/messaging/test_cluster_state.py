"""What differs between a cluster and its declaration, and what of it only an operator can change."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridtokenx_pipelines.messaging.apply import obstacles
from gridtokenx_pipelines.messaging.cluster_state import (
    Change,
    ClusterState,
    Right,
    TopicState,
    declared_rights,
    differences,
)
from gridtokenx_pipelines.messaging.topics import CLUSTER, ClusterFileError, Declaration, read_declaration

DECLARED = Declaration(
    replication=3,
    min_insync_replicas=2,
    compression="zstd",
    topic=tuple(topic for topic in CLUSTER.topic if topic.name == "orders"),
    principal=tuple(each for each in CLUSTER.principal if each.name == "order-gateway"),
)
CONFIG = DECLARED.topic[0].config(2, "zstd")
MAY_WRITE = Right("order-gateway", "WRITE", "orders")


def state(
    partitions: int = 8, replication: int = 3, rights: frozenset[Right] | None = None, **config: str
) -> ClusterState:
    changed = {name.replace("_", "."): value for name, value in config.items()}
    return ClusterState(3, {"orders": TopicState(partitions, replication, 3, CONFIG | changed)}, rights)


def test_a_cluster_that_is_as_declared_has_no_difference() -> None:
    assert differences(DECLARED, state(rights=frozenset({MAY_WRITE}))) == []
    assert differences(DECLARED, state(rights=None)) == []


def test_an_empty_cluster_lacks_the_topic_with_all_its_settings() -> None:
    (change,) = differences(DECLARED, ClusterState(3, {}, None))
    assert (change.kind, change.subject, change.was) == ("create", "orders", "")
    assert change.must.startswith("8 partitions, replication 3, cleanup.policy=delete, retention.ms=1296000000")
    assert "message.timestamp.type=LogAppendTime" in change.must


def test_settings_and_rights_that_differ_are_named_with_both_values() -> None:
    strangers = frozenset(
        {
            Right("mallory", "ALL", "ord", host="10.0.0.1", pattern="PREFIXED"),
            Right("order-gateway", "READ", "orders"),
        }
    )
    assert differences(DECLARED, state(rights=strangers, retention_ms="1")) == [
        Change("config", "orders retention.ms", "1", "1296000000"),
        Change("grant", "order-gateway orders", "", "allow write"),
        Change("revoke", "mallory ord", "allow all (prefix) from 10.0.0.1", ""),
        Change("revoke", "order-gateway orders", "allow read", ""),
    ]


def test_partitions_replicas_and_too_few_brokers_are_an_operator_s() -> None:
    there = state(partitions=4, replication=1)._replace(brokers=1)
    changes = differences(DECLARED, there)
    assert [(change.kind, change.can_be_made) for change in changes] == [("partitions", False), ("replication", False)]
    words = obstacles(DECLARED, there, changes)
    assert [each.split(",")[0] for each in words] == [
        "the cluster has 1 brokers",
        "orders has 4 partitions",
        "orders has replication 1",
    ]


def test_the_gateway_s_whole_right_is_to_write_readings() -> None:
    assert {right for right in declared_rights(CLUSTER) if right.principal == "gateway"} == {
        Right("gateway", "WRITE", "meter-readings")
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing required field `replication`"),
        ('replication = 3\nmin_insync_replicas = 2\ncompression = "zstd"\nretention = 1\ntopic = []', "unknown field"),
        (
            'replication = 3\nmin_insync_replicas = 2\ncompression = "zstd"\ntopic = []\n'
            '[[principal]]\nname = "a"\nread = ["b"]',
            "a names topic b, which is not declared",
        ),
        (
            'replication = 3\nmin_insync_replicas = 2\ncompression = "zstd"\ntopic = []\n'
            '[[principal]]\nname = "a"\n[[principal]]\nname = "a"',
            "principal a is declared twice",
        ),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused_with_the_place(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(ClusterFileError) as caught:
        read_declaration(path)
    assert words in str(caught.value) and str(path) in str(caught.value)

"""`gridtokenx kafka apply` on real brokers: what it shows, makes, verifies and refuses; who may do what."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.admin import AlterConfigOpType as Op

from gridtokenx_pipelines.config import kafka_from_env
from gridtokenx_pipelines.messaging.apply import admin_client
from gridtokenx_pipelines.messaging.cluster_state import Right, read_state
from gridtokenx_pipelines.messaging.connection import Cluster
from gridtokenx_pipelines.messaging.kafka import BrokerError, PartitionReader, Sender, wait_for_broker
from gridtokenx_pipelines.messaging.topics import CLUSTER, TOPICS

pytestmark = pytest.mark.slow


def test_a_first_run_shows_everything_makes_it_and_a_second_has_nothing_to_do(applied, gridtokenx) -> None:
    shown = applied.first_apply.stdout
    assert shown.count("+ create ") == len(TOPICS) == 8
    assert shown.count("+ grant ") == sum(len(each.read) + len(each.write) for each in CLUSTER.principal)
    assert "+ grant gateway meter-readings: allow write\n" in shown
    assert "made and verified: 34 changes" in shown
    again = gridtokenx("kafka", "apply", "--dry-run", KAFKA_BOOTSTRAP_SERVERS=applied.bootstrap_servers)
    assert (again.returncode, again.stdout) == (0, "as declared: 3 brokers, 8 of 8 topics, 26 access rules\n")


def test_the_cluster_has_what_the_domain_says(applied) -> None:
    state = read_state(admin_client(applied.bootstrap_servers), CLUSTER)
    assert {name: (each.partitions, each.replication) for name, each in state.topics.items()} == {
        topic.name: (1 if topic.name == "meter-registry" else 8, 3) for topic in TOPICS
    }
    readings = state.topics["meter-readings"].config
    assert (readings["retention.ms"], readings["min.insync.replicas"], readings["compression.type"]) == (
        str(15 * 86_400_000),
        "2",
        "zstd",
    )
    assert (readings["max.message.bytes"], readings["message.timestamp.type"]) == ("1048576", "CreateTime")
    assert state.topics["orders"].config["message.timestamp.type"] == "LogAppendTime"
    assert state.topics["meter-registry"].config["retention.ms"] == "-1"
    assert {right for right in state.rights if right.principal == "gateway"} == {
        Right("gateway", "WRITE", "meter-readings")
    }


def test_what_was_changed_by_hand_is_shown_and_set_right(applied, gridtokenx) -> None:
    admin = admin_client(applied.bootstrap_servers)
    shorter = ConfigEntry("retention.ms", "3600000", incremental_operation=Op.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "meter-readings", incremental_configs=[shorter])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    intruder = AclBinding(
        ResourceType.TOPIC,
        "orders",
        ResourcePatternType.LITERAL,
        "User:mallory",
        "*",
        AclOperation.WRITE,
        AclPermissionType.ALLOW,
    )
    for future in admin.create_acls([intruder]).values():
        future.result()
    servers = {"KAFKA_BOOTSTRAP_SERVERS": applied.bootstrap_servers}
    shown = gridtokenx("kafka", "apply", "--dry-run", **servers)
    assert (shown.returncode, shown.stdout.splitlines()) == (
        1,
        [
            "~ config meter-readings retention.ms: 3600000 -> 1296000000",
            "- revoke mallory orders: allow write",
            "2 differences: 3 brokers, 8 of 8 topics, 27 access rules",
        ],
    )
    refused = gridtokenx("kafka", "apply", **servers)
    assert (refused.returncode, refused.stderr) == (
        1,
        "nothing changed; add --yes to change it without being asked\n",
    )
    assert gridtokenx("kafka", "apply", "--yes", **servers).returncode == 0
    assert gridtokenx("kafka", "apply", "--dry-run", **servers).returncode == 0


def test_partitions_and_replicas_that_differ_stop_it_before_anything_changes(
    applied, gridtokenx, tmp_path: Path
) -> None:
    admin = admin_client(applied.bootstrap_servers)
    for future in admin.create_topics([NewTopic("small", 2, 1)]).values():
        future.result()
    declared = tmp_path / "cluster.toml"
    one = '[[topic]]\nname = "{}"\npartitions = 8\nkeyed_by = "zone"\nretention_days = 1\nmax_message_bytes = 1048576\n'
    head = 'replication = {}\nmin_insync_replicas = 1\ncompression = "zstd"\n'
    declared.write_text(head.format(2) + one.format("small") + one.format("fresh"))
    servers = {"KAFKA_BOOTSTRAP_SERVERS": applied.bootstrap_servers}
    done = gridtokenx("kafka", "apply", "--yes", "--without-rights", "--file", str(declared), **servers)
    assert done.returncode == 1
    assert "small has 2 partitions, must have 8: zones would move" in done.stderr
    assert "small has replication 1, must have 2" in done.stderr
    assert "fresh" not in admin.list_topics(timeout=10).topics
    declared.write_text(head.format(5) + one.format("fresh"))
    done = gridtokenx("kafka", "apply", "--yes", "--without-rights", "--file", str(declared), **servers)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        "kafka: the cluster has 3 brokers, replication 5 needs as many; start more, or give --replication for a "
        "cluster of one's own machine",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("replication = 3", "missing required field `min_insync_replicas`"),
        ('replication = 3\nmin_insync_replicas = 4\ncompression = "zstd"\ntopic = []', "was 4, must be at most"),
        ("replication = three", "Invalid value"),
        ("\xff", "must be UTF-8"),
    ],
)
def test_a_declaration_that_can_t_be_used_is_refused_before_any_broker_is_asked(
    gridtokenx, tmp_path, text, words
) -> None:
    declared = tmp_path / "cluster.toml"
    declared.write_text(text, encoding="latin-1")
    done = gridtokenx("kafka", "apply", "--file", str(declared), KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.returncode == 2
    assert words in done.stderr


def _brokers(env: dict[str, str]) -> Cluster:
    return Cluster(*kafka_from_env(env))


def test_the_gateway_may_write_readings_and_nothing_else_over_tls_and_scram(as_principal) -> None:
    gateway = _brokers(as_principal("gateway"))
    sender = Sender(gateway)
    sender.send("meter-readings", b"not a reading", partition=7)
    sender.flush()
    for topic in ("orders", "net-energy", "meter-registry", "market-events", "trades", "meter-readings.rejected"):
        sender.send(topic, b"x", partition=0)
        with pytest.raises(BrokerError, match=r"1 refused .*(authorization|authorized)"):
            sender.flush(10)
    with pytest.raises(BrokerError, match="uthoriz"):
        PartitionReader(gateway, "meter-readings", 7).read_to(1, 5)


@pytest.mark.parametrize(
    ("name", "reads", "writes"),
    [
        ("telemetry-flow", "meter-readings", "net-energy"),
        ("orders-flow", "orders", "orders.rejected"),
        ("price-guard", "trades", "market-events"),
    ],
)
def test_each_flow_may_do_what_it_needs_and_no_more(as_principal, name: str, reads: str, writes: str) -> None:
    brokers = _brokers(as_principal(name))
    sender = Sender(brokers)
    sender.send(writes, b"{}", partition=0)
    sender.flush()
    assert PartitionReader(brokers, reads, 0).bounds(10)[0] == 0
    sender.send(reads, b"forged", partition=0)
    with pytest.raises(BrokerError, match="1 refused"):
        sender.flush(10)
    admin = admin_client(brokers)  # kept: an answer doesn't outlive its client
    with pytest.raises(KafkaException, match="AUTHORIZATION"):
        admin.create_topics([NewTopic("mine", 1, 1)])["mine"].result()


def test_a_wrong_password_and_a_strange_authority_are_named(as_principal, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"refused this client .*uthentication.*correct KAFKA_SASL_USERNAME"):
        wait_for_broker(_brokers(as_principal("gateway", "wrong-password")), 15)
    import kafka_cluster  # noqa: PLC0415 - loaded by path in conftest

    stranger = kafka_cluster.Certificates(tmp_path / "tls")
    env = as_principal("gateway") | {"KAFKA_SSL_CA_LOCATION": str(stranger.ca)}
    with pytest.raises(BrokerError, match=r"refused this client .*certificate"):
        wait_for_broker(_brokers(env), 15)

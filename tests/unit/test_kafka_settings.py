"""How the environment says where Kafka is and who this process is there: bounds, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridtokenx_pipelines.config import ConfigError, Settings, kafka_from_env
from gridtokenx_pipelines.messaging.connection import Cluster, connection_settings

PLAIN = {"KAFKA_BOOTSTRAP_SERVERS": "h:9092"}
SCRAM = PLAIN | {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_USERNAME": "telemetry-flow",
    "KAFKA_SASL_PASSWORD": "not to be shown",
    "KAFKA_SSL_CA_LOCATION": __file__,
}


def test_without_settings_of_security_the_connection_is_plain() -> None:
    assert kafka_from_env(PLAIN) == ("h:9092", {})


def test_scram_over_tls_becomes_librdkafka_s_settings_and_passes_to_child_processes() -> None:
    brokers, security = kafka_from_env(SCRAM)
    assert connection_settings(Cluster(brokers, security)) == {
        "bootstrap.servers": "h:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-512",
        "sasl.username": "telemetry-flow",
        "sasl.password": "not to be shown",
        "ssl.ca.location": __file__,
    }
    others = {"DATABASE_URL": "postgresql://h/d", "SOLANA_RPC_URL": "http://h"}
    settings = Settings.from_env(SCRAM | others)
    assert Settings.from_env(settings.as_env()) == settings
    assert "not to be shown" not in repr(settings) + repr(Cluster(brokers, security)) + str(Cluster(brokers, security))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": ""}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "h"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "h:9092,h:127001"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "h:9092,"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "KAFKA_SASL_MECHANISM"),
        ({"KAFKA_SASL_USERNAME": ""}, "KAFKA_SASL_USERNAME"),
        ({"KAFKA_SASL_PASSWORD": ""}, "KAFKA_SASL_PASSWORD"),
        ({"KAFKA_SSL_CA_LOCATION": "/nowhere/ca.pem"}, "KAFKA_SSL_CA_LOCATION"),
    ],
)
def test_a_setting_that_can_t_be_used_is_named_and_no_password_shown(changes: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kafka_from_env(SCRAM | changes)
    assert caught.value.name == name
    assert "not to be shown" not in str(caught.value)


def test_a_certificate_of_one_s_own_is_enough_without_scram(tmp_path: Path) -> None:
    pem = tmp_path / "own.pem"
    pem.touch()
    env = PLAIN | {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CERTIFICATE_LOCATION": str(pem)}
    assert kafka_from_env(env)[1] == {"security.protocol": "SSL", "ssl.certificate.location": str(pem)}

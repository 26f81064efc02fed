"""Fixtures of the tests on real Kafka: one cluster of three nodes a session, with TLS, SCRAM and access rules."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))
PASSWORD = "a-password-for-tests"  # noqa: S105 - of a cluster that lives as long as the test


def _cluster() -> Any:
    # by path: several folders of tests have modules of the same name
    spec = importlib.util.spec_from_file_location("kafka_cluster", Path(__file__).with_name("cluster.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("kafka_cluster", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three real nodes; skips with what is missing where there is no Java, no Maven or no artefact."""
    module = _cluster()
    try:
        with module.running(tmp_path_factory.mktemp("kafka") / "cluster", nodes=3, secure=True) as cluster:
            yield cluster
    except module.KafkaMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def gridtokenx() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as a user has it: words, and the environment's Kafka settings."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
        command = [sys.executable, "-m", "gridtokenx_pipelines.cli", *words]
        return subprocess.run(command, env=kept | env, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture(scope="session")
def applied(kafka: Any, gridtokenx: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The cluster with topics, rights and every principal's password, made by the command line."""
    servers = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    done = gridtokenx("kafka", "apply", "--yes", **servers)
    assert done.returncode == 0, done.stdout + done.stderr
    kafka.first_apply = done
    from gridtokenx_pipelines.messaging.apply import admin_client, set_scram_user  # noqa: PLC0415
    from gridtokenx_pipelines.messaging.topics import CLUSTER  # noqa: PLC0415

    secret = tmp_path_factory.mktemp("secrets") / "password"
    secret.write_text(PASSWORD + "\n")
    done = gridtokenx("kafka", "user", "operator", "--password-file", str(secret), **servers)
    assert (done.returncode, done.stdout) == (0, "operator: SCRAM-SHA-512 password set\n"), done.stderr
    admin = admin_client(kafka.bootstrap_servers)
    for principal in CLUSTER.principal:
        set_scram_user(admin, principal.name, PASSWORD.encode())
    return kafka


@pytest.fixture(scope="session")
def as_principal(applied: Any) -> Callable[..., dict[str, str]]:
    """The environment of a principal on the TLS and SCRAM listeners."""

    def env(name: str, password: str = PASSWORD) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": applied.secure_servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": name,
            "KAFKA_SASL_PASSWORD": password,
            "KAFKA_SSL_CA_LOCATION": str(applied.certificates.ca),
        }

    return env

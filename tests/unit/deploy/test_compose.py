"""docker-compose.yml names every part of the stack at its port, and no secret stands in it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.addresses import PROGRAM_NAMES, program_id
from gridtokenx_pipelines.cli import cli

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_every_part_is_there() -> None:
    assert set(SERVICES) == {
        *("kafka-1", "kafka-2", "kafka-3", "postgres", "influxdb", "solana-test-validator"),
        *("migrate", "topics", "telemetry-flow", "orders-flow", "price-guard-flow"),
        *(
            "dagster-code",
            "dagster-webserver",
            "dagster-daemon",
            "exporter",
            "simulator",
            "prometheus",
            "grafana",
            "mailpit",
        ),
        *("fluent-bit", "loki", "tempo"),
    }


def test_ports_are_those_of_the_platform_and_bound_to_the_loopback_address() -> None:
    published = {name: [each.split(":") for each in part.get("ports", ())] for name, part in SERVICES.items()}
    assert all(host == "127.0.0.1" for ports in published.values() for host, *_ in ports)
    first = {name: int(ports[0][1]) for name, ports in published.items() if ports}
    assert first == {
        "kafka-1": 9092,
        "kafka-2": 9094,
        "kafka-3": 9095,
        "postgres": 5432,
        "influxdb": 8086,
        "solana-test-validator": 8899,
        "dagster-webserver": 3070,
        "simulator": 8000,
        "prometheus": 9090,
        "grafana": 3001,
        "mailpit": 8025,
        "fluent-bit": 24224,
    }


def test_secrets_are_files_and_nothing_else() -> None:
    assert all(str(secret["file"]).startswith("deploy/secrets/") for secret in COMPOSE["secrets"].values())
    for name, part in SERVICES.items():
        environment: dict[str, Any] = part.get("environment", {})
        for variable, value in environment.items():
            if {"PASSWORD", "TOKEN", "DATABASE"} & set(variable.split("_")):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable} must be a file under /run/secrets"
                assert str(value).rsplit("/", 1)[1] in part["secrets"], f"{name} lacks the secret of {variable}"


def test_what_is_depended_on_and_mounted_exists() -> None:
    for name, part in SERVICES.items():
        assert set(part.get("depends_on", {})) <= set(SERVICES), name
        for volume in part.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"], volume
        if "build" in part:
            assert (ROOT / part["build"]["dockerfile"]).is_file()


def test_the_simulator_is_as_locked_up_as_the_others_and_holds_no_secret_of_theirs() -> None:
    part, other = SERVICES["simulator"], SERVICES["telemetry-flow"]
    for rule in ("image", "build", "read_only", "cap_drop", "security_opt", "restart"):
        assert part[rule] == other[rule]
    assert (part["secrets"], part["volumes"], set(part["environment"])) == ([], [], {"KAFKA_BOOTSTRAP_SERVERS"})
    assert (part["mem_limit"], part["cpus"]) == ("2g", 2)
    image = (ROOT / part["build"]["dockerfile"]).read_text()
    assert "USER gridtokenx" in image
    # what it may write belongs to the image's user
    assert "--uid 10001" in image
    assert "/grids:uid=10001" in part["tmpfs"]


def test_the_simulators_own_command_serves_and_its_health_check_tells_life_from_death(tmp_path: Path) -> None:
    part = SERVICES["simulator"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"8000": port, "0.0.0.0": "127.0.0.1", "kafka": "none", "/grids": str(tmp_path)}  # noqa: S104
    command = [
        sys.executable,
        "-m",
        "gridtokenx_pipelines.cli",
        *(here.get(word, word) for word in part["command"][1:]),
    ]
    _, *check = part["healthcheck"]["test"]
    probe = [sys.executable, *(word.replace(":8000/", f":{port}/") for word in check[1:])]
    with subprocess.Popen(command, cwd=ROOT) as served:
        try:
            deadline = time.monotonic() + 60
            while subprocess.run(probe, capture_output=True, check=False).returncode:
                assert served.poll() is None, "the service ended"
                assert time.monotonic() < deadline, "the health check never passed"
        finally:
            served.terminate()
    assert served.returncode == 0
    assert subprocess.run(probe, capture_output=True, check=False).returncode


def test_every_command_of_ours_exists() -> None:
    for name, part in SERVICES.items():
        command = part.get("command", [])
        if command[:1] == ["gridtokenx"]:
            found: Any = cli
            for word in command[1:]:
                if word.startswith("-") or not isinstance(found, click.Group):
                    break
                found = found.get_command(click.Context(found), word)
                assert found is not None, f"{name}: gridtokenx has no command {word!r}"


def test_our_own_parts_write_nothing_but_their_volumes_and_have_no_rights_to_gain() -> None:
    ours = {name: part for name, part in SERVICES.items() if part.get("image") == "gridtokenx-pipelines:local"}
    assert len(ours) > 6
    for name, part in ours.items():
        assert part["read_only"] is True, name
        assert part["cap_drop"] == ["ALL"], name
        assert part["security_opt"] == ["no-new-privileges:true"], name
        assert part["mem_limit"], name


def test_brokers_are_three_with_two_in_sync() -> None:
    environments = [SERVICES[f"kafka-{index}"]["environment"] for index in (1, 2, 3)]
    assert [each["KAFKA_NODE_ID"] for each in environments] == [1, 2, 3]
    assert {each["KAFKA_DEFAULT_REPLICATION_FACTOR"] for each in environments} == {3}
    assert {each["KAFKA_MIN_INSYNC_REPLICAS"] for each in environments} == {2}


def test_the_validator_loads_the_five_programs_at_their_ids() -> None:
    words = (ROOT / "deploy/solana/start.sh").read_text().split()
    at = [index for index, word in enumerate(words) if word == "--bpf-program"]
    loaded = {words[index + 2]: Pubkey.from_string(words[index + 1]) for index in at}
    assert loaded == {f"/programs/{name}.so": program_id(name) for name in PROGRAM_NAMES}
    assert all((ROOT / "programs/deploy" / f"{name}.so").is_file() for name in PROGRAM_NAMES)


# Helm's templates become YAML only when they are rendered (test_helm.py)
YAML_FILES = [path for path in sorted((ROOT / "deploy").rglob("*.y*ml")) if "templates" not in path.parts]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_every_yaml_file_is_readable(path: Path) -> None:
    assert yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("*.json")), ids=lambda path: path.name)
def test_every_dashboard_is_readable_and_its_panels_have_queries(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"]
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_the_entry_point_turns_secret_files_into_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://somewhere/x")
    command = [str(ROOT / "deploy/python/with-secrets"), "sh", "-c", 'printf %s "$DATABASE_URL"']
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL_FILE": str(secret)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "postgresql://somewhere/x"
    lost = subprocess.run(
        command, env=environment | {"DATABASE_URL_FILE": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert lost.returncode == 78
    assert "must be a readable file" in lost.stderr


def test_the_database_is_ready_for_increments_and_its_backup_role_reads_no_table() -> None:
    postgres = SERVICES["postgres"]
    assert postgres["command"] == ["postgres", "-c", "summarize_wal=on"]
    script = (ROOT / "deploy/postgres/backup-role.sh").read_text()
    assert "CREATE ROLE backup LOGIN REPLICATION PASSWORD" in script
    assert "GRANT" not in script
    assert "host replication backup all scram-sha-256" in script
    assert "./deploy/postgres/backup-role.sh:/docker-entrypoint-initdb.d/backup-role.sh:ro" in postgres["volumes"]


def test_every_line_of_ours_goes_as_json_to_the_collector_that_hands_it_to_loki() -> None:
    collector = yaml.safe_load((ROOT / "deploy/logs/fluent-bit.yaml").read_text())["pipeline"]
    (taken,), (parsed,), (given,) = collector["inputs"], collector["filters"], collector["outputs"]
    loki = yaml.safe_load((ROOT / "deploy/logs/loki.yaml").read_text())
    for name, part in SERVICES.items():
        if part.get("image") == "gridtokenx-pipelines:local":
            assert part["logging"]["driver"] == "fluentd", name
            address = part["logging"]["options"]["fluentd-address"]
            assert address == f"127.0.0.1:{taken['port']}", name
            # a collector that is down must keep nobody from starting
            assert part["logging"]["options"]["fluentd-async"] == "true", name
            # the simulator settles nothing
            assert name == "simulator" or part["environment"]["GRIDTOKENX_LOG"] == "json", name
    assert (parsed["key_name"], parsed["parser"]) == ("log", "json")
    assert (given["host"], given["port"]) == ("loki", loki["server"]["http_listen_port"])
    # a label with many values makes an index of its own for each
    assert set(given["label_keys"].replace("$", "").split(",")) == {"container_name", "level"}
    assert loki["limits_config"]["retention_period"] == "720h"
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/datasources.yml").read_text())
    urls = {source["uid"]: source["url"] for source in sources["datasources"]}
    assert urls["loki"] == f"http://loki:{loki['server']['http_listen_port']}"
    tempo = yaml.safe_load((ROOT / "deploy/traces/tempo.yaml").read_text())
    assert urls["tempo"] == f"http://tempo:{tempo['server']['http_listen_port']}"
    assert tempo["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")


def test_the_collectors_own_program_takes_its_configuration() -> None:
    program = shutil.which("fluent-bit")
    if program is None:
        pytest.skip("fluent-bit is not on this machine")
    command = [program, "-c", str(ROOT / "deploy/logs/fluent-bit.yaml"), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

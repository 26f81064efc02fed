"""The Helm chart renders, lints, and every pod runs without rights it doesn't need. Needs `helm`; else it says so."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema

from gridtokenx_pipelines.cli import cli

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "gridtokenx"
HELM = shutil.which("helm")
pytestmark = pytest.mark.skipif(HELM is None, reason="helm is not on this machine")
WORKLOADS = {"Deployment", "StatefulSet", "Job"}


@cache
def rendered() -> list[dict[str, Any]]:
    # a helm built from source takes itself for an old one
    command = [str(HELM), "template", "grid", str(CHART), "--kube-version", "1.30.0"]
    command += ["--set", "backups.recipient=a-public-key"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for document in rendered():
        if document["kind"] in WORKLOADS:
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def test_the_chart_lints_without_a_warning() -> None:
    done = subprocess.run([str(HELM), "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_every_part_is_there() -> None:
    assert {(each["kind"], each["metadata"]["name"]) for each in rendered() if each["kind"] in WORKLOADS} == {
        ("Deployment", "grid-code"),
        ("Deployment", "grid-webserver"),
        ("Deployment", "grid-daemon"),
        ("Deployment", "grid-exporter"),
        ("StatefulSet", "grid-telemetry-flow"),
        ("StatefulSet", "grid-orders-flow"),
        ("Job", "grid-migrate"),
    }


def test_no_pod_is_root_writes_its_image_or_runs_without_limits() -> None:
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
            assert not container["image"].endswith(":latest"), name


def test_only_the_code_location_mounts_the_keys_and_no_secret_stands_in_the_environment() -> None:
    with_keys = {name for name, pod in pods() if any(each["name"] == "keys" for each in pod["volumes"])}
    assert with_keys == {"grid-code"}
    for name, pod in pods():
        for variable in pod["containers"][0]["env"]:
            if {"DATABASE", "TOKEN", "PASSWORD"} & set(variable["name"].split("_")):
                assert variable["value"].startswith("/run/secrets/"), f"{name}: {variable['name']}"


def test_every_command_is_one_that_the_image_has() -> None:
    for name, pod in pods():
        arguments = pod["containers"][0]["args"]
        if arguments[0] == "gridtokenx":
            words = [word for word in arguments[1:] if not word.startswith("-")]
            command: Any = cli
            for word in words:
                if not isinstance(command, click.Group):
                    break
                command = command.get_command(click.Context(command), word)
                assert command is not None, f"{name}: no command {word!r}"
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in arguments if word.startswith("--")} <= known, name


def test_mounted_volumes_exist_and_services_reach_a_port() -> None:
    for name, pod in pods():
        volumes = {each["name"] for each in pod["volumes"]} | {"recovery"}
        assert {each["name"] for each in pod["containers"][0]["volumeMounts"]} <= volumes, name
    ports = {
        document["metadata"]["name"]: {
            port["name"] for port in document["spec"]["template"]["spec"]["containers"][0].get("ports", ())
        }
        for document in rendered()
        if document["kind"] in WORKLOADS
    }
    for document in rendered():
        if document["kind"] == "Service":
            assert document["spec"]["ports"][0]["targetPort"] in ports[document["metadata"]["name"]]


def test_runs_reach_the_backups_where_there_are_any_and_both_volumes_outlive_an_uninstall() -> None:
    claims = {
        each["metadata"]["name"]: each["metadata"] for each in rendered() if each["kind"] == "PersistentVolumeClaim"
    }
    assert set(claims) == {"grid-data", "grid-backups"}
    assert all(each["annotations"] == {"helm.sh/resource-policy": "keep"} for each in claims.values())
    (config,) = [each for each in rendered() if each["kind"] == "ConfigMap"]
    run = yaml.safe_load(config["data"]["dagster.yaml"])["run_launcher"]["config"]["run_k8s_config"]
    assert {"name": "backups", "mountPath": "/backups"} in run["container_config"]["volume_mounts"]
    without = subprocess.run(
        [str(HELM), "template", "grid", str(CHART), "--kube-version", "1.30.0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "backup" not in without.stdout


def test_dagster_takes_the_instance_it_is_given() -> None:
    (config,) = [each for each in rendered() if each["kind"] == "ConfigMap"]
    given = yaml.safe_load(config["data"]["dagster.yaml"])
    known = set(dagster_instance_config_schema())
    assert set(given) <= known
    from dagster_k8s import K8sRunLauncher  # noqa: PLC0415 - only where helm is there

    launcher = given["run_launcher"]
    assert (launcher["module"], launcher["class"]) == ("dagster_k8s", "K8sRunLauncher")
    checked = process_config(K8sRunLauncher.config_type(), launcher["config"])
    assert checked.success, checked.errors

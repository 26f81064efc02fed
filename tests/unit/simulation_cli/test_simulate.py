"""`gridtokenx simulate`: headless, as a service, and the commands that steer it; events to a broker."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from gridtokenx_pipelines.messaging.kafka import PartitionReader, partitions_of
from gridtokenx_pipelines.messaging.mock_broker import MockBroker
from gridtokenx_pipelines.metering.registry import RegistryView, decode_record
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from gridtokenx_pipelines.simulation.messages import READINGS_TOPIC, REGISTRY_TOPIC
from gridtokenx_pipelines.simulation_cli import client
from gridtokenx_pipelines.simulation_cli.api import build_api
from gridtokenx_pipelines.simulation_cli.commands import simulate
from gridtokenx_pipelines.simulation_cli.runner import Runner
from gridtokenx_pipelines.simulation_cli.sinks import Nowhere

STREET = Scenario(network="street", fleet="templates", meters=8, step_seconds=60, sign=False, power_flow=False)


def invoke(*arguments: str, env: dict[str, str] | None = None):
    return CliRunner().invoke(simulate, [str(each) for each in arguments], env=env)


@pytest.fixture
def api():
    runner = Runner(STREET, Nowhere, speed=0, cache_dir=None)
    yield TestClient(build_api(runner, STREET))
    runner.close()


def until(check: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        if found := check():
            return found
        assert time.monotonic() < deadline, "it didn't come in time"
        time.sleep(0.02)


def test_help_names_every_command_without_loading_the_physics():
    shown = invoke("--help")
    assert shown.exit_code == 0
    for name in ("run", "serve", "start", "stop", "speed", "faults", "state", "templates"):
        assert name in shown.output


def test_a_headless_run_prints_its_books_and_ends_with_0(tmp_path: Path):
    done = invoke("run", "--network", "street", "--steps", "8", "--json", "--output", tmp_path / "out.jsonl")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    energy = found["energy"]
    assert (found["meters"], found["steps"], found["not_converged"]) == (40, 8, 0)
    assert energy["upstream_uwh"] == energy["consumption_uwh"] - energy["production_uwh"] + energy["losses_uwh"]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    topics = Counter(line["topic"] for line in lines)
    assert topics[REGISTRY_TOPIC] == 41
    sent = [json.loads(line["value"]) for line in lines if line["topic"] == READINGS_TOPIC]
    assert sum("seq" in each for each in sent) == 320
    again = invoke("run", "--network", "street", "--steps", "8", "--quiet", "--output", tmp_path / "again.jsonl")
    assert "balance: upstream − consumption + production − losses = 0 µWh" in again.output
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--network", "nowhere"], "UnknownGridError: network was 'nowhere'"),
        (["--network", "street", "--fault", "silent=7"], "FaultError"),
        (["--network", "street", "--mix", "castle=1"], "FleetError"),
        (["--network", "street", "--step", "7"], "must divide 900"),
        (["--network", "street", "--start", "2026-06-14T17:01Z"], "must be a quarter hour"),
        (["--network", "street", "--start", "noon"], "ISO 8601"),
        (["--network", "street", "--meters", "100", "--copies", "1"], "FleetTooLargeError"),
    ],
)
def test_a_scenario_that_can_not_be_simulated_ends_with_2_and_one_line(arguments, told):
    done = invoke("run", "--steps", "1", *arguments)
    assert done.exit_code == 2
    assert told in done.output
    assert "Traceback" not in done.output


def test_an_overloaded_network_is_reported_and_ends_with_1(tmp_path: Path):
    fleet = {
        "meters": [
            {"meter_id": "A", "template": "industrial", "bus": 9, "overrides": {"base_kwh": 3_000, "zip": [0, 0, 1]}}
        ]
    }
    (tmp_path / "fleet.json").write_text(json.dumps(fleet))
    done = invoke("run", "--network", "street", "--fleet", tmp_path / "fleet.json", "--steps", "2", "--quiet")
    assert done.exit_code == 1
    assert "2 not converged" in done.output
    assert "registers stand still, readings say not_converged" in done.output


def test_the_api_starts_stops_goes_on_speeds_up_and_tells_its_state(api):
    assert api.get("/health").json() == {"status": "ok", "state": "stopped", "error": None}
    assert api.get("/state").json() == {"state": "stopped", "error": None, "speed": 0}
    assert api.post("/stop").status_code == 409
    assert api.get("/meters").status_code == 409
    assert api.post("/start", json={"speed": 600}).status_code == 202
    until(lambda: api.get("/state").json().get("totals", {}).get("steps", 0) >= 2)
    assert api.post("/start", json={}).json()["error"] == "RunError"
    assert api.post("/speed", json={"speed": 0}).json()["speed"] == 0
    until(lambda: api.get("/state").json()["totals"]["steps"] > 20)
    assert api.post("/stop").json()["state"] == "stopped"
    stopped = api.get("/state").json()
    assert api.post("/start", json={"steps": 5}).status_code == 202
    done = until(lambda: (state := api.get("/state").json())["state"] == "finished" and state)
    assert done["totals"]["steps"] == stopped["totals"]["steps"] + 5
    assert done["meters"] == 8
    meters = api.get("/meters", params={"offset": 7}).json()
    assert [each["meter_id"] for each in meters] == ["SIM-000008"]
    assert meters[0]["consumption_wh"] > 0


def test_the_api_injects_faults_and_a_new_scenario_and_refuses_nonsense_by_name(api, tmp_path):
    api.post("/start", json={"scenario": {"seed": 5, "zones": 2}, "steps": 30, "speed": 0})
    until(lambda: api.get("/state").json()["state"] == "finished")
    assert api.get("/state").json()["scenario"]["seed"] == 5
    made = api.post("/faults", json={"kind": "outage", "zone_id": 1, "seconds": 600})
    assert made.status_code == 201
    assert made.json()["meters"] > 0
    assert [each["kind"] for each in api.get("/faults").json()] == ["outage"]
    assert [each["kind"] for each in api.get("/state").json()["faults"]] == ["outage"]
    for body, status in (
        ({"kind": "bogus", "zone_id": 1, "seconds": 60}, 422),
        ({"kind": "silent", "zone_id": 9, "seconds": 60}, 422),
        ({"kind": "silent", "zone_id": 1, "seconds": 0}, 422),
        ({"kind": "silent", "zone_id": 1, "seconds": 60, "extra": 1}, 422),
    ):
        refused = api.post("/faults", json=body)
        assert refused.status_code == status, body
        assert set(refused.json()) == {"error", "detail"}
    assert api.post("/speed", json={"speed": -1}).json() == {
        "error": "RequestError",
        "detail": "speed was -1: Input should be greater than or equal to 0; correct it (/docs)",
    }
    assert api.post("/speed", content=b"{not json").json()["error"] == "RequestError"
    assert api.get("/nowhere").json() == {
        "error": "RouteError",
        "detail": "GET /nowhere: Not Found; the routes are at /docs",
    }
    assert api.post("/start", json={"scenario": {"bogus": 1}}).json()["error"] == "ValidationError"
    assert api.post("/start", json={"scenario": {"step_seconds": 7}}).json()["error"] == "SimulationError"
    # what can be seen at once is refused at once, what only building shows fails the run
    unknown = api.post("/start", json={"scenario": {"network": "nowhere"}})
    assert (unknown.status_code, unknown.json()["error"]) == (422, "UnknownGridError")
    missing = api.post("/start", json={"scenario": {"network": "missing.json"}})
    assert (missing.status_code, missing.json()["error"]) == (422, "NetworkFileError")
    (tmp_path / "bad.json").write_text("{}")
    api.post("/start", json={"scenario": {"network": str(tmp_path / "bad.json"), "fleet": "templates"}})
    failed = until(lambda: (health := api.get("/health")).status_code == 503 and health)
    assert "NetworkFileError" in failed.json()["error"]
    paths = api.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/health", "/state", "/start", "/stop", "/speed", "/faults", "/meters"}


def test_the_commands_speak_to_the_api_and_end_with_1_where_it_refuses_or_is_not_there(api, monkeypatch):
    def through(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = api.get(path) if body is None else api.post(path, json=body)
        if answer.status_code >= 400:
            raise client.ApiError(f"{path}: {answer.json()}")
        return answer.json()

    real = client.call
    monkeypatch.setattr(client, "call", through)
    assert invoke("stop").exit_code == 1
    assert invoke("start", "--steps", "5", "--speed", "0").exit_code == 0
    until(lambda: json.loads(invoke("state").output)["state"] == "finished")
    assert json.loads(invoke("faults", "silent", "--meter", "SIM-000001").output)["meters"] == 1
    assert [each["kind"] for each in json.loads(invoke("faults").output)] == ["silent"]
    assert json.loads(invoke("speed", "60").output)["speed"] == 60
    assert invoke("start", "--scenario", "{").exit_code == 2
    monkeypatch.setattr(client, "call", real)
    absent = invoke("state", "--url", "http://127.0.0.1:9")
    assert absent.exit_code == 1
    assert "no simulator answered at http://127.0.0.1:9" in absent.output


def test_a_fleet_streams_to_a_broker_and_the_pipeline_accepts_all_of_it():
    broker = MockBroker()
    env = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    options = ("--network", "street", "--step", "60", "--block", "5", "--zones", "3", "--steps", "30", "--quiet")
    done = invoke("run", *options, "--output", "kafka", env=env)
    assert done.exit_code == 0, done.output
    brokers = broker.bootstrap_servers
    records = PartitionReader(brokers, REGISTRY_TOPIC, 0)
    view = RegistryView(decode_record(raw.value) for raw in records.read_to(41))
    counts: Counter[tuple[str, str]] = Counter()
    verifier, energy = Verifier(3), 0
    partitions = partitions_of(brokers, READINGS_TOPIC)
    for partition in range(partitions):
        reader = PartitionReader(brokers, READINGS_TOPIC, partition)
        raws = reader.read_to(reader.bounds(10)[1])
        output = step(ShardState(partition, partitions), verifier.messages(raws), view)[1]
        counts += output.counts
        energy += len(output.net_energy())
        reader.close()
    verifier.close()
    assert counts["accepted", ""] == 40 * 6
    assert {status for status, _ in counts} == {"accepted"}
    assert energy == 40 * 2


def test_a_broker_that_is_not_there_and_a_file_that_can_not_be_written_end_with_1(tmp_path: Path):
    (tmp_path / "file").write_text("")
    blocked = invoke("run", "--network", "street", "--steps", "1", "--output", tmp_path / "file" / "below")
    assert blocked.exit_code == 1
    assert "could not be written" in blocked.output


def test_a_service_that_is_told_to_end_ends_with_its_step_and_leaves_whole_records(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out, url = tmp_path / "out.jsonl", f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gridtokenx_pipelines.cli", "simulate", "serve", "--network", "street"]
    options = ["--meters", "4", "--no-sign", "--speed", "0", "--run", "--output", out, "--port", port]
    process = subprocess.Popen([*command, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:

        def running() -> bool:
            assert process.poll() is None, process.stdout.read()
            try:
                return client.call(url, "/state").get("totals", {}).get("steps", 0) > 3
            except client.ApiError:
                return False

        until(running, 120)
        second = invoke("serve", "--network", "street", "--port", port)
        assert (second.exit_code, "choose another --port" in second.output) == (2, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stdout.close()
    lines = out.read_text().splitlines()
    assert sum("seq" in json.loads(line)["value"] for line in lines) % 4 == 0

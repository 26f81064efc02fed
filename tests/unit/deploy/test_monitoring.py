"""Alerts, runbook and dashboards speak of metrics that are really served, and each alert fires on its fault."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from gridtokenx_pipelines.exporter.gather import Gathered, backup_numbers, database_numbers, law_numbers
from gridtokenx_pipelines.observability.metrics import GAUGES, FlowMetrics
from gridtokenx_pipelines.observability.server import Endpoint
from gridtokenx_pipelines.store.monitoring import DAGSTER_NUMBERS, NUMBERS
from gridtokenx_pipelines.store.postgres import engine

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
# served by Prometheus itself, and by the exporter's parts that ask the chain
ELSEWHERE = {"up", "gridtokenx_chain_slot", "gridtokenx_chain_slots_behind", "gridtokenx_chain_block_height"}


def dashboards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", ROOT / "deploy" / "grafana" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def queries() -> list[str]:
    panels = [panel for name in dashboards().rendered().values() for panel in json.loads(name)["panels"]]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Names of metrics in a query: what is left without labels, ranges, groupings and functions."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|ignoring)\s*\([^)]*\)", "", expression)
    names = {name for name in re.findall(r"[a-z][a-z_]+", bare) if "_" in name or name == "up"}
    return names - {"histogram_quantile"}


def served(url: str) -> set[str]:
    """Names that the exporter and a flow serve for this database."""
    made = engine(url)
    registry = CollectorRegistry()
    parts = {"database": lambda: database_numbers(made), "laws": lambda: law_numbers(made)}
    registry.register(Gathered({**parts, "backups": lambda: backup_numbers(Path("/nowhere"))}, 0))
    flow = FlowMetrics("telemetry")
    for name in GAUGES:
        flow.set(name, 0)
    flow.batch(0, {("accepted", ""): 1}, 0.01)
    text = (generate_latest(registry) + generate_latest(flow.registry)).decode()
    made.dispose()
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_every_metric_of_alerts_and_dashboards_is_served(postgres_url: str) -> None:
    names = served(postgres_url) | ELSEWHERE | {number.name for number in DAGSTER_NUMBERS}
    names |= {f"{name}_bucket" for name in names}
    asked = {name for query in [*queries(), *(rule["expr"] for rule in RULES)] for name in metrics_in(query)}
    assert asked - names == set()
    assert {number.name for number in NUMBERS} <= {name.removesuffix("_total") for name in names}


def test_an_empty_database_gives_numbers_and_no_error_and_a_lost_one_is_said(postgres_url: str) -> None:
    made, lost = engine(postgres_url), engine("postgresql://nobody@127.0.0.1:1/none")
    gathered = Gathered({"database": lambda: database_numbers(made), "laws": lambda: law_numbers(lost)}, 0)
    registry = CollectorRegistry()
    registry.register(gathered)
    endpoint = Endpoint(registry, {"laws": lambda: gathered.problems.get("laws")}, 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert 'gridtokenx_up{part="database"} 1.0' in text
        assert 'gridtokenx_up{part="laws"} 0.0' in text
        assert "gridtokenx_outbox_open 0.0" in text
        assert "OperationalError" in gathered.problems["laws"]
    finally:
        endpoint.close()
        made.dispose()
        lost.dispose()


def test_the_dashboards_are_those_of_the_code() -> None:
    written = {path.name: path.read_text() for path in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")}
    assert written == dashboards().rendered(), "run python deploy/grafana/dashboards.py"


def test_every_alert_has_its_section_in_the_runbook_and_is_tested() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks" / "alerts.md").read_text(), re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbooks/alerts.md#{rule['alert'].lower()}"
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    healthy, *faults = tests
    assert {each["alertname"] for each in healthy["alert_rule_test"]} == {rule["alert"] for rule in RULES}
    assert [each["alert_rule_test"][0]["alertname"] for each in faults] == [rule["alert"] for rule in RULES]
    assert all(each["alert_rule_test"][0]["exp_alerts"] for each in faults)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (package prometheus) is not on this machine")
def test_each_alert_fires_on_its_fault_and_none_on_a_healthy_system(tmp_path: Path) -> None:
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([str(PROMTOOL), *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

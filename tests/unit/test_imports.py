"""Imports point one way: Dagster and streaming → services → adapters and domain → units."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "gridtokenx_pipelines"
ROOT = "gridtokenx_pipelines"

# each room may import the rooms named here (and itself); what isn't named is refused
UNITS = {"units", "epochs"}
DOMAIN = {"metering", "market", "settlement", "forecasts"}
ADAPTERS = {"store", "chain", "messaging"}
ALLOWED = {
    "units": set(),
    "epochs": set(),
    "metering": UNITS,
    "market": UNITS,
    "settlement": UNITS | {"market"},
    "forecasts": UNITS | {"metering"},
    "audit": UNITS | {"metering", "market", "settlement"},
    "grid": UNITS | {"market"},
    "simulation": UNITS | {"metering", "market", "grid"},
    "simulation_cli": UNITS | {"metering", "messaging", "grid", "simulation", "config", "observability"},
    "store": UNITS | DOMAIN,
    "chain": UNITS | DOMAIN | {"store", "observability"},
    "chain_cli": UNITS | {"market", "chain"},
    "messaging": UNITS | {"metering", "market"},
    "kafka_cli": {"config", "messaging"},
    "observability": UNITS,
    "stream_cli": {"config", "messaging", "observability"},
    "config": UNITS,
    "embedded_postgres": UNITS,
    "stack": UNITS | ADAPTERS | {"config", "embedded_postgres"},
    "report": UNITS | DOMAIN,
    "market_cli": UNITS | DOMAIN | ADAPTERS | {"config", "stack", "settlement_service"},
    "grid_cli": UNITS | DOMAIN | ADAPTERS | {"grid", "config", "market_cli", "settlement_service"},
    "readings_cli": UNITS | DOMAIN | ADAPTERS | {"config", "stack"},
    "quality": UNITS,
    "exporter": UNITS | {"store", "chain", "config", "observability", "backups"},
    "settlement_service": UNITS | DOMAIN | ADAPTERS | {"grid", "config", "quality", "audit", "report", "observability"},
    "audit_cli": UNITS | DOMAIN | ADAPTERS | {"config", "stack", "audit", "settlement_service"},
    "settle_cli": UNITS | DOMAIN | ADAPTERS | {"config", "settlement_service"},
    "alerts": UNITS | {"config"},
    "backups": {"config"},
    "backup_cli": {"config", "backups"},
    "partitions": UNITS,
    "resources": UNITS | {"config", "observability", "settlement_service"},
    "dagster_storage": UNITS | {"dagster_event_log"},
    "dagster_event_log": UNITS | {"partitions"},
}
DAGSTER = UNITS | {
    "assets",
    "checks",
    "jobs",
    "schedules",
    "sensors",
    "resources",
    "partitions",
    "settlement_service",
    "quality",
}
ALLOWED |= dict.fromkeys(
    ("assets", "checks", "jobs", "schedules", "sensors", "definitions"), DAGSTER | {"operations", "backup_operations"}
)
ALLOWED["operations"] = DAGSTER | {"alerts", "config"}
ALLOWED["backup_operations"] = {"resources", "backups"}
ALLOWED["instance"] = {"partitions", "config", "definitions"}

# outside libraries that only some rooms may touch
KEPT_TO = {
    "dagster": {
        "assets",
        "checks",
        "jobs",
        "schedules",
        "sensors",
        "resources",
        "partitions",
        "definitions",
        "instance",
        "operations",
        "backup_operations",
    }
    | {"dagster_storage", "dagster_event_log", "demo", "cli"},
    "dagster_postgres": {"dagster_storage", "dagster_event_log"},
    "bytewax": set(),
    "sqlalchemy": {
        "exporter",
        "store",
        "readings_cli",
        "chain",
        "settlement_service",
        "dagster_storage",
        "dagster_event_log",
        "messaging",
        "demo",
        "grid_cli",
    },
    "psycopg2": {"store"},
    "alembic": {"store"},
    "solana": {"chain"},
    "solders": {"chain", "chain_cli", "audit_cli", "demo"},
    "confluent_kafka": {"messaging", "demo"},
    "influxdb_client": {"messaging", "readings_cli"},
    "structlog": {"observability"},
    "opentelemetry": {"observability"},
    "prometheus_client": {"observability", "exporter"},
    "simbench": {"simulation"},
    "pandapower": {"grid", "grid_cli", "simulation"},
    "lightsim2grid": {"grid"},
}
DOMAIN_MAY_USE = {"polars", "msgspec", "numpy", "nacl", "scipy", *sys.stdlib_module_names, ROOT}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names imported anywhere in the file, `if TYPE_CHECKING` included, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole path"
            assert node.module is not None
            if node.module == ROOT:
                yield from ((f"{ROOT}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    for name, line in imports(path):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top == ROOT and target and target != room and room in ALLOWED:
            assert target in ALLOWED[room], (
                f"{path}:{line}: {room} imports {target}, may import {sorted(ALLOWED[room])}"
            )
        if top in KEPT_TO and room != top:
            assert room in KEPT_TO[top], f"{path}:{line}: {room} imports {top}, kept to {sorted(KEPT_TO[top])}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(path) in DOMAIN | UNITS], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_the_domain_uses_no_library_that_does_io(path: Path) -> None:
    for name, line in imports(path):
        assert name.partition(".")[0] in DOMAIN_MAY_USE, f"{path}:{line} imports {name}; the domain does no I/O"


def test_every_room_has_a_rule() -> None:
    rooms = {room_of(path) for path in modules()} - {"__init__", "cli", "demo"}
    assert rooms - set(ALLOWED) == set(), "give a new room its line in ALLOWED"

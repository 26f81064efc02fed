"""The conformance table of domain §3 on real Kafka: the same rows as from the pure functions and the flow in memory."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "metering"))

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from metering_cases import CASES, row_of
from metering_world import EPOCH
from sqlalchemy import Engine, text

from gridtokenx_pipelines.metering.outputs import NET_ENERGY_SCHEMA
from gridtokenx_pipelines.store.energy import CORRECTIONS
from gridtokenx_pipelines.store.postgres import engine


def _runner() -> Any:
    # by path: the same source, sinks and end as on the mock broker
    path = Path(__file__).parents[1] / "flows" / "test_telemetry_on_a_broker.py"
    spec = importlib.util.spec_from_file_location("telemetry_on_a_broker", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("telemetry_on_a_broker", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def database(new_database: Any) -> Iterator[Engine]:
    made = engine(new_database())
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def brokers(kafka: Any) -> str:
    """The real brokers with two topics a case; nobody makes topics by writing to them there."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    wanted = [NewTopic(f"meter-readings-{number}", 4, 1) for number in range(len(CASES))]
    wanted += [NewTopic(f"meter-registry-{number}", 1, 1) for number in range(len(CASES))]
    known = admin.list_topics(timeout=30).topics
    wanted += [NewTopic(name, 4, 1) for name in ("net-energy", "meter-readings.rejected") if name not in known]
    for done in admin.create_topics(wanted, operation_timeout=60).values():
        done.result()
    return str(kafka.bootstrap_servers)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_every_message_case_gives_the_same_rows_on_real_kafka(number: int, brokers: str, database: Engine) -> None:
    runner, case = _runner(), CASES[number]
    with database.begin() as connection:
        connection.execute(text(f"TRUNCATE {runner.TABLES}"))
    stream = runner.run_case(case, number, brokers, database)
    with database.connect() as connection:
        rows = runner.rows_of(connection, "net_energy", ", ".join(NET_ENERGY_SCHEMA), "epoch, revision")
        assert sorted(map(row_of, rows)) == sorted(case.rows)
        corrections = runner.rows_of(connection, "corrections", ", ".join(CORRECTIONS), "boundary_epoch, revision")
        assert [(c[2] - EPOCH, c[3], c[4], c[5], c[6]) for c in corrections] == sorted(case.corrections)
        letters = runner.rows_of(connection, "dead_letters", '"offset", reason, value, key', '"offset"')
        assert letters == [
            (offset, word, stream.raws[offset].value, stream.raws[offset].key) for offset, word in sorted(case.rejected)
        ]

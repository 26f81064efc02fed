"""Dead letters through the command line: a meter registered late, a mis-keyed reading, and what can't be mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from metering_world import EPOCH, NETWORK, Stream, gateway_record, meter_record
from sqlalchemy import text
from tests_flow import Flow

from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import encode_record
from gridtokenx_pipelines.store.postgres import engine

LATE = meter_record("MEA-005", zone_id=5)


def ask(url: str, *command: str, brokers: str = "") -> Result:
    env = {"DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": brokers}
    return CliRunner().invoke(cli, ["dead-letters", *command], env=env)


def send(brokers: str, raws: list[Raw], partition: int = 0) -> None:
    sender = Sender(brokers)
    for raw in raws:
        sender.send("meter-readings", raw.value, key=raw.key, headers=raw.headers, partition=partition)
    sender.flush()


@pytest.fixture
def flow(broker: str, postgres_url: str, tmp_path: Path) -> Flow:
    sender = Sender(broker)
    for record in (gateway_record(), meter_record()):
        sender.send("meter-registry", encode_record(record), key=b"k", partition=0)
    sender.flush()
    (tmp_path / "recovery").mkdir()
    return Flow(broker, postgres_url, NETWORK, tmp_path / "recovery")


def net_energy(url: str, meter_id: str) -> list[tuple]:
    made = engine(url)
    with made.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT epoch - :epoch, revision, production_wh, consumption_wh, estimated, missing FROM net_energy "
                "WHERE meter_id = :meter ORDER BY 1, 2"
            ),
            {"epoch": EPOCH, "meter": meter_id},
        ).fetchall()
    made.dispose()
    return [tuple(row) for row in rows]


def test_readings_of_a_meter_registered_late_are_fixed_and_replayed_and_count_in_full(
    flow: Flow, broker: str, postgres_url: str, tmp_path: Path
) -> None:
    stream, who = Stream(), {"meter_id": "MEA-005", "signer": "MEA-005", "zone_id": 5}
    stream.tick(880)
    stream.read(11, 880, 100, 10, **who)
    stream.read(12, 895, 110, 11, **who)
    stream.tick(930)
    stream.tick(1_780)
    stream.read(13, 1_790, 300, 30, **who)
    send(broker, stream.raws)
    flow.run_until(0, len(stream.raws) - 1)
    assert net_energy(postgres_url, "MEA-005") == []

    listed = json.loads(ask(postgres_url, "list", "--meter", "MEA-005", "--json").stdout)
    assert listed["counts"] == [
        {"topic": "meter-readings", "reason_code": 3, "reason": "unknown_meter", "letters": 3, "replayed": 0}
    ]
    assert [letter["place"] for letter in listed["letters"]] == [f"meter-readings/0/{at}" for at in (1, 2, 5)]
    shown = ask(postgres_url, "show", "meter-readings/0/1").stdout
    assert "register it first" in shown and "dead-letters fix" in shown and '"production_wh": 1100' in shown
    # nobody knows it yet: neither the database nor a file
    assert ask(postgres_url, "fix", "--meter", "MEA-005", brokers=broker).exit_code == 1

    record = tmp_path / "record.json"
    record.write_bytes(encode_record(LATE))
    fixed = ask(postgres_url, "fix", "--meter", "MEA-005", "--record", str(record), brokers=broker)
    assert fixed.exit_code == 0 and "3 dead letters of it wait" in fixed.output
    assert ask(postgres_url, "replay", "--meter", "MEA-005", "--dry-run", brokers=broker).exit_code == 0
    replayed = ask(postgres_url, "replay", "--meter", "MEA-005", brokers=broker)
    assert (replayed.exit_code, replayed.output) == (0, "sent 3 dead letters again\n")
    assert ask(postgres_url, "replay", "--meter", "MEA-005", brokers=broker).exit_code == 1

    closing = Stream()
    closing.tick(1_830)
    send(broker, closing.raws)
    flow.run_until(0, len(stream.raws) + 3)
    # the epoch closed before it was known has no missing row; both are booked late, from its own readings
    assert net_energy(postgres_url, "MEA-005") == [
        (0, 1, 110, 11, False, False),
        (1, 0, 0, 0, False, True),
        (1, 1, 190, 19, False, False),
    ]
    assert json.loads(ask(postgres_url, "list", "--count", "--json").stdout)["counts"][0]["replayed"] == 3


def test_a_reading_in_another_zones_partition_is_replayed_into_its_own(
    flow: Flow, broker: str, postgres_url: str
) -> None:
    ticks, stream = Stream(), Stream()
    ticks.tick(880)
    stream.tick(880)
    stream.read(11, 890, 70, 7)
    send(broker, stream.raws, partition=1)
    send(broker, ticks.raws)
    flow.run_until(1, 1)
    assert ask(postgres_url, "list", "--reason", "wrong_zone").stdout.startswith(
        "meter-readings/1/1  wrong_zone  MEA-001"
    )
    assert ask(postgres_url, "replay", "--place", "meter-readings/1/1", brokers=broker).exit_code == 0
    closing = Stream()
    closing.tick(930)
    send(broker, closing.raws)
    flow.run_until(0, 2)
    assert net_energy(postgres_url, "MEA-001") == [(0, 0, 70, 7, False, False)]


def test_what_is_still_wrong_becomes_a_dead_letter_anew_and_stops_nothing(
    flow: Flow, broker: str, postgres_url: str
) -> None:
    stream = Stream()
    stream.tick(880)
    stream.signed(b"\xff\xfegarbage")
    stream.read(11, 885, 9, 9, signer="a stranger")
    send(broker, stream.raws)
    flow.run_until(0, 2)
    assert ask(postgres_url, "replay", brokers=broker).exit_code == 2
    assert ask(postgres_url, "replay", "--all", brokers=broker).exit_code == 0
    flow.run_until(0, 4)
    listed = json.loads(ask(postgres_url, "list", "--json").stdout)
    assert [(letter["place"], letter["reason"], letter["replays"]) for letter in listed["letters"]] == [
        ("meter-readings/0/1", "undecodable", 1),
        ("meter-readings/0/2", "wrong_key", 1),
        ("meter-readings/0/3", "undecodable", 0),
        ("meter-readings/0/4", "wrong_key", 0),
    ]
    assert listed["letters"][2]["value"] == "0xfffe67617262616765"
    assert bytes.fromhex(listed["letters"][3]["headers"]["replay-of"]) == b"meter-readings/0/2"
    assert ask(postgres_url, "show", "meter-readings/0/9").exit_code == 1
    assert ask(postgres_url, "show", "nowhere").exit_code == 2

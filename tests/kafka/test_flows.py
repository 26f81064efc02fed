"""Whole flows on real brokers: as principals over TLS and SCRAM, under a supervisor, with a broker killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chaos_stream
import msgspec
import pytest
from confluent_kafka.admin import AdminClient
from nacl.signing import SigningKey
from sqlalchemy import text
from stream_world import GATEWAY, NETWORK, PARTITIONS, Expected, Fleet, Sent, expected

from gridtokenx_pipelines.chain.addresses import market
from gridtokenx_pipelines.epochs import end_us, epoch_of_us
from gridtokenx_pipelines.market.base58 import encode
from gridtokenx_pipelines.market.orders import Order, encode_order, meter_hash, order_id_of, sign
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.messaging.apply import apply
from gridtokenx_pipelines.messaging.cluster_state import differences, read_state
from gridtokenx_pipelines.messaging.kafka import PartitionReader, Sender, read_range
from gridtokenx_pipelines.messaging.topics import CLUSTER
from gridtokenx_pipelines.metering.outputs import NET_ENERGY_SCHEMA
from gridtokenx_pipelines.metering.readings import sign_tick
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, encode_record
from gridtokenx_pipelines.store.energy import CORRECTIONS
from gridtokenx_pipelines.store.postgres import engine, read_frame

pytestmark = pytest.mark.slow
PATIENCE_SECONDS = 120
TOPICS = ["meter-readings", "meter-registry", "orders", "orders.rejected", "trades"]


@pytest.fixture
def topics(applied: Any) -> Any:
    """The cluster with these topics empty, so that every test's offsets begin at nought."""
    admin = AdminClient({"bootstrap.servers": applied.bootstrap_servers})
    for future in admin.delete_topics(TOPICS, operation_timeout=30).values():
        future.result()
    deadline, gone = time.monotonic() + 30, 0
    while gone < 10:  # any broker answers, and one may lag behind another
        gone = 0 if set(TOPICS) & set(admin.list_topics(timeout=10).topics) else gone + 1
        assert time.monotonic() < deadline
        time.sleep(0.05)
    state = read_state(admin, CLUSTER)
    apply(admin, CLUSTER, state, differences(CLUSTER, state))
    return applied


@contextlib.contextmanager
def process(*words: str, log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of ours in its own process; ended at the end whatever happened."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    with open(log, "ab") as out:
        started = subprocess.Popen(
            [sys.executable, "-m", "gridtokenx_pipelines.cli", *words], env=kept | env, stdout=out, stderr=out
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def surroundings(folder: Path, url: str) -> dict[str, str]:
    return {"DATABASE_URL": url, "SOLANA_RPC_URL": "http://127.0.0.1:1", "GRIDTOKENX_DATA_DIR": str(folder)}


def announce(sender: Sender, fleet: Fleet) -> None:
    for record in fleet.registry():
        sender.send("meter-registry", encode_record(record), key=b"k", partition=0)
    sender.flush()


def send(sender: Sender, batch: list[Sent]) -> None:
    for partition, raw in batch:
        sender.send("meter-readings", raw.value, key=raw.key, headers=raw.headers, partition=partition)
    sender.flush()


def wait_for(condition: Callable[[], bool], log: Path, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come:\n{log.read_text()[-3_000:]}"
        time.sleep(0.05)


def offsets(database: Any) -> dict[int, int]:
    with database.connect() as connection:
        rows = connection.execute(text("SELECT partition, \"offset\" FROM stream_progress WHERE flow = 'telemetry'"))
        return {int(partition): int(offset) for partition, offset in rows}


def assert_tables(database: Any, wanted: Expected) -> None:
    """Net energy, corrections, letters and counts are those of the undisturbed stream."""
    with database.connect() as connection:
        columns, order = ", ".join(NET_ENERGY_SCHEMA), "ORDER BY meter_id, epoch, revision"
        found = read_frame(connection, f"SELECT {columns} FROM net_energy {order}", None, NET_ENERGY_SCHEMA)  # noqa: S608
        assert found.equals(wanted.net_energy)
        columns, order = ", ".join(CORRECTIONS), "ORDER BY meter_id, boundary_epoch, revision"
        found = read_frame(connection, f"SELECT {columns} FROM corrections {order}", None, CORRECTIONS)  # noqa: S608
        assert found.equals(wanted.corrections)
        letters = connection.execute(text('SELECT partition, "offset", reason_code FROM dead_letters ORDER BY 1, 2'))
        assert [tuple(row) for row in letters] == wanted.letters
        counts = connection.execute(
            text(
                "SELECT status, reason, sum(records)::bigint FROM stream_counts WHERE flow = 'telemetry' GROUP BY 1, 2"
            )
        )
        assert {(status, reason): int(records) for status, reason, records in counts} == wanted.totals


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def test_the_telemetry_flow_as_its_principal_gives_the_tables_of_the_pure_functions_and_serves_its_metrics(
    topics, as_principal, postgres_url: str, tmp_path: Path
) -> None:
    fleet, log, database = Fleet(seed=5, meters=16, minutes=32), tmp_path / "log", engine(postgres_url)
    sender = Sender(topics.bootstrap_servers)
    announce(sender, fleet)
    env = surroundings(tmp_path, postgres_url) | as_principal("telemetry-flow")
    records = [each for batch in fleet.records() for each in batch]
    send(sender, records)
    wanted = expected(records, fleet.registry())
    words = ["--recovery", str(tmp_path / "recovery"), "--recovery-partitions", "2", "--metrics-port", "0"]
    with process("stream", "telemetry", *words, log=log, **env) as flow:
        wait_for(lambda: offsets(database) == wanted.offsets, log, "the last offsets")
        port = json.loads((tmp_path / "recovery" / "endpoint-0.json").read_text())["port"]
        empty = 'meter_processing_queue_depth{flow="telemetry"} 0.0\n'
        wait_for(lambda: empty in get(port, "/metrics"), log, "an empty queue")
        metrics = get(port, "/metrics")
        for (status, reason), count in wanted.totals.items():
            assert f'meter_readings_total{{reason="{reason}",status="{status}"}} {float(count)}\n' in metrics
        assert metrics.count("stream_consumer_lag_records{") == PARTITIONS
        assert metrics.count("stream_watermark_timestamp_seconds{") == PARTITIONS
        assert 'meter_processing_duration_seconds_count{flow="telemetry"}' in metrics
        assert json.loads(get(port, "/health")) == {"status": "ok"}
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(30) == 0, log.read_text()
    assert_tables(database, wanted)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    closed = [line for line in lines if line["event"] == "epoch_closed"]
    assert {(line["flow"], line["epoch"], line["level"]) for line in closed} >= {
        ("telemetry", "2026-01-27T12:00Z", "info"),
        ("telemetry", "2026-01-27T12:15Z", "info"),
    }
    assert len({line["run"] for line in lines}) == 1
    assert len(list((tmp_path / "recovery").glob("part-*.sqlite3"))) == 2
    # started again with nothing new, it replays from its last snapshot and changes nothing
    other = [*words[:3], "1", *words[4:]]
    with process("stream", "telemetry", *other, log=log, **env) as flow:
        assert flow.wait(60) == 2
    assert "--recovery-partitions was 1, must be 2" in log.read_text()


def test_chaos_in_its_short_form_loses_nothing_and_counts_nothing_twice(
    topics, postgres_url: str, tmp_path: Path
) -> None:
    chaos = chaos_stream.Chaos(topics, postgres_url, tmp_path, seed=3)
    fleet = Fleet(seed=6, meters=16, minutes=32)
    try:
        rows = chaos.run(fleet, ("process", "broker"))
        assert [(row.sent, row.lost, row.twice) for row in rows] == [(row.accounted, 0, 0) for row in rows]
        assert sorted(row.fault for row in rows) == ["broker", "end", "process"]
        assert chaos.differences(expected(chaos.sent, fleet.registry())) == []
        metrics = get(json.loads((tmp_path / "recovery" / "supervisor.json").read_text())["port"], "/metrics")
        assert 'stream_up{flow="telemetry"} 1.0\n' in metrics
        restarts = [line for line in metrics.splitlines() if line.startswith("stream_restarts_total{")]
        assert float(restarts[0].split()[-1]) >= 1  # the killed process's; a busy machine may add one
        endpoints = [json.loads((tmp_path / f"recovery/telemetry/endpoint-{n}.json").read_text()) for n in (0, 1)]
        assert len({each["port"] for each in endpoints}) == 2
        lags: list[int] = []
        # a process asks the broker for its lag every few seconds, beside its work: a restarted one soon, not at once
        for _ in range(60):
            lags = [get(each["port"], "/metrics").count("stream_consumer_lag_records{") for each in endpoints]
            if sum(lags) == PARTITIONS:
                break
            time.sleep(0.5)
        assert sum(lags) == PARTITIONS
        assert chaos.flow is not None and chaos.flow.stop() == 0
    finally:
        chaos.close()


def test_the_orders_flow_as_its_principal_admits_refuses_and_freezes_the_book(
    topics, as_principal, postgres_url: str, tmp_path: Path
) -> None:
    wallet, now_us = SigningKey(bytes(range(32))), time.time_ns() // 1_000
    address, epoch = encode(bytes(wallet.verify_key)), epoch_of_us(now_us) + 1
    database, log, sender = engine(postgres_url), tmp_path / "log", Sender(topics.bootstrap_servers)
    (tmp_path / "rules.json").write_bytes(msgspec.json.encode(Rules()))
    meter = MeterRecord(
        meter_id="MEA-001",
        wallet=address,
        zone_id=1,
        meter_type="Hybrid",
        rating_w=4_000,
        device_key=bytes(32),
        effective_epoch=epoch - 5,
        first_epoch=epoch - 5,
        baseline_production_wh=0,
        baseline_consumption_wh=0,
        baseline_seq=0,
        baseline_timestamp_us=0,
    )
    for record in (GatewayRecord(gateway_id="gw-1", key=bytes(GATEWAY.verify_key)), meter):
        sender.send("meter-registry", encode_record(record), key=b"k", partition=0)
    sender.flush()

    def tick(at_us: int) -> None:
        value = json.dumps({"gateway_id": "gw-1", "timestamp": at_us}).encode()
        for partition in range(PARTITIONS):
            sender.send("orders", value, key=b"1", headers=sign_tick(value, NETWORK, GATEWAY), partition=partition)

    def place(nonce: int, **changes: int) -> None:
        fields = {"side": 0, "energy_wh": 100, "limit_uthb_per_kwh": 3_000_000, "epoch": epoch} | changes
        order = Order(
            network_id=NETWORK,
            market=bytes(market()),
            order_id=order_id_of(now_us, bytes([nonce] * 10)),
            meter_hash=meter_hash("MEA-001"),
            nonce=nonce,
            placed_at_us=time.time_ns() // 1_000,
            **fields,
        )
        message = encode_order(order)
        headers = [("sig", sign(message, wallet)), ("pub", bytes(wallet.verify_key))]
        sender.send("orders", message, key=b"1", headers=headers, partition=0)

    tick(now_us)
    place(0)
    place(1, limit_uthb_per_kwh=9_000_000)
    place(2, side=1)
    sender.send("orders", b"garbage", key=b"1", partition=0)
    tick(end_us(epoch))
    sender.flush()
    env = surroundings(tmp_path, postgres_url) | as_principal("orders-flow")
    words = ["--recovery", str(tmp_path / "recovery"), "--metrics-port", "0", "--workers", "2"]

    def gates() -> set[int]:
        with database.connect() as connection:
            rows = connection.execute(text("SELECT closed_epoch FROM stream_progress WHERE flow = 'orders'")).fetchall()
        return {int(closed) for (closed,) in rows} if len(rows) == PARTITIONS else set()

    with process("stream", "orders", *words, log=log, **env) as flow:
        wait_for(lambda: gates() == {epoch}, log, "the gate in all partitions")
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(30) == 0, log.read_text()
    with database.connect() as connection:
        kept = connection.execute(text("SELECT wallet, epoch, nonce, status FROM orders")).fetchall()
        letters = connection.execute(text("SELECT reason FROM dead_letters WHERE topic = 'orders' ORDER BY \"offset\""))
        assert [tuple(row) for row in kept] == [(address, epoch, 0, "pending")]
        assert [reason for (reason,) in letters] == ["price_band", "self_trade", "not_decodable"]
    found = [raw for part in range(PARTITIONS) for raw in _all(topics.bootstrap_servers, "orders.rejected", part)]
    assert sorted(raw.header("reason") for raw in found) == [b"not_decodable", b"price_band", b"self_trade"]


def _all(brokers: str, topic: str, partition: int) -> list[Any]:
    end = PartitionReader(brokers, topic, partition).bounds(10)[1]
    return [raw for raw in read_range(brokers, (topic, partition), 0, end - 1) if raw.headers] if end else []

"""Parts of the streaming benchmark that need no filled topic: windows alone, memory, garbage, latency, orders, soak.

Belongs here: one function a figure, each giving a dictionary. Does not belong here: the flow from a filled topic
(streaming.py), the fleet (streaming_load.py).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import streaming_load as loads
from memory import peak_mebibytes, restart_peak
from sqlalchemy import text

from gridtokenx_pipelines.metering.readings import Raw, Reading, Tick
from gridtokenx_pipelines.metering.registry import RegistryView
from gridtokenx_pipelines.metering.verify import Message, Verifier
from gridtokenx_pipelines.metering.window import ShardState, step
from gridtokenx_pipelines.store.postgres import engine

BATCH = 10_000


def totals(url: str) -> tuple[int, int]:
    """Wh produced and consumed by all rows of the database."""
    database = engine(url)
    with database.connect() as connection:
        row = connection.execute(text("SELECT sum(production_wh), sum(consumption_wh) FROM net_energy")).one()
    database.dispose()
    return int(row[0] or 0), int(row[1] or 0)


def _decoded(meters: int, per_epoch: int, epochs: int) -> Iterator[Message]:
    key, gateway = bytes(loads.key_of("shared").verify_key), bytes(loads.GATEWAY.verify_key)
    offset, ids = 0, [loads.meter_id(number) for number in range(meters)]

    def tick(seconds: int) -> Message:
        nonlocal offset
        offset += 1
        now = loads.START_US + seconds * 1_000_000
        return Message(Raw(offset, 0, b""), Tick(gateway_id="gw", timestamp=now), gateway, True)

    yield tick(0)
    for epoch in range(epochs):
        for number in range(per_epoch):
            at = epoch * 900 + (number + 1) * 900 // per_epoch - 5
            yield tick(at - 5)
            seq = epoch * per_epoch + number + 1
            for meter_id in ids:
                offset += 1
                reading = Reading(
                    meter_id=meter_id,
                    zone_id=1,
                    seq=seq,
                    timestamp=loads.START_US + at * 1_000_000,
                    production_wh=2 * seq,
                    consumption_wh=seq,
                    voltage_v=229.8,
                    current_a=3.1,
                    power_factor=0.98,
                    frequency_hz=50.0,
                )
                yield Message(Raw(offset, 0, b"", (), b"1"), reading, key, True, offset)
        yield tick(epoch * 900 + 931)


def windowing(meters: int, per_epoch: int, epochs: int) -> dict[str, Any]:
    """Decoded readings through the window of one partition, closing epochs included; peak memory by epoch."""
    registry = RegistryView(
        record if hasattr(record, "gateway_id") else _in_zone_one(record)
        for record in loads.registry(meters, one_key=True)
    )
    state, records = ShardState(0, loads.PARTITIONS), _decoded(meters, per_epoch, epochs)
    seconds = cpu = 0.0
    readings, energy, peaks = 0, [0, 0], []
    restart_peak()
    while batch := list(islice(records, BATCH)):
        started, used = time.perf_counter(), time.process_time()
        state, outputs = step(state, batch, registry)
        seconds, cpu = seconds + time.perf_counter() - started, cpu + time.process_time() - used
        readings += outputs.counts["accepted", ""]
        for row in outputs.net_energy_rows:
            energy[0] += row[9]
            energy[1] += row[10]
        if outputs.closed:
            peaks.append(round(peak_mebibytes()))
            restart_peak()
    expected = meters * per_epoch * epochs
    return {
        "meters": meters,
        "readings": readings,
        "per_second": readings / seconds,
        "per_cpu_second": readings / cpu,
        "mebibytes_by_epoch": peaks,
        "exact": (readings, *energy) == (expected, 2 * expected, expected),
    }


def _in_zone_one(record: Any) -> Any:
    return msgspec.structs.replace(record, zone_id=1)


def memory(meters: int) -> dict[str, Any]:
    """What the state of a partition with that many meters takes after an epoch, in memory and in the recovery store."""
    registry = RegistryView(
        record if hasattr(record, "gateway_id") else _in_zone_one(record)
        for record in loads.registry(meters, one_key=True)
    )
    before = restart_peak()
    state, records = ShardState(0, loads.PARTITIONS), _decoded(meters, 4, 2)
    while batch := list(islice(records, BATCH)):
        state, _ = step(state, batch, registry)
    del batch
    held = restart_peak() - before
    started = time.perf_counter()
    size = len(state.to_bytes())
    return {
        "meters": meters,
        "mebibytes": held,
        "snapshot_mebibytes": size / 2**20,
        "snapshot_seconds": time.perf_counter() - started,
    }


def half_garbage(readings: int) -> dict[str, Any]:
    """Good records a second through decode, verify and window, alone and mixed with as many bad ones of every kind."""
    load = loads.load(400, max(readings // 400, 2))
    good = [record for record in load.records[0]]
    draw, mixed = random.Random(1), []  # noqa: S311 - garbage, no secret
    for record in good:
        mixed.append(record)
        mixed.append((_garbage(draw, record[0]), record[1]))
    registry, verifier, rates = RegistryView(loads.registry(400)), Verifier(loads.NETWORK), {}
    for name, records in (("good", good), ("mixed", mixed)):
        raws = [Raw(offset, 0, value, tuple(headers), b"1") for offset, (value, headers) in enumerate(records)]
        state, accepted, refused = ShardState(0, loads.PARTITIONS), 0, 0
        started = time.perf_counter()
        for at in range(0, len(raws), 2_000):
            state, outputs = step(state, verifier.messages(raws[at : at + 2_000]), registry)
            accepted += outputs.counts["accepted", ""]
            refused += len(outputs.dead_letters)
        seconds = time.perf_counter() - started
        rates[name] = {"records_per_second": len(raws) / seconds, "accepted": accepted, "refused": refused}
    verifier.close()
    return rates


def _garbage(draw: random.Random, value: bytes) -> bytes:
    match draw.randrange(6):
        case 0:
            return draw.randbytes(300)
        case 1:
            return value[: len(value) // 2]
        case 2:
            return value.replace(b"229.8", b"1e999")
        case 3:
            return value.replace(b'"seq"', b'"sequence"')
        case 4:
            return value.replace(b"MEA-", b"XXX-")
        case _:
            return value.replace(b"229.8", b"229.9")  # the signature no longer fits


def _flow(brokers: str, url: str, folder: Path) -> subprocess.Popen[bytes]:
    options = ["--brokers", brokers, "--database-url", url, "--archive", str(folder)]
    recovery = ["--recovery", str(folder / f"recovery-{time.time_ns()}")]
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, "-m", "streaming.run", "telemetry", *options, *recovery], cwd=root, env=env
    )


def _fresh_topics(brokers: str, meters: int) -> Any:
    from streaming_place import Place, fill  # noqa: PLC0415

    empty = loads.Load([[] for _ in range(loads.PARTITIONS)], 0, 0, 0)
    fill(Place(brokers, Path(), None), empty, meters)
    from gridtokenx_pipelines.messaging.kafka import Sender  # noqa: PLC0415

    return Sender(brokers)


def latency(brokers: str, url: str, folder: Path, seconds: float, per_second: int = 100) -> dict[str, Any]:
    """ms from a reading's arrival at the broker to its row in the view, at a steady rate, each meter once a round."""
    meters = 400
    sender, process = _fresh_topics(brokers, meters), _flow(brokers, url, folder)
    seen: dict[tuple[str, int], float] = {}
    done, database = threading.Event(), engine(url)

    def watch() -> None:
        latest: dict[str, int] = {}
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not done.is_set():
                for meter_id, seq in connection.execute(text("SELECT meter_id, seq FROM meter_readings")).fetchall():
                    if latest.get(meter_id) != seq:
                        latest[meter_id] = seq
                        seen[meter_id, seq] = time.time()
                time.sleep(0.005)

    for partition in range(loads.PARTITIONS):
        _send(sender, partition, loads.tick(0))
    sender.flush()
    watcher = threading.Thread(target=watch)
    watcher.start()
    sent: dict[tuple[str, int], float] = {}
    count, began = 0, time.time()
    while time.time() - began < seconds + 4:
        step_number, number = divmod(count, meters)
        record = loads._signed((number, step_number, 0))
        if number == 0:
            for partition in range(loads.PARTITIONS):
                _send(sender, partition, loads.tick(step_number * loads.STEP_SECONDS + 5))
        _send(sender, number % loads.PARTITIONS, record)
        sender.flush()
        sent[loads.meter_id(number), step_number + 1] = time.time()
        count += 1
        time.sleep(max(0.0, began + count / per_second - time.time()))
    time.sleep(3)
    done.set()
    watcher.join()
    process.terminate()
    process.wait(30)
    # the flow needs its first seconds to start
    delays = sorted(1_000 * (seen[each] - at) for each, at in sent.items() if each in seen and at > began + 4)
    lost = sum(1 for each, at in sent.items() if at > began + 4 and each not in seen)
    return {
        "readings": len(delays),
        "never_seen": lost,
        "per_second": per_second,
        **{f"p{p}_ms": delays[min(len(delays) * p // 100, len(delays) - 1)] for p in (50, 95, 99)},
    }


def _send(sender: Any, partition: int, record: loads.Record) -> None:
    value, headers = record
    sender.send("meter-readings", value, key=str(partition + 1).encode(), headers=headers, partition=partition)


def orders(url: str, count: int) -> dict[str, Any]:
    """Signed orders a second through verification, every limit, and Postgres; 50 a wallet and epoch."""
    from functools import partial  # noqa: PLC0415 - only this figure needs the market

    from bytewax.testing import TestingSource, run_main  # noqa: PLC0415

    from gridtokenx_pipelines.market.rules import Rules  # noqa: PLC0415
    from streaming.orders import Market, build_flow, write_postgres  # noqa: PLC0415
    from streaming.telemetry import Registry  # noqa: PLC0415

    market, database = Market(loads.NETWORK, bytes(32), Rules()), engine(url, pool_size=1)
    records, view = _signed_orders(count)
    items = [
        (f"{partition:04d}", raws[at : at + 2_000])
        for partition, raws in enumerate(records)
        for at in range(0, len(raws), 2_000)
    ]
    refused: list[int] = []
    sinks = {
        "postgres": partial(write_postgres, database),
        "refused": lambda batches: refused.extend(len(batch.letters) for batch in batches),
    }
    flow = build_flow(TestingSource(items), loads.PARTITIONS, market, Registry(view, lambda: None), sinks)
    started = time.perf_counter()
    run_main(flow)
    seconds = time.perf_counter() - started
    with database.connect() as connection:
        stored = int(connection.execute(text("SELECT count(*) FROM orders WHERE status = 'pending'")).scalar_one())
    database.dispose()
    return {"orders": count, "stored": stored, "refused": sum(refused), "per_second": count / seconds}


def _signed_orders(count: int) -> tuple[list[list[Raw]], RegistryView]:
    from gridtokenx_pipelines.market.base58 import encode  # noqa: PLC0415
    from gridtokenx_pipelines.market.orders import (  # noqa: PLC0415
        Order,
        encode_order,
        meter_hash,
        order_id_of,
        sign,
    )

    wallets = -(-count // 50)
    registry: list[Any] = []
    records: list[list[Raw]] = [[] for _ in range(loads.PARTITIONS)]
    for record in loads.registry(wallets, one_key=True):
        if hasattr(record, "gateway_id"):
            registry.append(record)
        else:
            owner = encode(bytes(loads.key_of(record.meter_id).verify_key))
            registry.append(msgspec.structs.replace(record, wallet=owner))
    for partition in range(loads.PARTITIONS):
        value, headers = loads.tick(0)
        records[partition].append(Raw(0, loads.START_US, value, tuple(headers), b"1"))
    for number in range(count):
        nonce, wallet = divmod(number, wallets)
        meter_id, partition = loads.meter_id(wallet), wallet % loads.PARTITIONS
        key, now = loads.key_of(meter_id), loads.START_US + number
        order = Order(
            network_id=loads.NETWORK,
            market=bytes(32),
            order_id=order_id_of(now, number.to_bytes(10, "big")),
            meter_hash=meter_hash(meter_id),
            side=0,
            energy_wh=100,
            limit_uthb_per_kwh=3_000_000,
            epoch=loads.EPOCH + 1,
            nonce=nonce,
            placed_at_us=now,
        )
        message = encode_order(order)
        headers = (("sig", sign(message, key)), ("pub", bytes(key.verify_key)))
        records[partition].append(Raw(len(records[partition]), now, message, headers, b"1"))
    return records, RegistryView(registry)


def soak(brokers: str, url: str, folder: Path, seconds: float, per_second: int = 1_000) -> dict[str, Any]:
    """Resident memory of the flow's process under a steady load: once warm, and at the end."""
    meters = 1_000
    sender, process = _fresh_topics(brokers, meters), _flow(brokers, url, folder)
    began, count, samples = time.time(), 0, []
    while time.time() - began < seconds:
        step_number, number = divmod(count, meters)
        if number == 0:
            for partition in range(loads.PARTITIONS):
                _send(sender, partition, loads.tick(step_number * loads.STEP_SECONDS + 5))
        _send(sender, number % loads.PARTITIONS, loads._signed((number, step_number, 0)))
        count += 1
        if count % per_second == 0:
            samples.append((time.time() - began, _resident(process.pid)))
            time.sleep(max(0.0, began + count / per_second - time.time()))
    sender.flush()
    process.terminate()
    process.wait(60)
    warm = [size for at, size in samples if at > seconds / 3]
    third = max(len(warm) // 3, 1)
    return {
        "seconds": round(time.time() - began),
        "readings": count,
        "epochs": count // meters * loads.STEP_SECONDS // 900,
        "mebibytes_warm": sum(warm[:third]) / third,
        "mebibytes_at_the_end": sum(warm[-third:]) / third,
        "mebibytes_highest": max(warm),
    }


def _resident(pid: int) -> float:
    with open(f"/proc/{pid}/statm", encoding="ascii") as handle:
        return int(handle.read().split()[1]) * 4_096 / 2**20

"""Signed readings, blocks and orders for the streaming benchmark, and what must come of them.

Belongs here: a small deterministic fleet, its registry, its records by partition. Does not belong here: measuring.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from hashlib import sha256
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parents[1])]

import msgspec  # noqa: E402 - beside the project, whatever the working folder
from nacl.signing import SigningKey  # noqa: E402

from gridtokenx_pipelines.epochs import epoch_of_key, start_us  # noqa: E402
from gridtokenx_pipelines.metering.readings import sign_reading, sign_tick  # noqa: E402
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord  # noqa: E402

NETWORK, PARTITIONS, STEP_SECONDS = 3, 8, 30
EPOCH = epoch_of_key("2026-06-14T10:00Z")
START_US = start_us(EPOCH)
GATEWAY = SigningKey(sha256(b"gateway").digest())
Record = tuple[bytes, list[tuple[str, bytes]]]
_KEYS: dict[str, SigningKey] = {}


class Load(NamedTuple):
    """Records by partition in order, how many readings they hold, and Wh (production, consumption) of all meters."""

    records: list[list[Record]]
    readings: int
    production_wh: int
    consumption_wh: int


def key_of(name: str) -> SigningKey:
    """A key by name, made once."""
    if name not in _KEYS:
        _KEYS[name] = SigningKey(sha256(name.encode()).digest())
    return _KEYS[name]


def meter_id(number: int) -> str:
    """Id of the fleet's meter."""
    return f"MEA-{number:06d}"


def registry(meters: int, *, one_key: bool = False) -> list[MeterRecord | GatewayRecord]:
    """The fleet's records: meter n in zone n mod 8 + 1; `one_key` where signatures don't matter."""
    shared = bytes(key_of("shared").verify_key)
    found: list[MeterRecord | GatewayRecord] = [GatewayRecord(gateway_id="gw", key=bytes(GATEWAY.verify_key))]
    for number in range(meters):
        found.append(
            MeterRecord(
                meter_id=meter_id(number),
                wallet=f"wallet {number}",
                zone_id=number % PARTITIONS + 1,
                meter_type="Hybrid",
                rating_w=6_000,
                device_key=shared if one_key else bytes(key_of(meter_id(number)).verify_key),
                effective_epoch=EPOCH,
                first_epoch=EPOCH,
                baseline_timestamp_us=START_US - 1,
            )
        )
    return found


def tick(seconds: float) -> Record:
    """A gateway's tick."""
    value = msgspec.json.encode({"gateway_id": "gw", "timestamp": START_US + round(seconds * 1_000_000)})
    return value, sign_tick(value, NETWORK, GATEWAY)


def measured(number: int, step: int) -> dict[str, object]:
    """Reading `step` of a meter: 20 Wh produced and 10 consumed a step of half a minute."""
    return {
        "seq": step + 1,
        "timestamp": START_US + (step + 1) * STEP_SECONDS * 1_000_000 - 1_000_000 + number,
        "production_wh": 20 * (step + 1),
        "consumption_wh": 10 * (step + 1),
        "voltage_v": 229.8,
        "current_a": 3.1 + number % 10,
        "power_factor": 0.98,
        "frequency_hz": 50.01,
    }


def _signed(job: tuple[int, int, int]) -> Record:
    number, step, block = job
    who = {"meter_id": meter_id(number), "zone_id": number % PARTITIONS + 1}
    said = who | ({"readings": [measured(number, step + n) for n in range(block)]} if block else measured(number, step))
    value = msgspec.json.encode(said)
    return value, sign_reading(value, NETWORK, key_of(meter_id(number)))


def load(meters: int, steps: int, block: int = 0, processes: int = 2) -> Load:
    """`steps` readings of each meter, singly or in blocks, ticks between, and a last tick that closes all epochs."""
    width = block or 1
    jobs = [(number, step, block) for step in range(0, steps, width) for number in range(meters)]
    with Pool(processes) as pool:
        signed = pool.map(_signed, jobs, chunksize=500)
    records: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for (number, _, _), record in zip(jobs, signed, strict=True):
        records[number % PARTITIONS].append(record)
    per_step = [len(range(partition, meters, PARTITIONS)) for partition in range(PARTITIONS)]
    last = tick(-(-steps * STEP_SECONDS // 900) * 900 + 31)
    ticked = [list(_ticked(of_one, per_step[at], steps, width, last)) for at, of_one in enumerate(records)]
    closed = steps * STEP_SECONDS // 900 * 900 // STEP_SECONDS  # steps in epochs that end with a reading
    return Load(ticked, meters * steps, 20 * closed * meters, 10 * closed * meters)


def _ticked(records: list[Record], per_step: int, steps: int, width: int, last: Record) -> Iterator[Record]:
    for at, step in enumerate(range(0, steps, width)):
        yield tick((step + width) * STEP_SECONDS - 25)
        yield from records[at * per_step : (at + 1) * per_step]
    yield last

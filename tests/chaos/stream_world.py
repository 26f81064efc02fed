"""A fleet for streams under stress: signed readings of many zones, bad ones of every kind, and what must come of them.

Belongs here: what is sent, seeded, and the expected rows by the pure functions. Does not belong here: sending or
breaking anything.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import polars as pl
from msgspec.structs import replace
from nacl.signing import SigningKey

from gridtokenx_pipelines.epochs import epoch_of_key, start_us
from gridtokenx_pipelines.metering.readings import Raw, sign_reading, sign_tick
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, RegistryView, partition_of_zone
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step

NETWORK, SECOND, PARTITIONS = 3, 1_000_000, 8
EPOCH = epoch_of_key("2026-01-27T12:00Z")
FIELDS = (
    "meter_id",
    "zone_id",
    "seq",
    "timestamp",
    "production_wh",
    "consumption_wh",
    "voltage_v",
    "current_a",
    "power_factor",
    "frequency_hz",
    "battery_soc",
)
# what a broken device puts where a value should be; raw JSON, as some of it no encoder would write
POISON = ("null", '"x"', "-1", "NaN", "1e999", "1" + "0" * 40, "[]", "{}", "true", "", '"\\u0000"', "3.5")


def _key(name: str) -> SigningKey:
    return SigningKey(sha256(f"chaos {name}".encode()).digest())


GATEWAY = _key("gateway")


class Sent(NamedTuple):
    """One record of a partition."""

    partition: int
    raw: Raw


class Fleet:
    """Meters over all partitions, some minutes of readings, faults and poison; the same seed is the same fleet."""

    def __init__(self, seed: int, meters: int = 24, minutes: int = 47) -> None:
        self.draws, self.minutes = random.Random(seed), minutes  # noqa: S311 - a seeded test
        self.meters = {f"CHS-{number:04d}": 1 + number % PARTITIONS for number in range(meters)}
        self.keys = {name: _key(name) for name in self.meters}
        self._seq = dict.fromkeys(self.meters, 10)
        self._registers = {name: [1_000, 2_000] for name in self.meters}
        self._offsets: Counter[int] = Counter()

    def registry(self) -> list[MeterRecord | GatewayRecord]:
        """Who may send."""
        begin = start_us(EPOCH)
        return [
            GatewayRecord(gateway_id="gw-1", key=bytes(GATEWAY.verify_key)),
            *(
                MeterRecord(
                    meter_id=name,
                    wallet=f"wallet of {name}",
                    zone_id=zone,
                    meter_type="Hybrid",
                    rating_w=40_000,
                    device_key=bytes(self.keys[name].verify_key),
                    effective_epoch=EPOCH,
                    first_epoch=EPOCH,
                    baseline_production_wh=1_000,
                    baseline_consumption_wh=2_000,
                    baseline_seq=10,
                    baseline_timestamp_us=begin - 5 * SECOND,
                )
                for name, zone in self.meters.items()
            ),
        ]

    def records(self) -> Iterator[list[Sent]]:
        """The stream minute by minute."""
        begin = start_us(EPOCH)
        yield self._ticks(begin)
        held: list[tuple[int, Sent]] = []
        for minute in range(1, self.minutes + 1):
            at = begin + minute * 60 * SECOND
            batch: list[Sent] = []
            for name, zone in self.meters.items():
                if self.draws.random() < 0.03:
                    continue  # lost on the way: its registers come with the next
                if minute % 15 == 0 and self.draws.random() < 0.4:
                    # the boundary has a reading, and a later one, nearer to it, comes when the epoch is closed
                    batch.append(self._reading(name, zone, at - 45 * SECOND))
                    late = self._reading(name, zone, at - 5 * SECOND)
                    held.append((minute + self.draws.randrange(1, 4), late))
                    continue
                each = self._reading(name, zone, at - self.draws.randrange(1, 20) * SECOND)
                if self.draws.random() < 0.03:
                    held.append((minute + self.draws.randrange(1, 4), each))
                    continue
                batch.append(each)
                if self.draws.random() < 0.04:
                    batch.append(each)  # a gateway sends again
            batch += [each for due, each in held if due == minute]
            held = [pair for pair in held if pair[0] > minute]
            batch += [self._poison() for _ in range(max(len(self.meters) // 4, 2))]
            if minute % 11 == 0:
                batch.append(self._jumped(at))
            self.draws.shuffle(batch)
            # once the gateway's own clock runs ahead by two minutes, and is set right again
            jump_us = 120 * SECOND if minute == self.minutes * 2 // 3 else 0
            yield [*map(self._placed, batch), *self._ticks(at + jump_us)]
        yield self._ticks(begin + (self.minutes * 60 + 200) * SECOND)

    def _placed(self, each: Sent) -> Sent:
        offset = self._offsets[each.partition]
        self._offsets[each.partition] += 1
        return Sent(each.partition, replace(each.raw, offset=offset))

    def _ticks(self, at_us: int) -> list[Sent]:
        value = json.dumps({"gateway_id": "gw-1", "timestamp": at_us}).encode()
        raw = Raw(0, 0, value, tuple(sign_tick(value, NETWORK, GATEWAY)), b"1")
        return [self._placed(Sent(partition, raw)) for partition in range(PARTITIONS)]

    def _document(self, name: str, zone: int, at_us: int) -> dict[str, Any]:
        return {
            "meter_id": name,
            "zone_id": zone,
            "seq": self._seq[name],
            "timestamp": at_us,
            "production_wh": self._registers[name][0],
            "consumption_wh": self._registers[name][1],
            "voltage_v": 230.1,
            "current_a": 4.5,
            "power_factor": 0.98,
            "frequency_hz": 50.0,
            "battery_soc": 0.5,
        }

    def _signed(self, name: str, value: bytes) -> Sent:
        zone = self.meters[name]
        headers = tuple(sign_reading(value, NETWORK, self.keys[name]))
        return Sent(partition_of_zone(zone, PARTITIONS), Raw(0, 0, value, headers, str(zone).encode()))

    def _reading(self, name: str, zone: int, at_us: int) -> Sent:
        self._seq[name] += 2
        for which in (0, 1):
            self._registers[name][which] += self.draws.randrange(0, 200)
        return self._signed(name, json.dumps(self._document(name, zone, at_us)).encode())

    def _poison(self) -> Sent:
        """A record that something is wrong with, at any field or around it."""
        name = self.draws.choice(sorted(self.meters))
        zone = self.meters[name]
        document = self._document(name, zone, start_us(EPOCH) + self.draws.randrange(0, 3_600) * SECOND)
        document["seq"] += 1
        kind = self.draws.randrange(14)
        if kind < 9:
            field = self.draws.choice(FIELDS)
            words = {key: json.dumps(value) for key, value in document.items()} | {field: self.draws.choice(POISON)}
            value = ("{" + ",".join(f'"{key}":{text}' for key, text in words.items()) + "}").encode()
            return self._signed(name, value)
        if kind == 9:
            del document[self.draws.choice(FIELDS)]
            return self._signed(name, json.dumps(document).encode())
        if kind == 10:
            return self._signed(name, self.draws.randbytes(self.draws.randrange(0, 300)))
        signed = self._signed(name, json.dumps(document).encode())
        if kind == 11:  # in another zone's partition
            return Sent((signed.partition + 1) % PARTITIONS, signed.raw)
        if kind == 12:
            return Sent(signed.partition, replace(signed.raw, headers=()))
        return Sent(signed.partition, replace(signed.raw, value=signed.raw.value.replace(b"230.1", b"231.1")))

    def _jumped(self, at_us: int) -> Sent:
        """A device's clock stepped, forward or back, by seconds or by years."""
        name = self.draws.choice(sorted(self.meters))
        step_us = self.draws.choice([61, -90, 3_600, -7_200, 400 * 86_400, -400 * 86_400]) * SECOND
        self._seq[name] += 2
        return self._signed(name, json.dumps(self._document(name, self.meters[name], at_us + step_us)).encode())


class Expected(NamedTuple):
    """What must be in the tables: rows in the order of their keys, letters and totals."""

    net_energy: pl.DataFrame
    corrections: pl.DataFrame
    letters: list[tuple[int, int, int]]
    totals: dict[tuple[str, str], int]
    offsets: dict[int, int]


def expected(records: list[Sent], registry: list[Any]) -> Expected:
    """The pure functions over each partition's records in offset order, undisturbed."""
    verifier, view = Verifier(NETWORK), RegistryView(registry)
    net, corrections, letters = [], [], []
    totals: Counter[tuple[str, str]] = Counter()
    offsets = {}
    for partition in range(PARTITIONS):
        raws = [each.raw for each in records if each.partition == partition]
        assert [raw.offset for raw in raws] == list(range(len(raws)))
        _, outputs = step(ShardState(partition, PARTITIONS), verifier.messages(raws), view)
        net.append(outputs.net_energy())
        corrections.append(outputs.corrections())
        letters += [(partition, each.raw.offset, each.reason.value) for each in outputs.dead_letters]
        totals.update(outputs.totals)
        offsets[partition] = len(raws) - 1
    verifier.close()
    return Expected(
        pl.concat(net).sort("meter_id", "epoch", "revision"),
        pl.concat(corrections).sort("meter_id", "boundary_epoch", "revision"),
        sorted(letters),
        dict(totals),
        offsets,
    )

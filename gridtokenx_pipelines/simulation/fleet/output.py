"""The bytes that meters send: readings, one by one or in blocks, signed, and the gateway's ticks.

Belongs here: columns to events. Does not belong here: what was measured (measure.py), the broker (simulation_cli/).
A reading's JSON is the one of metering/readings.py; `quality` is there only where it says something, and is ignored by
who doesn't know it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from nacl.bindings import crypto_sign
from numpy.typing import NDArray

from gridtokenx_pipelines.metering.readings import (
    Block,
    BlockReading,
    Reading,
    Tick,
    encode,
    reading_message,
    sign_tick,
)
from gridtokenx_pipelines.metering.registry import partition_of_zone
from gridtokenx_pipelines.simulation.fleet.fleet import Fleet
from gridtokenx_pipelines.simulation.fleet.measure import NO_POWER_FLOW, NOT_CONVERGED, Measured
from gridtokenx_pipelines.simulation.fleet.meter_faults import Effect
from gridtokenx_pipelines.simulation.keys import DemoKeys, public_bytes
from gridtokenx_pipelines.simulation.messages import ORDERS_TOPIC, READINGS_TOPIC, Event

GATEWAY_ID = "simulator-1"
SIGNING_CHUNK = 2_048
Mask = NDArray[np.bool_]
Documents = tuple[list[int], list[bytes]]  # of meters at these places
MS = 1_000


class FleetReading(Reading, frozen=True, kw_only=True, gc=False):
    """A reading with its quality where that isn't good."""

    quality: str | UnsetType = UNSET


class FleetBlockReading(BlockReading, frozen=True, kw_only=True, gc=False):
    """The same inside a block."""

    quality: str | UnsetType = UNSET


class Output:
    """Sender of a fleet: holds unfinished blocks and what an outage keeps back."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        network_id: int,
        partitions: int,
        block: int,
        sign: bool,
        power_flow: bool,
        threads: int = 2,
    ) -> None:
        """`block`: readings under one signature, 1: single readings. Without `sign` no keys are made."""
        self._ids = [member.meter_id for member in fleet.members]
        self._zones = [member.zone_id for member in fleet.members]
        self._places = [partition_of_zone(zone, partitions) for zone in self._zones]
        keys = {zone: str(zone).encode() for zone in set(self._zones)}
        self._key = [keys[zone] for zone in self._zones]
        # the end of every document of a meter, as JSON writes its id
        self._tails = [
            f'"meter_id":{msgspec.json.encode(name).decode()},"zone_id":{zone}'
            for name, zone in zip(self._ids, self._zones, strict=True)
        ]
        self._network_id, self._partitions, self._block = network_id, partitions, block
        self._prefix = reading_message(network_id, b"")
        self._good = UNSET if power_flow else NO_POWER_FLOW
        self._keys, self._sign = DemoKeys(fleet.seed), sign
        self._secret: list[bytes] = []
        self._public: list[bytes] = []
        if sign:
            for meter_id in self._ids:
                key = self._keys.meter(meter_id)
                self._public.append(public_bytes(key))
                self._secret.append(key.encode() + self._public[-1])
        self._pool = ThreadPoolExecutor(threads) if sign and threads > 1 else None
        self._waiting: dict[int, list[FleetBlockReading]] = {}
        self._held: dict[int, deque[Event]] = {}

    def of_step(self, seq: int, end: int, measured: Measured, effect: Effect) -> list[Event]:
        """Events of the readings at the end of a step (s since 1970), backlogs that end first."""
        at_ms = end * MS
        silent = effect.silent if effect.silent.any() else None
        if self._block == 1:
            places, events = self._events(self._singles(seq, end, measured, silent), b"reading", at_ms)
        else:
            places, events = self._events([self._blocks(seq, end, measured, silent)], b"block", at_ms)
        if not self._held and not effect.held.any():
            return events
        return self._through_outage(places, events, effect, at_ms)

    def flush(self, end: int) -> list[Event]:
        """What is left at the end of a run: unfinished blocks and backlogs."""
        places = sorted(self._waiting)
        _, events = self._events([(places, [self._document(place) for place in places])], b"block", end * MS)
        held = [event for place in sorted(self._held) for event in self._held[place]]
        self._held.clear()
        return [msgspec.structs.replace(event, timestamp_ms=end * MS) for event in held] + events

    def ticks(self, seconds: Iterable[int]) -> Iterator[Event]:
        """The gateway's tick at each instant on every partition of both topics, one signature for all."""
        gateway = self._keys.gateway()
        for second in seconds:
            value = encode(Tick(gateway_id=GATEWAY_ID, timestamp=second * 1_000_000))
            headers = tuple(sign_tick(value, self._network_id, gateway))
            for topic in (READINGS_TOPIC, ORDERS_TOPIC):
                for partition in range(self._partitions):
                    yield Event(topic, partition, None, value, headers, second * MS)

    def _rows(self, measured: Measured) -> Iterator[tuple[Any, ...]]:
        """(place, production, consumption, V, A, power factor, state of charge or None, skew, solved) of all meters."""
        socs: list[float | None] = [None] * len(self._ids)
        for place in np.flatnonzero(~np.isnan(measured.battery_soc)).tolist():
            socs[place] = round(float(measured.battery_soc[place]), 1)
        return zip(
            range(len(self._ids)),
            measured.production_wh.tolist(),
            measured.consumption_wh.tolist(),
            measured.voltage_v.tolist(),
            measured.current_a.tolist(),
            measured.power_factor.tolist(),
            socs,
            measured.skew_us.tolist(),
            measured.solved.tolist(),
            strict=True,
        )

    def _singles(self, seq: int, end: int, measured: Measured, silent: Mask | None) -> Iterator[Documents]:
        """Values as msgspec writes a `FleetReading`, by a format string: half the time of struct and encoder."""
        time_us, hz, tails = end * 1_000_000, measured.frequency_hz, self._tails
        good = "" if self._good is UNSET else f',"quality":"{self._good}"'
        said = {True: good, False: f',"quality":"{NOT_CONVERGED}"'}
        quiet: list[bool] | None = None if silent is None else silent.tolist()
        rows = self._rows(measured)
        while chunk := list(islice(rows, SIGNING_CHUNK)):
            if quiet is not None:
                chunk = [row for row in chunk if not quiet[row[0]]]
            yield (
                [row[0] for row in chunk],
                [
                    f'{{"seq":{seq},"timestamp":{time_us + skew},"production_wh":{production},'
                    f'"consumption_wh":{consumption},"voltage_v":{volt},"current_a":{ampere},"power_factor":{factor},'
                    f'"frequency_hz":{hz if solved else 0.0},"battery_soc":{"null" if soc is None else soc},'
                    f"{tails[place]}{said[solved]}}}".encode()
                    for place, production, consumption, volt, ampere, factor, soc, skew, solved in chunk
                ],
            )

    def _blocks(self, seq: int, end: int, measured: Measured, silent: Mask | None) -> Documents:
        full: list[int] = []
        time_us, good, hz = end * 1_000_000, self._good, measured.frequency_hz
        quiet: list[bool] | None = None if silent is None else silent.tolist()
        for place, production, consumption, volt, ampere, factor, soc, skew, solved in self._rows(measured):
            if quiet is not None and quiet[place]:
                continue
            waiting = self._waiting.setdefault(place, [])
            waiting.append(
                FleetBlockReading(
                    seq=seq,
                    timestamp=time_us + skew,
                    production_wh=production,
                    consumption_wh=consumption,
                    voltage_v=volt,
                    current_a=ampere,
                    power_factor=factor,
                    frequency_hz=hz if solved else 0.0,
                    battery_soc=soc,
                    quality=good if solved else NOT_CONVERGED,
                )
            )
            if len(waiting) >= self._block or seq % self._block == 0:
                full.append(place)
        return full, [self._document(place) for place in full]

    def _document(self, place: int) -> bytes:
        readings = tuple(self._waiting.pop(place))
        return encode(Block(meter_id=self._ids[place], zone_id=self._zones[place], readings=readings))

    def _events(self, documents: Iterable[Documents], kind: bytes, at_ms: int) -> tuple[list[int], list[Event]]:
        """(places, events) of documents that come in parts, so that one part is signed while the next is written."""
        partitions, key, public = self._places, self._key, self._public
        header, places, events = ("kind", kind), [], []
        for part, values, signatures in self._with_signatures(documents):
            places += part
            if signatures is None:
                events += [
                    Event(READINGS_TOPIC, partitions[place], key[place], value, (header,), at_ms)
                    for place, value in zip(part, values, strict=True)
                ]
                continue
            events += [
                Event(
                    READINGS_TOPIC,
                    partitions[place],
                    key[place],
                    value,
                    (header, ("sig", signature), ("pub", public[place])),
                    at_ms,
                )
                for place, value, signature in zip(part, values, signatures, strict=True)
            ]
        return places, events

    def _with_signatures(
        self, documents: Iterable[Documents]
    ) -> Iterator[tuple[list[int], list[bytes], list[bytes] | None]]:
        if not self._sign:
            yield from ((places, values, None) for places, values in documents)
        elif self._pool is None:
            yield from ((places, values, self._signed(places, values)) for places, values in documents)
        else:
            pending = [
                (places, values, self._pool.submit(self._signed, places, values))
                for places, values in _parts(documents)
            ]
            yield from ((places, values, future.result()) for places, values, future in pending)

    def signatures(self, places: list[int], values: list[bytes]) -> list[bytes]:
        """Signatures of documents of meters at these places, by the output's own threads."""
        found = self._with_signatures([(places, values)])
        return [signature for _, _, signed in found for signature in signed or ()]

    def _signed(self, places: list[int], values: list[bytes]) -> list[bytes]:
        prefix, secret = self._prefix, self._secret
        # libsodium lets go of the interpreter while it signs, so threads help
        return [crypto_sign(prefix + value, secret[place])[:64] for place, value in zip(places, values, strict=True)]

    def _through_outage(self, places: list[int], events: list[Event], effect: Effect, at_ms: int) -> list[Event]:
        held = effect.held
        back = [place for place in sorted(self._held) if not held[place]]
        sent = [msgspec.structs.replace(event, timestamp_ms=at_ms) for place in back for event in self._held.pop(place)]
        for place, event in zip(places, events, strict=True):
            if held[place]:
                self._held.setdefault(place, deque()).append(event)
            else:
                sent.append(event)
        return sent

    @property
    def backlog(self) -> int:
        """Records that an outage keeps back now."""
        return sum(map(len, self._held.values()))


def _parts(documents: Iterable[Documents]) -> Iterator[Documents]:
    for places, values in documents:
        for at in range(0, len(values), SIGNING_CHUNK):
            yield places[at : at + SIGNING_CHUNK], values[at : at + SIGNING_CHUNK]

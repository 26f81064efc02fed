"""What one meter sends about one epoch: its signed readings, single or as a block, and the records of its fault.

Belongs here: instants, measured values, bytes, signatures, arrival times. Does not belong here: which fault happens
(faults.py), ordering and ticks (day.py).

Seqs are fixed by the epoch's place in the run: 4·i + 1 middle of the epoch, + 2 the slot of validly signed bad
records, + 3 about 45 s and + 4 about 5 s before the boundary. So a bad record never takes a good reading's seq.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace
from nacl.signing import SigningKey

from gridtokenx_pipelines.epochs import BANGKOK_OFFSET_SECONDS, start_us
from gridtokenx_pipelines.metering.readings import Block, BlockReading, Measured, Reading, encode, sign_reading
from gridtokenx_pipelines.metering.registry import partition_of_zone
from gridtokenx_pipelines.simulation.draws import Draws
from gridtokenx_pipelines.simulation.faults import Fault
from gridtokenx_pipelines.simulation.keys import DemoKeys
from gridtokenx_pipelines.simulation.messages import READINGS_TOPIC, Event
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.simulation.registers import Registers

SEQS_PER_EPOCH = 4
MIDDLE, BAD, BEFORE, LAST = 1, 2, 3, 4
MS = 1_000
# (slot, ms from the epoch's start, most ms of jitter either way): distinct and ascending at any jitter
INSTANTS = ((MIDDLE, 450_000, 60_000), (BEFORE, 855_000, 3_000), (LAST, 895_000, 3_000))
BAD_INSTANT = (BAD, 600_000, 0)
MIN_LATENCY_MS, LATENCY_SPAN_MS = 500, 1_500
UNKNOWN_METERS = 900  # numbers from here on belong to nobody
BACK_WH = 500


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An event with the instant it arrives at (ms), before ordering, and the timestamps (µs) of its good readings."""

    arrival_ms: int
    event: Event
    readings_us: tuple[int, ...] = ()


class Telemetry:
    """Sender of all meters of a neighbourhood in a run."""

    def __init__(self, neighbourhood: Neighbourhood, registers: Registers, partitions: int) -> None:
        self._registers, self._partitions = registers, partitions
        self._network_id = neighbourhood.network_id
        self._meters = neighbourhood.meters
        self._zones = len(neighbourhood.network.zones)
        self._draws, self._keys = Draws(neighbourhood.seed), DemoKeys(neighbourhood.seed)
        self._device = [self._keys.meter(meter.meter_id) for meter in self._meters]

    def of_epoch(self, place: int, epoch: int, fault: Fault | None) -> list[Sent]:
        """All that the meter sends about the epoch, the record of its fault included."""
        meter, noise = self._meters[place], self._draws.raw("reading", self._meters[place].meter_id, epoch)
        readings = [
            self._reading(place, epoch, instant, noise[6 * index : 6 * index + 6])
            for index, instant in enumerate(INSTANTS)
        ]
        latency = [MIN_LATENCY_MS + byte * LATENCY_SPAN_MS // 255 for byte in noise[18:21]]
        arrivals = [reading.timestamp_us // MS + wait for reading, wait in zip(readings, latency, strict=True)]
        extra = int.from_bytes(noise[24:32], "little")
        if meter.sends_blocks:
            times_us = tuple(reading.timestamp_us for reading in readings)
            block, device = _block(readings), self._device[place]
            sent = [self._sent(meter.zone_id, block, device, arrivals[-1], kind=b"block", readings_us=times_us)]
        else:
            if fault is Fault.DISORDER:  # overtaken by the next one, but before the tick that closes the epoch
                arrivals[1] = start_us(epoch + 1) // MS + 5_000 + extra % 15_000
            if fault is Fault.LATE:
                arrivals[2] = start_us(epoch + 1) // MS + 60_000 + extra % 540_000
            sent = [
                self._sent(
                    meter.zone_id, encode(reading), self._device[place], arrival, readings_us=(reading.timestamp_us,)
                )
                for reading, arrival in zip(readings, arrivals, strict=True)
            ]
        if fault is None:
            return sent
        return sent + self._bad(place, epoch, fault, readings[0], arrivals[0] + 2_000 + extra % 4_000)

    def moves_last_wh(self, place: int, epoch: int) -> bool:
        """Whether any Wh surely lie between the two readings before the boundary: else being late corrects nothing."""
        end = start_us(epoch + 1)
        early, late = (self._registers.at(place, end - seconds * 1_000_000) for seconds in (42, 8))
        return early != late

    def _reading(self, place: int, epoch: int, instant: tuple[int, int, int], noise: bytes) -> Reading:
        slot, at_ms, jitter_ms = instant
        shift_ms = int.from_bytes(noise[:3], "little") % (2 * jitter_ms + 1) - jitter_ms
        time_us = start_us(epoch) + (at_ms + shift_ms) * MS
        production_wh, consumption_wh = self._registers.at(place, time_us)
        meter = self._meters[place]
        produced_w, consumed_w = self._registers.power_w(place, epoch)
        voltage_v, power_factor = 225 + noise[3] / 25, 0.95 + noise[4] / 5_120
        return Reading(
            meter_id=meter.meter_id,
            zone_id=meter.zone_id,
            seq=(epoch - self._registers.start_epoch) * SEQS_PER_EPOCH + slot,
            timestamp=time_us,
            production_wh=production_wh,
            consumption_wh=consumption_wh,
            voltage_v=round(voltage_v, 2),
            current_a=round(abs(produced_w - consumed_w) / (voltage_v * power_factor), 3),
            power_factor=round(power_factor, 3),
            frequency_hz=round(49.95 + noise[5] / 2_550, 3),
            battery_soc=_charge(time_us, noise[5]) if meter.storage_columns else None,
        )

    def _bad(self, place: int, epoch: int, fault: Fault, middle: Reading, replay_ms: int) -> list[Sent]:
        """The record that a fault adds; copies of the middle reading arrive at `replay_ms`."""
        meter, signer = self._meters[place], self._device[place]
        stranger = self._keys.stranger(meter.meter_id)
        bad = self._reading(place, epoch, BAD_INSTANT, bytes(6))
        at_ms, zone_id, claimed = bad.timestamp_us // MS + 1_500, meter.zone_id, None
        match fault:
            case Fault.FORGED:
                bad = replace(bad, production_wh=bad.production_wh + 100)
                signer, claimed = stranger, meter.device_key
            case Fault.WRONG_KEY:
                signer = stranger
            case Fault.REPLAY:
                bad, at_ms = replace(middle, voltage_v=middle.voltage_v + 1), replay_ms
            case Fault.DUPLICATE:
                bad, at_ms = middle, replay_ms
            case Fault.WRONG_ZONE:
                zone_id = meter.zone_id % max(self._zones, 2) + 1
                bad = replace(bad, zone_id=zone_id)
            case Fault.REGISTER_BACK:
                # below the boundary before, so it runs back whatever of this epoch has arrived
                bad = replace(bad, consumption_wh=self._registers.at(place, start_us(epoch))[1] - BACK_WH)
            case Fault.UNKNOWN_METER:
                bad, signer = replace(bad, meter_id=f"MEA-{UNKNOWN_METERS + len(self._meters) + place}"), stranger
            case Fault.GARBAGE:
                noise = self._draws.raw("garbage", meter.meter_id, epoch)
                # now noise that is no text at all, now a document torn off in the middle
                value = b"\xff" + noise if noise[0] % 2 else encode(bad)[: 40 + noise[1] % 40]
                return [self._sent(zone_id, value, signer, at_ms, claimed=noise)]
            case Fault.DISORDER | Fault.LATE:
                return []  # these move a good reading's arrival and add nothing
        return [self._sent(zone_id, encode(bad), signer, at_ms, claimed=claimed)]

    def _sent(
        self,
        zone_id: int,
        value: bytes,
        signer: SigningKey,
        arrival_ms: int,
        *,
        kind: bytes = b"reading",
        claimed: bytes | None = None,
        readings_us: tuple[int, ...] = (),
    ) -> Sent:
        """`claimed`: the public key that the header names, where it isn't the signer's."""
        signature, (_, public) = sign_reading(value, self._network_id, signer)
        event = Event(
            topic=READINGS_TOPIC,
            partition=partition_of_zone(zone_id, self._partitions),
            key=str(zone_id).encode(),
            value=value,
            headers=(("kind", kind), signature, ("pub", claimed or public)),
            timestamp_ms=arrival_ms,
        )
        return Sent(arrival_ms, event, readings_us)


def _block(readings: list[Reading]) -> bytes:
    first = readings[0]
    body = tuple(
        BlockReading(**{name: getattr(reading, name) for name in Measured.__struct_fields__}) for reading in readings
    )
    return encode(Block(meter_id=first.meter_id, zone_id=first.zone_id, readings=body))


def _charge(time_us: int, noise: int) -> float:
    """Plausible state of charge in percent: fills from nine to four, empties through the night. Nothing reads it."""
    minute = (time_us // 1_000_000 + BANGKOK_OFFSET_SECONDS) % 86_400 // 60
    filled = max(0, min(minute - 540, 420)) / 420
    since_full = (minute - 960) % 1_440 / 1_020  # at nine the next morning it is empty again
    level = filled if 540 <= minute < 960 else 1 - since_full
    return round(20 + 75 * level + noise / 256, 1)

"""Readings, blocks and ticks: their JSON, their signed bytes, and the numbered reasons for refusing one (domain §3).

Belongs here: what one message is and whether it can be read at all. Does not belong here: who may send it
(registry.py), its signature (verify.py), or whether it fits its neighbours (window.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from hashlib import blake2b
from typing import Annotated

import msgspec
from nacl.signing import SigningKey

READING_TAG = b"gridtokenx/reading/v1\0"
TICK_TAG = b"gridtokenx/tick/v1\0"
MAX_VALUE_BYTES = 1 << 20
MAX_BLOCK_READINGS = 96
KIND_TICK = b"tick"
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# 2**62: sums and differences of two such registers still fit a signed 64-bit column
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Timestamp = Natural | Annotated[datetime, msgspec.Meta(tz=True)]
MeterId = Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern=r"\A[!-~]+\Z")]
ZoneId = Annotated[int, msgspec.Meta(ge=1, le=2**31)]


class RejectReason(IntEnum):
    """Why a record went to the dead letters; numbers are never reused."""

    UNDECODABLE = 1  # not JSON, or over 1 MiB
    BAD_FIELD = 2  # a field missing, of the wrong type, out of range or not finite
    UNKNOWN_METER = 3  # meter (or a tick's gateway) unknown or not active
    WRONG_KEY = 4
    BAD_SIGNATURE = 5
    WRONG_ZONE = 6
    REPLAY = 7  # the seq of an accepted reading, with other bytes
    OUT_OF_ORDER = 8
    AHEAD_OF_ARRIVAL = 9
    TOO_OLD = 10
    REGISTER_RAN_BACK = 11
    OVER_RATING = 12
    MIS_KEYED = 13  # the Kafka key is not the zone, by which gateways, partitions and access rules go

    @property
    def word(self) -> str:
        """The reason as it stands in tables, metrics and `demo.json`."""
        return self.name.lower()


class Raw(msgspec.Struct, frozen=True, gc=False):
    """A record as the broker delivered it, whole: what the archive keeps and what a dead letter carries."""

    offset: int
    broker_us: int
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    key: bytes | None = None

    def proof(self) -> tuple[bytes, bytes, bytes]:
        """Headers `sig`, `pub` and `kind`, each the first of its name or no bytes; a reading has the first two only."""
        headers = self.headers
        if len(headers) == 2:
            (first, signature), (second, pub) = headers
            if first == "sig" and second == "pub":
                return signature, pub, b""
        return self.header("sig"), self.header("pub"), self.header("kind")

    def header(self, name: str) -> bytes:
        """The first header of that name, or no bytes."""
        for have, value in self.headers:
            if have == name:
                return value or b""
        return b""


class Measured(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a meter measured: cumulative registers in Wh, the rest as the names say; timestamp µs UTC or RFC 3339."""

    seq: Natural
    timestamp: Timestamp
    production_wh: Natural
    consumption_wh: Natural
    voltage_v: float
    current_a: float
    power_factor: float
    frequency_hz: float
    battery_soc: float | None = None

    @property
    def timestamp_us(self) -> int:
        """µs since 1970, UTC."""
        return time_us(self.timestamp)


class Reading(Measured, frozen=True, kw_only=True, gc=False):
    """One signed reading of one meter."""

    meter_id: MeterId
    zone_id: ZoneId


class BlockReading(Measured, frozen=True, kw_only=True, gc=False):
    """A reading inside a block; the meter's id and zone may be repeated, and must then be the block's."""

    meter_id: str | None = None
    zone_id: int | None = None


class Block(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Up to 96 readings of one meter, ascending in seq, under one signature: accepted or refused as one."""

    meter_id: MeterId
    zone_id: ZoneId
    readings: Annotated[tuple[BlockReading, ...], msgspec.Meta(min_length=1, max_length=MAX_BLOCK_READINGS)]


class Tick(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A gateway's statement that event time has come to `timestamp`: the only thing that moves a watermark."""

    gateway_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    timestamp: Timestamp

    @property
    def timestamp_us(self) -> int:
        """µs since 1970, UTC."""
        return time_us(self.timestamp)


class _Named(msgspec.Struct):
    meter_id: MeterId | None = None


Body = Reading | Block | Tick
_NAMED = msgspec.json.Decoder(_Named)
_READING, _BLOCK, _TICK = msgspec.json.Decoder(Reading), msgspec.json.Decoder(Block), msgspec.json.Decoder(Tick)


class Refusal(msgspec.Struct, frozen=True):
    """A numbered reason and its detail: the value, the bound, the remedy."""

    reason: RejectReason
    detail: str


def time_us(timestamp: int | datetime) -> int:
    """µs since 1970 of either form of a timestamp, exact."""
    return timestamp if isinstance(timestamp, int) else (timestamp - _EPOCH_START) // _MICROSECOND


def decode(raw: Raw) -> Body | Refusal:
    """What the record says, or why it can't be read (UNDECODABLE, BAD_FIELD); never raises for any bytes."""
    return decode_value(raw.value, is_tick=raw.header("kind") == KIND_TICK)


def decode_value(value: bytes, *, is_tick: bool) -> Body | Refusal:
    """`decode` of a value whose header `kind` is known."""
    if len(value) > MAX_VALUE_BYTES:
        return Refusal(
            RejectReason.UNDECODABLE,
            f"value had {len(value)} bytes, must have at most {MAX_VALUE_BYTES}; send smaller blocks",
        )
    try:
        if is_tick or (b'"gateway_id"' in value and b'"meter_id"' not in value):
            return _TICK.decode(value)
        if b'"readings"' not in value:
            return _READING.decode(value)
        return _check_block(_BLOCK.decode(value))
    except msgspec.ValidationError as error:
        return Refusal(RejectReason.BAD_FIELD, f"{error}; correct the field")
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return Refusal(RejectReason.UNDECODABLE, f"{error}; the value must be one JSON document")


def meter_named(value: bytes) -> str | None:
    """The meter that a record says it is of, however wrong the rest may be; None where it says none that could be."""
    try:
        return _NAMED.decode(value).meter_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _check_block(block: Block) -> Block | Refusal:
    before = -1
    for reading in block.readings:
        if reading.seq <= before:
            return Refusal(
                RejectReason.OUT_OF_ORDER,
                f"seq was {reading.seq} after {before}, a block's readings must ascend in seq",
            )
        before = reading.seq
        if reading.meter_id not in (None, block.meter_id) or reading.zone_id not in (None, block.zone_id):
            return Refusal(
                RejectReason.BAD_FIELD,
                f"seq {reading.seq} named meter {reading.meter_id} in zone {reading.zone_id}, "
                f"must be the block's {block.meter_id} in {block.zone_id}",
            )
    return block


def encode(body: Body) -> bytes:
    """The Kafka value of a reading, block or tick."""
    return msgspec.json.encode(body)


def digest_of(value: bytes) -> int:
    """64 bits that tell the same bytes from other bytes (positive; 0 stands for 'came in a block')."""
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "little") >> 1 or 1


def reading_message(network_id: int, value: bytes) -> bytes:
    """The bytes that a meter signs for a reading or block."""
    return READING_TAG + network_id.to_bytes(8, "little") + value


def tick_message(network_id: int, value: bytes) -> bytes:
    """The bytes that a gateway signs for a tick."""
    return TICK_TAG + network_id.to_bytes(8, "little") + value


def sign_reading(value: bytes, network_id: int, key: SigningKey) -> list[tuple[str, bytes]]:
    """Kafka headers of a reading or block: 64-byte `sig` and 32-byte `pub`."""
    return [("sig", key.sign(reading_message(network_id, value)).signature), ("pub", bytes(key.verify_key))]


def sign_tick(value: bytes, network_id: int, key: SigningKey) -> list[tuple[str, bytes]]:
    """Kafka headers of a tick: `sig`, `pub` and `kind`; the same for every partition."""
    signature = key.sign(tick_message(network_id, value)).signature
    return [("sig", signature), ("pub", bytes(key.verify_key)), ("kind", KIND_TICK)]


def headers_of(pairs: Sequence[tuple[str, bytes | None]] | None) -> tuple[tuple[str, bytes], ...]:
    """Kafka headers as `Raw` holds them; a header without a value has no bytes."""
    if not pairs:
        return ()
    for _, value in pairs:
        if value is None:
            return tuple([(name, value or b"") for name, value in pairs])
    return tuple(pairs)  # type: ignore[arg-type] # as nearly always: nothing to replace

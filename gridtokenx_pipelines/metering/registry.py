"""Who may send readings: meters and gateways with effective epochs, as `meter-registry` messages say (pipeline §1).

Belongs here: the records, their JSON, and which one is in force in an epoch. Does not belong here: how the messages
are fetched (messaging/kafka.py), or what a meter has sent (window.py).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar

import msgspec

from gridtokenx_pipelines.metering.readings import MeterId, Natural

MAX_ZONE = 63
Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class RegistryError(ValueError):
    """A registry message that can't be used: names the value and the bound."""


class MeterRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="meter"):
    """What is in force of a meter from `effective_epoch` on; the baseline is that of its admission.

    A meter's zone, first epoch and baseline never change: a replaced or moved device gets a new id. Keys are base64
    in the JSON; energies Wh, rating W, timestamp µs UTC.
    """

    meter_id: MeterId
    wallet: str
    zone_id: Annotated[int, msgspec.Meta(ge=1, le=MAX_ZONE)]
    meter_type: Literal["Solar", "Grid", "Hybrid"] = "Grid"
    rating_w: Annotated[int, msgspec.Meta(gt=0, le=2**31)]
    device_key: Key
    status: Literal["pending", "active", "suspended", "retired"] = "active"
    effective_epoch: Natural
    first_epoch: Natural
    baseline_production_wh: Natural = 0
    baseline_consumption_wh: Natural = 0
    baseline_seq: Natural = 0
    baseline_timestamp_us: Natural = 0

    @property
    def admission(self) -> tuple[int, int, int, int, int, int]:
        """What may never change between two records of one meter."""
        return (
            self.zone_id,
            self.first_epoch,
            self.baseline_seq,
            self.baseline_timestamp_us,
            self.baseline_production_wh,
            self.baseline_consumption_wh,
        )


class GatewayRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="gateway"):
    """A gateway whose ticks count from `effective_epoch` on, until a record with `active` false."""

    gateway_id: str
    key: Key
    effective_epoch: Natural = 0
    active: bool = True


_Record = TypeVar("_Record", MeterRecord, GatewayRecord)
_DECODER: msgspec.json.Decoder[MeterRecord | GatewayRecord] = msgspec.json.Decoder(MeterRecord | GatewayRecord)


def decode_record(value: bytes) -> MeterRecord | GatewayRecord:
    """A registry message; raises RegistryError."""
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RegistryError(f"registry message was {value[:120]!r}: {error}; publish it corrected") from error


def encode_record(record: MeterRecord | GatewayRecord) -> bytes:
    """The Kafka value of a registry message; its key is the meter's or gateway's id."""
    return msgspec.json.encode(record)


class RegistryView:
    """All records seen; says which is in force. The same records in any order of meters give the same view."""

    def __init__(self, records: Iterable[MeterRecord | GatewayRecord] = ()) -> None:
        self._meters: dict[str, list[MeterRecord]] = {}
        self._gateways: dict[bytes, list[GatewayRecord]] = {}
        self.version = 0  # counts records, so that what is derived from the view knows when to be derived anew
        for record in records:
            self.add(record)

    def __len__(self) -> int:
        return len(self._meters)

    def __contains__(self, meter_id: str) -> bool:
        return meter_id in self._meters

    def __iter__(self) -> Iterator[str]:
        return iter(self._meters)

    def add(self, record: MeterRecord | GatewayRecord) -> None:
        """Take a record in; one of the same effective epoch replaces the former. Raises RegistryError."""
        self.version += 1
        if isinstance(record, GatewayRecord):
            _put(self._gateways.setdefault(record.key, []), record)
            return
        known = self._meters.get(record.meter_id)
        if known and known[0].admission != record.admission:
            raise RegistryError(
                f"{record.meter_id} had zone, first epoch and baseline {record.admission}, must stay "
                f"{known[0].admission}; a moved or replaced device gets a new meter id"
            )
        _put(self._meters.setdefault(record.meter_id, []), record)

    def meter(self, meter_id: str, epoch: int) -> MeterRecord | None:
        """The meter's record in force in an epoch.

        Before the first one it is that first one: the readings between admission and first epoch are then judged by
        the key they were admitted with.
        """
        records = self._meters.get(meter_id)
        if not records:
            return None
        if len(records) == 1:
            return records[0]
        return records[max(bisect_right(records, epoch, key=_effective) - 1, 0)]

    def records(self, meter_id: str) -> tuple[MeterRecord, ...]:
        """All of a meter's records by effective epoch."""
        return tuple(self._meters.get(meter_id, ()))

    def messages(self) -> list[bytes]:
        """Every record in force at some time as its message: meters by id, then gateways by key."""
        found: list[MeterRecord | GatewayRecord] = []
        for meter_id in sorted(self._meters):
            found += self._meters[meter_id]
        for key in sorted(self._gateways):
            found += self._gateways[key]
        return [encode_record(record) for record in found]

    def is_gateway(self, key: bytes, epoch: int) -> bool:
        """Whether ticks under that key count in an epoch."""
        records = self._gateways.get(key, ())
        at = bisect_right(records, epoch, key=_effective)
        return at > 0 and records[at - 1].active

    def meters_of(self, partition: int, partitions: int) -> list[str]:
        """Ids of the meters whose zone lies in a partition, ascending."""
        return sorted(
            meter_id
            for meter_id, records in self._meters.items()
            if partition_of_zone(records[0].zone_id, partitions) == partition
        )

    def first_epoch(self, partition: int, partitions: int) -> int | None:
        """The lowest first epoch of a partition's meters; None if it has none."""
        return min(
            (
                records[0].first_epoch
                for records in self._meters.values()
                if partition_of_zone(records[0].zone_id, partitions) == partition
            ),
            default=None,
        )


def partition_of_zone(zone_id: int, partitions: int) -> int:
    """The one rule for which partition a zone's meters, orders and ticks lie in."""
    return (zone_id - 1) % partitions


def key_of_zone(zone_id: int) -> bytes:
    """The Kafka key of a zone's readings and orders."""
    return b"%d" % zone_id


def _effective(record: MeterRecord | GatewayRecord) -> int:
    return record.effective_epoch


def _put(records: list[_Record], record: _Record) -> None:
    at = bisect_right(records, record.effective_epoch, key=_effective)
    if at and records[at - 1].effective_epoch == record.effective_epoch:
        records[at - 1] = record
    else:
        insort(records, record, key=_effective)

"""What can be said of a reading without its neighbours: sender, key, signature, zone, arrival, age (domain §3).

Belongs here: the checks against the registry and the last tick, in their order. Does not belong here: neighbours in
seq (judgement.py), or what acceptance changes (window.py).
"""

from __future__ import annotations

from gridtokenx_pipelines.epochs import EPOCH_US, epoch_of_us
from gridtokenx_pipelines.metering.readings import Block, Measured, Reading, Refusal, RejectReason
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryView, key_of_zone, partition_of_zone
from gridtokenx_pipelines.metering.state import HORIZON_EPOCHS, MAX_AHEAD_US, ShardState
from gridtokenx_pipelines.metering.verify import Message

HORIZON_US = HORIZON_EPOCHS * EPOCH_US


def admit(
    state: ShardState, message: Message, body: Reading | Block, reading: Measured, registry: RegistryView
) -> MeterRecord | Refusal:
    """The record in force at the reading's time, or the first reason against it."""
    # a reading exactly at a boundary belongs to the epoch that ends there
    record = registry.meter(body.meter_id, epoch_of_us(max(reading.timestamp_us - 1, 0)))
    if record is None:
        return Refusal(RejectReason.UNKNOWN_METER, f"meter {body.meter_id!r} is not in the registry; register it first")
    refusal = _sender(state, message, body, reading, record) or _arrival(state, reading.timestamp_us)
    return refusal or record


def _sender(
    state: ShardState, message: Message, body: Reading | Block, reading: Measured, record: MeterRecord
) -> Refusal | None:
    reason, detail = RejectReason.WRONG_ZONE, ""
    home = partition_of_zone(record.zone_id, state.partitions)
    if record.status != "active":
        reason = RejectReason.UNKNOWN_METER
        detail = f"meter {body.meter_id!r} was {record.status} at {reading.timestamp_us} µs, must be active"
    elif message.pub != record.device_key:
        reason = RejectReason.WRONG_KEY
        detail = f"pub was {message.pub.hex() or 'none'}, must be {record.device_key.hex()}, the key of {body.meter_id}"
    elif not message.authentic:
        reason = RejectReason.BAD_SIGNATURE
        detail = f"the signature is not that of {body.meter_id} over these bytes on this network"
    elif body.zone_id != record.zone_id:
        detail = f"zone_id was {body.zone_id}, must be {record.zone_id}, the zone of {body.meter_id}"
    elif message.raw.key != key_of_zone(record.zone_id):
        reason = RejectReason.MIS_KEYED
        detail = f"Kafka key was {message.raw.key!r:.80}, must be {key_of_zone(record.zone_id)!r}, the zone; key by it"
    elif home != state.partition:
        detail = f"came in partition {state.partition}, zone {record.zone_id} lies in {home}; send it there"
    return Refusal(reason, detail) if detail else None


def _arrival(state: ShardState, time_us: int) -> Refusal | None:
    last_tick_us = state.last_tick_us
    if last_tick_us is None:
        return Refusal(
            RejectReason.AHEAD_OF_ARRIVAL,
            f"timestamp was {time_us} µs and no tick has come in partition {state.partition} yet; tick before readings",
        )
    if time_us > last_tick_us + MAX_AHEAD_US:
        return Refusal(
            RejectReason.AHEAD_OF_ARRIVAL,
            f"timestamp was {time_us} µs, must be at most {last_tick_us + MAX_AHEAD_US} µs; set the meter's clock",
        )
    if time_us < last_tick_us - HORIZON_US:
        return Refusal(
            RejectReason.TOO_OLD,
            f"timestamp was {time_us} µs, must be at least {last_tick_us - HORIZON_US} µs; its epoch is closed",
        )
    return None

"""The event stream of a run: signed telemetry, ticks and orders in order of arrival, one chunk an epoch.

Belongs here: ordering, ticks, the manifest of what is expected, registry messages. Does not belong here: the bytes of
readings (telemetry.py) and orders (hand_orders.py), sending (messaging/). The same arguments give the same bytes in
any process; nothing is held but one epoch and what is still on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.metering.readings import RejectReason, Tick, encode, sign_tick
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, encode_record
from gridtokenx_pipelines.simulation.faults import Fault, FaultPlan, FaultShares
from gridtokenx_pipelines.simulation.hand_orders import HandOrders
from gridtokenx_pipelines.simulation.keys import public_bytes
from gridtokenx_pipelines.simulation.messages import (
    ORDERS_TOPIC,
    READINGS_TOPIC,
    REGISTRY_TOPIC,
    EpochEvents,
    Event,
    Manifest,
)
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.simulation.registers import Registers
from gridtokenx_pipelines.simulation.telemetry import MS, Sent, Telemetry

GATEWAY_ID = "gateway-1"
WATERMARK_LAG_SECONDS = 30
TRAILING_SECONDS = 60
REASON_OF_FAULT = {
    Fault.FORGED: RejectReason.BAD_SIGNATURE,
    Fault.WRONG_KEY: RejectReason.WRONG_KEY,
    Fault.REPLAY: RejectReason.REPLAY,
    Fault.WRONG_ZONE: RejectReason.WRONG_ZONE,
    Fault.REGISTER_BACK: RejectReason.REGISTER_RAN_BACK,
    Fault.UNKNOWN_METER: RejectReason.UNKNOWN_METER,
    Fault.GARBAGE: RejectReason.UNDECODABLE,
}


def registry_messages(neighbourhood: Neighbourhood, start_epoch: int) -> tuple[Event, ...]:
    """Records for `meter-registry`: the gateway, then every meter, admitted with the start as its baseline."""
    gateway = GatewayRecord(
        gateway_id=GATEWAY_ID, key=public_bytes(neighbourhood.keys.gateway()), effective_epoch=start_epoch - 1
    )
    records: list[tuple[str, GatewayRecord | MeterRecord]] = [(GATEWAY_ID, gateway)]
    records += [
        (
            meter.meter_id,
            MeterRecord(
                meter_id=meter.meter_id,
                wallet=meter.wallet,
                zone_id=meter.zone_id,
                meter_type=meter.meter_type,  # type: ignore[arg-type] # one of the three, by construction
                rating_w=meter.rating_w,
                device_key=meter.device_key,
                effective_epoch=start_epoch,
                first_epoch=start_epoch,
                baseline_production_wh=meter.baseline_production_wh,
                baseline_consumption_wh=meter.baseline_consumption_wh,
                baseline_seq=0,
                baseline_timestamp_us=start_us(start_epoch),
            ),
        )
        for meter in neighbourhood.meters
    ]
    return tuple(
        Event(REGISTRY_TOPIC, 0, name.encode(), encode_record(record), (), start_us(start_epoch) // MS)
        for name, record in records
    )


def day_events(
    neighbourhood: Neighbourhood,
    start_epoch: int,
    epochs: int,
    *,
    market: bytes,
    partitions: int = 4,
    tick_seconds: int = 30,
    shares: FaultShares | None = None,
) -> Iterator[EpochEvents]:
    """Chunks of one epoch each; the last one also holds what closes its own epoch.

    `market`: the 32 bytes that orders name. `tick_seconds` must divide 30, so that a tick stands at every epoch's end
    and one 30 s later, which is when the watermark passes it. Raises ValueError at once for arguments out of bounds.
    """
    if partitions < 1:
        raise ValueError(f"partitions was {partitions}, must be at least 1")
    if tick_seconds < 1 or WATERMARK_LAG_SECONDS % tick_seconds:
        raise ValueError(f"tick_seconds was {tick_seconds}, must divide {WATERMARK_LAG_SECONDS}, like 5, 10 or 30")
    registers = Registers(neighbourhood, start_epoch, epochs)
    telemetry = Telemetry(neighbourhood, registers, partitions)
    run = range(start_epoch, start_epoch + epochs)
    plan = FaultPlan(neighbourhood, run, shares or FaultShares(), telemetry.moves_last_wh, registers.net_wh)
    silent = None if plan.silent is None else neighbourhood.meters[plan.silent].wallet
    orders = HandOrders(neighbourhood, registers, market=market, partitions=partitions, without=silent)
    return _chunks(
        neighbourhood,
        run,
        plan=plan,
        telemetry=telemetry,
        orders=orders,
        partitions=partitions,
        tick_seconds=tick_seconds,
    )


def _chunks(
    neighbourhood: Neighbourhood,
    epochs: range,
    *,
    plan: FaultPlan,
    telemetry: Telemetry,
    orders: HandOrders,
    partitions: int,
    tick_seconds: int,
) -> Iterator[EpochEvents]:
    on_the_way: list[Sent] = []
    for epoch in epochs:
        until_ms = start_us(epoch + 1) // MS + (TRAILING_SECONDS * 1_000 + 1 if epoch == epochs[-1] else 0)
        ticks = _ticks(neighbourhood, start_us(epoch) // MS, until_ms, tick_seconds, partitions)
        sent, counts, rejected = _telemetry(neighbourhood, epoch, plan, telemetry, tick_seconds)
        placed = orders.of_epoch(epoch)
        # stable: ticks first among equals, then the order of making, so every process agrees
        arriving = sorted(ticks + on_the_way + sent + placed.sent, key=lambda each: each.arrival_ms)
        now = [each.event for each in arriving if each.arrival_ms < until_ms]
        on_the_way = arriving[len(now) :]
        yield EpochEvents(
            epoch=epoch,
            events=tuple(now),
            manifest=Manifest(
                sent=len(sent),
                ticks=len(ticks),
                **counts,
                rejected=dict(rejected),
                **placed.good,
                orders_rejected=dict(placed.refused),
            ),
        )
    if on_the_way:
        raise AssertionError(f"{len(on_the_way)} events arrive after the run's end; every one must arrive within it")


def _telemetry(
    neighbourhood: Neighbourhood, epoch: int, plan: FaultPlan, telemetry: Telemetry, tick_seconds: int
) -> tuple[list[Sent], Counter[str], Counter[str]]:
    sent: list[Sent] = []
    counts: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for place in range(len(neighbourhood.meters)):
        if plan.is_missing(place, epoch):
            counts["missing"] += 1
        if plan.is_silent(place, epoch):
            continue
        fault = plan.fault(place, epoch)
        sent += telemetry.of_epoch(place, epoch, fault)
        counts["duplicates"] += fault is Fault.DUPLICATE
        counts["disordered"] += fault is Fault.DISORDER
        counts["corrections"] += fault is Fault.LATE
        if fault in REASON_OF_FAULT:
            rejected[REASON_OF_FAULT[fault].word] += 1
    for each in sent:
        last_tick_ms = each.arrival_ms // (tick_seconds * 1_000) * tick_seconds * 1_000
        watermark_us = (last_tick_ms - WATERMARK_LAG_SECONDS * 1_000) * MS
        counts["accepted"] += len(each.readings_us)
        counts["late"] += sum(time_us <= watermark_us for time_us in each.readings_us)
    return sent, counts, rejected


def _ticks(neighbourhood: Neighbourhood, from_ms: int, until_ms: int, tick_seconds: int, partitions: int) -> list[Sent]:
    """A tick on every partition of both topics at every multiple of the interval: one signature serves them all."""
    gateway, sent = neighbourhood.keys.gateway(), []
    for at_ms in range(from_ms, until_ms, tick_seconds * 1_000):
        value = encode(Tick(gateway_id=GATEWAY_ID, timestamp=at_ms * MS))
        headers = tuple(sign_tick(value, neighbourhood.network_id, gateway))
        sent += [
            Sent(at_ms, Event(topic, partition, None, value, headers, at_ms))
            for topic in (READINGS_TOPIC, ORDERS_TOPIC)
            for partition in range(partitions)
        ]
    return sent

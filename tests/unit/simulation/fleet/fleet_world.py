"""What tests of fleets do with a simulator: play it, meter it, read what one meter sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import RegistryView, decode_record
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step
from gridtokenx_pipelines.simulation.fleet.engine import Simulator, Step
from gridtokenx_pipelines.simulation.messages import READINGS_TOPIC, Event

START = 1_781_470_800  # 2026-06-14T21:00Z: four in the morning in Bangkok


def played(simulator: Simulator, steps: int) -> tuple[list[Step], list[Event]]:
    told, events = [], []
    for _ in range(steps):
        step_told, sent = simulator.advance()
        told.append(step_told)
        events += sent
    return told, events + simulator.finish()


def metered(simulator: Simulator, events: Iterable[Event]) -> list[Outputs]:
    """What the real window of every partition makes of the events, admission and signatures included."""
    partitions = simulator.scenario.partitions
    view = RegistryView(decode_record(event.value) for event in simulator.registry())
    raws: dict[int, list[Raw]] = {partition: [] for partition in range(partitions)}
    for event in events:
        if event.topic == READINGS_TOPIC:
            queue = raws[event.partition]
            queue.append(Raw(len(queue), event.timestamp_ms * 1_000, event.value, event.headers, event.key))
    verifier = Verifier(simulator.scenario.network_id)
    try:
        return [
            step(ShardState(partition, partitions), verifier.messages(queue), view)[1]
            for partition, queue in raws.items()
        ]
    finally:
        verifier.close()


def readings(events: Iterable[Event], meter_id: str) -> list[dict[str, Any]]:
    """Readings of one meter as sent, blocks opened."""
    found = []
    for event in events:
        document = msgspec.json.decode(event.value)
        if document.get("meter_id") == meter_id:
            found += document.get("readings", [document])
    return found

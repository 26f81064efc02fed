"""The beginning of a reading's trace: the span of its meter, and the header that carries it.

Belongs here: what a simulated meter does for its trace. Does not belong here: what a trace is
(observability/tracing.py). A real meter or gateway sets the W3C header `traceparent` itself, or none.
"""

from __future__ import annotations

import json
from datetime import datetime

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.metering.readings import KIND_TICK, time_us
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.simulation.messages import READINGS_TOPIC, Event

EPOCH_US = EPOCH_SECONDS * 1_000_000


def traced_headers(event: Event) -> tuple[tuple[str, bytes], ...]:
    """A reading's headers with its place in the epoch's trace, where it is one of the sampled; others' as they are."""
    if not tracing.is_on() or event.topic != READINGS_TOPIC or ("kind", KIND_TICK) in event.headers:
        return event.headers
    if not tracing.is_sampled(event.value):
        return event.headers
    try:
        said = json.loads(event.value)
        first = said["readings"][0] if "readings" in said else said
        epoch, meter_id = time_us(_moment(first["timestamp"])) // EPOCH_US, str(said["meter_id"])
    except (ValueError, KeyError, TypeError):
        return event.headers  # a fault of the simulation: noise has no epoch
    place = tracing.span("meter.reading", parent=tracing.of_epoch(epoch), meter_id=meter_id, seq=int(first["seq"]))
    return event.headers if place is None else (*event.headers, (tracing.HEADER, place.header))


def _moment(value: int | str) -> int | datetime:
    return value if isinstance(value, int) else datetime.fromisoformat(value)

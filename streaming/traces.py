"""Spans of readings in the flow: what became of a traced record, and the epoch's closing linked with its readings.

Belongs here: from a shard's outputs to spans. Does not belong here: which records are traced (their headers say so), or
what a span is (observability/tracing.py). What is remembered of an open epoch is lost with the process: its links only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.metering.readings import Raw, time_us
from gridtokenx_pipelines.metering.verify import Message
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.observability.tracing import Place
from streaming.telemetry import Shard

EPOCH_US = 900_000_000
# links of a span; an epoch with more traced readings has the first ones
MOST_LINKS = 128
# epochs that are remembered: an open one, and those that late readings may still name
MOST_EPOCHS = 64


class Traces:
    """One process's open epochs and their traced readings."""

    def __init__(self) -> None:
        self._readings: dict[tuple[int, int], list[Place]] = {}

    def shard(self, shard: Shard, seconds: float) -> None:
        """Spans of one batch that left the window `seconds` after it was read."""
        now = time.time_ns()
        started_ns = now - int(seconds * 1e9)
        partition = shard.outputs.partition
        refused: dict[int, str] | None = None
        for raw, parent in _traced(shard.messages):
            if refused is None:
                refused = {letter.raw.offset: letter.reason.word for letter in shard.outputs.dead_letters}
            about, epoch = _about(raw)
            reason = refused.get(raw.offset, "")
            root = [] if epoch is None else [tracing.of_epoch(epoch)]
            place = tracing.span(
                "telemetry.reading",
                parent=parent,
                started_ns=started_ns,
                ended_ns=now,
                links=[each for each in root if each.trace_id != parent.trace_id],
                failed=reason,
                partition=partition,
                offset=raw.offset,
                broker_us=raw.broker_us,
                outcome="rejected" if reason else "taken",
                **about,
            )
            if place is not None and epoch is not None and not reason:
                self._readings.setdefault((partition, epoch), []).append(place)
        for closed in shard.outputs.closed:
            links = self._readings.pop((partition, closed.epoch), [])
            tracing.span(
                "telemetry.epoch_closed",
                parent=tracing.of_epoch(closed.epoch),
                started_ns=started_ns,
                ended_ns=now,
                links=links[:MOST_LINKS],
                epoch=key_of(closed.epoch),
                partition=partition,
                traced_readings=len(links),
                first_offset=closed.first_offset,
                last_offset=closed.last_offset,
            )
        while len(self._readings) > MOST_EPOCHS:
            self._readings.pop(next(iter(self._readings)))


def _traced(messages: list[Message]) -> Iterator[tuple[Raw, Place]]:
    for raw in (message.raw for message in messages):
        # nearly every record has the signature's two headers or three, and nothing else
        if len(raw.headers) > 2 and (place := tracing.place_in(raw.headers)) is not None:
            yield raw, place


def _about(raw: Raw) -> tuple[dict[str, Any], int | None]:
    """What a record says of itself, believed for its span only, and the epoch of its first reading."""
    try:
        said = json.loads(raw.value)
        first = said["readings"][0] if "readings" in said else said
        epoch = time_us(_moment(first["timestamp"])) // EPOCH_US
        return {"meter_id": str(said["meter_id"]), "epoch": key_of(epoch), "seq": int(first["seq"])}, epoch
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError):
        return {}, None


def _moment(value: int | str) -> int | datetime:
    return value if isinstance(value, int) else datetime.fromisoformat(value)

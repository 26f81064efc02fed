"""OpenTelemetry traces: one an epoch, from a meter's reading to the transactions that settle it.

Belongs here: switching on, the epoch's trace, spans of readings and stages. Does not belong here: what is worth a span.
Off by default: every door returns at once, and no library is imported. The trace's id follows from the epoch alone, so
that processes that never talk (meter, flow, settlement) write into the same trace, on any day, without a store; a
record whose meter brings its own `traceparent` keeps its trace and is linked with the epoch's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

HEADER = "traceparent"
MILLION = 1_000_000
_HEADER_PARTS, _TRACE_DIGITS, _SPAN_DIGITS = 4, 32, 16


class Place(NamedTuple):
    """A span's address, as W3C trace context has it."""

    trace_id: int
    span_id: int

    @property
    def header(self) -> bytes:
        """The value of a `traceparent` header."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01".encode()


class _State:
    emitter: Any = None
    target: str = ""
    per_million: int = 0


def configure(target: str, service: str, per_million: int = 1_000) -> None:
    """Switch on for this process: `http(s)://…` (OTLP), `file:///folder` or `console`; an empty target switches off.

    `per_million`: of how many readings in a million a span is made. Calling it again with the same target does nothing.
    """
    if target == _State.target:
        return
    _State.target, _State.per_million = target, per_million
    if not target:
        _State.emitter = None
        return
    from gridtokenx_pipelines.observability.span_export import Emitter  # noqa: PLC0415 - costs nothing while off

    _State.emitter = Emitter(target, service)


def is_on() -> bool:
    """Whether this process makes spans."""
    return _State.emitter is not None


def of_epoch(epoch: int) -> Place:
    """The root of an epoch's trace."""
    digest = blake2b(b"gridtokenx epoch %d" % epoch, digest_size=24).digest()
    return Place(int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:], "big") or 1)


def place_in(headers: Sequence[tuple[str, bytes]]) -> Place | None:
    """The place that a record's headers name; None without one, or where it can't be read."""
    for name, value in headers:
        if name == HEADER:
            parts = value.decode("ascii", "replace").split("-")
            if len(parts) < _HEADER_PARTS or (len(parts[1]), len(parts[2])) != (_TRACE_DIGITS, _SPAN_DIGITS):
                return None
            try:
                place = Place(int(parts[1], 16), int(parts[2], 16))
            except ValueError:
                return None
            return place if place.trace_id > 0 and place.span_id > 0 else None
    return None


def span(
    name: str,
    *,
    parent: Place | None,
    place: Place | None = None,
    started_ns: int | None = None,
    ended_ns: int | None = None,
    links: Sequence[Place] = (),
    failed: str = "",
    **about: str | int | float | bool,
) -> Place | None:
    """Write a finished span; None while off. `place` gives its address (an epoch's root), else it gets a new one."""
    if _State.emitter is None:
        return None
    now = time.time_ns()
    found: Place = _State.emitter.emit(name, parent, place, (started_ns or now, ended_ns or now), links, failed, about)
    return found


def is_sampled(value: bytes) -> bool:
    """Whether a reading of these bytes gets a span: by content, so that a replay traces the same readings."""
    if _State.emitter is None:
        return False
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "big") % MILLION < _State.per_million

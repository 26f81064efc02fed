"""Spans through the OpenTelemetry SDK to OTLP, a folder of files, or stderr; imported only where traces are on.

Belongs here: the SDK. Does not belong here: which spans there are (tracing.py). A collector that can't be reached costs
spans, never a reading: export is asynchronous and gives up by itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

if TYPE_CHECKING:
    from gridtokenx_pipelines.observability.tracing import Place

_WANTED: ContextVar[tuple[int, int] | None] = ContextVar("wanted", default=None)


class _Ids(RandomIdGenerator):
    """Random, but for a span that was promised an address (the root of an epoch)."""

    def generate_trace_id(self) -> int:
        wanted = _WANTED.get()
        return super().generate_trace_id() if wanted is None else wanted[0]

    def generate_span_id(self) -> int:
        wanted = _WANTED.get()
        return super().generate_span_id() if wanted is None else wanted[1]


class Lines(SpanExporter):
    """One JSON object a span, to a file of this process or to stderr."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append whole lines at once, so that readers see no half span."""
        text = "".join(json.dumps(_as_dict(span), sort_keys=True) + "\n" for span in spans)
        if self._path is None:
            sys.stderr.write(text)
        else:
            with self._path.open("a") as file:
                file.write(text)
        return SpanExportResult.SUCCESS


def _as_dict(span: ReadableSpan) -> dict[str, object]:
    context = span.get_span_context()
    return {
        "name": span.name,
        "service": span.resource.attributes["service.name"],
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "started_ns": span.start_time,
        "ended_ns": span.end_time,
        "failed": span.status.description or "" if span.status.status_code is StatusCode.ERROR else "",
        "attributes": dict(span.attributes or {}),
        "links": [f"{link.context.trace_id:032x}-{link.context.span_id:016x}" for link in span.links],
    }


class Emitter:
    """Writes finished spans."""

    def __init__(self, target: str, service: str) -> None:
        resource = Resource.create({"service.name": service, "process.pid": os.getpid()})
        provider = TracerProvider(resource=resource, id_generator=_Ids())
        parts = urlsplit(target)
        if parts.scheme in {"http", "https"}:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

            address = target if parts.path.rstrip("/") else f"{target.rstrip('/')}/v1/traces"
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
        elif parts.scheme == "file":
            folder = Path(unquote(parts.path))
            folder.mkdir(parents=True, exist_ok=True)
            provider.add_span_processor(SimpleSpanProcessor(Lines(folder / f"{service}-{os.getpid()}.jsonl")))
        else:
            provider.add_span_processor(SimpleSpanProcessor(Lines(None)))
        self._tracer = provider.get_tracer("gridtokenx_pipelines")

    def emit(  # noqa: PLR0917 - what a span has
        self,
        name: str,
        parent: Place | None,
        place: Place | None,
        times_ns: tuple[int, int],
        links: Sequence[Place],
        failed: str,
        about: Mapping[str, str | int | float | bool],
    ) -> tuple[int, int]:
        """Write one; returns its address."""
        from gridtokenx_pipelines.observability.tracing import Place  # noqa: PLC0415 - it imports this one

        context = set_span_in_context(NonRecordingSpan(_context(parent))) if parent else None
        token = _WANTED.set(place)
        try:
            made = self._tracer.start_span(
                name,
                context=context,
                start_time=times_ns[0],
                links=[Link(_context(each)) for each in links],
                attributes=dict(about),
            )
        finally:
            _WANTED.reset(token)
        if failed:
            made.set_status(Status(StatusCode.ERROR, failed))
        made.end(times_ns[1])
        found = made.get_span_context()
        return Place(found.trace_id, found.span_id)


def _context(place: Place) -> SpanContext:
    return SpanContext(place.trace_id, place.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))

"""A traced record's span says what became of it, and its epoch's closing is linked with it."""

from __future__ import annotations

import json
from pathlib import Path

from metering_world import EPOCH, NETWORK, PARTITIONS, Stream, registry_of

from gridtokenx_pipelines.metering.state import ShardState
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import step
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.observability.metrics import FlowMetrics
from streaming.observe import Observer
from streaming.telemetry import Shard


def test_a_traced_reading_is_followed_to_its_epochs_closing_and_a_refused_one_to_its_reason(tmp_path: Path) -> None:
    at_meter, foreign = tracing.of_epoch(EPOCH)._replace(span_id=7), tracing.Place(11, 12)
    stream = Stream()
    stream.tick(0)
    for raw, place in (
        (stream.read(11, 10, 10, 6), at_meter),
        (stream.read(12, 20, 11, 6, signer="MEA-002"), foreign),
        (stream.put(b"\xff", [("sig", b""), ("pub", b"")]), foreign),
    ):
        stream.raws[raw.offset] = type(raw)(
            raw.offset, raw.broker_us, raw.value, (*raw.headers, (tracing.HEADER, place.header)), raw.key
        )
    stream.read(13, 30, 12, 6)
    stream.tick(900 + 120)
    verifier = Verifier(NETWORK)
    messages = verifier.messages(stream.raws)
    _, outputs = step(ShardState(0, PARTITIONS), messages, registry_of())
    verifier.close()

    tracing.configure(f"file://{tmp_path}", "flow", 0)
    try:
        Observer(FlowMetrics("telemetry")).telemetry([Shard(messages, outputs)])
    finally:
        tracing.configure("", "")
    spans = [json.loads(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    taken, forged, noise, *closed = spans
    assert (taken["attributes"]["offset"], taken["attributes"]["outcome"], taken["failed"]) == (1, "taken", "")
    assert (taken["trace_id"], taken["parent_id"]) == (f"{at_meter.trace_id:032x}", f"{7:016x}")
    assert (taken["attributes"]["meter_id"], taken["attributes"]["seq"], taken["links"]) == ("MEA-001", 11, [])
    assert (forged["attributes"]["outcome"], forged["failed"]) == ("rejected", "wrong_key")
    root = tracing.of_epoch(EPOCH)
    # a trace that the meter brought along goes on, linked with the epoch's
    assert (forged["trace_id"], forged["links"]) == (f"{11:032x}", [f"{root.trace_id:032x}-{root.span_id:016x}"])
    assert (noise["failed"], noise["links"]) == ("undecodable", [])
    (closing,) = [span for span in closed if span["attributes"]["traced_readings"]]
    assert closing["links"] == [f"{at_meter.trace_id:032x}-{taken['span_id']}"]
    assert closing["parent_id"] == f"{root.span_id:016x}"

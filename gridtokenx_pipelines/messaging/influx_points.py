"""Readings as InfluxDB points: line protocol of measurement `energy_metrics`, as names.md has it.

Belongs here: what one point says, from what the window gave or from archived records. Does not belong here: sending.
`generation` and `consumption` are Wh since the meter's reading before, so that they add up; a point carries event time,
so writing one twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from gridtokenx_pipelines.epochs import epoch_of_us
from gridtokenx_pipelines.metering.outputs import Accepted
from gridtokenx_pipelines.metering.readings import Block, Measured, Raw, Reading, decode
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryView

MEASUREMENT = "energy_metrics"
_ESCAPED = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})


def line_of(accepted: Accepted) -> str | None:
    """One point in line protocol, ns; None if nothing is known to write.

    Where a reading came between two earlier ones, the later one's intervals are written again.
    """
    fields = []
    if accepted.reading is not None:
        reading = accepted.reading
        fields += [
            f"voltage={reading.voltage_v!r}",
            f"current={reading.current_a!r}",
            f"power_factor={reading.power_factor!r}",
        ]
    if accepted.generation_wh is not None:
        fields += [f"generation={accepted.generation_wh}i", f"consumption={accepted.consumption_wh}i"]
    if not fields:
        return None
    return f"{_series(accepted.record)} {','.join(fields)} {accepted.timestamp_us * 1_000}"


def _series(record: MeterRecord) -> str:
    serial = record.meter_id.translate(_ESCAPED)
    return f"{MEASUREMENT},meter_serial={serial},meter_type={record.meter_type},zone_id={record.zone_id}"


def lines_of_records(before: Iterable[Raw], records: Iterable[Raw], registry: RegistryView) -> list[str]:
    """Points of archived, not refused records; `before` are those of an earlier time, that intervals may begin at."""
    earlier, mine = _by_meter(before), _by_meter(records)
    lines: list[str] = []
    for meter_id, readings in sorted(mine.items()):
        known = {**earlier.get(meter_id, {}), **readings}
        order: Sequence[Measured | None] = [None, *(known[seq] for seq in sorted(known))]
        for former, reading in pairwise(order):
            if reading is None or reading.seq not in readings:
                continue
            record = registry.meter(meter_id, epoch_of_us(max(reading.timestamp_us - 1, 0)))
            if record is None:
                continue
            generation = None if former is None else reading.production_wh - former.production_wh
            consumption = None if former is None else reading.consumption_wh - former.consumption_wh
            line = line_of(Accepted(record, reading.timestamp_us, reading, generation, consumption))
            if line is not None:
                lines.append(line)
    return lines


def _by_meter(records: Iterable[Raw]) -> dict[str, dict[int, Measured]]:
    found: dict[str, dict[int, Measured]] = {}
    for raw in records:
        body = decode(raw)
        if isinstance(body, Reading):
            found.setdefault(body.meter_id, {}).setdefault(body.seq, body)
        elif isinstance(body, Block):
            for reading in body.readings:
                found.setdefault(body.meter_id, {}).setdefault(reading.seq, reading)
    return found

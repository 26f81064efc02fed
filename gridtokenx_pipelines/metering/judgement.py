"""A reading against its neighbours in seq: duplicate, replay, time, registers, power (domain §3).

Belongs here: finding the neighbours, in the rows or behind the watermark among the boundary readings, and comparing.
Does not belong here: sender and arrival (admission.py), or what acceptance changes (window.py). Only neighbours are
compared, and each rule is transitive, so readings that fit together are accepted in whatever order they arrive.
"""

from __future__ import annotations

from gridtokenx_pipelines.metering.boundaries import BoundaryRegister
from gridtokenx_pipelines.metering.readings import Measured, Refusal, RejectReason
from gridtokenx_pipelines.metering.registry import MeterRecord
from gridtokenx_pipelines.metering.rows import NONE
from gridtokenx_pipelines.metering.state import HORIZON_EPOCHS, Meter, ShardState

Registers = tuple[int, int, int, int]  # seq, timestamp µs, production Wh, consumption Wh
REGISTERS = (("production", 2), ("consumption", 3))


def registers_of(reading: Measured | BoundaryRegister) -> Registers:
    """What of a reading is compared."""
    return reading.seq, reading.timestamp_us, reading.production_wh, reading.consumption_wh


def registers_of_row(state: ShardState, row: int) -> Registers:
    """The same of an accepted row."""
    rows = state.rows
    return rows.seq[row], rows.timestamp_us[row], rows.production_wh[row], rows.consumption_wh[row]


def judge(
    meter: Meter, reading: Measured, digest: int, before: Registers | None = None
) -> tuple[int, int] | Refusal | None:
    """The rows it goes between (-1: none), a refusal, or None for a duplicate.

    `digest` 0 stands for a reading out of a block, which is compared by its values; `before` is the block's reading
    before it, which is not in the rows yet.
    """
    new = registers_of(reading)
    rows = meter.state.rows
    below, above = rows.neighbours(meter.slot, new[0])
    following = registers_of_row(meter.state, above) if above != NONE else None
    if below != NONE:
        former, former_digest = registers_of_row(meter.state, below), rows.digest[below]
    else:
        former, former_digest, following = _standing(meter, new[0], following)
    if former[0] == new[0]:
        same = digest == former_digest if digest and former_digest else former == new
        return None if same else _replay(former, new)
    if former[0] > new[0]:
        return Refusal(
            RejectReason.UNKNOWN_METER,
            f"seq was {new[0]}, must be above {former[0]}, the meter's baseline; nothing before its admission counts",
        )
    if before is not None and before[0] > former[0]:
        former = before
    pairs = [(former, new)] if following is None else [(former, new), (new, following)]
    return _disorder(pairs) or _ran_back(pairs) or _over_rating(pairs, meter.record) or (below, above)


def _standing(meter: Meter, seq: int, following: Registers | None) -> tuple[Registers, int, Registers | None]:
    """Neighbours behind the rows: the stored boundary readings, and before all of them the baseline."""
    closed, record = meter.state.closed_epoch, meter.record
    newest = -1 if closed is None else closed + 1
    oldest = max(record.first_epoch, newest - HORIZON_EPOCHS - 2)
    former, above = meter.state.boundaries.around(meter.slot, seq, newest, oldest)
    if above is not None and (following is None or above.seq < following[0]):
        following = registers_of(above)
    if former is not None:
        return registers_of(former), former.digest, following
    _, _, baseline_seq, baseline_us, production_wh, consumption_wh = record.admission
    return (baseline_seq, baseline_us, production_wh, consumption_wh), 0, following


def disorder_between(earlier: Registers, later: Registers, record: MeterRecord) -> Refusal | None:
    """Why two readings, ascending in seq, can't both be a meter's; None if they can."""
    pairs = [(earlier, later)]
    return _disorder(pairs) or _ran_back(pairs) or _over_rating(pairs, record)


def _replay(former: Registers, new: Registers) -> Refusal:
    return Refusal(
        RejectReason.REPLAY,
        f"seq {new[0]} was accepted before with other bytes (timestamp {former[1]} µs, registers {former[2]} and "
        f"{former[3]} Wh); a meter uses a seq once",
    )


def _disorder(pairs: list[tuple[Registers, Registers]]) -> Refusal | None:
    for earlier, later in pairs:
        if later[1] <= earlier[1]:
            return Refusal(
                RejectReason.OUT_OF_ORDER,
                f"seq {later[0]} had timestamp {later[1]} µs, must be after {earlier[1]} µs of seq {earlier[0]}",
            )
    return None


def _ran_back(pairs: list[tuple[Registers, Registers]]) -> Refusal | None:
    for name, index in REGISTERS:
        for earlier, later in pairs:
            if later[index] < earlier[index]:
                return Refusal(
                    RejectReason.REGISTER_RAN_BACK,
                    f"{name} was {later[index]} Wh at seq {later[0]}, must be at least {earlier[index]} Wh of seq "
                    f"{earlier[0]}; registers only grow",
                )
    return None


def _over_rating(pairs: list[tuple[Registers, Registers]], record: MeterRecord) -> Refusal | None:
    for name, index in REGISTERS:
        for earlier, later in pairs:
            energy_wh, span_us = later[index] - earlier[index], later[1] - earlier[1]
            # Wh × 3.6e9 µs/h ÷ span > 1.1 × rating, exact. No allowance for the rounding of registers to whole Wh: it
            # would not be transitive, and then arrival order would matter.
            if energy_wh * 36_000_000_000 > 11 * record.rating_w * span_us:
                return Refusal(
                    RejectReason.OVER_RATING,
                    f"{name} was {energy_wh * 3_600_000_000 // span_us} W between seq {earlier[0]} and {later[0]}, "
                    f"must be at most 1.1 × {record.rating_w} W",
                )
    return None

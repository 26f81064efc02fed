"""The window of one partition: `step(state, batch, registry) -> (state, outputs)`, pure (domain §3).

Belongs here: what a record changes: ticks, the watermark, accepted readings. Does not belong here: I/O, clocks,
threads; the checks (admission.py, judgement.py); what closing an epoch gives (epoch_close.py) and late readings
correct (corrections.py). The same records in the same order give the same at any speed, in batches of any size.
"""

from __future__ import annotations

from collections.abc import Iterable

from gridtokenx_pipelines.epochs import epoch_of_us, start_us
from gridtokenx_pipelines.metering.admission import admit
from gridtokenx_pipelines.metering.boundaries import BoundaryRegister
from gridtokenx_pipelines.metering.corrections import correct_boundary
from gridtokenx_pipelines.metering.epoch_close import close_epoch
from gridtokenx_pipelines.metering.judgement import Registers, judge, registers_of, registers_of_row
from gridtokenx_pipelines.metering.lanes import take
from gridtokenx_pipelines.metering.outputs import Accepted, DeadLetter, Outputs, Progress
from gridtokenx_pipelines.metering.readings import (
    Block,
    Measured,
    Reading,
    Refusal,
    RejectReason,
    Tick,
)
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryView
from gridtokenx_pipelines.metering.rows import NONE
from gridtokenx_pipelines.metering.state import (
    HORIZON_EPOCHS,
    MAX_TICK_STEP_US,
    WATERMARK_LAG_US,
    Meter,
    ShardState,
    Tally,
)
from gridtokenx_pipelines.metering.verify import Message

__all__ = ["ShardState", "needs_registry", "step"]


def step(state: ShardState, batch: Iterable[Message], registry: RegistryView) -> tuple[ShardState, Outputs]:
    """Apply records in offset order. Takes the state over: the one passed in must not be used afterwards.

    Records at or below the state's offset were applied before and are passed over.
    """
    outputs = Outputs(state.partition)
    run: list[Message] = []
    at = state.offset
    for message in batch:
        offset = message.raw.offset
        if offset <= at:
            continue
        if at < 0:
            state.archived_to = offset - 1
        at = offset
        if isinstance(message.body, Tick):
            _apply_run(state, run, registry, outputs)
            run = []
            state.offset = at
            _apply_all(state, (message,), registry, outputs)
        else:
            run.append(message)
    _apply_run(state, run, registry, outputs)
    state.offset = at
    outputs.dead_letters.sort(key=_offset_of)
    state.counts.update(outputs.counts)
    outputs.totals = dict(state.counts)
    if state.offset >= 0:
        outputs.progress = Progress(
            state.partition, state.partitions, state.watermark_us, state.closed_epoch, state.offset
        )
    return state, outputs


def _offset_of(letter: DeadLetter) -> int:
    return letter.raw.offset


def _apply_run(state: ShardState, run: list[Message], registry: RegistryView, outputs: Outputs) -> None:
    """Records between two ticks: those that plainly fit as columns, the others one by one."""
    _apply_all(state, take(state, run, registry, outputs), registry, outputs)


def _apply_all(state: ShardState, messages: Iterable[Message], registry: RegistryView, outputs: Outputs) -> None:
    for message in messages:
        refusal = _apply(state, message, registry, outputs)
        if refusal is not None:
            outputs.dead_letters.append(DeadLetter(state.partition, message.raw, refusal.reason, refusal.detail))
            outputs.counts["rejected", refusal.reason.word] += 1


def needs_registry(state: ShardState, batch: Iterable[Message], registry: RegistryView) -> bool:
    """Whether the registry should be read up to its end before the batch: a sender it lacks, or an epoch to close."""
    for message in batch:
        body = message.body
        if isinstance(body, Tick):
            closing = _open_epoch(body.timestamp_us) - 1
            if state.closed_epoch is None or closing > state.closed_epoch:
                return True
        elif isinstance(body, Reading | Block) and body.meter_id not in registry:
            return True
    return False


def _open_epoch(tick_us: int) -> int:
    return epoch_of_us(max(tick_us - WATERMARK_LAG_US, 0))


def _apply(state: ShardState, message: Message, registry: RegistryView, outputs: Outputs) -> Refusal | None:
    body = message.body
    if isinstance(body, Refusal):
        return body
    if isinstance(body, Tick):
        return _tick(state, message, body, registry, outputs)
    if isinstance(body, Block):
        return _block(state, message, body, registry, outputs)
    record = admit(state, message, body, body, registry)
    if isinstance(record, Refusal):
        return record
    meter = Meter(state, state.slot_of(record), record, outputs)
    digest = message.digest
    place = judge(meter, body, digest)
    if isinstance(place, Refusal):
        return place
    if place is None:
        outputs.counts["duplicate", ""] += 1
    else:
        _accept(meter, body, digest, place)
    return None


def _tick(state: ShardState, message: Message, tick: Tick, registry: RegistryView, outputs: Outputs) -> Refusal | None:
    time_us = tick.timestamp_us
    if not registry.is_gateway(message.pub, epoch_of_us(time_us)):
        return Refusal(
            RejectReason.WRONG_KEY,
            f"tick of {tick.gateway_id} had key {message.pub.hex() or 'none'}, must be a registered gateway's",
        )
    if not message.authentic:
        return Refusal(RejectReason.BAD_SIGNATURE, f"tick of {tick.gateway_id} is not signed by its key")
    if state.last_tick_us is not None and time_us <= state.last_tick_us:
        # several gateways tick, or one resends: time just doesn't go back
        outputs.counts["duplicate", "tick"] += 1
        return None
    if state.last_tick_us is not None and time_us > state.last_tick_us + MAX_TICK_STEP_US:
        return Refusal(
            RejectReason.AHEAD_OF_ARRIVAL,
            f"tick of {tick.gateway_id} was {time_us} µs, must be at most a year after the last one's "
            f"{state.last_tick_us} µs; set the gateway's clock",
        )
    state.last_tick_us = time_us
    outputs.counts["accepted", "tick"] += 1
    open_epoch = _open_epoch(time_us)
    if state.closed_epoch is None:
        # time starts with the first admitted meter, so that none of its epochs goes without a row
        first_epoch = registry.first_epoch(state.partition, state.partitions)
        started = open_epoch if first_epoch is None else max(first_epoch, open_epoch - HORIZON_EPOCHS)
        state.closed_epoch = min(started, open_epoch) - 1
    while state.closed_epoch < open_epoch - 1:
        close_epoch(state, state.closed_epoch + 1, registry, outputs)
    return None


def _block(
    state: ShardState, message: Message, block: Block, registry: RegistryView, outputs: Outputs
) -> Refusal | None:
    """Judge all of it before accepting any: a block is taken or refused as one."""
    fresh: list[tuple[MeterRecord, Measured]] = []
    before: Registers | None = None
    duplicates = 0
    readings: tuple[Measured, ...] = block.readings
    for index, reading in enumerate(readings):
        verdict = admit(state, message, block, reading, registry)
        if not isinstance(verdict, Refusal):
            record = verdict
            place = judge(Meter(state, state.slot_of(record), record, outputs), reading, 0, before)
            if place is None:
                duplicates += 1
            elif not isinstance(place, Refusal):
                fresh.append((record, reading))
            else:
                verdict = place
        if isinstance(verdict, Refusal):
            return Refusal(verdict.reason, f"reading {index + 1} of {len(readings)}: {verdict.detail}")
        before = registers_of(reading)
    outputs.counts["duplicate", ""] += duplicates
    for record, reading in fresh:
        slot = state.slot_of(record)
        _accept(Meter(state, slot, record, outputs), reading, 0, state.rows.neighbours(slot, reading.seq))
    return None


def _accept(meter: Meter, reading: Measured, digest: int, place: tuple[int, int]) -> None:
    state, slot, _, outputs = meter
    below, above = place
    new = registers_of(reading)
    watermark_us = state.watermark_us
    is_late = watermark_us is not None and new[1] <= watermark_us
    outputs.counts["accepted", "late" if is_late else ""] += 1
    # behind the rows kept and behind a standing boundary, nobody needs it as a neighbour any more
    if not is_late or below != NONE or state.rows.head[slot] == NONE or new[1] > start_us(state.settled[slot]):
        state.rows.insert(
            slot,
            above,
            seq=new[0],
            timestamp_us=new[1],
            production_wh=new[2],
            consumption_wh=new[3],
            digest=digest,
            late=is_late,
        )
    _report(meter, reading, below, above)
    epoch = epoch_of_us(max(new[1] - 1, 0))
    if state.closed_epoch is None or epoch > state.closed_epoch:
        state.tallies.setdefault(epoch, Tally()).add(slot, new[0])
    elif epoch >= state.settled[slot]:
        state.wait(slot, epoch, (1, new[0], new[0]))
    if is_late:
        correct_boundary(meter, BoundaryRegister(*new, digest))


def _report(meter: Meter, reading: Measured, below: int, above: int) -> None:
    """Say which Wh lie between the readings, so that the intervals of one meter add up whatever the order."""
    state, _, record, outputs = meter
    generation_wh: int | None = None
    consumption_wh: int | None = None
    if below != NONE:
        former = registers_of_row(state, below)
        generation_wh, consumption_wh = reading.production_wh - former[2], reading.consumption_wh - former[3]
    outputs.accept(Accepted(record, reading.timestamp_us, reading, generation_wh, consumption_wh))
    if above != NONE:
        following = registers_of_row(state, above)
        generation_wh, consumption_wh = following[2] - reading.production_wh, following[3] - reading.consumption_wh
        outputs.accept(Accepted(record, following[1], None, generation_wh, consumption_wh))

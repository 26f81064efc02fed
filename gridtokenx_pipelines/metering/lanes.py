"""The fast lane of the window: readings between two ticks that plainly fit, accepted as columns (domain §3).

Belongs here: telling, for a whole run of records at once, which readings need no second look, and taking those in.
Does not belong here: any verdict of its own. A reading is taken here only if the rules (admission.py, judgement.py)
would accept it into an open epoch as its meter's newest; everything else is handed back in order, with all other
readings of its meter, so that both lanes together give exactly what the rules alone give.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridtokenx_pipelines.epochs import EPOCH_US, epoch_of_us, start_us
from gridtokenx_pipelines.metering.admission import HORIZON_US
from gridtokenx_pipelines.metering.outputs import AcceptedRun, Outputs
from gridtokenx_pipelines.metering.readings import Block, Measured, Reading
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryView, key_of_zone, partition_of_zone
from gridtokenx_pipelines.metering.rows import NONE, Ints, as_numpy
from gridtokenx_pipelines.metering.state import MAX_AHEAD_US, ShardState, Tally
from gridtokenx_pipelines.metering.verify import Message

WORTH_IT = 32  # fewer records than this are quicker one by one
# above these the products of the power rule could leave 64 bits: such readings are judged one by one, in Python's
MOST_WH, MOST_RATING_W, MOST_SPAN_US = 1 << 27, 1 << 20, 1 << 39
NO_LIMIT = 2**62
Mask = npt.NDArray[np.bool_]


class Senders:
    """What the registry says of the meters seen, by slot, while its version stays the same."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.slot_of: dict[str, int] = {}  # meters that may use the fast lane
        self.records: list[MeterRecord | None] = []
        self.keys: list[bytes] = []
        self.zone_keys: list[bytes] = []
        # the record is in force for times after `from_us` up to and including `to_us`
        self.zone, self.rating_w, self.from_us, self.to_us = array("q"), array("q"), array("q"), array("q")
        # what a meter's very first reading comes after: its baseline, and the start of its first epoch
        self.seq, self.time_us, self.production_wh, self.consumption_wh = array("q"), array("q"), array("q"), array("q")
        self.first_us = array("q")

    def meet(self, state: ShardState, meter_id: str, registry: RegistryView) -> int | None:
        """Slot of a meter that the registry says is active here; None for any other."""
        records = registry.records(meter_id)
        if not records:
            return None
        now = epoch_of_us(state.last_tick_us or 0)
        at = max(sum(record.effective_epoch <= now for record in records) - 1, 0)
        record = records[at]
        if record.status != "active" or partition_of_zone(record.zone_id, state.partitions) != state.partition:
            return None
        slot = state.slot_of(record)
        missing = slot + 1 - len(self.records)
        if missing > 0:
            self.records += [None] * missing
            self.keys += [b""] * missing
            self.zone_keys += [b""] * missing
            for column in (self.zone, self.rating_w, self.from_us, self.to_us, *self._baseline(), self.first_us):
                column.frombytes(bytes(8 * missing))
        if self.records[slot] not in (None, record):
            self.records = [*self.records]  # runs accepted so far hold the list and must keep the record before
        self.records[slot], self.keys[slot] = record, record.device_key
        self.zone_keys[slot] = key_of_zone(record.zone_id)
        self.zone[slot], self.rating_w[slot] = record.zone_id, record.rating_w
        self.from_us[slot] = start_us(record.effective_epoch) if at else -NO_LIMIT
        self.to_us[slot] = start_us(records[at + 1].effective_epoch) if at + 1 < len(records) else NO_LIMIT
        self.first_us[slot] = start_us(record.first_epoch)
        _, _, *baseline = record.admission
        for column, value in zip(self._baseline(), baseline, strict=True):
            column[slot] = value
        self.slot_of[meter_id] = slot
        return slot

    def _baseline(self) -> tuple[array[int], ...]:
        return self.seq, self.time_us, self.production_wh, self.consumption_wh


class _Lane(NamedTuple):
    """Readings as columns, in the order of their records; `record` is the index of the message."""

    readings: list[Measured]
    slot: Ints
    seq: Ints
    time_us: Ints
    production_wh: Ints
    consumption_wh: Ints
    digest: Ints
    record: Ints


def take(state: ShardState, run: Sequence[Message], registry: RegistryView, outputs: Outputs) -> Sequence[Message]:
    """Accept what plainly fits of a run without ticks; the rest, in its order, is for the rules one by one."""
    if len(run) < WORTH_IT or state.last_tick_us is None:
        return run
    senders = state.senders
    if senders is None or senders.version != registry.version:
        senders = state.senders = Senders(registry.version)
    lane, left = _sort_out(state, run, registry, senders)
    if lane is None:
        return run
    order = np.argsort(lane.slot, kind="stable")
    lane = _Lane([lane.readings[at] for at in order.tolist()], *(column[order] for column in lane[1:]))
    former = _former(state, lane, senders)
    fits = _fits(state, lane, former, senders)
    doubtful = np.zeros(len(state.meter_ids), dtype=np.bool_)
    doubtful[lane.slot[~fits]] = True
    for index in left:
        # another reading of that meter needs the rules: none of its readings may pass it
        slot = senders.slot_of.get(getattr(run[index].body, "meter_id", ""))
        if slot is not None:
            doubtful[slot] = True
    taken = ~doubtful[lane.slot]
    if not taken.all():
        again = set(lane.record[~taken].tolist())
        left = sorted(again.union(left))
        for index in again:
            # its record may have come into force or run out: looked up anew the next time
            senders.slot_of.pop(getattr(run[index].body, "meter_id", ""), None)
        kept = taken.tolist()
        readings = [reading for reading, keep in zip(lane.readings, kept, strict=True) if keep]
        lane = _Lane(readings, *(column[taken] for column in lane[1:]))
        former = tuple(column[taken] for column in former)
    if lane.readings:
        _accept(state, lane, former, senders, outputs)
    return [run[index] for index in left]


def _sort_out(
    state: ShardState, run: Sequence[Message], registry: RegistryView, senders: Senders
) -> tuple[_Lane | None, list[int]]:
    """Columns of the readings whose sender is plainly right, and the indexes of all other records."""
    readings: list[Measured] = []
    slots: list[int] = []
    digests: list[int] = []
    records: list[int] = []
    left: list[int] = []
    slot_of, keys, zones, zone_keys = senders.slot_of, senders.keys, senders.zone, senders.zone_keys
    for index, message in enumerate(run):
        body = message.body
        kind = type(body)
        if message.authentic and (kind is Reading or kind is Block):
            slot = slot_of.get(body.meter_id)  # type: ignore[union-attr] # it is one of the two
            if slot is None:
                slot = senders.meet(state, body.meter_id, registry)  # type: ignore[union-attr]
            if (
                slot is not None
                and message.pub == keys[slot]
                and body.zone_id == zones[slot]  # type: ignore[union-attr]
                and message.raw.key == zone_keys[slot]
            ):
                if kind is Reading:
                    readings.append(body)  # type: ignore[arg-type]
                    slots.append(slot)
                    digests.append(message.digest)
                    records.append(index)
                else:
                    of_block = body.readings  # type: ignore[union-attr]
                    readings.extend(of_block)
                    slots.extend([slot] * len(of_block))
                    digests.extend([0] * len(of_block))
                    records.extend([index] * len(of_block))
                continue
        left.append(index)
    if not readings:
        return None, left
    times = [reading.timestamp for reading in readings]
    try:
        time_us = np.array(times, dtype=np.int64)
    except TypeError:  # some are written as RFC 3339
        time_us = np.array([reading.timestamp_us for reading in readings], dtype=np.int64)
    columns = (
        slots,
        [reading.seq for reading in readings],
        time_us,
        [reading.production_wh for reading in readings],
        [reading.consumption_wh for reading in readings],
        digests,
        records,
    )
    return _Lane(readings, *(np.asarray(column, dtype=np.int64) for column in columns)), left


def _former(state: ShardState, lane: _Lane, senders: Senders) -> tuple[Ints, ...]:
    """Seq, time and registers of each reading's former neighbour, its row: -1 its baseline, -2 the one before here."""
    rows = state.rows
    first = np.empty(len(lane.slot), dtype=np.bool_)
    first[0] = True
    np.not_equal(lane.slot[1:], lane.slot[:-1], out=first[1:])
    head = as_numpy(rows.head)[lane.slot]
    known = np.flatnonzero(first & (head != NONE))
    fresh = np.flatnonzero(first & (head == NONE))  # nothing of that meter was ever accepted
    found = []
    for mine, column, baseline in (
        (lane.seq, rows.seq, senders.seq),
        (lane.time_us, rows.timestamp_us, senders.time_us),
        (lane.production_wh, rows.production_wh, senders.production_wh),
        (lane.consumption_wh, rows.consumption_wh, senders.consumption_wh),
    ):
        before = np.empty_like(mine)
        before[1:] = mine[:-1]
        before[known] = as_numpy(column)[head[known]]
        before[fresh] = as_numpy(baseline)[lane.slot[fresh]]
        found.append(before)
    return (*found, np.where(first, head, -2))


def _fits(state: ShardState, lane: _Lane, former: tuple[Ints, ...], senders: Senders) -> Mask:
    """Whether each reading is of an open epoch, from its meter's record in force, and right after its former neighbour.

    One behind the watermark in an epoch still open is late, but no boundary of it is settled: nothing to correct yet.
    """
    seq, time_us, production_wh, consumption_wh, row = former
    tick_us, open_us = state.last_tick_us or 0, start_us((state.closed_epoch or 0) + 1)
    rating_w = as_numpy(senders.rating_w)[lane.slot]
    span_us = lane.time_us - time_us
    more_wh, used_wh = lane.production_wh - production_wh, lane.consumption_wh - consumption_wh
    fits: Mask = (row != NONE) | (lane.time_us > as_numpy(senders.first_us)[lane.slot])
    fits &= (lane.seq > seq) & (span_us > 0) & (span_us < MOST_SPAN_US)
    fits &= (lane.time_us > max(open_us, tick_us - HORIZON_US - 1)) & (lane.time_us <= tick_us + MAX_AHEAD_US)
    fits &= lane.time_us > as_numpy(senders.from_us)[lane.slot]
    fits &= lane.time_us <= as_numpy(senders.to_us)[lane.slot]
    fits &= (more_wh >= 0) & (used_wh >= 0) & (more_wh < MOST_WH) & (used_wh < MOST_WH) & (rating_w < MOST_RATING_W)
    # the rule of judgement.py, now that nothing of what counts can overflow
    fits &= np.maximum(more_wh, used_wh) * 36_000_000_000 <= 11 * rating_w * span_us
    return fits


def _accept(state: ShardState, lane: _Lane, former: tuple[Ints, ...], senders: Senders, outputs: Outputs) -> None:
    _, _, production_wh, consumption_wh, former_row = former
    is_late = (lane.time_us <= (state.watermark_us or 0)).astype(np.int64)
    _append(state, lane, former_row, is_late)
    _count(state, lane)
    late = int(is_late.sum())
    for word, count in (("", len(lane.readings) - late), ("late", late)):
        if count:
            outputs.counts["accepted", word] += count
    intervals = lane.production_wh - production_wh, lane.consumption_wh - consumption_wh
    outputs.accept(AcceptedRun(senders.records, lane.slot, lane.time_us, lane.readings, *intervals, former_row != NONE))


def _append(state: ShardState, lane: _Lane, former_row: Ints, is_late: Ints) -> None:
    """Link the readings in as their meters' newest rows."""
    rows = state.rows
    row = np.arange(len(rows), len(rows) + len(lane.slot), dtype=np.int64)
    prev = np.where(former_row == -2, row - 1, former_row)
    for column, values in (
        (rows.slot, lane.slot),
        (rows.seq, lane.seq),
        (rows.timestamp_us, lane.time_us),
        (rows.production_wh, lane.production_wh),
        (rows.consumption_wh, lane.consumption_wh),
        (rows.digest, lane.digest),
        (rows.late, is_late),
        (rows.prev, prev),
    ):
        column.frombytes(values.tobytes())
    as_numpy(rows.head)[lane.slot] = row  # the last assignment of a slot wins: its newest


def _count(state: ShardState, lane: _Lane) -> None:
    """Tally the readings by epoch; in a meter they ascend in seq and time."""
    epoch = (lane.time_us - 1) // EPOCH_US
    start = np.flatnonzero(np.concatenate(([True], (lane.slot[1:] != lane.slot[:-1]) | (epoch[1:] != epoch[:-1]))))
    end = np.append(start[1:], len(epoch))
    epochs = epoch[start]
    for each in np.unique(epochs).tolist():
        of_epoch = epochs == each
        first, last = start[of_epoch], end[of_epoch]
        tally = state.tallies.setdefault(each, Tally())
        tally.add_many(len(state.meter_ids), lane.slot[first], last - first, (lane.seq[first], lane.seq[last - 1]))

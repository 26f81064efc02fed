"""Closing an epoch in one partition: registers at its end, net energy rows, missing meters, catching up (domain §3).

Belongs here: what happens once, when the watermark passes an epoch's end. Does not belong here: accepting readings
(window.py), or corrections of boundaries that stand (corrections.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gridtokenx_pipelines.epochs import EPOCH_US, start_us
from gridtokenx_pipelines.metering.boundaries import ESTIMATE, READING, BoundaryRegister
from gridtokenx_pipelines.metering.bulk_close import Roster, close_in_bulk
from gridtokenx_pipelines.metering.corrections import correct_boundary
from gridtokenx_pipelines.metering.outputs import ClosedEpoch, NetEnergyRow, Outputs
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryView
from gridtokenx_pipelines.metering.rows import NONE, as_numpy
from gridtokenx_pipelines.metering.state import BOUNDARY_WINDOW_US, HORIZON_EPOCHS, Meter, ShardState, Tally

NO_READINGS = (0, 0, 0)


class CatchUp(NamedTuple):
    """Of an epoch booked late: with which epoch's completion, and whether a boundary of it is an estimate."""

    booked_epoch: int
    estimated: bool


def close_epoch(state: ShardState, epoch: int, registry: RegistryView, outputs: Outputs) -> None:
    """Emit the epoch's rows of every admitted meter of the partition, then forget what is no longer needed."""
    tally = state.tallies.pop(epoch, None) or Tally()
    roster = state.roster
    if roster is None or roster.version != registry.version:
        roster = state.roster = Roster(registry, state.partition, state.partitions)
    done, booked = 0, close_in_bulk(state, roster, epoch, tally)
    # in the order of meter ids, whichever way each was closed
    for at in [index for index, row in enumerate(booked) if row is None]:
        outputs.net_energy_rows += booked[done:at]  # type: ignore[arg-type] # none of them is None
        done = at + 1
        meter_id = roster.meter_ids[at]
        record = roster.records[at] or registry.meter(meter_id, epoch)
        if record is None or epoch < record.first_epoch or record.status in ("pending", "retired"):
            continue
        _close_meter(Meter(state, state.slot_of(record), record, outputs), epoch, tally)
    outputs.net_energy_rows += booked[done:]  # type: ignore[arg-type]
    # offsets up to now, the closing tick included, are this epoch's part of the archive
    outputs.closed.append(ClosedEpoch(epoch, state.archived_to + 1, state.offset))
    state.archived_to = state.offset
    state.closed_epoch = epoch
    _forget(state, epoch)


def _close_meter(meter: Meter, epoch: int, tally: Tally) -> None:
    state, slot, record, outputs = meter
    boundary_us = start_us(epoch + 1)
    row = state.rows.last_at(slot, boundary_us, on_time_only=True)
    if row != NONE and state.rows.timestamp_us[row] <= boundary_us - BOUNDARY_WINDOW_US:
        row = NONE
    if record.status == "suspended":
        row = NONE  # what it measures meanwhile is booked when it is active again
    if row == NONE or state.settled[slot] < epoch:
        outputs.net_energy_rows.append(_missing(record, epoch))
        state.wait(slot, epoch, tally.get(slot))
        if row != NONE:
            _catch_up(meter, epoch, _register(state, row))
    else:
        _book(meter, epoch, _register(state, row), tally.get(slot))
    last = state.rows.last_at(slot, boundary_us, on_time_only=False)
    if row not in (NONE, last):
        # it came behind the watermark before the epoch closed: late all the same, so it can only correct
        correct_boundary(meter, _register(state, last))


def _register(state: ShardState, row: int) -> BoundaryRegister:
    rows = state.rows
    return BoundaryRegister(
        rows.seq[row],
        rows.timestamp_us[row],
        rows.production_wh[row],
        rows.consumption_wh[row],
        rows.digest[row],
    )


def _catch_up(meter: Meter, epoch: int, end: BoundaryRegister) -> None:
    """Book all unsettled epochs up to `epoch`, at whose end the meter has a register again.

    Epochs behind the horizon are closed for good: their energy counts in the first open one.
    """
    state, slot, _, _ = meter
    first = max(state.settled[slot], epoch + 1 - HORIZON_EPOCHS)
    for key in [key for key in state.waiting if key[0] == slot and key[1] < first]:
        state.wait(slot, first, state.waiting.pop(key))
    starts_estimated = first > state.settled[slot]
    for each in range(first, epoch + 1):
        register = end if each == epoch else _standing_or_estimated(meter, each + 1)
        ends_estimated = register.state != READING
        tally = state.waiting.pop((slot, each), NO_READINGS)
        _book(meter, each, register, tally, catch_up=CatchUp(epoch, starts_estimated or ends_estimated))
        starts_estimated = ends_estimated


def _standing_or_estimated(meter: Meter, epoch: int) -> BoundaryRegister:
    """The register at the start of `epoch`: a reading's, or one on the line between the readings around it."""
    state, slot, record, _ = meter
    boundary_us = start_us(epoch)
    before, after = state.rows.around(slot, boundary_us)
    if before != NONE and state.rows.timestamp_us[before] > boundary_us - BOUNDARY_WINDOW_US:
        return _register(state, before)
    later = _register(state, after)
    earlier = (
        _register(state, before)
        if before != NONE
        else BoundaryRegister(
            record.baseline_seq,
            record.baseline_timestamp_us,
            record.baseline_production_wh,
            record.baseline_consumption_wh,
        )
    )
    elapsed, span = boundary_us - earlier.timestamp_us, later.timestamp_us - earlier.timestamp_us
    return BoundaryRegister(
        NONE,
        boundary_us,
        earlier.production_wh + (later.production_wh - earlier.production_wh) * elapsed // span,
        earlier.consumption_wh + (later.consumption_wh - earlier.consumption_wh) * elapsed // span,
        state=ESTIMATE,
    )


def _book(
    meter: Meter,
    epoch: int,
    end: BoundaryRegister,
    tally: tuple[int, int, int],
    catch_up: CatchUp | None = None,
) -> None:
    """Emit the epoch's net energy up to `end`, which then starts the next epoch for good."""
    state, slot, record, outputs = meter
    production_start_wh, consumption_start_wh = state.start_production_wh[slot], state.start_consumption_wh[slot]
    production_wh = end.production_wh - production_start_wh
    consumption_wh = end.consumption_wh - consumption_start_wh
    readings, first_seq, last_seq = tally
    outputs.net_energy_rows.append(
        (
            record.meter_id,
            record.wallet,
            record.zone_id,
            epoch,
            1 if catch_up else 0,
            production_start_wh,
            consumption_start_wh,
            end.production_wh,
            end.consumption_wh,
            production_wh,
            consumption_wh,
            production_wh - consumption_wh,
            readings,
            catch_up is not None and catch_up.estimated,
            False,
            first_seq if readings else None,
            last_seq if readings else None,
            catch_up is not None,
            catch_up.booked_epoch if catch_up else epoch,
        )
    )
    state.boundaries.put(epoch + 1, slot, end)
    state.settled[slot] = epoch + 1
    state.start_production_wh[slot], state.start_consumption_wh[slot] = end.production_wh, end.consumption_wh


def _missing(record: MeterRecord, epoch: int) -> NetEnergyRow:
    who = (record.meter_id, record.wallet, record.zone_id, epoch)
    return (*who, 0, 0, 0, 0, 0, 0, 0, 0, 0, False, True, None, None, False, epoch)


def _forget(state: ShardState, epoch: int) -> None:
    # the epoch just closed is kept whole, so that duplicates of its readings are still known as such
    whole_after_us, oldest = start_us(epoch), epoch + 1 - HORIZON_EPOCHS
    settled = np.clip(as_numpy(state.settled), oldest, epoch)
    state.rows.compact(settled * EPOCH_US, whole_after_us, EPOCH_US)
    # two more than the horizon: the neighbours of its oldest reading
    state.boundaries.prune(oldest - 2)

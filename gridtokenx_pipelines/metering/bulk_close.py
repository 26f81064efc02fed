"""Closing an epoch for all meters that simply have a register at its end, as columns (domain §3).

Belongs here: telling which meters those are, and booking them at once. Does not belong here: the rules for any other
meter (epoch_close.py), which this leaves to them: a meter is booked here only if they would give the same row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.metering.outputs import NetEnergyRow
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryView
from gridtokenx_pipelines.metering.rows import NONE, Ints, as_numpy
from gridtokenx_pipelines.metering.state import BOUNDARY_WINDOW_US, ShardState, Tally

MOST_STEPS_BACK = 128  # readings after the boundary that are walked over; a meter with more is closed by itself


class Roster:
    """A partition's meters by id, ascending, while the registry's version stays the same."""

    def __init__(self, registry: RegistryView, partition: int, partitions: int) -> None:
        self.version = registry.version
        self.meter_ids = registry.meters_of(partition, partitions)
        # of a meter with several records the one in force depends on the epoch: looked up each time
        single = [(registry.records(meter_id)[0], len(registry.records(meter_id)) == 1) for meter_id in self.meter_ids]
        self.records: list[MeterRecord | None] = [record if alone else None for record, alone in single]
        self.first_epoch = np.array([record.first_epoch for record, _ in single], dtype=np.int64)
        self.active = np.array([alone and record.status == "active" for record, alone in single], dtype=np.bool_)
        self.slots = np.empty(0, dtype=np.int64)  # known once every active meter has its slot
        self.heads: tuple[list[str], list[str], list[int]] = (
            self.meter_ids,
            [record.wallet for record, _ in single],
            [record.zone_id for record, _ in single],
        )


def close_in_bulk(state: ShardState, roster: Roster, epoch: int, tally: Tally) -> list[NetEnergyRow | None]:
    """Book every meter that simply has a register at the epoch's end; its row by index in the roster."""
    rows: list[NetEnergyRow | None] = [None] * len(roster.meter_ids)
    if len(roster.slots) != len(roster.meter_ids):
        slots = [state.slots.get(meter_id, NONE) for meter_id in roster.meter_ids]
        found = np.array(slots, dtype=np.int64)
        if (found != NONE).all():
            roster.slots = found
    else:
        found = roster.slots
    eligible = roster.active & (roster.first_epoch <= epoch) & (found != NONE)
    index = np.flatnonzero(eligible)
    index = index[as_numpy(state.settled)[found[index]] == epoch]
    if not len(index):
        return rows
    row = _last_rows(state, found[index], start_us(epoch + 1))
    index, row = index[row != NONE], row[row != NONE]
    if len(index):
        booked = _book(state, roster, epoch, (found[index], row, index), tally)
        for at, one in zip(index.tolist(), booked, strict=True):
            rows[at] = one
    return rows


def _last_rows(state: ShardState, slot: Ints, boundary_us: int) -> Ints:
    """Each meter's last row up to the boundary if it is on time and in the boundary's window, else -1."""
    stored = state.rows
    times, prev, late = as_numpy(stored.timestamp_us), as_numpy(stored.prev), as_numpy(stored.late)
    row: Ints = as_numpy(stored.head)[slot]
    beyond = np.flatnonzero(row != NONE)
    for _ in range(MOST_STEPS_BACK):
        beyond = beyond[times[row[beyond]] > boundary_us]
        if not len(beyond):
            break
        row[beyond] = prev[row[beyond]]
        beyond = beyond[row[beyond] != NONE]
    row[beyond] = NONE
    there = np.flatnonzero(row != NONE)
    fits: npt.NDArray[np.bool_] = (times[row[there]] > boundary_us - BOUNDARY_WINDOW_US) & (late[row[there]] == 0)
    row[there[~fits]] = NONE
    return row


def _book(
    state: ShardState, roster: Roster, epoch: int, of: tuple[Ints, Ints, Ints], tally: Tally
) -> list[NetEnergyRow]:
    slot, row, index = of
    stored = state.rows
    seq, time_us = as_numpy(stored.seq)[row], as_numpy(stored.timestamp_us)[row]
    digest = as_numpy(stored.digest)[row]
    ends = as_numpy(stored.production_wh)[row], as_numpy(stored.consumption_wh)[row]
    starts = as_numpy(state.start_production_wh)[slot], as_numpy(state.start_consumption_wh)[slot]
    readings, first_seq, last_seq = tally.get_many(len(state.meter_ids), slot)
    state.boundaries.put_many(epoch + 1, len(state.meter_ids), slot, (seq, time_us, *ends, digest))
    as_numpy(state.settled)[slot] = epoch + 1
    as_numpy(state.start_production_wh)[slot], as_numpy(state.start_consumption_wh)[slot] = ends
    produced, consumed = ends[0] - starts[0], ends[1] - starts[1]
    count = len(slot)
    at = index.tolist()
    meter_ids, wallets, zones = ([column[each] for each in at] for column in roster.heads)
    counted = readings.tolist()
    first, last = (_none_where_zero(column.tolist(), counted) for column in (first_seq, last_seq))
    return list(
        zip(
            meter_ids,
            wallets,
            zones,
            [epoch] * count,
            [0] * count,
            starts[0].tolist(),
            starts[1].tolist(),
            ends[0].tolist(),
            ends[1].tolist(),
            produced.tolist(),
            consumed.tolist(),
            (produced - consumed).tolist(),
            counted,
            [False] * count,
            [False] * count,
            first,
            last,
            [False] * count,
            [epoch] * count,
            strict=True,
        )
    )


def _none_where_zero(seqs: list[int], readings: list[int]) -> list[int | None]:
    return [seq if count else None for seq, count in zip(seqs, readings, strict=True)]

"""Corrections: a late reading that turns out to be a settled boundary's last one (domain §3, §7).

Belongs here: replacing what stands at a boundary and writing down the difference. Does not belong here: who pays for
it (settlement/resettlement.py), or whether the reading is accepted at all (window.py).
"""

from __future__ import annotations

from gridtokenx_pipelines.epochs import EPOCH_US, start_us
from gridtokenx_pipelines.metering.boundaries import ESTIMATE, BoundaryRegister
from gridtokenx_pipelines.metering.state import BOUNDARY_WINDOW_US, Meter


def boundary_of(timestamp_us: int) -> int | None:
    """Epoch whose starting boundary a reading can stand at: its time is in (boundary − 60 s, boundary]."""
    epoch = -(-timestamp_us // EPOCH_US)
    return epoch if start_us(epoch) - timestamp_us < BOUNDARY_WINDOW_US else None


def correct_boundary(meter: Meter, reading: BoundaryRegister) -> None:
    """Let a late accepted reading take the place of its boundary's register, if it is the last one there.

    Boundaries not settled yet are left alone: the reading waits in the rows. The baseline is never corrected.
    Estimates beside the boundary that contradict the reading give way to it, each as its own correction.
    """
    state, slot, record, _ = meter
    epoch = boundary_of(reading.timestamp_us)
    if epoch is None or not record.first_epoch < epoch <= state.settled[slot]:
        return
    standing = state.boundaries.get(epoch, slot)
    if standing is None or (standing.state != ESTIMATE and reading.seq < standing.seq):
        return
    _replace(meter, epoch, standing, reading)
    for step in (1, -1):
        beside = epoch + step
        while record.first_epoch < beside <= state.settled[slot]:
            estimate = state.boundaries.get(beside, slot)
            if estimate is None or estimate.state != ESTIMATE:
                break
            limit = max if step == 1 else min
            moved = BoundaryRegister(
                estimate.seq,
                estimate.timestamp_us,
                limit(estimate.production_wh, reading.production_wh),
                limit(estimate.consumption_wh, reading.consumption_wh),
                state=ESTIMATE,
            )
            if not _replace(meter, beside, estimate, moved):
                break
            beside += step


def _replace(meter: Meter, epoch: int, former: BoundaryRegister, new: BoundaryRegister) -> bool:
    state, slot, record, outputs = meter
    production_delta_wh = new.production_wh - former.production_wh
    consumption_delta_wh = new.consumption_wh - former.consumption_wh
    changed = bool(production_delta_wh or consumption_delta_wh)
    revision = former.revision + changed
    state.boundaries.put(
        epoch,
        slot,
        BoundaryRegister(
            new.seq, new.timestamp_us, new.production_wh, new.consumption_wh, new.digest, new.state, revision
        ),
    )
    if changed:
        is_reading = new.state != ESTIMATE
        outputs.correction_rows.append(
            (
                record.meter_id,
                record.wallet,
                epoch,
                revision,
                production_delta_wh,
                consumption_delta_wh,
                new.seq if is_reading else None,
                new.timestamp_us if is_reading else None,
            )
        )
        outputs.counts["correction", ""] += 1
    return changed

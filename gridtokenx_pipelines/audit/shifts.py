"""What resettlement runs moved, derived again from the corrections they booked.

Belongs here: the net energy as it was booked before each run, x, refunds and take-backs by domain §7. Does not belong
here: money and balances after it (settlement/ledger.py). Recorded corrections carry no order among the runs, so a
shift is right if it follows with or without those of other boundaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.audit.entries import RunOf
from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.settlement.frames import RESETTLEMENT
from gridtokenx_pipelines.settlement.resettlement import Shift, shift_x_wh


class Concluded(msgspec.Struct, frozen=True, kw_only=True):
    """Corrections as concluded, net energy as recomputed, and stored wallet entries (they say what was taken back).

    `planned` by (seq, wallet): what the chain was told to take back, where GRID may have left since (AMOUNTS).
    """

    net_energy: pl.DataFrame
    corrections: pl.DataFrame
    entries: pl.DataFrame
    planned: Mapping[tuple[int, str], Mapping[str, int]] = {}


def shifts_of(runs: Sequence[RunOf], concluded: Concluded) -> tuple[dict[int, tuple[Shift, ...]], list[Finding]]:
    """Shifts by seq of each resettlement run, and findings where the stored x doesn't follow from the corrections."""
    wanted = [run for run in runs if run.kind == RESETTLEMENT]
    if not wanted:
        return {}, []
    nets = _nets(concluded.net_energy)
    rows = concluded.corrections.to_dicts()
    entries = {
        (row["seq"], row["wallet"]): row
        for row in concluded.entries.filter(pl.col("kind") == RESETTLEMENT).iter_rows(named=True)
    }
    shifts: dict[int, tuple[Shift, ...]] = {}
    found: list[Finding] = []
    for run in wanted:
        mine = _grouped(row for row in rows if row["booked_seq"] == run.seq and row["status"] == "booked")
        made = []
        for (meter, boundary), group in sorted(mine.items(), key=lambda each: (each[0][1], each[0][0])):
            told = concluded.planned.get((run.seq, group[0]["wallet"]))
            shift, wrong = _shift(run, meter, boundary, group, (nets, rows), entries, told)
            if shift is not None:
                made.append(shift)
            if wrong:
                what = f"corrections meter_id={meter}"
                found.append(Finding(epoch=run.epoch, stage="ledger", what=what, detail=wrong))
        shifts[run.seq] = tuple(made)
    return shifts, found


def _nets(net_energy: pl.DataFrame) -> dict[tuple[str, int], tuple[int, int]]:
    """(meter, epoch) → booked net Wh and zone: run 0's row, or the late run's."""
    rows = net_energy.filter(~pl.col("missing")).sort("revision")
    return {
        (meter, epoch): (net, zone)
        for meter, epoch, net, zone in rows.select("meter_id", "epoch", "net_wh", "zone_id").iter_rows()
    }


def _grouped(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["meter_id"], row["boundary_epoch"]), []).append(row)
    return groups


def _moved(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["production_delta_wh"] - row["consumption_delta_wh"] for row in rows)


def _net_before(
    meter: str,
    epoch: int,
    run: RunOf,
    booked: tuple[Mapping[tuple[str, int], tuple[int, int]], Sequence[Mapping[str, Any]]],
    *,
    recorded: bool,
) -> int | None:
    nets, rows = booked
    if (meter, epoch) not in nets:
        return None
    earlier = [
        row
        for row in rows
        if row["meter_id"] == meter
        and (
            (row["status"] == "booked" and row["booked_seq"] < run.seq)
            or (row["status"] == "recorded" and (recorded or row["boundary_epoch"] == run.epoch))
        )
    ]
    gained = _moved(row for row in earlier if row["boundary_epoch"] - 1 == epoch)
    lost = _moved(row for row in earlier if row["boundary_epoch"] == epoch)
    return nets[meter, epoch][0] + gained - lost


def _shift(  # noqa: PLR0917
    run: RunOf,
    meter: str,
    boundary: int,
    group: Sequence[Mapping[str, Any]],
    booked: tuple[Mapping[tuple[str, int], tuple[int, int]], Sequence[Mapping[str, Any]]],
    entries: Mapping[tuple[int, str], Mapping[str, Any]],
    planned: Mapping[str, int] | None,
) -> tuple[Shift | None, str]:
    """The shift with its x from the corrections; how far a refund goes is read from the entry and bounded by x."""
    wallet = group[0]["wallet"]
    entry = entries.get((run.seq, wallet))
    stored_x = group[0]["x_wh"]
    candidates = {}
    for recorded in (True, False):
        before = _net_before(meter, boundary - 1, run, booked, recorded=recorded)
        after = _net_before(meter, boundary, run, booked, recorded=recorded)
        if before is not None and after is not None:
            candidates[shift_x_wh(before, after, _moved(group))] = before
    if not candidates:
        # the epoch before the range is not among the inputs: x is taken as stored
        candidates = {stored_x: -1}
    wrong = ""
    if stored_x not in candidates:
        x = next(iter(candidates))
        wrong = f"x was {stored_x} Wh, follows as {x} Wh from the corrections of run {run.run}"
    else:
        x = stored_x
    prior_in_deficit = candidates.get(x, -1) < 0
    deficit, surplus = (boundary - 1, boundary) if prior_in_deficit else (boundary, boundary - 1)
    amounts = dict.fromkeys(("refund_wh", "taken_back_wh", "returned_wh", "rebilled_wh"), 0)
    if entry is not None and x < 0:
        amounts = _as_judged({name: entry[name] for name in amounts}, planned)
        if entry["refund_epoch"] is not None:
            deficit, surplus = entry["refund_epoch"], entry["surplus_epoch"]
        rest = amounts["taken_back_wh"] + amounts["returned_wh"] + amounts["rebilled_wh"]
        if not 0 <= amounts["refund_wh"] <= -x or rest != amounts["refund_wh"]:
            wrong = wrong or f"refund was {amounts['refund_wh']} Wh, taken back and billed {rest} Wh, at most {-x} Wh"
    zone = next((zone for (who, _), (_, zone) in booked[0].items() if who == meter), 0)
    return (
        Shift(
            meter_id=meter,
            wallet=wallet,
            zone_id=zone,
            deficit_epoch=deficit,
            surplus_epoch=surplus,
            x_wh=x,
            **amounts,
        ),
        wrong,
    )


def _as_judged(booked: dict[str, int], planned: Mapping[str, int] | None) -> dict[str, int]:
    """What the correction was to move: GRID that had left by then was billed instead, as much as both add up to."""
    if planned is None or planned["taken_back_wh"] < booked["taken_back_wh"]:
        return booked
    both = [
        (each["refund_wh"], each["returned_wh"], each["taken_back_wh"] + each["rebilled_wh"])
        for each in (booked, planned)
    ]
    return dict(planned) if both[0] == both[1] else booked

"""Resettlement: corrections of settled epochs, booked as the next run of the later epoch, planned and settled.

Belongs here: which corrections are due, and the order of the steps. Does not belong here: what a correction moves
(settlement/resettlement.py), reading what it needs (store/resettlement.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.observability.stages import stage
from gridtokenx_pipelines.settlement.frames import RESETTLEMENT
from gridtokenx_pipelines.settlement_service import instructions, receipts, statements
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store.epochs import corrections_at, statuses
from gridtokenx_pipelines.store.resettlement import book_next
from gridtokenx_pipelines.units import kwh, thb


@stage("resettlement_receipts")
def resettle_epochs(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Book what waits at boundaries up to the last of these epochs, each run in its own transaction, and settle it.

    Corrections are judged in the order of their boundaries, so earlier ones that still wait go first. Raises
    EpochNotReady if one of the epochs is not settled.
    """
    with services.engine.connect() as connection:
        status = statuses(connection, epochs[0], epochs[-1])
    unsettled = [epoch for epoch in epochs if status.get(epoch) != "settled"]
    if unsettled:
        raise EpochNotReady(
            f"epoch was {key_of(unsettled[0])}, must be settled before it is resettled; settle it first"
        )
    booked = book_waiting(services, epochs[-1])
    touched = sorted({run.epoch for run in booked})
    if touched:
        instructions.plan_epochs(services, touched)
    settled = receipts.settle_open_runs(services)
    if touched:
        statements.write(services, touched)
    return [_report(services, epoch, changed=epoch in touched or epoch in settled) for epoch in epochs]


def book_waiting(services: Services, through_epoch: int) -> list[ledger.Run]:
    """Book run after run until nothing more can be booked; returns the new runs in order."""
    booked: list[ledger.Run] = []
    while True:
        with services.engine.begin() as connection:
            run = book_next(connection, through_epoch=through_epoch, rules=services.rules)
        if run is None:
            return booked
        booked.append(run)


def inspect_epochs(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The checks of receipts, on all runs of these epochs."""
    return receipts.inspect_epochs(services, epochs)


def _report(services: Services, epoch: int, *, changed: bool) -> EpochReport:
    with services.engine.connect() as connection:
        entries = ledger.wallet_entries(connection, epoch, epoch).filter(pl.col("kind") == RESETTLEMENT)
        corrections = corrections_at(connection, epoch)
    counts = dict(corrections.group_by("status").len().iter_rows())
    sums = {name: int(entries[name].sum()) for name in ("refund_wh", "refund_uthb", "taken_back_wh", "rebilled_wh")}
    return EpochReport(
        epoch=epoch,
        changed=changed,
        facts={
            "runs": entries["run"].n_unique(),
            **{f"corrections_{name}": counts.get(name, 0) for name in ("booked", "recorded", "rejected", "waiting")},
            "refunded_kwh": kwh(sums["refund_wh"]),
            "refunded_thb": thb(sums["refund_uthb"]),
            "taken_back_kwh": kwh(sums["taken_back_wh"]),
            "rebilled_kwh": kwh(sums["rebilled_wh"]),
        },
        tables={"corrections": corrections},
    )

"""Stage 5: what each participant and the operator earned, paid and owe for an epoch.

Belongs here: statements from the ledger's entries, all runs of the epoch together, and sealing what they state. Does
not belong here: what they add up (settlement/statement.py), a person's statement of a period (period.py), booking.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.observability.stages import stage
from gridtokenx_pipelines.settlement.statement import AFTER, SUMMED, participants
from gridtokenx_pipelines.settlement_service.audits import rules_then, seals
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store.epochs import statuses
from gridtokenx_pipelines.units import kwh, thb

ASSET = "epoch_statement"
WRITERS: Final = 4
__all__ = ["AFTER", "ASSET", "SUMMED", "write"]


@stage("epoch_statement")
def write(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Write `participants` and `operator` of each epoch; writing again gives the same frames until a resettlement."""
    with services.engine.connect() as connection:
        entries = ledger.wallet_entries(connection, epochs[0], epochs[-1])
        cleared = statuses(connection, epochs[0], epochs[-1])
    rules_then.keep(services)
    unbooked = [epoch for epoch in epochs if epoch not in cleared]
    if unbooked:
        raise ValueError(f"epoch {key_of(unbooked[0])} has no run in the ledger; clear it first")
    everyone = participants(entries, {epoch: services.rules.at(epoch) for epoch in epochs})
    by_epoch = everyone.partition_by("epoch", as_dict=True, maintain_order=True)

    def write_one(epoch: int) -> EpochReport:
        # no entry is no fault: an epoch in which every meter was missing settles empty
        people = by_epoch.get((epoch,), everyone.clear()).drop("epoch")
        operator = people.select(pl.col(*SUMMED, "vat_uthb", "saved_uthb").sum())
        changed = _write_if_new(services, epoch, "participants", people)
        changed = _write_if_new(services, epoch, "operator", operator) or changed
        return _report(epoch, people, operator.row(0, named=True), services, changed=changed)

    # a file waits for the disk twice; the epochs' files wait together
    with ThreadPoolExecutor(WRITERS, "statements") as pool:
        reports = list(pool.map(write_one, epochs))
    seals.seal(services, epochs)
    return reports


def _write_if_new(services: Services, epoch: int, name: str, frame: pl.DataFrame) -> bool:
    if services.parquet.exists(ASSET, epoch, name) and services.parquet.read(ASSET, epoch, name).equals(frame):
        return False
    services.parquet.write(ASSET, epoch, name, frame)
    return True


def _report(
    epoch: int, people: pl.DataFrame, operator: dict[str, int], services: Services, *, changed: bool
) -> EpochReport:
    shown = people.select(
        "wallet",
        "zone_id",
        *[
            (pl.col(name) / unit).alias(title)
            for title, name, unit in (
                ("net kWh", "net_wh", 1_000),
                ("traded kWh", "traded_wh", 1_000),
                ("paid THB", "cost_uthb", 1_000_000),
                ("earned THB", "proceeds_uthb", 1_000_000),
                ("supplier's bill THB", "billed_uthb", 1_000_000),
                ("buy-back THB", "buy_back_uthb", 1_000_000),
                ("saved THB", "saved_uthb", 1_000_000),
                ("debt THB", "debt_after_uthb", 1_000_000),
            )
        ],
    )
    return EpochReport(
        epoch=epoch,
        changed=changed,
        facts={
            "participants": people.height,
            "saved_thb": thb(operator["saved_uthb"]),
            "billed_thb": thb(operator["billed_uthb"]),
            "residual_kwh": kwh(operator["residual_wh"]),
            "bought_back_kwh": kwh(operator["bought_back_wh"]),
            "fees_thb": thb(operator["fee_uthb"]),
            "statement": services.parquet.path(ASSET, epoch, "participants").as_posix(),
        },
        tables={"participants_table": shown},
    )

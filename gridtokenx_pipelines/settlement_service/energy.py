"""Stage 1: the epochs' net energy, collected from the store and frozen as frames.

Belongs here: loading, freezing and reporting. Does not belong here: windowing (metering/), judging (inspections/).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.observability.stages import stage
from gridtokenx_pipelines.settlement_service.inspections import net_energy as inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import participants
from gridtokenx_pipelines.store.epochs import net_energy_between, statuses
from gridtokenx_pipelines.store.progress import complete_through
from gridtokenx_pipelines.units import kwh

ASSET, FRAME = "net_energy", "rows"


class EpochNotReady(RuntimeError):
    """An epoch can't be settled yet; says what it waits for."""


@stage("net_energy")
def collect(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Freeze the rows of each epoch. Raises EpochNotReady for an epoch that isn't complete.

    A settled epoch's frame is left as it is: what was settled is what it was settled from.
    """
    through = complete_through(services.engine)
    if through is None or epochs[-1] > through:
        reached = "no epoch" if through is None else key_of(through)
        raise EpochNotReady(
            f"epoch was {key_of(epochs[-1])}, must be complete, and the flows have closed {reached}; "
            "wait for the gateways' ticks, or look at the flows' lag"
        )
    with services.engine.connect() as connection:
        rows = net_energy_between(connection, epochs[0], epochs[-1])
        settled = statuses(connection, epochs[0], epochs[-1])
    reports = []
    for epoch in epochs:
        mine = rows.filter(pl.col("epoch") == epoch)
        frozen = settled.get(epoch) in ("cleared", "halted", "settled") and services.parquet.exists(ASSET, epoch, FRAME)
        if not frozen:
            services.parquet.write(ASSET, epoch, FRAME, mine)
        reports.append(_report(epoch, mine, changed=not frozen))
    return reports


def inspect_epochs(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The checks on net energy for each epoch."""
    with services.engine.connect() as connection:
        rows = net_energy_between(connection, epochs[0] - 1, epochs[-1])
        meters = participants.meters(connection)
    return inspection.inspect(rows, meters, epochs)


def _report(epoch: int, rows: pl.DataFrame, *, changed: bool) -> EpochReport:
    on_time = rows.filter(pl.col("revision") == 0)
    present = on_time.filter(~pl.col("missing"))
    zones = (
        present.group_by("zone_id")
        .agg(pl.len().alias("meters"), pl.sum("production_wh", "consumption_wh", "net_wh"))
        .sort("zone_id")
    )
    produced, consumed = (int(present[name].sum()) for name in ("production_wh", "consumption_wh"))
    return EpochReport(
        epoch=epoch,
        changed=changed,
        facts={
            "meters": on_time.height,
            "missing": on_time.height - present.height,
            "late_rows": rows.height - on_time.height,
            "estimated": int(rows["estimated"].sum()),
            "readings": int(present["readings"].sum()),
            "produced_kwh": kwh(produced),
            "consumed_kwh": kwh(consumed),
            "net_kwh": kwh(produced - consumed),
        },
        tables={"zones": zones},
    )

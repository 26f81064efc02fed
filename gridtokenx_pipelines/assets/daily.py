"""The published daily tables: meters, market, settlement.

Belongs here: the assets as Dagster sees them. Does not belong here: gathering a day (settlement_service/daily.py).
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from typing import Any

import dagster as dg

from gridtokenx_pipelines.assets.render import markdown
from gridtokenx_pipelines.assets.tables import column_metadata
from gridtokenx_pipelines.partitions import DAYS, epochs_of_day
from gridtokenx_pipelines.quality.contract import Contract
from gridtokenx_pipelines.quality.contracts import DAILY_MARKET, DAILY_METERING, DAILY_SETTLEMENT
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import daily

GROUP = "daily"
SOURCES = {
    DAILY_METERING.name: "net_energy",
    DAILY_MARKET.name: "clearing_results",
    DAILY_SETTLEMENT.name: "epoch_statement",
}


def _daily(contract: Contract) -> dg.AssetsDefinition:
    source = SOURCES[contract.name]

    @dg.asset(
        name=contract.name,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        owners=[contract.owner],
        kinds={"polars", "parquet"},
        tags={"gridtokenx/stage": "reporting"},
        deps=[source],
        description=contract.meaning,
        metadata=column_metadata(contract.name, [source]),
    )
    def table(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
        days = sorted(context.partition_keys)
        reports = daily.write(settlement.services, contract.name, [(day, epochs_of_day(day)) for day in days])
        for day, report in zip(days, reports, strict=True):
            metadata: dict[str, Any] = {"unchanged": not report.changed, **report.facts}
            metadata |= {name: markdown(rows) for name, rows in report.tables.items()}
            context.add_asset_metadata(metadata, partition_key=day)

    return table


ASSETS = tuple(_daily(contract) for contract in (DAILY_METERING, DAILY_MARKET, DAILY_SETTLEMENT))

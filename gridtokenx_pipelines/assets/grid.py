"""The grid operator's report of a day: JSON, HTML and a map, with links in the UI.

Belongs here: the asset as Dagster sees it. Does not belong here: computing the report (settlement_service/grid_day.py).
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from typing import Any

import dagster as dg

from gridtokenx_pipelines.assets.render import markdown
from gridtokenx_pipelines.partitions import DAYS, epochs_of_day
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import grid_day

LINKS = ("report_json", "report_html", "map")


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="daily",
    owners=["team:network"],
    kinds={"lightsim2grid", "plotly"},
    tags={"gridtokenx/stage": "reporting"},
    deps=["net_energy", "clearing_results"],
    description="Generation, load, exchange, losses and violations by zone, worst hours, rent, hosting capacity, map.",
)
def daily_grid(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
    """Write each day's report and map."""
    days = sorted(context.partition_keys)
    reports = grid_day.write_days(settlement.services, [(day, epochs_of_day(day)) for day in days])
    for day, report in zip(days, reports, strict=True):
        metadata: dict[str, Any] = dict(report.facts)
        metadata |= {name: dg.MetadataValue.url(str(report.facts[name])) for name in LINKS if name in report.facts}
        metadata |= {name: markdown(rows) for name, rows in report.tables.items()}
        context.add_asset_metadata(metadata, partition_key=day)


ASSETS = (daily_grid,)

"""Jobs: what an operator, a sensor, a schedule and the demo all run.

Belongs here: job definitions and the tags every run of this market carries. Does not belong here: when they run.
"""

from __future__ import annotations

import dagster as dg

from gridtokenx_pipelines.assets import audit, daily, grid, resettlement, settlement
from gridtokenx_pipelines.checks import quality

# dagster.yaml lets one run with the same value go at a time: balances tie the epochs of a market together
MARKET_TAGS = {"gridtokenx/market": "main"}

settle_epoch = dg.define_asset_job(
    "settle_epoch",
    # statistics only warn: a settlement must not wait for them
    selection=dg.AssetSelection.assets(*settlement.SPINE) - dg.AssetSelection.checks(*quality.WARNINGS),
    description="Clear and settle complete epochs, one or a range in order; a settled epoch stays as it is.",
    tags=MARKET_TAGS,
    # one process: a multiprocess run would import everything again for each step, seconds an epoch
    executor_def=dg.in_process_executor,
)

resettle_epoch = dg.define_asset_job(
    "resettle_epoch",
    selection=dg.AssetSelection.assets(resettlement.ASSET),
    description="Book waiting corrections whose two epochs are settled, and settle only the difference.",
    tags=MARKET_TAGS,
    executor_def=dg.in_process_executor,
)

audit_epochs = dg.define_asset_job(
    "audit_epochs",
    selection=dg.AssetSelection.assets(audit.ASSET),
    description="Audit a range: recompute it from the archive, compare with database and chain, sign a dossier.",
    # without the market's tag: an audit moves nothing, so it runs beside a settlement
    executor_def=dg.in_process_executor,
)

watch_quality = dg.define_asset_job(
    "watch_quality",
    selection=dg.AssetSelection.checks(*quality.WARNINGS),
    description="Watch data quality: statistics of settled epochs that warn and block nothing.",
    executor_def=dg.in_process_executor,
)

publish_day = dg.define_asset_job(
    "publish_day",
    selection=dg.AssetSelection.assets(*(asset.key for asset in (*daily.ASSETS, *grid.ASSETS))),
    description="Publish a day's tables and grid report; Great Expectations validates, data docs are built as pages.",
    # one process: Great Expectations takes seconds to import, once instead of once a table
    executor_def=dg.in_process_executor,
)

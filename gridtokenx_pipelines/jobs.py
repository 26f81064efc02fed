"""Jobs: what an operator, a sensor, a schedule and the demo all run.

Belongs here: job definitions and the tags every run of this market carries. Does not belong here: when they run.
"""

from __future__ import annotations

import dagster as dg

from gridtokenx_pipelines.assets import resettlement, settlement

# dagster.yaml lets one run with the same value go at a time: balances tie the epochs of a market together
MARKET_TAGS = {"gridtokenx/market": "main"}

settle_epoch = dg.define_asset_job(
    "settle_epoch",
    selection=dg.AssetSelection.assets(*settlement.SPINE),
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

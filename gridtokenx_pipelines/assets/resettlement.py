"""Resettlement: what late or corrected readings changed in settled epochs, booked and settled as the difference.

Belongs here: the asset as Dagster sees it. Does not belong here: x, refunds, take-backs (settlement/resettlement.py).
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
import dagster as dg

from gridtokenx_pipelines.assets.render import show
from gridtokenx_pipelines.assets.settlement import COMMON, GROUP, OWNERS
from gridtokenx_pipelines.partitions import epochs_of
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import resettlement

ASSET = "resettlement_receipts"


@dg.asset(
    **COMMON,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"solana", "postgres"},
    tags={"gridtokenx/stage": "resettlement"},
    deps=["settlement_receipts"],
    description="Waiting corrections of settled epochs, booked on the later epoch as its next run; no trade re-priced.",
)
def resettlement_receipts(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
    """Book, plan and settle the corrections of these epochs."""
    show(context, ASSET, resettlement.resettle_epochs(settlement.services, epochs_of(context.partition_keys)))


ASSETS = (resettlement_receipts,)

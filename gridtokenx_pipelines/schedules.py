"""Schedules: what the sensor missed is caught three minutes after each quarter hour.

Belongs here: the clock of the pipeline. Does not belong here: what a run does, or which epochs are complete.
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
import dagster as dg

from gridtokenx_pipelines.jobs import settle_epoch
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.sensors import MAX_EPOCHS_PER_RUN, market_is_busy, settlement_request
from gridtokenx_pipelines.settlement_service import progress


@dg.schedule(
    # written by hand: Dagster's own partition schedule can't wait for a grace period after the boundary
    cron_schedule="3,18,33,48 * * * *",
    execution_timezone="UTC",
    job=settle_epoch,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Settles complete epochs that the sensor missed or whose run failed; key = epoch.",
)
def catch_up_schedule(context: dg.ScheduleEvaluationContext, settlement: Settlement) -> dg.RunRequest | dg.SkipReason:
    """A failed epoch is tried again here, at most once a quarter of an hour."""
    if market_is_busy(context.instance):
        return dg.SkipReason("a run of this market is going on")
    waiting = progress.complete_unsettled_epochs(settlement.services, limit=MAX_EPOCHS_PER_RUN)
    if not waiting:
        return dg.SkipReason("nothing was missed")
    return settlement_request(waiting)

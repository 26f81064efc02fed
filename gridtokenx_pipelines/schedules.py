"""Schedules: what the sensor missed is caught three minutes after each quarter hour; statistics and days follow.

Belongs here: the clock of the pipeline. Does not belong here: what a run does, or which epochs are complete.
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from datetime import timedelta

import dagster as dg

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.jobs import publish_day, settle_epoch, watch_quality
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


@dg.schedule(
    cron_schedule="7,22,37,52 * * * *",
    execution_timezone="UTC",
    job=watch_quality,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks at the newest settled epoch once, after its settlement.",
)
def quality_schedule(context: dg.ScheduleEvaluationContext, settlement: Settlement) -> dg.RunRequest | dg.SkipReason:
    """Key = epoch, so that an epoch without a successor is not watched again and again."""
    newest = progress.newest_settled(settlement.services)
    if newest is None:
        return dg.SkipReason("no epoch is settled yet")
    return dg.RunRequest(run_key=key_of(newest), partition_key=key_of(newest))


@dg.schedule(
    # an hour for the day's last epochs to settle, and for late readings to be estimated
    cron_schedule="0 1 * * *",
    execution_timezone="UTC",
    job=publish_day,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Publishes and validates the tables of the day before.",
)
def daily_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Key = day."""
    day = (context.scheduled_execution_time - timedelta(days=1)).strftime("%Y-%m-%d")
    return dg.RunRequest(run_key=day, partition_key=day)

"""Sensors: settlement as soon as epochs are complete, resettlement when corrections wait.

Belongs here: what to request and under which run key. Does not belong here: which epochs are complete (the service).
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from collections.abc import Sequence

import dagster as dg

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.jobs import MARKET_TAGS, resettle_epoch, settle_epoch
from gridtokenx_pipelines.partitions import EPOCHS, range_tags
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import progress

INTERVAL_SECONDS = 10
# one run's metadata and memory stay small, and an operator sees progress at least every day of catch-up
MAX_EPOCHS_PER_RUN = 96
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def market_is_busy(instance: dg.DagsterInstance) -> bool:
    """Whether a run of this market is queued or going on; another request would only repeat its epochs."""
    return bool(instance.get_run_records(dg.RunsFilter(tags=MARKET_TAGS, statuses=IN_PROGRESS), limit=1))


def settlement_request(epochs: Sequence[int]) -> dg.RunRequest:
    """One run for the epochs, which must follow one another: a single partition, or a range in order."""
    first, last = epochs[0], epochs[-1]
    if first == last:
        return dg.RunRequest(run_key=key_of(first), partition_key=key_of(first))
    return dg.RunRequest(run_key=f"{key_of(first)}...{key_of(last)}", tags=range_tags(first, last))


@dg.sensor(
    job=settle_epoch,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests complete, unsettled epochs in order, one run of the market at a time.",
)
def completion_sensor(context: dg.SensorEvaluationContext, settlement: Settlement) -> dg.SensorResult | dg.SkipReason:
    """Key = epoch (or range), so that an epoch whose run failed is left to the schedule and the operator."""
    settlement.services.publish()  # what a broker that was away has not been told yet
    if market_is_busy(context.instance):
        return dg.SkipReason("a run of this market is going on")
    waiting = progress.complete_unsettled_epochs(settlement.services, limit=MAX_EPOCHS_PER_RUN)
    if not waiting:
        return dg.SkipReason("no complete epoch waits for settlement")
    return dg.SensorResult(run_requests=[settlement_request(waiting)])


@dg.sensor(
    job=resettle_epoch,
    minimum_interval_seconds=INTERVAL_SECONDS * 3,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a resettlement when corrections of settled epochs wait.",
)
def correction_sensor(context: dg.SensorEvaluationContext, settlement: Settlement) -> dg.SensorResult | dg.SkipReason:
    """One run per later epoch with waiting corrections; the key counts all there ever were: new ones start another."""
    if market_is_busy(context.instance):
        return dg.SkipReason("a run of this market is going on")
    waiting = progress.epochs_with_corrections(settlement.services)
    waiting = {epoch: count for epoch, count in waiting.items() if EPOCHS.has_partition_key(key_of(epoch))}
    if not waiting:
        return dg.SkipReason("no correction of settled epochs waits")
    ever = progress.corrections_ever(settlement.services, waiting)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(run_key=f"{key_of(epoch)}/{ever[epoch]}", partition_key=key_of(epoch))
            for epoch in sorted(waiting)
        ]
    )

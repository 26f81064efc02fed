"""Operations: following the chain between epochs, resuming what is stuck, telling people, giving old rent back.

Belongs here: the jobs and sensors that keep the market going. Does not belong here:
settling (jobs.py, sensors.py), what is stuck (settlement_service/stuck.py), how an alert travels (alerts/).
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from gridtokenx_pipelines.alerts.channels import Alert, deliver
from gridtokenx_pipelines.epochs import epoch_of_key, key_of
from gridtokenx_pipelines.jobs import MARKET_TAGS
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.sensors import market_is_busy
from gridtokenx_pipelines.settlement_service import finality, island, movements, progress, retention, stuck

FOLLOW_SECONDS, WATCH_SECONDS = 30, 60
# a stuck settlement is tried again by itself this often; an operator may at any time
RESUME_EVERY_SECONDS = 300
KEPT_ALERTS = 200
ONE_PROCESS = {"executor_def": dg.in_process_executor}


@dg.op(pool="market")
def resume_settlement(context: dg.OpExecutionContext, settlement: Settlement) -> None:
    """Bring every open run to its end."""
    resumed = stuck.resume(settlement.services)
    context.add_output_metadata(
        {
            "receipts_stamped_final": resumed.stamped,
            "runs_opened_again": resumed.reopened,
            "epochs": ", ".join(key_of(epoch) for epoch in resumed.epochs) or "none was open",
        }
    )


@dg.job(
    tags=MARKET_TAGS,
    description="The operator's button for a stuck settlement: asks the chain what happened, sends what is missing.",
    **ONE_PROCESS,
)
def resume_stuck_settlement() -> None:
    """One step; safe at any time, by anyone, as often as wanted."""
    resume_settlement()


class Declaration(dg.Config):
    """What the launchpad asks for. `epoch`: its key (2026-06-15T05:00Z); empty: the first that has not cleared."""

    upstream: str
    epoch: str = ""
    who: str = "operator"
    why: str = ""


@dg.op(pool="market")
def declare_upstream(context: dg.OpExecutionContext, config: Declaration, settlement: Settlement) -> None:
    """Record it for the epochs to come, or refuse it with the bound."""
    services = settlement.services
    try:
        epoch = epoch_of_key(config.epoch) if config.epoch else None
        said = island.declare(
            services.engine,
            services.grid,
            config.upstream,
            epoch=epoch,
            who=config.who,
            why=config.why,
            at=datetime.now(UTC),
        )
    except ValueError as error:
        # the operator's input is wrong: trying again changes nothing
        raise dg.Failure(description=str(error), allow_retries=False) from error
    context.add_output_metadata({"declared": said.words(), "new": said.new})


@dg.job(
    tags=MARKET_TAGS,
    description="The operator's button for an outage: the upstream grid is lost, or returned, from an epoch on.",
    **ONE_PROCESS,
)
def declare_island() -> None:
    """One step; epochs that have cleared stay as they are."""
    declare_upstream()


@dg.op
def compact_and_give_back(context: dg.OpExecutionContext, settlement: Settlement) -> None:
    """Old frames into one file a day, rent of closed epochs back to whoever paid it."""
    kept = retention.keep_house(settlement.services)
    context.add_output_metadata(
        {
            "epochs_closed_on_chain": kept.closed,
            "lamports_returned": kept.lamports,
            "days_compacted": kept.days,
            "files_before": kept.files_before,
            "files_after": kept.files_after,
        }
    )


@dg.job(description="Daily: closes epochs beyond the horizon on chain, compacts old partitions.", **ONE_PROCESS)
def keep_house() -> None:
    """One step; what is done already is left alone."""
    compact_and_give_back()


@dg.schedule(
    cron_schedule="40 1 * * *",
    execution_timezone="UTC",
    job=keep_house,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Retention, once a day.",
)
def retention_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Key = day."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.strftime("%Y-%m-%d"))


@dg.sensor(
    name="chain_sensor",
    minimum_interval_seconds=FOLLOW_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Books deposits, withdrawals and on-chain orders as they become final; stamps final receipts.",
)
def chain_sensor(context: dg.SensorEvaluationContext, settlement: Settlement) -> dg.SkipReason:
    """Does its work in the tick: it starts nothing, so it can't get into the way of a settlement."""
    followed = movements.follow(settlement.services)
    stamped = finality.follow(settlement.services)
    if stamped.reopened:
        _tell(
            context,
            settlement,
            [
                Alert(
                    title="the chain was reorganised",
                    text=f"{stamped.gone} transactions are gone; runs {stamped.reopened} are open again",
                    key=f"reorganised/{stamped.reopened[0]}",
                )
            ],
        )
    return dg.SkipReason(f"booked {followed.booked or 'nothing'}, {stamped.stamped} receipts became final")


@dg.sensor(
    name="stuck_settlement_sensor",
    job=resume_stuck_settlement,
    minimum_interval_seconds=WATCH_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Alarms about runs and complete epochs that stand still, and resumes runs by itself.",
)
def stuck_settlement_sensor(
    context: dg.SensorEvaluationContext, settlement: Settlement
) -> dg.SensorResult | dg.SkipReason:
    """The cursor holds when the oldest waiting epoch was first seen, and what was told already."""
    state = json.loads(context.cursor or "{}")
    limit, now = settlement.settings.stuck_after_seconds, int(time.time())
    found = stuck.find(settlement.services, limit)
    alerts = [
        Alert(title="a settlement is stuck", text=f"{each.words}. {REMEDY}", key=f"stuck/{each.seq}")
        for each in found[:1]
    ]
    waiting = progress.complete_unsettled_epochs(settlement.services, limit=1)
    first = state.get("waiting", {})
    if waiting and first.get("epoch") == waiting[0]:
        seconds = now - first["since"]
        if seconds > limit:
            alerts.append(_late(waiting[0], seconds, limit))
    else:
        state["waiting"] = {"epoch": waiting[0], "since": now} if waiting else {}
    told = state.get("told", [])
    fresh = [alert for alert in alerts if alert.key not in told]
    _tell(context, settlement, fresh)
    state["told"] = [*told, *(alert.key for alert in fresh)][-KEPT_ALERTS:]
    requests = []
    if found and not market_is_busy(context.instance):
        requests = [dg.RunRequest(run_key=f"{found[0].seq}/{now // RESUME_EVERY_SECONDS}")]
    skip = None if requests else "nothing stands still" if not alerts else "told; a run of the market is going on"
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=json.dumps(state))


@dg.run_failure_sensor(
    name="failure_sensor",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=FOLLOW_SECONDS,
    description="Tells of every failed run, by webhook and e-mail.",
)
def failure_sensor(context: dg.RunFailureSensorContext, settlement: Settlement) -> None:
    """Once a run."""
    run = context.dagster_run
    partition = run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start", "")
    text = f"{run.job_name} {partition}: {context.failure_event.message or 'see its log'} (run {run.run_id})"
    wrong = deliver(settlement.settings, Alert(title=f"{run.job_name} failed", text=text, key=f"run/{run.run_id}"))
    for each in wrong:
        context.log.warning(f"alert not delivered by {each}")


REMEDY = "It is resumed by itself; the job resume_stuck_settlement does so at once. See docs/how-to/stuck-settlement.md"


def _late(epoch: int, seconds: int, limit: int) -> Alert:
    return Alert(
        title="an epoch waits for its settlement",
        text=f"{key_of(epoch)} is complete and unsettled for {seconds} s, at most {limit} s are usual; look at its run",
        key=f"late/{epoch}",
    )


def _tell(context: dg.SensorEvaluationContext, settlement: Settlement, alerts: Sequence[Alert]) -> None:
    for alert in alerts:
        context.log.warning(f"{alert.title}: {alert.text}")
        for wrong in deliver(settlement.settings, alert):
            context.log.warning(f"alert not delivered by {wrong}")


JOBS = (resume_stuck_settlement, declare_island, keep_house)
SCHEDULES = (retention_schedule,)
SENSORS = (chain_sensor, stuck_settlement_sensor, failure_sensor)

"""Backups as jobs: daily at 02:00 UTC with a base, hourly increments, dropping the old, rehearsing the restore.

Belongs here: jobs and their clock. Does not belong here: taking or restoring a backup (backups/).
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from datetime import UTC, datetime

import dagster as dg

from gridtokenx_pipelines.backups import service
from gridtokenx_pipelines.backups.catalogue import BASE, INCREMENT, PARTS
from gridtokenx_pipelines.resources import Settlement

ONE_PROCESS = {"executor_def": dg.in_process_executor}
TAGS = {"gridtokenx/stage": "operations"}
NOT_CONFIGURED = "GRIDTOKENX_BACKUP_DIR is not set: no backups are taken"


class What(dg.Config):
    """What is taken: a base, or an increment of Postgres with the files that are new."""

    kind: str = BASE
    parts: list[str] = list(PARTS)  # noqa: RUF012 - a config field with its default, copied by Dagster


@dg.op
def take(context: dg.OpExecutionContext, config: What, settlement: Settlement) -> None:
    """Take the parts; fails at the end with every part that could not be taken."""
    outcome = service.back_up(settlement.settings, datetime.now(UTC), config.kind, config.parts)
    facts = {record.part: f"{record.name}, {record.bytes} bytes" for record in outcome.taken}
    if outcome.wrong:
        words = "; ".join(f"{part}: {error}" for part, error in outcome.wrong.items())
        raise dg.Failure(description=words, metadata=facts, allow_retries=False)
    context.add_output_metadata(facts)


@dg.op(ins={"after": dg.In(dg.Nothing)})
def drop_old(context: dg.OpExecutionContext, settlement: Settlement) -> None:
    """Drop what is older than GRIDTOKENX_BACKUP_KEEP_DAYS and no younger backup builds on."""
    settings = settlement.settings
    dropped, swept = service.prune(service.folder_of(settings), datetime.now(UTC), settings.backup_keep_days)
    context.add_output_metadata({"backups_dropped": len(dropped), "bytes_of_files_dropped": swept})


@dg.op
def restore_aside(context: dg.OpExecutionContext, settlement: Settlement) -> None:
    """Restore the newest backup into a throw-away folder, start it, ask it."""
    found = service.rehearse(settlement.settings)
    context.add_output_metadata(
        {"backups": ", ".join(found.backups), "seconds_until_it_answered": found.seconds, **found.answers}
    )


@dg.job(
    tags=TAGS,
    description="Back everything up: a base of Postgres, archive and frames, sealed keys, InfluxDB; drop the old.",
    **ONE_PROCESS,
)
def back_up_everything() -> None:
    """Taking first: if it fails, nothing old is dropped."""
    drop_old(after=take())


@dg.job(
    tags=TAGS,
    description="Back up what is new: an increment of Postgres, new files.",
    config={"ops": {"take": {"config": {"kind": INCREMENT, "parts": list(service.HOURLY_PARTS)}}}},
    **ONE_PROCESS,
)
def back_up_what_is_new() -> None:
    """One step."""
    take()


@dg.job(tags=TAGS, description="Rehearse a restore: the newest Postgres backup, aside, started, asked.", **ONE_PROCESS)
def rehearse_a_restore() -> None:
    """One step; touches nothing that is in use."""
    restore_aside()


@dg.schedule(
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    job=back_up_everything,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Everything, once a day.",
)
def daily_backup_schedule(
    context: dg.ScheduleEvaluationContext, settlement: Settlement
) -> dg.RunRequest | dg.SkipReason:
    """Key = day."""
    return _requested(context, settlement, "%Y-%m-%d")


@dg.schedule(
    # at 02:00 the base is taken: an increment beside it would build on the base of the day before
    cron_schedule="0 0,1,3-23 * * *",
    execution_timezone="UTC",
    job=back_up_what_is_new,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Increments, once an hour.",
)
def hourly_backup_schedule(
    context: dg.ScheduleEvaluationContext, settlement: Settlement
) -> dg.RunRequest | dg.SkipReason:
    """Key = hour."""
    return _requested(context, settlement, "%Y-%m-%dT%H")


@dg.schedule(
    cron_schedule="30 3 * * 0",
    execution_timezone="UTC",
    job=rehearse_a_restore,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="A backup that was never restored is a hope: once a week.",
)
def restore_rehearsal_schedule(
    context: dg.ScheduleEvaluationContext, settlement: Settlement
) -> dg.RunRequest | dg.SkipReason:
    """Key = day."""
    return _requested(context, settlement, "%Y-%m-%d")


def _requested(
    context: dg.ScheduleEvaluationContext, settlement: Settlement, form: str
) -> dg.RunRequest | dg.SkipReason:
    if settlement.settings.backup_dir is None:
        return dg.SkipReason(NOT_CONFIGURED)
    return dg.RunRequest(run_key=context.scheduled_execution_time.strftime(form))


JOBS = (back_up_everything, back_up_what_is_new, rehearse_a_restore)
SCHEDULES = (daily_backup_schedule, hourly_backup_schedule, restore_rehearsal_schedule)

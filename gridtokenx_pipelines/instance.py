"""Dagster's instance seen from outside: its environment, opening it, and a range of epochs in this process.

Belongs here: what the demo, the command line and tests need to start Dagster. Does not belong here: definitions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gridtokenx_pipelines.partitions import range_tags

if TYPE_CHECKING:
    import dagster as dg

    from gridtokenx_pipelines.config import Settings

INSTANCE_FILE = Path(__file__).parent.parent / "dagster.yaml"
# a range run stays silent below this: the outcome carries what went wrong
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# the two undocumented switches that make quarter-hour partitions cheap on Postgres; dagster is pinned because of them,
# and tests/assets measures that they still work (docs/decisions/0004-epoch-ranges.md)
SWITCHES = {"DAGSTER_EVENT_BATCH_SIZE": "1000", "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1"}


class FailedCheck(msgspec.Struct, frozen=True):
    """A check that failed in a run, with its own words."""

    asset: str
    check: str
    detail: str


class RangeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a range run came to: `error` is the first step failure, None if every step ran."""

    success: bool
    run_id: str
    failed_checks: tuple[FailedCheck, ...] = ()
    error: str | None = None


def dagster_env(settings: Settings) -> dict[str, str]:
    """Environment for any process that runs Dagster on these settings; copies dagster.yaml to its home."""
    prepare_home(settings.dagster_home)
    return {**settings.as_env(), **SWITCHES, "DAGSTER_DISABLE_TELEMETRY": "yes"}


def prepare_home(home: Path) -> None:
    """Make DAGSTER_HOME and put the project's dagster.yaml there."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(INSTANCE_FILE, home / "dagster.yaml")


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance of these settings in this process, with the switches on; closed at the end."""
    import dagster as dg  # noqa: PLC0415 - a second of import that the command line's --help must not pay

    home = str(settings.dagster_home)
    with environment(dagster_env(settings)), dg.DagsterInstance.from_config(home) as instance:
        yield instance


def fail_abandoned_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs failed that a killed process left going; how many.

    Only for whoever owns the instance alone: a run of another process that goes on would be marked too. Left as they
    are, such runs hold the market's place in the queue for ever.
    """
    import dagster as dg  # noqa: PLC0415 - see open_instance

    going = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    abandoned = instance.get_runs(dg.RunsFilter(statuses=going))
    for run in abandoned:
        instance.report_run_failed(run, "its process was killed")
    return len(abandoned)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with these values, put back at the end: Dagster takes its switches only from there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_range(
    instance: dg.DagsterInstance,
    first_epoch: int,
    last_epoch: int,
    *,
    definitions: dg.Definitions | None = None,
    job: str = "settle_epoch",
) -> RangeOutcome:
    """Run the job in this process over the epochs, both ends included, as one run; nothing is printed.

    Raises ValueError for epochs that are no partitions. Never raises for a failed run: the outcome says what failed.
    """
    if definitions is None:
        from gridtokenx_pipelines.definitions import defs as definitions  # noqa: PLC0415 - see open_instance
    tags = range_tags(first_epoch, last_epoch)
    with environment(SWITCHES):
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, tags=tags, run_config=QUIET, raise_on_error=False
        )
    return RangeOutcome(
        success=result.success,
        run_id=result.run_id,
        failed_checks=tuple(
            FailedCheck(
                asset=found.asset_key.to_user_string(),
                check=found.check_name,
                detail=str(found.metadata["verdict"].value) if "verdict" in found.metadata else "",
            )
            for found in result.get_asset_check_evaluations()
            if not found.passed
        ),
        error=_first_failure(result),
    )


def _first_failure(result: dg.ExecuteInProcessResult) -> str | None:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return f"{event.step_key}: {error.message.strip() if error else event.message}"
    return None

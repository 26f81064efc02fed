"""The code location: one function that gathers assets, checks, jobs, schedules and sensors.

Belongs here: the gathering. Does not belong here: I/O or the environment; importing this file connects to nothing.
Production and tests differ only by the overrides.
"""

from __future__ import annotations

import warnings
from typing import Any

import dagster as dg

# backfill_policy is in beta and a check's partitions_def in preview in dagster 1.13, and both say so at each use; the
# pin and the asset-graph snapshot test guard what the warnings are about
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from gridtokenx_pipelines import backup_operations, jobs, operations, schedules, sensors  # noqa: E402 - after the filter, on purpose
from gridtokenx_pipelines.assets import audit, daily, grid, resettlement, settlement  # noqa: E402
from gridtokenx_pipelines.checks import daily as daily_checks  # noqa: E402
from gridtokenx_pipelines.checks import quality as quality_checks  # noqa: E402
from gridtokenx_pipelines.checks import settlement as settlement_checks  # noqa: E402
from gridtokenx_pipelines.resources import Settlement  # noqa: E402


def build_definitions(**overrides: Any) -> dg.Definitions:
    """Fresh definitions; `overrides` replaces resources by name, e.g. settlement=Settlement(environment=…)."""
    unknown = set(overrides) - {"settlement"}
    if unknown:
        raise ValueError(f"override was {sorted(unknown)}, must be one of the resources: settlement")
    return dg.Definitions(
        assets=[*settlement.ASSETS, *resettlement.ASSETS, *audit.ASSETS, *daily.ASSETS, *grid.ASSETS],
        asset_checks=[*settlement_checks.CHECKS, *quality_checks.CHECKS, *daily_checks.CHECKS],
        jobs=[
            jobs.settle_epoch,
            jobs.resettle_epoch,
            jobs.audit_epochs,
            jobs.watch_quality,
            jobs.publish_day,
            *operations.JOBS,
            *backup_operations.JOBS,
        ],
        schedules=[
            schedules.catch_up_schedule,
            schedules.quality_schedule,
            schedules.daily_schedule,
            *operations.SCHEDULES,
            *backup_operations.SCHEDULES,
        ],
        sensors=[sensors.completion_sensor, sensors.correction_sensor, *operations.SENSORS],
        resources={"settlement": Settlement(), **overrides},
    )


defs = build_definitions()

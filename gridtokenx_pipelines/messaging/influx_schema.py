"""Buckets, retention and downsampling tasks of InfluxDB as data, and making a server agree with them.

Belongs here: names (names.md), how long what is kept (pipeline.md §1), the Flux of both tasks, the difference to what
is there. Does not belong here: points (influx_points.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

ORGANISATION = "gridtokenx"
BUCKET, HOURLY, DAILY = "gridtokenx", "gridtokenx_hourly", "gridtokenx_daily"
DAY_SECONDS = 86_400
FOR_EVER = 0


class Bucket(msgspec.Struct, frozen=True):
    """A bucket and how long it keeps points; 0: for good."""

    name: str
    keep_seconds: int


class Task(msgspec.Struct, frozen=True):
    """A downsampling task: `every` hours, waiting `offset` minutes for late readings, over the last `window` hours."""

    name: str
    source: str
    target: str
    every_hours: int
    offset_minutes: int
    window_hours: int

    @property
    def flux(self) -> str:
        """Energies are Wh of intervals, so they are summed; the others are averaged.

        The window is wider than the interval, so that what came late is counted too: a point of the same time and tags
        replaces the one before.
        """
        head, body = self.script(f"-{self.window_hours}h", "now()").split("\n", 1)  # Flux wants imports first
        option = f'option task = {{name: "{self.name}", every: {self.every_hours}h, offset: {self.offset_minutes}m}}'
        return f"{head}\n\n{option}\n{body}"

    def script(self, start: str, stop: str) -> str:
        """The Flux that downsamples start…stop (Flux times), both cut to whole intervals."""
        every = f"{self.every_hours}h"
        read = (
            f"range(start: date.truncate(t: {start}, unit: {every}), stop: date.truncate(t: {stop}, unit: {every})) "
            '|> filter(fn: (r) => r._measurement == "energy_metrics")'
        )
        return f"""import "date"

data = from(bucket: "{self.source}") |> {read}

data
    |> filter(fn: (r) => r._field == "generation" or r._field == "consumption")
    |> aggregateWindow(every: {every}, fn: sum, createEmpty: false, timeSrc: "_start")
    |> to(bucket: "{self.target}")

data
    |> filter(fn: (r) => r._field == "voltage" or r._field == "current" or r._field == "power_factor")
    |> aggregateWindow(every: {every}, fn: mean, createEmpty: false, timeSrc: "_start")
    |> to(bucket: "{self.target}")
"""


BUCKETS = (
    Bucket(BUCKET, 7 * DAY_SECONDS),
    Bucket(HOURLY, 90 * DAY_SECONDS),
    Bucket(DAILY, FOR_EVER),
)
TASKS = (
    Task("downsample_hourly", BUCKET, HOURLY, every_hours=1, offset_minutes=5, window_hours=25),
    Task("downsample_daily", HOURLY, DAILY, every_hours=24, offset_minutes=30, window_hours=72),
)


class Change(msgspec.Struct, frozen=True):
    """Something that differs: what, how it is there (None: not at all), how it must be."""

    what: str
    found: str | None
    wanted: str


def differences(client: Any) -> list[Change]:
    """What a server's buckets and tasks lack; `client` is an InfluxDBClient of the organisation."""
    changes = []
    for bucket in BUCKETS:
        there = client.buckets_api().find_bucket_by_name(bucket.name)
        kept = None if there is None else _kept(there)
        if kept != bucket.keep_seconds:
            changes.append(Change(f"bucket {bucket.name}", _days(kept), _days(bucket.keep_seconds) or ""))
    for task in TASKS:
        known = client.tasks_api().find_tasks(name=task.name)
        flux = known[0].flux.strip() if known else None
        if flux != task.flux.strip():
            changes.append(
                Change(f"task {task.name}", "another script" if known else None, f"every {task.every_hours} h")
            )
    return changes


def apply(client: Any) -> list[Change]:
    """Make the server agree; returns what was changed. Buckets are never made shorter-lived than asked, nor dropped."""
    from influxdb_client import BucketRetentionRules, TaskCreateRequest  # noqa: PLC0415 - half a second

    changes = differences(client)
    changed = {change.what for change in changes}
    buckets, tasks = client.buckets_api(), client.tasks_api()
    for bucket in BUCKETS:
        if f"bucket {bucket.name}" not in changed:
            continue
        rules = [BucketRetentionRules(type="expire", every_seconds=bucket.keep_seconds)]
        found = buckets.find_bucket_by_name(bucket.name)
        if found is None:
            buckets.create_bucket(bucket_name=bucket.name, retention_rules=rules, org=ORGANISATION)
        else:
            found.retention_rules = rules
            buckets.update_bucket(found)
    for task in TASKS:
        if f"task {task.name}" in changed:
            for known in tasks.find_tasks(name=task.name):
                tasks.delete_task(known.id)
            tasks.create_task(task_create_request=TaskCreateRequest(flux=task.flux, org=ORGANISATION, status="active"))
    return changes


def _kept(bucket: Any) -> int:
    rules = bucket.retention_rules or []
    return int(rules[0].every_seconds) if rules else FOR_EVER


def _days(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds // DAY_SECONDS} days" if seconds else "for good"

"""`gridtokenx influx apply` and `backfill`: a server made to agree with the spec, and filled from the archive.

Belongs here: words and exit codes. Does not belong here: buckets and tasks (messaging/influx_schema.py), points.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import polars as pl
from urllib3.exceptions import HTTPError

from gridtokenx_pipelines.epochs import epoch_of_us
from gridtokenx_pipelines.messaging.influx import LINES_PER_WRITE
from gridtokenx_pipelines.messaging.influx_points import lines_of_records
from gridtokenx_pipelines.messaging.influx_schema import BUCKET, ORGANISATION, apply, differences
from gridtokenx_pipelines.store.archive import ArchiveError, SignedArchive, raws_of

TAKEN = pl.col("reason_code").is_null() & pl.col("kind").is_null()


@contextmanager
def _client(url: str, token: str) -> Iterator[Any]:
    from influxdb_client import InfluxDBClient  # noqa: PLC0415 - half a second

    with InfluxDBClient(url=url, token=token, org=ORGANISATION, timeout=30_000, enable_gzip=True) as client:
        yield client


def run_apply(url: str, token: str, *, dry_run: bool) -> int:
    """Show what differs, then change it; 1 where a dry run found something, 2 if the server can't be asked."""
    from influxdb_client.rest import ApiException  # noqa: PLC0415

    try:
        with _client(url, token) as client:
            changes = differences(client)
            for change in changes:
                click.echo(f"{change.what}: {change.found or 'not there'} -> {change.wanted}")
            if not dry_run:
                apply(client)
                changes = differences(client)
    except (ApiException, HTTPError, OSError) as error:
        click.echo(f"influx apply: {str(error).splitlines()[0]}; check --url, --token and the organisation", err=True)
        return 2
    click.echo(f"{len(changes)} differences" if changes else "as it must be")
    return 1 if changes else 0


def run_backfill(data_dir: Path, url: str, token: str, span_us: tuple[int, int]) -> int:
    """Write all taken readings that came in the span's epochs; 1 if some were refused, 2 if nothing could be asked."""
    from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415
    from influxdb_client.rest import ApiException  # noqa: PLC0415

    archive, written, refused = SignedArchive(data_dir), 0, 0
    first, last = epoch_of_us(span_us[0]), epoch_of_us(span_us[1])
    try:
        registry = archive.registry()
        with _client(url, token) as client:
            api = client.write_api(write_options=SYNCHRONOUS)
            for partition in archive.partitions(first, last):
                before: list[Any] = []
                for frame in archive.replay(partition, first, last):
                    raws = raws_of(frame.filter(TAKEN))
                    lines = lines_of_records(before, raws, registry)
                    before = raws
                    for start in range(0, len(lines), LINES_PER_WRITE):
                        part = lines[start : start + LINES_PER_WRITE]
                        try:
                            api.write(BUCKET, record="\n".join(part).encode())
                            written += len(part)
                        except ApiException as error:
                            if error.status not in (400, 422):
                                raise
                            refused += len(part)
    except ArchiveError as error:
        click.echo(f"influx backfill: {error.args[0]}", err=True)
        return 2
    except (ApiException, HTTPError, OSError) as error:
        click.echo(f"influx backfill: {str(error).splitlines()[0]}; check --url and --token", err=True)
        return 2
    click.echo(f"wrote {written} points, {refused} refused")
    return 1 if refused else 0

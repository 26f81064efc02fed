"""The commands of `gridtokenx readings`, `gridtokenx dead-letters` and `gridtokenx portfolio`.

Belongs here: options and their bounds. Does not belong here: the work, which each command imports when it runs. Exit
codes: 0 done, 1 a proof doesn't close or something asked for isn't there, 2 usage.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from gridtokenx_pipelines.config import NETWORK_IDS

CONTEXT = {"help_option_names": ["-h", "--help"]}
DATABASE = click.option("--database-url", envvar="DATABASE_URL", help="Default: the data folder's own database.")
DATA_DIR = click.option(
    "--data-dir",
    envvar="GRIDTOKENX_DATA_DIR",
    default=Path(".gridtokenx/demo"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a demo or a service.",
)
NETWORK = click.option(
    "--network",
    envvar="GRIDTOKENX_NETWORK",
    default="localnet",
    show_default=True,
    type=click.Choice(sorted(NETWORK_IDS)),
    help="Network the readings were signed for.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")


class Instant(click.ParamType):
    """µs UTC from `2026-01-27`, `2026-01-27T12:00Z` or any RFC 3339 time with an offset."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises BadParameter with the remedy."""
        if isinstance(value, int):
            return value
        words = str(value)
        try:
            found = datetime.fromisoformat(words)
        except ValueError:
            self.fail(f"{words!r} is no time; write 2026-01-27, 2026-01-27T12:00Z or 2026-01-27T12:00:00+07:00")
        if found.tzinfo is None:
            if len(words) != len("2026-01-27"):
                self.fail(f"{words!r} has no offset; add Z for UTC, or +07:00")
            found = found.replace(tzinfo=UTC)
        return round((found - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


@click.group(context_settings=CONTEXT)
def readings() -> None:
    """The archive of signed readings: verify it again, compact it."""


@readings.command()
@click.option("--meter", "meter_id", required=True, help="Meter id, as MEA-001.")
@click.option("--from", "first_us", required=True, type=Instant(), help="First instant (UTC day or RFC 3339).")
@click.option("--to", "last_us", required=True, type=Instant(), help="Last instant, included.")
@DATA_DIR
@click.option("--database-url", envvar="DATABASE_URL", help="Compare with what was settled there; else not compared.")
@NETWORK
@JSON
def verify(**options: object) -> None:
    """Check the signatures and the chain of registers of a meter's archived readings again.

    Needs nothing but the archive folder. With a database, the registers that were settled at each boundary are compared
    with those that the signed readings prove. Exit code 1 if anything doesn't hold.
    """
    from gridtokenx_pipelines.readings_cli.verify import Asked, run_verify  # noqa: PLC0415 - polars is a second

    sys.exit(run_verify(Asked(**options)))  # type: ignore[arg-type] # click has checked them


@readings.command()
@click.argument("days", nargs=-1, metavar="[DAY]...")
@DATA_DIR
def compact(days: tuple[str, ...], data_dir: Path) -> None:
    """Put the archive's small files of whole UTC days together (default: every day that isn't the newest)."""
    from gridtokenx_pipelines.readings_cli.verify import run_compact  # noqa: PLC0415

    sys.exit(run_compact(data_dir, days))

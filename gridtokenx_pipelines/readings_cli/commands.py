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


BROKERS = click.option("--brokers", envvar="KAFKA_BOOTSTRAP_SERVERS", required=True, help="host:port[,host:port …]")
TOPIC = click.option("--topic", type=click.Choice(["meter-readings", "orders"]), help="Default: both.")
REASON = click.option("--reason", help="Word of a reason, as unknown_meter (docs/reference/reject-reasons.md).")
METER = click.option("--meter", "meter_id", help="Meter that the record names.")


class Place(click.ParamType):
    """`topic/partition/offset`, as `list` shows it."""

    name = "topic/partition/offset"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int, int]:
        """Raises BadParameter with the form."""
        topic, _, rest = str(value).partition("/")
        partition, _, offset = rest.partition("/")
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            self.fail(f"{value!r} is no place; write meter-readings/3/1042 as `dead-letters list` does")
        return topic, int(partition), int(offset)


@click.group("dead-letters", context_settings=CONTEXT)
def dead_letters() -> None:
    """Refused records: browse them, fix what they lacked, send them again."""


@dead_letters.command("list")
@TOPIC
@REASON
@METER
@click.option("--waiting", is_flag=True, help="Only letters that were never sent again.")
@click.option("--count", "count", is_flag=True, help="Only how many, by topic and reason.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="Most letters shown.")
@DATA_DIR
@DATABASE
@JSON
def list_letters(**options: object) -> None:
    """Show dead letters in the order they came."""
    from gridtokenx_pipelines.readings_cli.dead_letters import Asked, run_list  # noqa: PLC0415

    sys.exit(run_list(Asked(**options)))  # type: ignore[arg-type]


@dead_letters.command()
@click.argument("place", type=Place())
@DATA_DIR
@DATABASE
@JSON
def show(**options: object) -> None:
    """Show one letter whole: value, headers, reason, what would be needed."""
    from gridtokenx_pipelines.readings_cli.dead_letters import Asked, run_show  # noqa: PLC0415

    sys.exit(run_show(Asked(**options)))  # type: ignore[arg-type]


@dead_letters.command()
@click.option("--meter", "meter_id", required=True, help="Meter whose registry record was missing or wrong.")
@click.option(
    "--record",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Its record as JSON (docs/reference/topics.md); default: as the table `meters` has it.",
)
@BROKERS
@DATA_DIR
@DATABASE
def fix(**options: object) -> None:
    """Publish a meter's record to meter-registry, e.g. one that was registered late.

    What a meter signed can't be corrected, only what the flow knew of it. `replay` then sends its readings again.
    """
    from gridtokenx_pipelines.readings_cli.dead_letters import Asked, run_fix  # noqa: PLC0415

    sys.exit(run_fix(Asked(**options)))  # type: ignore[arg-type]


@dead_letters.command()
@TOPIC
@REASON
@METER
@click.option("--place", type=Place(), help="One letter.")
@click.option("--all", "all_of_them", is_flag=True, help="Letters of every reason and meter.")
@click.option("--again", is_flag=True, help="Also letters that were sent again before.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, send nothing.")
@BROKERS
@DATA_DIR
@DATABASE
def replay(**options: object) -> None:
    """Send dead letters to their topic again, byte for byte: they go the same way as new records.

    Those accepted before are then duplicates; those still wrong become dead letters anew.
    """
    from gridtokenx_pipelines.readings_cli.dead_letters import Asked, run_replay  # noqa: PLC0415

    sys.exit(run_replay(Asked(**options)))  # type: ignore[arg-type]


@click.command(context_settings=CONTEXT)
@click.argument("wallet")
@click.option("--history", default=8, show_default=True, type=click.IntRange(0, 10_000), help="Most settled epochs.")
@DATA_DIR
@DATABASE
@JSON
def portfolio(wallet: str, history: int, data_dir: Path, database_url: str | None, *, as_json: bool) -> None:
    """A wallet's balances, open orders, production and history."""
    from gridtokenx_pipelines.readings_cli.portfolio import run_portfolio  # noqa: PLC0415

    sys.exit(run_portfolio(wallet, history, data_dir, database_url, as_json=as_json))


INFLUX_URL = click.option("--url", envvar="INFLUXDB_URL", required=True, help="http://host:8086")
INFLUX_TOKEN = click.option(
    "--token", envvar="INFLUXDB_TOKEN", required=True, help="Of one who may make buckets, tasks."
)


@click.group(context_settings=CONTEXT)
def influx() -> None:
    """InfluxDB: buckets, retention and downsampling, points from the archive."""


@influx.command("apply")
@INFLUX_URL
@INFLUX_TOKEN
@click.option("--dry-run", is_flag=True, help="Only show what differs; exit code 1 if anything does.")
def apply_influx(url: str, token: str, *, dry_run: bool) -> None:
    """Make buckets (raw 7 days, hourly 90 days, daily for good) and downsampling tasks; differences are shown first."""
    from gridtokenx_pipelines.readings_cli.influx import run_apply  # noqa: PLC0415

    sys.exit(run_apply(url, token, dry_run=dry_run))


@influx.command()
@click.option("--from", "first_us", required=True, type=Instant(), help="First instant (UTC day or RFC 3339).")
@click.option("--to", "last_us", required=True, type=Instant(), help="Last instant, included.")
@INFLUX_URL
@INFLUX_TOKEN
@DATA_DIR
def backfill(first_us: int, last_us: int, url: str, token: str, data_dir: Path) -> None:
    """Write points from the archive again, e.g. into a new server; writing one twice changes nothing.

    Epochs beyond the raw bucket's retention are refused by InfluxDB and counted as such.
    """
    from gridtokenx_pipelines.readings_cli.influx import run_backfill  # noqa: PLC0415

    sys.exit(run_backfill(data_dir, url, token, (first_us, last_us)))

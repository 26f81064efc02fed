"""The commands of `gridtokenx grid`.

Belongs here: options and their bounds. Does not belong here: the work, which each command imports when it runs. Exit
codes: 0 done, 1 the question has no answer or a law doesn't close, 2 usage or configuration.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

DATA_DIR = click.option(
    "--data-dir",
    default=Path(".gridtokenx/demo"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a demo or a service.",
)
DATABASE = click.option("--database-url", envvar="DATABASE_URL", help="Default: the folder's own database.")
EPOCH = click.option("--epoch", help="One epoch, by its key (2026-06-15T05:00Z) or number.")
DAY = click.option("--day", help="A day (UTC), YYYY-MM-DD. Without a day or epoch: all that are cleared.")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
READABLE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})  # the same alone and under `gridtokenx`
def grid() -> None:
    """Limits, map, report and hosting capacity of the network; rehearse an outage, declare an island."""


@grid.command()
@DATA_DIR
@DATABASE
@DAY
@EPOCH
@JSON
@click.option("--given", is_flag=True, help="Store the network file's own capacities for --epoch instead: an override.")
def limits(
    *, data_dir: Path, database_url: str | None, day: str | None, epoch: str | None, as_json: bool, given: bool
) -> None:
    """What links can carry and lose in each epoch, and what binds them."""
    from gridtokenx_pipelines.grid_cli.limits import override, show  # noqa: PLC0415 - polars isn't needed for --help

    if given:
        if epoch is None:
            raise click.UsageError("--given needs --epoch: an override is for one epoch that has not cleared")
        sys.exit(override(data_dir, database_url, epoch))
    sys.exit(show(data_dir, database_url, (day, epoch), as_json=as_json))


@grid.command()
@DATA_DIR
@DATABASE
@DAY
@EPOCH
@JSON
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for report.json and .html.")
def report(
    *, data_dir: Path, database_url: str | None, day: str | None, epoch: str | None, as_json: bool, output: Path | None
) -> None:
    """For the grid operator: generation, load, exchange, losses, violations by zone and day; worst hours; rent."""
    from gridtokenx_pipelines.grid_cli.report import show  # noqa: PLC0415

    sys.exit(show(data_dir, database_url, (day, epoch), as_json=as_json, output=output))


@grid.command("map")
@DATA_DIR
@DATABASE
@EPOCH
@click.option("--output", default=Path("grid-map.html"), show_default=True, type=click.Path(path_type=Path))
def draw(data_dir: Path, database_url: str | None, epoch: str | None, output: Path) -> None:
    """The network on one page: voltages, loadings, meters by surplus, zones. Default: the most loaded epoch."""
    from gridtokenx_pipelines.grid_cli.map import show  # noqa: PLC0415

    sys.exit(show(data_dir, database_url, epoch, output))


@grid.command()
@DATA_DIR
@DATABASE
@DAY
@EPOCH
@JSON
def hosting(data_dir: Path, database_url: str | None, day: str | None, epoch: str | None, as_json: bool) -> None:
    """Hosting capacity: how much more PV, and how much more load, each zone carries in its worst epoch."""
    from gridtokenx_pipelines.grid_cli.hosting import show  # noqa: PLC0415

    sys.exit(show(data_dir, database_url, (day, epoch), as_json=as_json))


@grid.command()
@click.option("--from", "first", required=True, help="First epoch without the upstream grid.")
@click.option("--to", "end", required=True, help="The epoch in which the upstream grid is back.")
@DATA_DIR
@DATABASE
@JSON
def outage(first: str, end: str, data_dir: Path, database_url: str | None, as_json: bool) -> None:
    """Rehearse the loss of the upstream grid on what was metered; nothing is written."""
    from gridtokenx_pipelines.grid_cli.outage import show  # noqa: PLC0415

    sys.exit(show(data_dir, database_url, (first, end), as_json=as_json))


@grid.group()
def island() -> None:
    """Island mode of the running market: declare that the upstream grid is lost or back, see it, plan it."""


WHO = click.option("--who", default="operator", show_default=True, help="Who declares it, for the audit log.")
WHY = click.option("--why", default="", help="The reason, for the audit log.")
FROM = click.option("--from", "epoch", help="First epoch it acts on. Default: the first that has not cleared.")


@island.command()
@FROM
@WHO
@WHY
@DATA_DIR
@DATABASE
def lost(epoch: str | None, who: str, why: str, data_dir: Path, database_url: str | None) -> None:
    """The upstream grid is lost: from this epoch on the market clears within the island."""
    from gridtokenx_pipelines.grid_cli.island import say  # noqa: PLC0415

    sys.exit(say(data_dir, database_url, "lost", epoch, who=who, why=why))


@island.command()
@FROM
@WHO
@WHY
@DATA_DIR
@DATABASE
def returned(epoch: str | None, who: str, why: str, data_dir: Path, database_url: str | None) -> None:
    """The upstream grid is back: from this epoch on the usual rules hold again."""
    from gridtokenx_pipelines.grid_cli.island import say  # noqa: PLC0415

    sys.exit(say(data_dir, database_url, "returned", epoch, who=who, why=why))


@island.command("show")
@DATA_DIR
@DATABASE
@JSON
def show_islands(data_dir: Path, database_url: str | None, as_json: bool) -> None:
    """All declarations, and whether the next epoch runs as an island."""
    from gridtokenx_pipelines.grid_cli.island import show  # noqa: PLC0415

    sys.exit(show(data_dir, database_url, as_json=as_json))


@island.command()
@DATA_DIR
@DATABASE
@EPOCH
@JSON
@click.option("--stored", default=50, show_default=True, type=click.IntRange(0, 100), help="% in each storage now.")
def plan(data_dir: Path, database_url: str | None, epoch: str | None, as_json: bool, stored: int) -> None:
    """Set-points of the next epoch as an island, from the last metered (or --epoch): storage, shed, curtailed."""
    from gridtokenx_pipelines.grid_cli.island import plan as made  # noqa: PLC0415

    sys.exit(made(data_dir, database_url, epoch, stored, as_json=as_json))


@grid.command()
@click.argument("network", type=READABLE)
@click.option(
    "--meters",
    required=True,
    type=READABLE,
    help="CSV: meter_id, bus, zone_id, rating_w, produces, … (docs/how-to/grid.md).",
)
@click.option("--buses", type=READABLE, help="CSV: bus, zone_id. Default: the zone of the meters on the bus.")
@click.option("--output", default=Path("grid.npz"), show_default=True, type=click.Path(path_type=Path))
def prepare(network: Path, meters: Path, buses: Path | None, output: Path) -> None:
    """Make a grid case of a pandapower NETWORK (JSON) and the places of its meters."""
    from gridtokenx_pipelines.grid_cli.prepare import make  # noqa: PLC0415

    sys.exit(make(network, meters, buses, output))

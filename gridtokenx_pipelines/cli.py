"""The command line: what can be done with this system, each command a thin door into its room.

Belongs here: options, their bounds, exit codes. Does not belong here: the work. Exit codes: 0 done, 1 the work failed
or a proof doesn't close, 2 wrong usage or configuration.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import click

from gridtokenx_pipelines.config import ConfigError, Settings
from gridtokenx_pipelines.stack import StackError

DEFAULT_DATA_DIR = Path(".gridtokenx/demo")


# groups of commands by module and attribute: imported when used, so that `--help` doesn't wait for polars and solders
LAZY_GROUPS = {
    "audit": ("gridtokenx_pipelines.audit_cli.commands", "audit"),
    "backup": ("gridtokenx_pipelines.backup_cli.commands", "backup"),
    "restore": ("gridtokenx_pipelines.backup_cli.commands", "restore"),
    "grid": ("gridtokenx_pipelines.grid_cli.commands", "grid"),
    "statement": ("gridtokenx_pipelines.audit_cli.statement", "statement"),
    "chain": ("gridtokenx_pipelines.chain_cli.commands", "chain"),
    "kafka": ("gridtokenx_pipelines.kafka_cli.commands", "kafka"),
    "dead-letters": ("gridtokenx_pipelines.readings_cli.commands", "dead_letters"),
    "influx": ("gridtokenx_pipelines.readings_cli.commands", "influx"),
    "stream": ("gridtokenx_pipelines.stream_cli.commands", "stream"),
    "market": ("gridtokenx_pipelines.market_cli.commands", "market"),
    "portfolio": ("gridtokenx_pipelines.readings_cli.commands", "portfolio"),
    "settle": ("gridtokenx_pipelines.settle_cli.commands", "settle"),
    "readings": ("gridtokenx_pipelines.readings_cli.commands", "readings"),
    "simulate": ("gridtokenx_pipelines.simulation_cli.commands", "simulate"),
}


class LazyGroup(click.Group):
    """A group that also has the commands of `LAZY_GROUPS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in order."""
        return sorted({*super().list_commands(ctx), *LAZY_GROUPS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name."""
        if cmd_name in LAZY_GROUPS:
            module, name = LAZY_GROUPS[cmd_name]
            command: click.Command = getattr(import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gridtokenx-pipelines")
def cli() -> None:
    """Peer-to-peer solar energy: signed meter readings to settled 15-minute epochs on Solana."""


@cli.command()
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0, 2**31), help="Seed of keys, faults, orders."
)
@click.option("--grid", default="1-LV-urban6--2-sw", show_default=True, help="SimBench low-voltage grid.")
@click.option(
    "--zones", default=2, show_default=True, type=click.IntRange(1, 8), help="Market zones to cut the grid into."
)
@click.option("--start", default="2026-06-14T17:00Z", show_default=True, help="First epoch (UTC quarter hour).")
@click.option("--epochs", default=96, show_default=True, type=click.IntRange(1, 2880), help="Epochs to play.")
@click.option(
    "--speed", default=0.0, show_default=True, type=click.FloatRange(0), help="Simulated seconds a second; 0: no brake."
)
@click.option("--chain", default="localnet", show_default=True, type=click.Choice(["localnet", "validator"]))
@click.option(
    "--data-dir", default=DEFAULT_DATA_DIR, show_default=True, type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "--rpc-port", default=None, type=click.IntRange(1024, 65535), help="Port of the local chain; else any free."
)
@click.option("--fresh", is_flag=True, help="Forget what an earlier demo left in the data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document, nothing else.")
@click.option("--output", default=Path("demo.json"), show_default=True, type=click.Path(path_type=Path, dir_okay=False))
def demo(**options: object) -> None:
    """Play and settle a neighbourhood's day on the embedded stack."""
    from gridtokenx_pipelines.demo.options import DemoOptions  # noqa: PLC0415 - polars is not needed for --help
    from gridtokenx_pipelines.demo.run import run_demo  # noqa: PLC0415

    sys.exit(run_demo(DemoOptions.checked(**options)))


@cli.command()
@click.option(
    "--data-dir", default=DEFAULT_DATA_DIR, show_default=True, type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "--port", default=3070, show_default=True, type=click.IntRange(1024, 65535), help="Port of the web server."
)
def ui(data_dir: Path, port: int) -> None:
    """Open the Dagster UI on the demo's data."""
    from gridtokenx_pipelines.demo.ui import serve_ui  # noqa: PLC0415

    sys.exit(serve_ui(data_dir.resolve(), port))


@cli.command()
@click.option("--port", default=8899, show_default=True, type=click.IntRange(1024, 65535))
@click.option("--data-dir", default=Path(".gridtokenx/localnet"), show_default=True, type=click.Path(path_type=Path))
def localnet(port: int, data_dir: Path) -> None:
    """Serve the local chain (LiteSVM behind JSON-RPC) with the five programs."""
    from gridtokenx_pipelines.chain.ledger_file import LocalnetError  # noqa: PLC0415
    from gridtokenx_pipelines.chain.localnet import program_files, serve  # noqa: PLC0415
    from gridtokenx_pipelines.stack import require_free_port  # noqa: PLC0415

    def announce() -> None:
        click.echo(f"local chain at http://127.0.0.1:{port}, subscriptions at ws://127.0.0.1:{port + 1}")
        for program, path in program_files().items():
            click.echo(f"  {path.stem:<13}{program}")
        click.echo(f"ledger in {data_dir.resolve()}; Ctrl-C ends it, and the next start goes on from there")

    try:
        serve(require_free_port(port, "the local chain"), data_dir.resolve(), ready=announce)
    except LocalnetError as error:
        click.echo(f"localnet: {error}", err=True)
        sys.exit(1)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9465, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: any free.")
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(0), help="Ask again after so long at the least."
)
def exporter(host: str, port: int, seconds: float) -> None:
    """Serve the settlement side's numbers to Prometheus (/metrics, /health)."""
    from gridtokenx_pipelines.exporter.serve import serve  # noqa: PLC0415
    from gridtokenx_pipelines.observability.server import PortInUse  # noqa: PLC0415

    try:
        serve(Settings.from_env(), host=host, port=port, seconds=seconds)
    except PortInUse as error:
        raise click.ClickException(str(error)) from error


@cli.command()
def migrate() -> None:
    """Bring the database (DATABASE_URL) to the newest schema."""
    from gridtokenx_pipelines.store.postgres import migrate as migrate_database  # noqa: PLC0415

    migrate_database(Settings.from_env().database_url)


def main() -> None:
    """Entry point: known errors become one line and an exit code, unknown ones keep their traceback."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ConfigError as error:
        click.echo(f"configuration: {error}", err=True)
        sys.exit(2)
    except StackError as error:
        click.echo(f"stack: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

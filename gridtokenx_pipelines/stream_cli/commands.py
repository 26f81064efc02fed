"""`gridtokenx stream telemetry|orders|price-guard` and `supervise`: options, thin.

Belongs here: what can be set from outside, with bounds. Does not belong here: what is done with it (streaming/run.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from gridtokenx_pipelines.config import ConfigError, Settings, traces_from_env

FLOWS = ("telemetry", "orders", "price-guard")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
SHARED = (
    click.option(
        "--snapshot-seconds", default=1.0, show_default=True, type=click.FloatRange(0, 3600), help="Snapshot interval."
    ),
    click.option(
        "--recovery-partitions",
        default=1,
        show_default=True,
        type=click.IntRange(1, 64),
        help="Files of the recovery store; fixed when it is made.",
    ),
    click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Threads a process."),
    click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address that metrics are served on."),
    click.option("--log-level", default="INFO", show_default=True, type=click.Choice(LEVELS)),
    click.option("--log-format", default="json", show_default=True, type=click.Choice(["json", "text"])),
)
OF_ONE = (
    click.option(
        "--recovery",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the recovery store: offsets and state.",
    ),
    click.option(
        "--addresses", default="", help="host:port;host:port … of all processes of this flow, the same for each."
    ),
    click.option(
        "--index", default=0, show_default=True, type=click.IntRange(0), help="Which of --addresses this one is."
    ),
    click.option(
        "--metrics-port",
        default=None,
        type=click.IntRange(0, 65535),
        help="Port of /metrics and /health; 0 any free one. Else 9464, or if that is taken any free one. It is written "
        "to endpoint-INDEX.json in the recovery folder.",
    ),
)


def _with(options: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group()
def stream() -> None:
    """Run the streaming flows (configured by the environment)."""


@stream.command()
@_with(OF_ONE + SHARED)
def telemetry(**options: Any) -> None:
    """Readings: decode, verify, window; net energy, corrections, dead letters, archive."""
    _run("telemetry", options)


@stream.command()
@_with(OF_ONE + SHARED)
def orders(**options: Any) -> None:
    """Orders and cancels: verify, check, freeze at the gate; rejects to the dead letters."""
    _run("orders", options)


@stream.command("price-guard")
@_with(OF_ONE + SHARED)
def price_guard(**options: Any) -> None:
    """Continuous trades: volume-weighted minute prices, and the halt at 10 % within a minute."""
    _run("price-guard", options)


def _run(flow: str, options: dict[str, Any]) -> None:
    settings, (target, per_million) = Settings.from_env(), traces_from_env()
    from gridtokenx_pipelines.observability import logs, tracing  # noqa: PLC0415 - not needed for --help
    from streaming.process import Running, run_id  # noqa: PLC0415
    from streaming.run import ended, run_flow  # noqa: PLC0415

    running = Running(
        recovery_dir=options["recovery"].resolve(),
        addresses=tuple(filter(None, options["addresses"].split(";"))),
        **{
            name: options[name]
            for name in (
                "snapshot_seconds",
                "recovery_partitions",
                "workers",
                "index",
                "metrics_host",
                "metrics_port",
            )
        },
    )
    logs.configure(
        level=options["log_level"],
        as_json=options["log_format"] == "json",
        flow=flow,
        process=running.index,
        run=run_id(),
    )
    tracing.configure(target, f"{flow}-flow", per_million)
    sys.exit(ended(flow, partial(run_flow, flow, settings, running)))


@stream.command()
@click.argument("flows", nargs=-1, type=click.Choice(FLOWS))
@click.option(
    "--recovery",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which each flow has its recovery store.",
)
@click.option(
    "--processes", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes of each flow's cluster."
)
@click.option(
    "--metrics-port",
    default=9464,
    show_default=True,
    type=click.IntRange(0, 65000),
    help="Port of the supervisor's own /metrics and /health; its processes take the following ones. 0: any free ones.",
)
@_with(SHARED)
def supervise(**options: Any) -> None:
    """Keep flows running: when a process ends, its flow's whole cluster is restarted. All flows if none is named."""
    settings = Settings.from_env()
    from gridtokenx_pipelines.observability import logs  # noqa: PLC0415 - not needed for --help
    from streaming import supervise as supervisor  # noqa: PLC0415

    logs.configure(level=options["log_level"], as_json=options["log_format"] == "json", flow="supervisor")
    flows = tuple(dict.fromkeys(options["flows"])) or FLOWS
    passed = ["snapshot_seconds", "recovery_partitions", "workers", "metrics_host", "log_level", "log_format"]
    words = [word for name in passed for word in (f"--{name.replace('_', '-')}", str(options[name]))]
    plan = supervisor.Plan(
        flows=flows,
        recovery_dir=options["recovery"].resolve(),
        processes=options["processes"],
        options=tuple(words),
        metrics_host=options["metrics_host"],
        metrics_port=options["metrics_port"],
    )
    sys.exit(supervisor.supervise(plan, settings.as_env()))


@stream.command()
@click.option("--who", required=True, help="Who decides, for the audit log.")
def resume(who: str) -> None:
    """Let a halted continuous market go on, and clear its minute of prices."""
    settings = Settings.from_env()
    if not who.strip() or len(who) > 200:
        raise ConfigError("--who", who[:50], "a name of 1 to 200 characters", "say who decides")
    from gridtokenx_pipelines.messaging.connection import Cluster  # noqa: PLC0415 - not needed for --help
    from gridtokenx_pipelines.messaging.kafka import BrokerError  # noqa: PLC0415
    from streaming.resume import resume_market  # noqa: PLC0415

    brokers = Cluster(settings.kafka_bootstrap_servers, settings.kafka_security)
    try:
        halts = resume_market(settings.database_url, brokers, who.strip())
    except BrokerError as error:
        click.echo(f"stream: {error}", err=True)
        sys.exit(1)
    for halt in halts:
        click.echo(f"resumed: halted by trade {halt.trade_id} at {halt.price_uthb_per_kwh} µTHB/kWh")
    if not halts:
        click.echo("no halt is in force")

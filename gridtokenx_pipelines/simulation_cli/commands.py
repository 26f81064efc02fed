"""The commands of `gridtokenx simulate`.

Belongs here: options, their bounds, progress, exit codes (0 done; 1 the run failed, or the simulator refused; 2 usage,
configuration or a scenario that can't be simulated). Does not belong here: the run (runner.py).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import click

from gridtokenx_pipelines.simulation_cli.options import known_errors, scenario_of, scenario_options

DEFAULT_URL = "http://127.0.0.1:8000"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})  # the same alone and under `gridtokenx`
def simulate() -> None:
    """Simulate a fleet of meters on a real network: headless, or as a service."""


@simulate.command()
@scenario_options
@click.option("--steps", default=96, show_default=True, type=click.IntRange(1, 10_000_000), help="Steps to play.")
@click.option(
    "--speed", default=0.0, show_default=True, type=click.FloatRange(0), help="Simulated seconds a second; 0: no brake."
)
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document, nothing else.")
def run(steps: int, speed: float, quiet: bool, as_json: bool, **options: Any) -> None:
    """Play some steps without a server and print what they came to."""
    from gridtokenx_pipelines.simulation_cli.headless import play  # noqa: PLC0415 - physics is not needed for --help

    target, cache_dir = options.pop("output"), options.pop("cache_dir")
    scenario = scenario_of(options)
    result = known_errors(lambda: play(scenario, steps, speed, target, cache_dir, progress=not quiet and not as_json))
    click.echo(json.dumps(result.document, indent=2) if as_json else result.text)
    sys.exit(1 if result.failed else 0)


@simulate.command()
@scenario_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1024, 65535))
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0), help="Simulated seconds a second; 0: no brake."
)
@click.option("--run", "at_once", is_flag=True, help="Start at once instead of waiting for /start.")
def serve(host: str, port: int, speed: float, at_once: bool, **options: Any) -> None:
    """Serve the control API (OpenAPI at /docs) and simulate when told to."""
    from gridtokenx_pipelines.simulation_cli.service import serve_api  # noqa: PLC0415 - physics and web server

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    target, cache_dir = options.pop("output"), options.pop("cache_dir")
    scenario = scenario_of(options)
    known_errors(lambda: serve_api(scenario, target, cache_dir, host=host, port=port, speed=speed, start=at_once))


url_option = click.option(
    "--url",
    default=lambda: os.environ.get("GRIDTOKENX_SIMULATOR_URL", DEFAULT_URL),
    help=f"API; default {DEFAULT_URL}.",
)


@simulate.command()
@url_option
@click.option("--scenario", default="", help="Fields of a new scenario as JSON; without: go on, or the server's own.")
@click.option("--steps", default=0, type=click.IntRange(0), help="Steps to play; 0: until stopped.")
@click.option("--speed", default=None, type=click.FloatRange(0), help="Simulated seconds a second; 0: no brake.")
def start(url: str, scenario: str, steps: int, speed: float | None) -> None:
    """Start the serving simulator, or let a stopped run go on."""
    body: dict[str, Any] = {"steps": steps, "speed": speed}
    if scenario:
        try:
            body["scenario"] = json.loads(scenario)
        except ValueError as error:
            raise click.UsageError(f"--scenario was no JSON ({error})") from error
    _show(url, "/start", body)


@simulate.command()
@url_option
def stop(url: str) -> None:
    """Stop the run after the step that is being played."""
    _show(url, "/stop", {})


@simulate.command(name="speed")
@url_option
@click.argument("speed", type=click.FloatRange(0))
def set_speed(url: str, speed: float) -> None:
    """Change the speed: simulated seconds a second, 0: no brake."""
    _show(url, "/speed", {"speed": speed})


@simulate.command()
@url_option
@click.argument("kind", required=False)
@click.option("--meter", "meters", multiple=True, help="A meter's id; repeatable.")
@click.option("--zone", default=None, type=int, help="All meters of a zone.")
@click.option("--after", default=0, type=click.IntRange(0), help="Simulated seconds from now.")
@click.option("--seconds", default=3_600, show_default=True, type=click.IntRange(1), help="Simulated seconds.")
@click.option("--size", default=0.0, help="As the kind says; 0: its default.")
def faults(url: str, kind: str | None, meters: tuple[str, ...], zone: int | None, **about: Any) -> None:
    """List the faults injected, or inject one.

    KIND: silent, frozen, drifting, tampering, clock_skew, outage, false_data.
    """
    body = None if kind is None else {"kind": kind, "meters": list(meters), "zone_id": zone} | about
    _show(url, "/faults", body)


@simulate.command()
@url_option
def state(url: str) -> None:
    """Show time, speed, last step, totals and active faults; exit code 1 if the run failed."""
    found = _show(url, "/state", None)
    sys.exit(1 if found["state"] == "failed" else 0)


@simulate.command()
def templates() -> None:
    """List the templates as JSON."""
    import msgspec  # noqa: PLC0415

    from gridtokenx_pipelines.simulation.fleet.templates import LIBRARY, LINE_TYPE  # noqa: PLC0415

    click.echo(json.dumps({"line_type": LINE_TYPE, "templates": msgspec.to_builtins(list(LIBRARY.values()))}, indent=2))


def _show(url: str, path: str, body: dict[str, Any] | None) -> Any:
    from gridtokenx_pipelines.simulation_cli.client import ApiError, call  # noqa: PLC0415

    try:
        found = call(url, path, body)
    except ApiError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(json.dumps(found, indent=2))
    return found

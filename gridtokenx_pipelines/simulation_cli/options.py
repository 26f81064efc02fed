"""Options that describe a scenario, and what becomes of those that can't be simulated.

Belongs here: names, defaults and bounds of options, named errors as exit codes. Does not belong here: commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

DEFAULT_START = "2026-06-14T17:00Z"


def scenario_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a command that makes a scenario."""
    options = [
        click.option(
            "--network",
            default="1-LV-urban6--2-sw",
            show_default=True,
            help="SimBench LV code, pandapower .json file, or `street`.",
        ),
        click.option(
            "--fleet",
            default="",
            help="`simbench` (published profiles), `templates`, or a fleet file; default by the network.",
        ),
        click.option("--meters", default=0, type=click.IntRange(0, 1_000_000), help="Meters of templates; 0: fill up."),
        click.option("--mix", default="", help="Weights of templates, like residential_small=60,solar=20."),
        click.option(
            "--copies", default=0, type=click.IntRange(0, 10_000), help="Equal networks side by side; 0: as needed."
        ),
        click.option("--zones", default=1, show_default=True, type=click.IntRange(1, 63), help="Market zones."),
        click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**31), help="Seed of all draws."),
        click.option("--start", default=DEFAULT_START, show_default=True, help="First instant (UTC quarter hour)."),
        click.option(
            "--step", default=900, show_default=True, type=click.IntRange(1, 900), help="Seconds a step; divides 900."
        ),
        click.option(
            "--block", default=1, show_default=True, type=click.IntRange(1, 96), help="Readings under one signature."
        ),
        click.option("--sign/--no-sign", default=True, show_default=True, help="Sign readings by the meters' keys."),
        click.option("--power-flow/--no-power-flow", default=True, show_default=True, help="AC power flow each step."),
        click.option(
            "--taps",
            default="auto",
            show_default=True,
            type=click.Choice(["auto", "fixed"]),
            help="Transformers regulate their busbar, or stay.",
        ),
        click.option(
            "--curve",
            default="ieee1547",
            show_default=True,
            type=click.Choice(["ieee1547", "vde4105", "off"]),
            help="Volt-var and volt-watt curves of inverters.",
        ),
        click.option("--weather", default="", help="CSV of weather instead of clear sky and clouds."),
        click.option("--profiles", default="", help="CSV of profiles by meter instead of template shapes."),
        click.option("--latitude", default=13.75, show_default=True, type=click.FloatRange(-66, 66)),
        click.option("--longitude", default=100.5, show_default=True, type=click.FloatRange(-180, 180)),
        click.option(
            "--utc-offset", default=7.0, show_default=True, type=click.FloatRange(-12, 14), help="Local time, hours."
        ),
        click.option("--fault", "faults", multiple=True, help="Share of meters a day, like silent=0.01; repeatable."),
        click.option(
            "--output",
            default="none",
            show_default=True,
            help="`kafka` (KAFKA_BOOTSTRAP_SERVERS), a file for JSON lines, or `none`.",
        ),
        click.option(
            "--cache-dir",
            default=Path(".gridtokenx/grids"),
            show_default=True,
            type=click.Path(path_type=Path, file_okay=False),
            help="Where extracted profiles are kept.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def scenario_of(options: dict[str, Any]) -> Any:
    """The scenario that the options say; ends the process with 2 for one that can't be."""
    from gridtokenx_pipelines.simulation.fleet.meter_faults import parse_shares  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.fleet.scenario import SIMBENCH, TEMPLATES, Scenario  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.fleet.templates import parse_mix  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.fleet.weather import Site  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.grids import LV_CODES  # noqa: PLC0415

    def made() -> Scenario:
        mix = {"mix": parse_mix(options["mix"])} if options["mix"] else {}
        published = options["network"] in LV_CODES and not (mix or options["meters"] or options["profiles"])
        return Scenario(
            network=options["network"],
            fleet=options["fleet"] or (SIMBENCH if published else TEMPLATES),
            start=_instant(options["start"]),
            step_seconds=options["step"],
            site=Site(
                latitude=options["latitude"],
                longitude=options["longitude"],
                utc_offset_hours=options["utc_offset"],
            ),
            faults=parse_shares(options["faults"]),
            **mix,
            **{
                name: options[name]
                for name in (
                    "meters",
                    "copies",
                    "zones",
                    "seed",
                    "block",
                    "sign",
                    "power_flow",
                    "taps",
                    "curve",
                    "weather",
                    "profiles",
                )
            },
        ).checked()

    return known_errors(made)


def _instant(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} must be ISO 8601, like {DEFAULT_START}", param_hint="--start") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def known_errors(work: Callable[[], Any]) -> Any:
    """What the work gives; named errors become one line, and 2 (scenario) or 1 (output) as exit code."""
    from gridtokenx_pipelines.grid.errors import NetworkError  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.fleet.errors import SimulationError  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.grids import UnknownGridError  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.zones import ZonesError  # noqa: PLC0415
    from gridtokenx_pipelines.simulation_cli.sinks import SinkError  # noqa: PLC0415

    try:
        return work()
    except (SimulationError, NetworkError, UnknownGridError, ZonesError) as error:
        click.echo(f"simulation: {type(error).__name__}: {error}", err=True)
        sys.exit(2)
    except SinkError as error:
        click.echo(f"output: {error}", err=True)
        sys.exit(1)

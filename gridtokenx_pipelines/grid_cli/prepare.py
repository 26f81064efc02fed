"""`gridtokenx grid prepare`: a pandapower network and a table of meters become a grid case.

Belongs here: reading people's files with named errors. Does not belong here: what a case is (grid/case.py).
"""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path
from typing import Any

import click

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.grid.case import TAN_PHI, MeterPlace, case_of, save
from gridtokenx_pipelines.grid.errors import NetworkError, NotConvergedError

NUMBERS = {"bus": None, "zone_id": None, "rating_w": None, "storage_wh": 0, "storage_w": 0, "priority": 1}
LEAST_COS_PHI = 0.1
YES, NO = ("1", "true", "yes"), ("0", "false", "no", "")


def make(network: Path, meters: Path, buses: Path | None, output: Path) -> int:
    """Write the case; 1 with the reason for a network or place that can't be used."""
    places = [_place(meters, number, row) for number, row in enumerate(_rows(meters), start=2)]
    zones = {place.bus: place.zone_id for place in places}
    if buses is not None:
        for number, row in enumerate(_rows(buses), start=2):
            zones[_number(buses, number, row, "bus", None)] = _number(buses, number, row, "zone_id", None)
    try:
        case = case_of(_network(network), places, zones)
    except (NetworkError, NotConvergedError) as error:
        click.echo(f"grid: {error}", err=True)
        return 1
    save(case, output)
    click.echo(
        f"{output}: {len(case.matrices.bus_ids)} buses, {len(case.line_name)} lines, {len(case.trafo_name)} "
        f"transformers, {len(case.meter_id)} meters in {len(set(case.meter_zone.tolist()))} zones, {case.fingerprint}"
    )
    return 0


def _network(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandapower upgrades old files with warnings that say nothing about them
        import pandapower  # noqa: PLC0415 - seconds

        try:
            net = pandapower.from_json(str(path))
        except Exception as error:
            raise ConfigError("NETWORK", str(path), "a pandapower network in JSON", f"write one: {error}") from error
    if not hasattr(net, "bus"):
        raise ConfigError("NETWORK", str(path), "a pandapower network in JSON", "write one with pandapower.to_json")
    return net


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def _place(path: Path, line: int, row: dict[str, str]) -> MeterPlace:
    meter_id = (row.get("meter_id") or "").strip()
    if not meter_id:
        raise ConfigError(f"meter_id in line {line} of {path}", meter_id, "a meter's id", "name it")
    produces = (row.get("produces") or "").strip().lower()
    if produces not in (*YES, *NO):
        raise ConfigError(f"produces in line {line} of {path}", produces, "true or false", "correct it")
    numbers = {name: _number(path, line, row, name, default) for name, default in NUMBERS.items()}
    tan_phi = _tan_phi(path, line, (row.get("cos_phi") or "").strip())
    return MeterPlace(meter_id=meter_id, produces=produces in YES, tan_phi=tan_phi, **numbers)


def _tan_phi(path: Path, line: int, words: str) -> float:
    """From a mean power factor, inductive; TAN_PHI where none is given."""
    if not words:
        return TAN_PHI
    try:
        cos_phi = float(words)
    except ValueError:
        cos_phi = math.nan
    if not LEAST_COS_PHI <= cos_phi <= 1:
        bound = f"a power factor from {LEAST_COS_PHI} to 1"
        raise ConfigError(f"cos_phi in line {line} of {path}", words, bound, "correct it or leave it empty")
    return math.tan(math.acos(cos_phi))


def _number(path: Path, line: int, row: dict[str, str], column: str, default: int | None) -> int:
    words = (row.get(column) or "").strip()
    if not words and default is not None:
        return default
    if not words.isdecimal():
        raise ConfigError(f"{column} in line {line} of {path}", words, "a whole number from 0", "correct it")
    return int(words)

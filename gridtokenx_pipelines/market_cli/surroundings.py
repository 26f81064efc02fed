"""Network and charges from people's JSON files, checked whole before anything is cleared with them.

Belongs here: what a network or a charge may be. Does not belong here: books (book.py), a demo's own files
(settlement_service/services.py). Errors name the file, the value, the bound and the remedy.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.market.rules import Link, Network, Zone
from gridtokenx_pipelines.market.schedule import Rates, Schedule, ScheduleError, Version, schedule_of
from gridtokenx_pipelines.market_cli.numbers import epoch_number
from gridtokenx_pipelines.market_cli.refusals import BookError
from gridtokenx_pipelines.units import BASIS_POINTS, I64_MAX, PARTS_PER_MILLION

MOST_WHEELING = 10**12
MOST_EPOCH = 2**32  # as an order's bytes can hold


def read_charges(path: Path | None, network: Network | None = None) -> Rates | Schedule:
    """Rates of a file, or a schedule of their versions; none without one.

    Raises ConfigError, also for versions that make no schedule and a zone or link that the network lacks.
    """
    if path is None:
        return Rates()
    given: Rates | list[Version] = _read(path, Rates | list[Version], "--charges", "charges")
    if isinstance(given, Rates):
        _check_rates(path, given, network)
        return given
    for number, version in enumerate(given, 1):
        _check_rates(path, version, network, f" of version {number}")
    try:
        return schedule_of(given)
    except ScheduleError as error:
        raise ConfigError(f"{error.name} of {path}", error.value, error.bound, error.remedy) from error


def in_force(charges: Rates | Schedule, epoch: int | None) -> Rates:
    """The rates of a book's epoch. Raises BookError where versions need one, or none of them is in force in it."""
    if isinstance(charges, Rates):
        return charges
    if epoch is None:
        raise BookError('book had no epoch, must have one where charges have versions; add "epoch" or pass --epoch')
    try:
        return charges.version_at(epoch)
    except ScheduleError as error:
        raise BookError(str(error)) from error


def epoch_of_book(stated: object, otherwise: int | None) -> int | None:
    """The epoch that a book states (key or number), else `otherwise`. Raises BookError."""
    if stated is None:
        return otherwise
    try:
        if isinstance(stated, str):
            epoch = epoch_number(stated)
        elif isinstance(stated, int) and not isinstance(stated, bool):
            epoch = stated
        else:
            raise ValueError("neither text nor a whole number")
        if not 0 <= epoch < MOST_EPOCH:
            raise ValueError(f"outside 0…{MOST_EPOCH - 1}")
    except ValueError as error:
        bound = "a key such as 2026-01-27T12:00Z, or a number"
        raise BookError(f"epoch was {stated!r}, must be {bound}; correct it ({error})") from error
    return epoch


def _check_rates(path: Path, rates: Rates, network: Network | None, version: str = "") -> None:
    _within(path, f"fee_bp{version}", rates.fee_bp, 0, BASIS_POINTS - 1)
    _within(path, f"vat_bp{version}", rates.vat_bp, 0, BASIS_POINTS)
    _within(path, f"halt_bound_bp{version}", rates.halt_bound_bp, 0, BASIS_POINTS)
    for field in ("tariff_on_peak_uthb_per_kwh", "tariff_off_peak_uthb_per_kwh", "feed_in_uthb_per_kwh"):
        _within(path, f"{field}{version}", getattr(rates, field), 0, MOST_WHEELING)
    for what in ("zone", "link"):
        field = f"{what}_wheeling_uthb_per_kwh"
        wheeling = getattr(rates, field)
        for rate in [wheeling] if isinstance(wheeling, int) else wheeling.values():
            _within(path, f"{field}{version}", rate, 0, MOST_WHEELING)
        parts = getattr(network, f"{what}s") if network else ()
        known = sorted(getattr(part, f"{what}_id") for part in parts)
        # without a network the book itself names its zones, but never links
        for ident in wheeling if isinstance(wheeling, dict) and (network or what == "link") else ():
            if ident not in known:
                bound = f"a {what} of the network ({', '.join(map(str, known)) or 'none given'})"
                raise ConfigError(f"{what} in {field}{version} of {path}", ident, bound, "correct either")


def read_network(path: Path) -> Network:
    """A network whose zones and links can be cleared over. Raises ConfigError for missing, doubled or negative data."""
    network: Network = _read(path, Network, "--network", "network")
    if not network.zones:
        raise ConfigError(f"zones of {path}", [], "at least one zone", "name them")
    _once(path, "zone_id", [zone.zone_id for zone in network.zones])
    _once(path, "link_id", [link.link_id for link in network.links])
    known = {zone.zone_id for zone in network.zones}
    for zone in network.zones:
        _check_zone(path, zone)
    for link in network.links:
        _check_link(path, link, known)
    return network


def _check_zone(path: Path, zone: Zone) -> None:
    _within(path, "zone_id", zone.zone_id, 1, 2**31 - 1)
    _within(path, "zone_wheeling_uthb_per_kwh", zone.zone_wheeling_uthb_per_kwh, 0, MOST_WHEELING)


def _check_link(path: Path, link: Link, known: set[int]) -> None:
    for end in (link.from_zone, link.to_zone):
        if end not in known:
            bound = f"one of the network's zones ({', '.join(map(str, sorted(known)))})"
            raise ConfigError(f"an end of link {link.link_id} of {path}", end, bound, "correct it")
    if link.from_zone == link.to_zone:
        raise ConfigError(f"to_zone of link {link.link_id} of {path}", link.to_zone, "another zone", "correct it")
    name = f"of link {link.link_id}"
    _within(path, f"capacity_forward_wh {name}", link.capacity_forward_wh, 0, I64_MAX // PARTS_PER_MILLION)
    _within(path, f"capacity_backward_wh {name}", link.capacity_backward_wh, 0, I64_MAX // PARTS_PER_MILLION)
    _within(path, f"link_wheeling_uthb_per_kwh {name}", link.link_wheeling_uthb_per_kwh, 0, MOST_WHEELING)
    _within(path, f"loss_ppm {name}", link.loss_ppm, 0, PARTS_PER_MILLION - 1)


def _once(path: Path, field: str, ids: list[int]) -> None:
    twice = [ident for ident, count in Counter(ids).items() if count > 1]
    if twice:
        raise ConfigError(f"{field} of {path}", twice[0], "used once", "give each its own")


def _within(path: Path, field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{field} of {path}", value, f"from {low} to {high}", "correct it")


def _read(path: Path, kind: Any, option: str, name: str) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(option, str(path), "a readable JSON file", f"write one ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        bound = f"a file of {name} in JSON"
        raise ConfigError(option, str(path), bound, f"correct it: {error}") from error

"""Network and charges from people's JSON files, checked whole before anything is cleared with them.

Belongs here: what a network or a charge may be. Does not belong here: books (book.py), a demo's own files
(settlement_service/services.py). Errors name the file, the value, the bound and the remedy.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypeVar

import msgspec

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.market.rules import Link, Network, Rules, Zone
from gridtokenx_pipelines.units import BASIS_POINTS, I64_MAX, PARTS_PER_MILLION

MOST_WHEELING = 10**12
Data = TypeVar("Data")


class Charges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A charges file: fee and VAT in basis points, zone wheeling in µTHB/kWh (one for all zones, or by zone id)."""

    fee_bp: int = 0
    vat_bp: int = 0
    zone_wheeling_uthb_per_kwh: int | dict[int, int] = {}

    def rules(self) -> Rules:
        """Rules with these charges; the limits on orders stay the market's."""
        return Rules(fee_bp=self.fee_bp, vat_bp=self.vat_bp)

    def on(self, network: Network) -> Network:
        """The network with this wheeling in the zones that the charges name, its own in the others."""
        given = self.zone_wheeling_uthb_per_kwh
        if not given:
            return network
        by_zone = dict.fromkeys((zone.zone_id for zone in network.zones), given) if isinstance(given, int) else given
        return msgspec.structs.replace(
            network,
            zones=tuple(
                msgspec.structs.replace(zone, zone_wheeling_uthb_per_kwh=by_zone[zone.zone_id])
                if zone.zone_id in by_zone
                else zone
                for zone in network.zones
            ),
        )


def read_charges(path: Path | None, network: Network | None = None) -> Charges:
    """Charges of a file; none without one. Raises ConfigError, also for a zone that the network lacks."""
    if path is None:
        return Charges()
    charges = _read(path, Charges, "--charges")
    _within(path, "fee_bp", charges.fee_bp, 0, BASIS_POINTS - 1)
    _within(path, "vat_bp", charges.vat_bp, 0, BASIS_POINTS)
    given = charges.zone_wheeling_uthb_per_kwh
    for wheeling in [given] if isinstance(given, int) else given.values():
        _within(path, "zone_wheeling_uthb_per_kwh", wheeling, 0, MOST_WHEELING)
    known = sorted(zone.zone_id for zone in network.zones) if network else []
    for zone in given if network and isinstance(given, dict) else ():
        if zone not in known:
            bound = f"a zone of the network ({', '.join(map(str, known))})"
            raise ConfigError(f"zone in zone_wheeling_uthb_per_kwh of {path}", zone, bound, "correct either")
    return charges


def read_network(path: Path) -> Network:
    """A network whose zones and links can be cleared over. Raises ConfigError for missing, doubled or negative data."""
    network = _read(path, Network, "--network")
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


def _read(path: Path, kind: type[Data], option: str) -> Data:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(option, str(path), "a readable JSON file", f"write one ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        bound = f"a file of {kind.__name__.lower()} in JSON"
        raise ConfigError(option, str(path), bound, f"correct it: {error}") from error

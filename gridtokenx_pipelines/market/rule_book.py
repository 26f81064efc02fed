"""The rules of a running market with their changes by epoch: which hold in an epoch, and over which network. Pure.

Belongs here: the file rules.json as data, finding the version in force, bounds that every version keeps. Does not
belong here: reading the file (settlement_service/services.py), what the chain says (rates_in_force.py there), the rates
of books from files (schedule.py). Bounds are those of the governance program (programs/common, `Params::check`).
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

import msgspec

from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.market.schedule import ByNumber, Version, schedule_of

MOST_FEE_BP, MOST_VAT_BP, MOST_HALT_BP = 5_000, 5_000, 10_000
PRICE_BOUND = 1 << 23
PRICES = (
    "tariff_on_peak_uthb_per_kwh",
    "tariff_off_peak_uthb_per_kwh",
    "feed_in_uthb_per_kwh",
    "wheeling_cap_uthb_per_kwh",
    "price_min_uthb_per_kwh",
    "price_max_uthb_per_kwh",
)


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes from `effective_epoch` on; what isn't stated stays. Prices µTHB/kWh, rates basis points.

    Wheeling is one rate for all zones (links), or rates by zone (link) id; the others keep theirs.
    """

    effective_epoch: int
    fee_bp: int | None = None
    vat_bp: int | None = None
    halt_bound_bp: int | None = None
    tariff_on_peak_uthb_per_kwh: int | None = None
    tariff_off_peak_uthb_per_kwh: int | None = None
    feed_in_uthb_per_kwh: int | None = None
    wheeling_cap_uthb_per_kwh: int | None = None
    price_min_uthb_per_kwh: int | None = None
    price_max_uthb_per_kwh: int | None = None
    zone_wheeling_uthb_per_kwh: ByNumber | None = None
    link_wheeling_uthb_per_kwh: ByNumber | None = None

    def on(self, rules: Rules) -> Rules:
        """The rules after this change, one schedule version up."""
        stated = {
            name: value
            for name in self.__struct_fields__
            if hasattr(rules, name) and (value := getattr(self, name)) is not None
        }
        return msgspec.structs.replace(rules, schedule_version=rules.schedule_version + 1, **stated)

    def over(self, network: Network) -> Network:
        """The network after this change."""
        zones, links, replace = (
            self.zone_wheeling_uthb_per_kwh,
            self.link_wheeling_uthb_per_kwh,
            msgspec.structs.replace,
        )
        if zones is not None:
            changed = (_rate(zones, each.zone_id, each.zone_wheeling_uthb_per_kwh) for each in network.zones)
            network = replace(
                network,
                zones=tuple(
                    replace(each, zone_wheeling_uthb_per_kwh=rate)
                    for each, rate in zip(network.zones, changed, strict=True)
                ),
            )
        if links is not None:
            changed = (_rate(links, each.link_id, each.link_wheeling_uthb_per_kwh) for each in network.links)
            network = replace(
                network,
                links=tuple(
                    replace(each, link_wheeling_uthb_per_kwh=rate)
                    for each, rate in zip(network.links, changed, strict=True)
                ),
            )
        return network


class RuleBook(Rules, frozen=True, kw_only=True, dict=True):
    """Rules that hold from the first epoch on, and `changes` in ascending order of their epoch (rules.json).

    Raises ValueError (ScheduleError for the order of changes) naming the version and the bound that it breaks.
    """

    changes: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        """Check every version."""
        if self.changes:
            schedule_of([Version(effective_epoch=change.effective_epoch) for change in self.changes])
        for number, rules in enumerate(self.versions):
            where = f"change {number}" if number else "rules"
            change = self.changes[number - 1] if number else None
            _check(where, rules, change)

    @cached_property
    def versions(self) -> tuple[Rules, ...]:
        """Plain rules of every version, the first ones first."""
        made = [Rules(**{name: getattr(self, name) for name in Rules.__struct_fields__})]
        for change in self.changes:
            made.append(change.on(made[-1]))
        return tuple(made)

    def at(self, epoch: int) -> Rules:
        """The rules in force in an epoch."""
        return self.versions[self._place(epoch)]

    def network_at(self, epoch: int, network: Network) -> Network:
        """The network with the wheeling in force in an epoch."""
        for change in self.changes[: self._place(epoch)]:
            network = change.over(network)
        return network

    def starts(self) -> tuple[int, ...]:
        """An epoch of every version: 0 for the first, then where each change begins."""
        return (0, *(change.effective_epoch for change in self.changes))

    def tariff_uthb_per_kwh(self, epoch: int) -> int:
        """Retail tariff of an epoch by the version in force, VAT included (domain §6)."""
        return self.at(epoch).tariff_uthb_per_kwh(epoch)

    def _place(self, epoch: int) -> int:
        return bisect_right(self.changes, epoch, key=lambda change: change.effective_epoch)


def _rate(given: ByNumber, number: int, own: int) -> int:
    return given if isinstance(given, int) else given.get(number, own)


def _check(where: str, rules: Rules, change: Change | None) -> None:
    for name, most in (("fee_bp", MOST_FEE_BP), ("vat_bp", MOST_VAT_BP), ("halt_bound_bp", MOST_HALT_BP)):
        _within(where, name, getattr(rules, name), 0, most)
    for name in PRICES:
        _within(where, name, getattr(rules, name), 1 if name == "price_min_uthb_per_kwh" else 0, PRICE_BOUND - 1)
    _within(where, "price_min_uthb_per_kwh", rules.price_min_uthb_per_kwh, 1, rules.price_max_uthb_per_kwh)
    for name in ("zone_wheeling_uthb_per_kwh", "link_wheeling_uthb_per_kwh") if change else ():
        stated = getattr(change, name) or 0
        for rate in [stated] if isinstance(stated, int) else stated.values():
            _within(where, name, rate, 0, rules.wheeling_cap_uthb_per_kwh if name[0] == "z" else PRICE_BOUND - 1)


def _within(where: str, name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} of {where} was {value}, must lie in {low}…{high}; correct it")

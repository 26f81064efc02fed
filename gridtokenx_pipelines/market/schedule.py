"""Charges and tariffs as data with effective epochs: which rates are in force in an epoch (domain §6). Pure.

Belongs here: rates, their versions, finding the one in force, adding one for the future. Does not belong here: files
(market_cli/surroundings.py), the bounds that a file's rates must keep, computing with them (charges.py, settlement).
A version holds from its epoch until the next one's. One that acts in an epoch that has begun can't be added.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.rules import Network, Rules

STANDARD = Rules()
ByNumber = int | dict[int, int]  # one rate for all, or rates by zone or link id


class ScheduleError(ValueError):
    """Versions that make no schedule, or an epoch without rates. `problem` is one word that programs can go by."""

    def __init__(self, problem: str, name: str, value: object, bound: str, remedy: str) -> None:
        super().__init__(f"{name} was {value!r}, must be {bound}; {remedy}")
        self.problem, self.name, self.value, self.bound, self.remedy = problem, name, value, bound, remedy


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fee, VAT and halt bound in basis points; wheeling and tariffs in µTHB/kWh. What isn't given isn't charged;
    tariffs that aren't given are the standard ones (domain §6).
    """

    fee_bp: int = 0
    vat_bp: int = 0
    zone_wheeling_uthb_per_kwh: ByNumber = {}
    link_wheeling_uthb_per_kwh: ByNumber = {}
    tariff_on_peak_uthb_per_kwh: int = STANDARD.tariff_on_peak_uthb_per_kwh
    tariff_off_peak_uthb_per_kwh: int = STANDARD.tariff_off_peak_uthb_per_kwh
    feed_in_uthb_per_kwh: int = STANDARD.feed_in_uthb_per_kwh
    halt_bound_bp: int = STANDARD.halt_bound_bp

    def rules(self, standard: Rules = STANDARD) -> Rules:
        """Rules with these rates; the limits on orders stay those of `standard`."""
        return msgspec.structs.replace(
            standard,
            fee_bp=self.fee_bp,
            vat_bp=self.vat_bp,
            tariff_on_peak_uthb_per_kwh=self.tariff_on_peak_uthb_per_kwh,
            tariff_off_peak_uthb_per_kwh=self.tariff_off_peak_uthb_per_kwh,
            feed_in_uthb_per_kwh=self.feed_in_uthb_per_kwh,
            halt_bound_bp=self.halt_bound_bp,
        )

    def on(self, network: Network) -> Network:
        """The network with this wheeling in the zones and on the links that are named, its own on the others."""
        zones, links = self.zone_wheeling_uthb_per_kwh, self.link_wheeling_uthb_per_kwh
        if not zones and not links:
            return network
        replace = msgspec.structs.replace
        return replace(
            network,
            zones=tuple(
                replace(zone, zone_wheeling_uthb_per_kwh=_rate(zones, zone.zone_id, zone.zone_wheeling_uthb_per_kwh))
                for zone in network.zones
            ),
            links=tuple(
                replace(link, link_wheeling_uthb_per_kwh=_rate(links, link.link_id, link.link_wheeling_uthb_per_kwh))
                for link in network.links
            ),
        )


def _rate(given: ByNumber, number: int, own: int) -> int:
    """The rate of a zone or link: the one for all unless that is 0, else its own."""
    return (given or own) if isinstance(given, int) else given.get(number, own)


class Version(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates from `effective_epoch` on; `end_epoch`, where one is stated, is the next version's first epoch."""

    effective_epoch: int
    end_epoch: int | None = None


class Schedule(msgspec.Struct, frozen=True):
    """Versions by effective epoch, ascending, each until the next; make it with `schedule_of`."""

    versions: tuple[Version, ...]

    def version_at(self, epoch: int) -> Version:
        """The version in force in an epoch. Raises ScheduleError ("before") for one before the first version."""
        return self.versions[self._place(epoch)]

    def rules_at(self, epoch: int, standard: Rules = STANDARD) -> Rules:
        """Rules in force in an epoch; `schedule_version` counts the versions from 1. Raises as `version_at`."""
        place = self._place(epoch)
        return msgspec.structs.replace(self.versions[place].rules(standard), schedule_version=place + 1)

    def network_at(self, epoch: int, network: Network) -> Network:
        """The network with the wheeling in force in an epoch. Raises as `version_at`."""
        return self.version_at(epoch).on(network)

    def with_version(self, version: Version, running_epoch: int) -> Schedule:
        """The schedule with one more version, of an epoch after `running_epoch`, the one that has begun.

        Raises ScheduleError: "begun", or what `schedule_of` raises.
        """
        if version.effective_epoch <= running_epoch:
            raise ScheduleError(
                "begun",
                "effective_epoch of a new version",
                version.effective_epoch,
                f"after {running_epoch}, the epoch that has begun",
                f"let it act from {running_epoch + 1} on",
            )
        place = bisect_right(self.versions, version.effective_epoch, key=_effective)
        return schedule_of([*self.versions[:place], version, *self.versions[place:]])

    def _place(self, epoch: int) -> int:
        place = bisect_right(self.versions, epoch, key=_effective) - 1
        if place < 0:
            first = self.versions[0].effective_epoch
            raise ScheduleError(
                "before",
                "epoch",
                key_of(epoch),
                f"{key_of(first)} or later, when the first version takes effect",
                "add the version that was in force then",
            )
        return place


def _effective(version: Version) -> int:
    return version.effective_epoch


def schedule_of(versions: Sequence[Version]) -> Schedule:
    """A schedule of versions in ascending order. Raises ScheduleError.

    "empty": none; "negative": an epoch below 0; "duplicate": two of one epoch; "descending": not in ascending order;
    "gap", "overlap": a stated `end_epoch` before or after the next one's start; "ended": the last one states an end.
    """
    if not versions:
        raise ScheduleError("empty", "versions", [], "at least one", "name the rates in force")
    first = versions[0].effective_epoch
    if first < 0:
        raise ScheduleError("negative", "effective_epoch of version 1", first, "0 or more", "correct it")
    for number, (former, latter) in enumerate(pairwise(versions), 2):
        _check_order(number, former, latter)
    last = versions[-1].end_epoch
    if last is not None:
        bound = "missing, as the last one holds until another is added"
        raise ScheduleError("ended", f"end_epoch of version {len(versions)}", last, bound, "leave it out")
    return Schedule(tuple(versions))


def _check_order(number: int, former: Version, latter: Version) -> None:
    starts, name = former.effective_epoch, f"effective_epoch of version {number}"
    if latter.effective_epoch == starts:
        bound = f"used once, and version {number - 1} has it"
        raise ScheduleError("duplicate", name, latter.effective_epoch, bound, "drop one of the two")
    if latter.effective_epoch < starts:
        bound = f"after {starts}, that of version {number - 1}"
        raise ScheduleError("descending", name, latter.effective_epoch, bound, "put the versions in ascending order")
    if former.end_epoch is not None and former.end_epoch != latter.effective_epoch:
        problem = "gap" if former.end_epoch < latter.effective_epoch else "overlap"
        bound = f"{latter.effective_epoch}, where version {number} begins ({problem})"
        name = f"end_epoch of version {number - 1}"
        raise ScheduleError(problem, name, former.end_epoch, bound, "correct it, or leave it out")

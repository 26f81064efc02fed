"""Templates of participants: what stands behind a meter, as numbers.

Belongs here: the library and its bounds. Does not belong here: who gets which (fleet.py), how a load moves in a day
(demand.py). Residential Large carries the platform documents' numbers; the others are chosen beside it and are
assumptions, meant to be replaced by a fleet file.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from gridtokenx_pipelines.simulation.fleet.errors import FleetError, MeterRatingError

LINE_TYPE: Final = "NAYY 4x50 SE"  # the documents' cable, a standard type of pandapower

Policy = Literal["self_consumption", "price"]


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of participant.

    base_kwh: load in an ordinary hour, kWh. peak_multiplier: what the load grows to in `peak_hours` (local, from–to).
    weekend_factor: load at weekends beside weekdays. season: share by which the hottest month exceeds the mean.
    zip: shares of constant impedance, current and power at nominal voltage, sum 1. pv_kw: panels at standard
    conditions. inverter_kva 0: a tenth above the panels and battery. ev_kw, ev_kwh: charging power and energy a day.
    """

    name: str
    base_kwh: float = 0.0
    peak_multiplier: float = 1.0
    peak_hours: tuple[float, float] = (18.0, 22.0)
    weekend_factor: float = 1.0
    season: float = 0.0
    variation: float = 0.25
    power_factor: float = 0.97
    zip: tuple[float, float, float] = (0.4, 0.3, 0.3)
    pv_kw: float = 0.0
    inverter_kva: float = 0.0
    battery_kwh: float = 0.0
    battery_kw: float = 0.0
    battery_policy: Policy = "self_consumption"
    ev_kw: float = 0.0
    ev_kwh: float = 0.0

    @property
    def meter_type(self) -> Literal["Solar", "Grid", "Hybrid"]:
        """Solar feeds in only, Grid draws only, Hybrid does both."""
        draws, feeds = self.base_kwh > 0 or self.ev_kw > 0, self.pv_kw > 0 or self.battery_kwh > 0
        return "Hybrid" if draws and feeds else "Solar" if feeds else "Grid"

    @property
    def rated_kva(self) -> float:
        """Nameplate of the inverter: given, or a tenth above what stands behind it."""
        return self.inverter_kva or 1.1 * max(self.pv_kw, self.battery_kw)

    @property
    def highest_kw(self) -> float:
        """What a meter of this template can never exceed either way; the registered rating follows it."""
        load = self.base_kwh * max(self.peak_multiplier, 1) * max(self.weekend_factor, 1)
        load *= (1 + self.season) * (1 + self.variation) * VOLTAGE_HEADROOM
        return max(load + self.ev_kw + self.battery_kw, self.rated_kva)


VOLTAGE_HEADROOM: Final = 1.25  # a constant-impedance load at 1.10 p.u. draws 1.21 of its nominal power

LIBRARY: Final = {
    template.name: template
    for template in (
        Template(name="residential_small", base_kwh=0.5, peak_multiplier=2.0, weekend_factor=1.2, season=0.25),
        Template(
            name="residential_large",
            base_kwh=3.0,
            peak_multiplier=2.0,
            weekend_factor=1.5,
            season=0.25,
            pv_kw=10.0,
            battery_kwh=15.0,
            battery_kw=5.0,
        ),
        Template(
            name="commercial",
            base_kwh=5.0,
            peak_multiplier=2.5,
            peak_hours=(9.0, 19.0),
            weekend_factor=0.6,
            season=0.2,
            power_factor=0.95,
            zip=(0.3, 0.3, 0.4),
        ),
        Template(
            name="industrial",
            base_kwh=15.0,
            peak_multiplier=1.8,
            peak_hours=(7.0, 17.0),
            weekend_factor=0.4,
            season=0.05,
            variation=0.1,
            power_factor=0.9,
            zip=(0.1, 0.2, 0.7),
        ),
        Template(name="solar", pv_kw=8.0),
        Template(
            name="hybrid",
            base_kwh=0.8,
            peak_multiplier=2.0,
            weekend_factor=1.2,
            season=0.25,
            pv_kw=5.0,
            battery_kwh=10.0,
            battery_kw=4.0,
            battery_policy="price",
        ),
        Template(name="ev", ev_kw=7.4, ev_kwh=9.0, power_factor=0.98, zip=(0.0, 0.0, 1.0)),
    )
}
DEFAULT_MIX: Final = {
    "residential_small": 60,
    "residential_large": 6,
    "commercial": 4,
    "industrial": 1,
    "solar": 8,
    "hybrid": 13,
    "ev": 8,
}
_NOT_NEGATIVE: Final = (
    "base_kwh",
    "peak_multiplier",
    "weekend_factor",
    "pv_kw",
    "inverter_kva",
    "battery_kwh",
    "battery_kw",
    "ev_kw",
    "ev_kwh",
    "season",
    "variation",
)


def template_named(name: str) -> Template:
    """A template of the library; raises FleetError."""
    if name not in LIBRARY:
        raise FleetError(f"template was {name!r}, must be one of {', '.join(LIBRARY)}; correct the name")
    return LIBRARY[name]


def checked(template: Template, who: str) -> Template:
    """The template itself; raises MeterRatingError for a number that no device can have. `who` names it in the text."""
    for field in _NOT_NEGATIVE:
        value = getattr(template, field)
        if not math.isfinite(value) or value < 0:
            raise MeterRatingError(f"{who}: {field} was {value}, must be 0 or more and finite; correct it")
    if not template.highest_kw > 0:
        raise MeterRatingError(
            f"{who}: nothing stands behind it, must have a load, panel, battery or charger; give one"
        )
    if not 0 < template.power_factor <= 1:
        raise MeterRatingError(f"{who}: power_factor was {template.power_factor}, must be above 0 and at most 1")
    if min(template.zip) < 0 or not math.isclose(sum(template.zip), 1, abs_tol=1e-9):
        raise MeterRatingError(f"{who}: zip was {template.zip}, must be shares of 0 or more with sum 1; correct them")
    for power, energy in (("battery_kw", "battery_kwh"), ("ev_kw", "ev_kwh")):
        if (getattr(template, power) > 0) != (getattr(template, energy) > 0):
            raise MeterRatingError(
                f"{who}: {power} was {getattr(template, power)} and {energy} {getattr(template, energy)}, must both be "
                "above 0 or both 0; give the missing rating"
            )
    if template.variation >= 1 or template.season >= 1:
        raise MeterRatingError(f"{who}: variation and season must be below 1; correct them")
    start, end = template.peak_hours
    if not 0 <= start < end <= 24:
        raise MeterRatingError(f"{who}: peak_hours was {template.peak_hours}, must ascend within 0 to 24; correct them")
    return template


def parse_mix(text: str) -> dict[str, int]:
    """`residential_small=60,solar=20` as weights by template; raises FleetError."""
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        template_named(name)
        if name in mix or not weight.isdecimal() or int(weight) < 1:
            raise FleetError(f"mix had {part.strip()!r}, must be template=weight, each once, weight at least 1")
        mix[name] = int(weight)
    return mix

"""What templates would draw at nominal voltage: base load by hour, weekday and season, and electric vehicles.

Belongs here: load before voltage and batteries. Does not belong here: panels and batteries (devices.py), published
profiles (profiles.py). All is a function of the meter's stream and the time, so any step can be computed alone.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.simulation.fleet.fleet import Fleet
from gridtokenx_pipelines.simulation.fleet.streams import smooth, uniform
from gridtokenx_pipelines.simulation.fleet.weather import DAY, Site

Floats = NDArray[np.float64]

SHOULDER_HOURS: Final = 1.0  # the peak rises and falls over this long
HABIT, MOMENT, ARRIVAL, NEED, AWAY = 0, 1, 10, 11, 12  # channels of a meter's stream
AWAY_SHARE: Final = 0.3  # of days on which a vehicle isn't charged at home
EARLIEST_ARRIVAL: Final = 16.5
ARRIVAL_SPAN_HOURS: Final = 5.0


class TemplateDemand:
    """Loads of a fleet of templates; W per member, never negative."""

    def __init__(self, fleet: Fleet, site: Site) -> None:
        self._keys, self._site = fleet.keys, site
        self._base_w = fleet.column("base_kwh") * 1_000
        self._variation = fleet.column("variation")
        kinds = {member.template.name: member.template for member in fleet.members}
        # members of one template may be overridden, so the shape is kept per distinct (peak, hours, weekend, season)
        shapes = [
            (m.template.peak_multiplier, m.template.peak_hours, m.template.weekend_factor, m.template.season)
            for m in fleet.members
        ]
        self._shapes = sorted(set(shapes))
        places = {shape: place for place, shape in enumerate(self._shapes)}
        self._shape_of = np.array([places[shape] for shape in shapes], np.int64)
        self._chargers = np.flatnonzero(fleet.column("ev_kw") > 0)
        self._ev_w = fleet.column("ev_kw")[self._chargers] * 1_000
        self._ev_wh = fleet.column("ev_kwh")[self._chargers] * 1_000
        self._ev_keys = self._keys[self._chargers]
        self.kinds = tuple(sorted(kinds))

    def at(self, step_start: int, step_seconds: int) -> Floats:
        """Mean power of a step, W, shape (members,)."""
        middle = step_start + step_seconds / 2 + self._site.utc_offset_hours * 3_600
        factors = np.array([self._factor(shape, middle) for shape in self._shapes])
        # habit changes over hours, the moment by quarter hour: both within ±variation, so the rating holds
        noise = 0.6 * smooth(self._keys, middle / 7_200, HABIT) + 0.4 * smooth(self._keys, middle / 900, MOMENT)
        load = self._base_w * factors[self._shape_of] * (1 + self._variation * (2 * noise - 1))
        if len(self._chargers):
            load[self._chargers] += self._charging(step_start, step_seconds)
        return load

    def _factor(self, shape: tuple[float, tuple[float, float], float, float], local: float) -> float:
        peak, (start, end), weekend, season = shape
        moment = datetime.fromtimestamp(local, UTC)
        hour = local % DAY / 3_600
        rise = min(max(min(hour - start, end - hour) / SHOULDER_HOURS + 0.5, 0.0), 1.0)
        day = moment.timetuple().tm_yday
        warm = season * math.cos(2 * math.pi * (day - self._site.hottest_day) / 365.2425)
        return (1 + (peak - 1) * rise) * (weekend if moment.weekday() >= 5 else 1.0) * (1 + warm)

    def _charging(self, step_start: int, step_seconds: int) -> Floats:
        """Sessions begin in the evening of a local day and may run past midnight; power is the mean over the step."""
        start = (step_start + self._site.utc_offset_hours * 3_600) / 3_600  # local hours since 1970
        end, power = start + step_seconds / 3_600, np.zeros(len(self._ev_w))
        today = math.floor(start / 24)
        for day in (today - 1, today):
            arrival = 24 * day + EARLIEST_ARRIVAL + ARRIVAL_SPAN_HOURS * uniform(self._ev_keys, day, ARRIVAL)
            energy = self._ev_wh * (0.4 + 1.2 * uniform(self._ev_keys, day, NEED))
            energy = np.where(uniform(self._ev_keys, day, AWAY) < AWAY_SHARE, 0.0, energy)
            overlap = np.minimum(end, arrival + energy / self._ev_w) - np.maximum(start, arrival)
            power += np.maximum(overlap, 0.0) / (end - start) * self._ev_w
        return np.minimum(power, self._ev_w)

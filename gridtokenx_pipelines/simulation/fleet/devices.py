"""Batteries: what they take and give, by self-consumption or by price, and their state of charge.

Belongs here: the decision of a step and its energy. Does not belong here: panels (weather.py gives their yield),
inverters' answer to voltage (inverters.py).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.simulation.fleet.fleet import Fleet
from gridtokenx_pipelines.simulation.fleet.streams import uniform

Floats = NDArray[np.float64]

ONE_WAY: Final = 0.95  # efficiency of charging and of discharging: 90 % there and back
RESERVE: Final = 0.1  # of the capacity that is never used
ON_PEAK_HOURS: Final = (9, 22)  # of weekdays, as in the tariff
START_CHANNEL: Final = 20


class Batteries:
    """State of charge of all members, Wh; 0 where there is no battery."""

    def __init__(self, fleet: Fleet) -> None:
        self.capacity_wh = fleet.column("battery_kwh") * 1_000
        self._power_w = fleet.column("battery_kw") * 1_000
        self._by_price = np.array([member.template.battery_policy == "price" for member in fleet.members])
        self._has = self.capacity_wh > 0
        self.any = bool(self._has.any())
        share = RESERVE + (1 - RESERVE) * uniform(fleet.keys, 0, START_CHANNEL)
        self.stored_wh = self.capacity_wh * share

    def soc_percent(self) -> Floats:
        """State of charge, NaN without a battery."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self._has, 100 * self.stored_wh / self.capacity_wh, np.nan)

    def wishes(self, load_w: Floats, panels_w: Floats, dear: bool, hours: float) -> tuple[Floats, Floats]:
        """(charge, discharge) in W at the meter, never both. `dear`: the tariff is on-peak.

        Self-consumption: surplus in, deficit out. By price: surplus in always; at the dear tariff the deficit out, at
        the cheap one the battery is filled from the network at half its power.
        """
        surplus = panels_w - load_w
        room = np.minimum(self._power_w, (self.capacity_wh - self.stored_wh) / ONE_WAY / hours)
        held = np.minimum(self._power_w, np.maximum(self.stored_wh - RESERVE * self.capacity_wh, 0) * ONE_WAY / hours)
        charge = np.clip(surplus, 0, np.maximum(room, 0))
        discharge = np.clip(-surplus, 0, held)
        if not dear:
            cheap = np.minimum(np.maximum(charge, self._power_w / 2), np.maximum(room, 0))
            charge = np.where(self._by_price, cheap, charge)
            discharge = np.where(self._by_price, 0.0, discharge)
        return charge, discharge

    def move(self, charge_w: Floats, discharge_w: Floats, hours: float) -> None:
        """Book what was really charged and discharged."""
        moved = self.stored_wh + (charge_w * ONE_WAY - discharge_w / ONE_WAY) * hours
        self.stored_wh = np.clip(moved, 0.0, self.capacity_wh)


def is_dear(local_seconds: float) -> bool:
    """On-peak of the time-of-use tariff (domain §6): weekdays 9 to 22 o'clock local time."""
    weekday = (int(local_seconds // 86_400) + 3) % 7  # 1970 began on a Thursday
    return weekday < 5 and ON_PEAK_HOURS[0] <= local_seconds % 86_400 / 3_600 < ON_PEAK_HOURS[1]

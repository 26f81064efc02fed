"""What meters show after a step: registers with their faults, and the electrical values at their bus.

Belongs here: from physics and true energy to the columns of readings. Does not belong here: bytes and signatures
(output.py). Where the power flow had no solution nothing is invented: registers stand still, the electrical values are
0 and the reading's quality says `not_converged`. Without power flow the nominal voltage is shown and flagged so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.simulation.fleet.accounts import UWH_PER_WH, Accounts
from gridtokenx_pipelines.simulation.fleet.fleet import Fleet
from gridtokenx_pipelines.simulation.fleet.meter_faults import Effect
from gridtokenx_pipelines.simulation.fleet.physics import StepPowers
from gridtokenx_pipelines.simulation.fleet.streams import key_of, smooth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GOOD, NOT_CONVERGED, NO_POWER_FLOW = "", "not_converged", "no_power_flow"
FREQUENCY_CHANNEL: Final = 9
FREQUENCY_SPAN_HZ: Final = 0.06


@dataclass(frozen=True)
class Measured:
    """Columns per member after a step; voltages V phase to neutral, currents A per phase of a balanced three."""

    production_wh: Ints
    consumption_wh: Ints
    voltage_v: Floats
    current_a: Floats
    power_factor: Floats
    frequency_hz: float
    battery_soc: Floats
    skew_us: Ints
    solved: NDArray[np.bool_]


class Meters:
    """Shown registers of all members: the true ones until a fault, from then on their own, never running back."""

    def __init__(self, fleet: Fleet, accounts: Accounts, rating_w: Ints, nominal_v: Floats) -> None:
        self._copy = np.array([member.copy for member in fleet.members], np.int64)
        self._rating_w, self._nominal_v = rating_w, nominal_v
        self.production_uwh, self.consumption_uwh = accounts.production_uwh.copy(), accounts.consumption_uwh.copy()
        self._true = (accounts.production_uwh.copy(), accounts.consumption_uwh.copy())
        self._grid_key = np.array([key_of(fleet.seed, "frequency")], np.uint64)
        self._last: tuple[Floats, Floats, Floats] | None = None

    def read(
        self, accounts: Accounts, powers: StepPowers, effect: Effect, soc: Floats, *, end: int, step_seconds: int
    ) -> Measured:
        """Registers and values at the end of a step (seconds since 1970)."""
        moved = (accounts.production_uwh - self._true[0], accounts.consumption_uwh - self._true[1])
        self._true = (accounts.production_uwh.copy(), accounts.consumption_uwh.copy())
        solved = powers.converged[self._copy]
        if effect.any:
            most = self._rating_w * (step_seconds * UWH_PER_WH // 3_600)
            claimed = np.minimum(moved[0] + np.rint(effect.extra_share * most).astype(np.int64), most)
            produced = np.where(effect.extra_share > 0, np.maximum(claimed, moved[0]), moved[0])
            self.production_uwh += np.where(solved, np.rint(produced * effect.production).astype(np.int64), 0)
            self.consumption_uwh += np.rint(moved[1] * effect.consumption).astype(np.int64)
        else:
            self.production_uwh += moved[0]
            self.consumption_uwh += moved[1]
        shown = self._electrical(powers, solved)
        if self._last is not None and effect.frozen.any():
            shown = tuple(  # type: ignore[assignment] # still three columns
                np.where(effect.frozen, before, now) for before, now in zip(self._last, shown, strict=True)
            )
        self._last = shown
        frequency = 50 + FREQUENCY_SPAN_HZ * (float(smooth(self._grid_key, end / 20, FREQUENCY_CHANNEL)[0]) - 0.5)
        return Measured(
            production_wh=self.production_uwh // UWH_PER_WH,
            consumption_wh=self.consumption_uwh // UWH_PER_WH,
            voltage_v=shown[0],
            current_a=shown[1],
            power_factor=shown[2],
            frequency_hz=round(frequency, 3),
            battery_soc=soc,
            skew_us=effect.skew_us,
            solved=solved,
        )

    def _electrical(self, powers: StepPowers, solved: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        active = powers.load_w - powers.produced_w
        apparent = np.hypot(active, powers.reactive_var)
        voltage = powers.voltage_pu * self._nominal_v
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.where(apparent > 0, np.abs(active) / apparent, 1.0)
            current = apparent / (3 * voltage)
        return tuple(  # type: ignore[return-value] # three columns
            np.where(solved, np.round(each, places), 0.0) for each, places in ((voltage, 2), (current, 3), (factor, 3))
        )

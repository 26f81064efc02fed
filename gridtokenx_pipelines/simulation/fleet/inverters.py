"""Inverters and loads that answer the voltage: volt-var, volt-watt, curtailment above 1.10 p.u., and ZIP.

Belongs here: power as a function of voltage, columns in and out. Does not belong here: the voltage (physics.py).

- `ieee1547`: IEEE Std 1547-2018, category B defaults: volt-var (table 8) 0.92 +44 %, 0.98 to 1.02 none, 1.08 −44 % of
  the nameplate; volt-watt (table 31) full power up to 1.06, down to 20 % at 1.10.
- `vde4105`: VDE-AR-N 4105:2018-11: Q(U) from 0.93 to 1.07 with none between 0.97 and 1.03, up to cos φ 0.90 (43.6 % of
  the nameplate); P(U) as an option of the standard is left out, the 1.10 limit is not.
- `off`: unity power factor; the 1.10 limit still holds.
Reactive power has priority: active power is what the nameplate leaves. Beyond 1.10 p.u. power falls to nothing within
0.5 %: a steep line instead of a switch, so that a power flow with it has a solution (the standards' trip acts on a mean
of minutes, which in a network settles at this very line).
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Curve = Literal["ieee1547", "vde4105", "off"]
CURVES: Final[tuple[Curve, ...]] = ("ieee1547", "vde4105", "off")

VOLT_VAR: Final = {
    "ieee1547": ((0.92, 0.98, 1.02, 1.08), (0.44, 0.0, 0.0, -0.44)),
    "vde4105": ((0.93, 0.97, 1.03, 1.07), (0.436, 0.0, 0.0, -0.436)),
    "off": ((0.9, 1.1), (0.0, 0.0)),
}
VOLT_WATT: Final = {
    "ieee1547": ((1.06, 1.10, 1.105), (1.0, 0.2, 0.0)),
    "vde4105": ((1.10, 1.105), (1.0, 0.0)),
    "off": ((1.10, 1.105), (1.0, 0.0)),
}


def generation(voltage_pu: Floats, available_w: Floats, rated_va: Floats, curve: Curve) -> tuple[Floats, Floats]:
    """(active W, reactive var fed in) of inverters that could give `available_w` at these voltages."""
    reactive = np.interp(voltage_pu, *VOLT_VAR[curve]) * rated_va
    limit = np.interp(voltage_pu, *VOLT_WATT[curve]) * rated_va
    # an inverter without input may be off at night: only what is running gives reactive power
    reactive = np.where(available_w > 0, reactive, 0.0)
    room = np.sqrt(np.maximum(rated_va**2 - reactive**2, 0.0))
    return np.minimum(np.minimum(available_w, limit), room), reactive


def zip_factor(voltage_pu: Floats, shares: Floats) -> Floats:
    """Load at a voltage beside that at nominal voltage: z·V² + i·V + p, shares of shape (members, 3)."""
    return (shares[:, 0] * voltage_pu + shares[:, 1]) * voltage_pu + shares[:, 2]

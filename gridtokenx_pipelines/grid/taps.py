"""What a transformer's tap does where its table names no kind of tap changer: one answer for every room.

Belongs here: that answer. Does not belong here: moving taps (simulation/fleet/physics.py), matrices (admittance.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet


def make_taps_work(net: pandapowerNet) -> None:
    """A tap with a step but no kind of changer becomes a ratio changer, which is what pandapower 2 took it for.

    pandapower 3 leaves such taps without effect. SimBench's tables name no kind, and its published results were
    computed with their effect: 1-LV-urban6 stands at −1, 2.5 % above neutral.
    """
    for table in ("trafo", "trafo3w"):
        elements = net[table]
        if "tap_step_percent" not in elements or not len(elements):
            continue
        if "tap_changer_type" not in elements:
            elements["tap_changer_type"] = None
        silent = elements.tap_changer_type.isna() & (elements.tap_step_percent.astype(float).fillna(0) != 0)
        elements["tap_changer_type"] = elements.tap_changer_type.astype(object).where(~silent, "Ratio")

"""Energy in whole µWh and registers in whole Wh: what is measured, lost and delivered, adding up to the last unit.

Belongs here: the only place where power becomes energy. Does not belong here: faults (meters may show something else).

Every meter's energy of a step is rounded to whole µWh once, and added to a register that is read in whole Wh: what the
floor leaves is carried, never lost. The transformer's energy is rounded the same way. Losses are what is between them,
so `upstream = Σ consumption − Σ production + losses` holds exactly in µWh, and exactly in Wh of the registers with
losses and what registers carry as the closing terms. That the losses so booked are those of the power flow, up to its
tolerance and the roundings, is checked every step: a step that fails is an error of the program, not of a network.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.simulation.fleet.physics import StepPowers
from gridtokenx_pipelines.simulation.fleet.streams import Keys, bits

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

UWH_PER_WH = 1_000_000
BASELINE_CHANNELS = (30, 31)
# what the solver's mismatch may amount to: 1e-8 p.u. of 1 MVA at every bus, as power in W
MISMATCH_W = 0.01


class BalanceError(AssertionError):
    """Losses booked that the power flow didn't have: a fault of the program, with step and amounts."""


class StepAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one step over all copies that had a solution.

    `*_uwh` are exact: upstream = consumption − production + losses. `*_wh` are what registers moved by, and
    `carried_wh` the change of what meters hold below a whole Wh: upstream_wh = consumption_wh − production_wh +
    losses_wh + carried_wh.
    """

    upstream_uwh: int
    consumption_uwh: int
    production_uwh: int
    losses_uwh: int
    curtailed_uwh: int
    upstream_wh: int
    consumption_wh: int
    production_wh: int
    losses_wh: int
    carried_wh: int


class Accounts:
    """True registers of all members, cumulative; one each of losses, curtailed energy and the transformers."""

    def __init__(self, keys: Keys, copy: Ints, produces: NDArray[np.bool_]) -> None:
        """`produces`: members that ever feed in; the others' production register has always shown 0."""
        self._copy = copy
        # a register has a past that doesn't count; its fraction is anywhere, so that the first step isn't special
        produced, consumed = (
            (bits(keys, 0, channel) % np.uint64(20_000_000 * UWH_PER_WH)).astype(np.int64)
            for channel in BASELINE_CHANNELS
        )
        self.production_uwh = np.where(produces, produced, 0)
        self.consumption_uwh = consumed
        self.losses_uwh = self.upstream_uwh = self.curtailed_uwh = 0
        self.curtailed_of = np.zeros(len(keys), np.int64)

    def registers_wh(self) -> tuple[Ints, Ints]:
        """(production, consumption) as the registers show them."""
        return self.production_uwh // UWH_PER_WH, self.consumption_uwh // UWH_PER_WH

    def book(self, powers: StepPowers, step_seconds: int) -> StepAccount:
        """Add a step's energy; members of a copy without a solution stand still. Raises BalanceError."""
        before = self._readings()
        known = powers.converged[self._copy]
        consumed, produced, curtailed = (
            _uwh(np.where(known, power, 0.0), step_seconds)
            for power in (powers.load_w, powers.produced_w, powers.curtailed_w)
        )
        solved = powers.converged
        upstream = int(_uwh(np.where(solved, powers.upstream_w, 0.0), step_seconds).sum())
        losses = upstream - int(consumed.sum()) + int(produced.sum())
        of_flow = float(np.where(solved, powers.losses_w, 0.0).sum()) / 3_600 * step_seconds * UWH_PER_WH
        copies = int(solved.sum())
        bound = len(consumed) + 2 * copies + MISMATCH_W * copies / 3_600 * step_seconds * UWH_PER_WH
        if abs(losses - of_flow) > bound:
            raise BalanceError(
                f"losses came to {losses} µWh, the power flow's to {of_flow:.0f}, must agree to {bound:.0f}: "
                "meters, losses and transformer don't add up"
            )
        self.consumption_uwh += consumed
        self.production_uwh += produced
        self.curtailed_of += curtailed
        self.losses_uwh += losses
        self.upstream_uwh += upstream
        self.curtailed_uwh += int(curtailed.sum())
        after = self._readings()
        moved = {name: after[name] - before[name] for name in after}
        return StepAccount(
            upstream_uwh=upstream,
            consumption_uwh=int(consumed.sum()),
            production_uwh=int(produced.sum()),
            losses_uwh=losses,
            curtailed_uwh=int(curtailed.sum()),
            **moved,
            carried_wh=moved["upstream_wh"] - moved["consumption_wh"] + moved["production_wh"] - moved["losses_wh"],
        )

    def _readings(self) -> dict[str, int]:
        production, consumption = self.registers_wh()
        return {
            "upstream_wh": self.upstream_uwh // UWH_PER_WH,
            "consumption_wh": int(consumption.sum()),
            "production_wh": int(production.sum()),
            "losses_wh": self.losses_uwh // UWH_PER_WH,
        }


def _uwh(power_w: Floats, step_seconds: int) -> Ints:
    energy: Ints = np.rint(power_w * (step_seconds * UWH_PER_WH / 3_600)).astype(np.int64)
    return energy

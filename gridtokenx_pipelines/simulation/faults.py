"""Which meter does what wrong in which epoch: the known share of bad, late and disordered telemetry.

Belongs here: the shares, the draw, and the rule that no fault may spoil a good reading. Does not belong here: the
bytes (telemetry.py). A meter has at most one fault an epoch, so faults never meet; a bad record has a seq of its own
or repeats one, so nothing good is refused for it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec

from gridtokenx_pipelines.simulation.draws import Draws
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood

PER_MILLION = 1_000_000


class Fault(Enum):
    """What may go wrong with a meter in an epoch."""

    FORGED = "forged"
    WRONG_KEY = "wrong_key"
    REPLAY = "replay"
    WRONG_ZONE = "wrong_zone"
    REGISTER_BACK = "register_back"
    UNKNOWN_METER = "unknown_meter"
    GARBAGE = "garbage"
    DUPLICATE = "duplicate"
    DISORDER = "disorder"
    LATE = "late"


# these touch one of the meter's own readings, which a block would carry together with its good ones
NOT_IN_BLOCKS = frozenset({Fault.REPLAY, Fault.DUPLICATE, Fault.DISORDER, Fault.LATE})


class FaultShares(msgspec.Struct, frozen=True, kw_only=True):
    """Faults per million (meter, epoch) pairs, and for how many epochs one meter falls silent (0: never).

    Besides, every kind with a share above 0 is placed once in the first epoch, so that short runs show it too.
    """

    forged: int = 3_000
    wrong_key: int = 1_500
    replay: int = 3_000
    wrong_zone: int = 3_000
    register_back: int = 3_000
    unknown_meter: int = 3_000
    garbage: int = 3_000
    duplicate: int = 8_000
    disorder: int = 10_000
    late: int = 1_500
    silent_epochs: int = 3

    def share(self, fault: Fault) -> int:
        """Share of a fault, per million."""
        return int(getattr(self, fault.value))


NO_FAULTS = FaultShares(**dict.fromkeys(FaultShares.__struct_fields__, 0))


class FaultPlan:
    """Faults of a run, drawn by seed, meter and epoch; places of meters are those of `Neighbourhood.meters`.

    `moves_wh(place, epoch)` says whether a last reading that comes late corrects anything; else it isn't made late.
    With `net_wh(place, epoch)` one late reading is placed where a meter's net changes sign: that one re-settles money.
    """

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        epochs: range,
        shares: FaultShares,
        moves_wh: Callable[[int, int], bool],
        net_wh: Callable[[int, int], int] | None = None,
    ) -> None:
        self._draws = Draws(neighbourhood.seed)
        self._meters = neighbourhood.meters
        self._epochs, self._moves_wh = epochs, moves_wh
        self._steps, reached = [], 0
        for fault in Fault:
            reached += shares.share(fault)
            self._steps.append((reached, fault))
        if reached > PER_MILLION:
            raise ValueError(f"fault shares summed to {reached}, must be at most {PER_MILLION}; lower some")
        self.silent = self._silent_meter(shares.silent_epochs)
        first = epochs[0] + len(epochs) // 2 - 1
        self.silent_epochs = range(first, first + shares.silent_epochs) if self.silent is not None else range(0)
        self._placed = self._place(shares)
        self._turning = self._turn(net_wh) if net_wh is not None and shares.late else None

    def _turn(self, net_wh: Callable[[int, int], int]) -> tuple[int, int] | None:
        """The first (meter, epoch) after which a surplus turns into a deficit or back, with Wh in its last reading.

        Only a correction there moves energy between minting and billing; drawn ones mostly shift deficit to deficit.
        """
        for epoch in self._epochs[1:-1]:
            for place in range(len(self._meters)):
                turns = net_wh(place, epoch) * net_wh(place, epoch + 1) < 0
                if turns and place != self.silent and self._fits(place, epoch, Fault.LATE):
                    return place, epoch
        return None

    def _silent_meter(self, silent_epochs: int) -> int | None:
        # room before for a register, after for one that lets the missing epochs be caught up
        if not silent_epochs or len(self._epochs) < 2 * (silent_epochs + 1):
            return None
        plain = [place for place, meter in enumerate(self._meters) if not meter.sends_blocks] or [0]
        return self._draws.choose(plain, "silent")

    def _place(self, shares: FaultShares) -> dict[int, Fault]:
        wanted: dict[int, Fault] = {}
        places = sorted(range(len(self._meters)), key=lambda place: self._draws.raw("place", place))
        for fault in Fault:
            for place in places if shares.share(fault) else ():
                if place not in wanted and place != self.silent and self._fits(place, self._epochs[0], fault):
                    wanted[place] = fault
                    break
        return wanted

    def _fits(self, place: int, epoch: int, fault: Fault) -> bool:
        if self._meters[place].sends_blocks and fault in NOT_IN_BLOCKS:
            return False
        # a correction of the run's last boundary would have no epoch after it to shift energy from
        return fault is not Fault.LATE or (epoch < self._epochs[-1] and self._moves_wh(place, epoch))

    def is_silent(self, place: int, epoch: int) -> bool:
        """Whether the meter sends nothing in that epoch."""
        return place == self.silent and epoch in self.silent_epochs

    def is_missing(self, place: int, epoch: int) -> bool:
        """Whether the meter lacks a register at one of the epoch's ends: while silent, and in the epoch after."""
        return self.is_silent(place, epoch) or self.is_silent(place, epoch - 1)

    def fault(self, place: int, epoch: int) -> Fault | None:
        """What goes wrong with the meter in that epoch, if anything."""
        if place == self.silent:
            return None  # its gap is its fault: nothing else may blur what the catch-up must find
        if epoch == self._epochs[0] and place in self._placed:
            return self._placed[place]
        if (place, epoch) == self._turning:
            return Fault.LATE
        drawn = self._draws.below(PER_MILLION, "fault", self._meters[place].meter_id, epoch)
        for reached, fault in self._steps:
            if drawn < reached:
                return fault if self._fits(place, epoch, fault) else None
        return None

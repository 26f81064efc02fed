"""What goes wrong between a true register and what arrives: seven faults, by seed or on demand.

Belongs here: kinds, when they are active, what they do to a step's measurement. Does not belong here: the faults of
single records that the demo plays (simulation/faults.py).

- silent: nothing is sent. frozen: registers stand still and the other values repeat; what flows meanwhile is never
  counted. drifting: both registers run fast by `size` a day, growing. tampering: a share `size` of consumption isn't
  counted. clock_skew: timestamps are `size` seconds off. outage: a zone's readings are held back and arrive afterwards,
  in order. false_data: production of `size` times the rating that never was, signed by the meter's own key, below its
  rating (Liu, Ning, Reiter, "False data injection attacks against state estimation in electric power grids", 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.simulation.fleet.errors import FaultError
from gridtokenx_pipelines.simulation.fleet.fleet import Fleet
from gridtokenx_pipelines.simulation.fleet.streams import keys_of, uniform

Kind = Literal["silent", "frozen", "drifting", "tampering", "clock_skew", "outage", "false_data"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SIZES: Final = {"drifting": 0.05, "tampering": 0.5, "clock_skew": 20.0, "false_data": 0.2}
BOUNDS: Final = {"drifting": (0, 1), "tampering": (0, 1), "clock_skew": (-86_400, 86_400), "false_data": (0, 1)}
DAY: Final = 86_400
LONGEST_SECONDS: Final = 6 * 3_600
SHORTEST_SECONDS: Final = 1_800
FIRST_CHANNEL: Final = 100

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault on demand: of some meters, or of all in a zone; seconds since 1970; `size` as the kind's text says."""

    kind: Kind
    start: int
    end: int
    meters: tuple[str, ...] = ()
    zone_id: int | None = None
    size: float = 0.0


class FaultShares(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share of meters (of zones: outage) with a fault of the kind on a day, 0 to 1."""

    silent: float = 0.0
    frozen: float = 0.0
    drifting: float = 0.0
    tampering: float = 0.0
    clock_skew: float = 0.0
    outage: float = 0.0
    false_data: float = 0.0


@dataclass(frozen=True)
class Effect:
    """What faults do in one step, per member."""

    silent: Mask
    held: Mask
    frozen: Mask
    consumption: Floats
    production: Floats
    extra_share: Floats
    skew_us: NDArray[np.int64]

    @property
    def any(self) -> bool:
        """Whether any member is touched."""
        touched = self.silent | self.held | self.frozen | (self.skew_us != 0) | (self.extra_share != 0)
        return bool((touched | (self.consumption != 1) | (self.production != 1)).any())


class Faults:
    """Faults of a fleet: drawn by day from each meter's own stream, and those given on demand."""

    def __init__(self, fleet: Fleet, shares: FaultShares) -> None:
        for kind in KINDS:
            if not 0 <= getattr(shares, kind) <= 1:
                raise FaultError(f"share of {kind} was {getattr(shares, kind)}, must be 0 to 1; correct it")
        self._shares, self._keys, self._count = shares, fleet.keys, len(fleet)
        self._place = {member.meter_id: place for place, member in enumerate(fleet.members)}
        self._zone = np.array([member.zone_id for member in fleet.members], np.int64)
        zones = np.unique(self._zone)
        zone_keys = keys_of(fleet.seed, (f"zone/{zone}" for zone in zones.tolist()))
        self._zone_keys = zone_keys[np.searchsorted(zones, self._zone)]
        self._sign = np.where(uniform(fleet.keys, 0, FIRST_CHANNEL - 1) < 0.5, -1, 1)
        self._day: tuple[int, list[tuple[Kind, Mask, Floats, Floats]]] | None = None
        self.injected: list[tuple[Fault, Mask]] = []

    def inject(self, fault: Fault) -> int:
        """Take a fault in; returns how many meters it touches. Raises FaultError naming what is wrong."""
        checked = _checked(fault)
        if bool(checked.meters) == (checked.zone_id is not None):
            raise FaultError("a fault must name either meters or a zone_id; give one of them")
        mask = np.zeros(self._count, np.bool_)
        for meter_id in checked.meters:
            if meter_id not in self._place:
                raise FaultError(f"meter was {meter_id!r}, must be a meter of the fleet; ask /meters for their ids")
            mask[self._place[meter_id]] = True
        if checked.zone_id is not None:
            mask = self._zone == checked.zone_id
            if not mask.any():
                raise FaultError(f"zone_id was {checked.zone_id}, must be one of {sorted(set(self._zone.tolist()))}")
        self.injected.append((checked, mask))
        return int(mask.sum())

    def active(self, second: int) -> list[dict[str, object]]:
        """Faults active at an instant, by kind and number of meters, for an operator."""
        return [
            {"kind": kind, "meters": int(mask.sum()), "seconds": float(np.max(elapsed[mask]))}
            for kind, mask, elapsed, _ in self._now(second)
            if mask.any()
        ]

    def at(self, second: int) -> Effect:
        """What to do to the step whose last second this is: a fault from now on touches the next step."""
        ones, zeros = np.ones(self._count), np.zeros(self._count)
        effect = Effect(
            silent=np.zeros(self._count, np.bool_),
            held=np.zeros(self._count, np.bool_),
            frozen=np.zeros(self._count, np.bool_),
            consumption=ones.copy(),
            production=ones.copy(),
            extra_share=zeros.copy(),
            skew_us=np.zeros(self._count, np.int64),
        )
        for kind, mask, elapsed, size in self._now(second):
            _apply(effect, kind, mask, elapsed, size)
        effect.consumption[effect.frozen] = effect.production[effect.frozen] = effect.extra_share[effect.frozen] = 0.0
        return effect

    def _now(self, second: int) -> list[tuple[Kind, Mask, Floats, Floats]]:
        """(kind, mask, seconds since the start, size) of everything active."""
        if self._day is None or self._day[0] != second // DAY:
            self._day = (second // DAY, self._drawn(second // DAY))
        found = []
        for kind, mask, start, end in self._day[1]:
            now = mask & (start <= second) & (second < end)
            size = np.full(self._count, SIZES.get(kind, 0.0))
            found.append((kind, now, second - start, size * self._sign if kind == "clock_skew" else size))
        for fault, mask in self.injected:
            if fault.start <= second < fault.end:
                full = np.ones(self._count)
                found.append((fault.kind, mask, full * (second - fault.start), full * fault.size))
        return found

    def _drawn(self, day: int) -> list[tuple[Kind, Mask, Floats, Floats]]:
        drawn = []
        for number, kind in enumerate(KINDS):
            share = getattr(self._shares, kind)
            if share:
                keys = self._zone_keys if kind == "outage" else self._keys
                hit, when, long = (uniform(keys, day, FIRST_CHANNEL + 3 * number + part) for part in range(3))
                start = np.floor(day * DAY + when * (DAY - SHORTEST_SECONDS))
                length = np.floor(SHORTEST_SECONDS + long * (LONGEST_SECONDS - SHORTEST_SECONDS))
                # a drawn fault ends with its day, so that every day can be drawn alone
                drawn.append((kind, hit < share, start, np.minimum(start + length, (day + 1) * DAY)))
        return drawn


def _apply(effect: Effect, kind: Kind, mask: Mask, elapsed: Floats, size: Floats) -> None:
    match kind:
        case "silent":
            np.copyto(effect.silent, True, where=mask)
        case "outage":
            np.copyto(effect.held, True, where=mask)
        case "frozen":
            np.copyto(effect.frozen, True, where=mask)
        case "drifting":
            for factor in (effect.consumption, effect.production):
                factor[mask] *= 1 + size[mask] * elapsed[mask] / DAY
        case "tampering":
            effect.consumption[mask] *= 1 - size[mask]
        case "clock_skew":
            effect.skew_us[mask] = np.rint(size[mask] * 1e6).astype(np.int64)
        case "false_data":
            effect.extra_share[mask] = size[mask]


def _checked(fault: Fault) -> Fault:
    if fault.kind not in KINDS:
        raise FaultError(f"kind was {fault.kind!r}, must be one of {', '.join(KINDS)}; correct it")
    if fault.end <= fault.start:
        raise FaultError(f"a fault from {fault.start} to {fault.end} never happens; its end must come after its start")
    size = fault.size or SIZES.get(fault.kind, 0.0)
    low, high = BOUNDS.get(fault.kind, (0, 0))
    if not low <= size <= high:
        raise FaultError(f"size of {fault.kind} was {size}, must be {low} to {high}; correct it")
    return msgspec.structs.replace(fault, size=size)


def parse_shares(texts: Sequence[str]) -> FaultShares:
    """`silent=0.01` and the like as shares; raises FaultError."""
    shares: dict[str, float] = {}
    for text in texts:
        kind, _, value = text.partition("=")
        try:
            shares[kind] = float(value)
        except ValueError as error:
            raise FaultError(f"fault was {text!r}, must be kind=share like silent=0.01; correct it") from error
        if kind not in KINDS or not 0 <= shares[kind] <= 1:
            raise FaultError(f"fault was {text!r}, must be one of {', '.join(KINDS)} with a share of 0 to 1")
    return FaultShares(**shares)

"""What links between zones can carry in an epoch, and what is lost on the way, from the state of the epoch before.

Belongs here: transfer capacities and loss factors. Does not belong here: clearing with them, storing them.

Method: transfer capacity by repeated AC power flow, started from a linear estimate. A transfer from zone A to zone B
raises the production of A's members until A sends t and the consumption of B's until B receives it, each in proportion
to what they did in the epoch before; everybody else stays as metered. Two AC flows give the sensitivity of every
voltage and loading to t (linear available transfer capability: Ejebe, Waight, Santos-Nieto and Tinney, "Fast
Calculation of Linear Available Transfer Capability", IEEE Transactions on Power Systems 15(3), 2000); the first bound
that the linear model reaches is then bracketed and narrowed by AC flows (Ejebe, Tong, Waight, Frame, Wang and Tinney,
"Available Transfer Capability Calculations", IEEE Transactions on Power Systems 13(4), 1998). What is returned was
feasible in an AC flow; one step further was not. See docs/decisions.

The network file's own capacity is an upper bound: what the operator never releases stays unreleased. A zone with
several links must carry them together: they are scaled to what is feasible at once.
Loss: what the transfer adds to the network's losses over what is sent, at the surplus that the sending zone had in the
epoch before (at least 1 % and at most all of the capacity), the dearer direction, rounded up to the ppm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.states import (
    SLACK,
    W_PER_WH,
    Bounds,
    State,
    element_at,
    flow,
    flow_of,
    margins,
    violations,
)
from gridtokenx_pipelines.market.rules import Link, Network
from gridtokenx_pipelines.units import PARTS_PER_MILLION

Floats = NDArray[np.float64]

PROBE: Final = 0.01  # share of the asked transfer at which sensitivities are taken
MOST_NARROWINGS: Final = 24  # by the secant two or three are enough, by halves at worst these
STEP: Final = 1e-4  # of the asked transfer: capacities lie on multiples of it, rounded down
LEAST_SENT: Final = 0.01  # of the capacity, where losses are measured if the sending zone had no surplus
MAX_LOSS_PPM: Final = 500_000
UNBOUND: Final = "the network file's own limit"


class LinkLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a link for one epoch; `binding_*` names what ends the transfer in that direction."""

    link_id: int
    from_zone: int
    to_zone: int
    capacity_forward_wh: int
    capacity_backward_wh: int
    loss_ppm: int
    binding_forward: str
    binding_backward: str


class EpochLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of all links, ascending by id, and what the state they came from looked like."""

    links: tuple[LinkLimit, ...]
    converged: bool
    lowest_pu: float
    highest_pu: float
    line_percent: float
    trafo_percent: float
    loss_wh: int
    violations: tuple[str, ...]
    unplaced: tuple[str, ...]


def grid_limits(case: GridCase, network: Network, state: State, bounds: Bounds | None = None) -> EpochLimits:
    """Limits of the network's links on the state of the epoch before.

    Integers out: Wh per epoch rounded down, ppm rounded up. `converged` False: the state itself has no solution, and
    every capacity is 0, for nothing is known of it.
    """
    bounds = bounds or Bounds()
    base = flow_of(case, state)
    if not base.converged[0]:
        return _unknown(network, state)
    shift = _Shift(case, state, bounds)
    found = {link.link_id: [_direction(shift, link, forward) for forward in (True, False)] for link in network.links}
    _share(shift, network, found)
    limits = tuple(
        LinkLimit(
            link_id=link.link_id,
            from_zone=link.from_zone,
            to_zone=link.to_zone,
            capacity_forward_wh=forward[0],
            capacity_backward_wh=backward[0],
            loss_ppm=_loss_ppm(shift, link, forward[0], backward[0]),
            binding_forward=forward[1],
            binding_backward=backward[1],
        )
        for link in sorted(network.links, key=lambda link: link.link_id)
        for forward, backward in [found[link.link_id]]
    )
    voltages = base.vm_pu[0][~np.isnan(base.vm_pu[0])]
    return EpochLimits(
        links=limits,
        converged=True,
        lowest_pu=float(voltages.min()),
        highest_pu=float(voltages.max()),
        line_percent=float(base.line_loading_percent[0].max(initial=0)),
        trafo_percent=float(base.trafo_loading_percent[0].max(initial=0)),
        loss_wh=round(float(base.loss_mw[0]) * 10**6 / W_PER_WH),
        violations=tuple(each.words() for each in violations(case, base, 0, bounds)),
        unplaced=state.unplaced,
    )


def apply(network: Network, limits: Mapping[int, LinkLimit]) -> Network:
    """The network with an epoch's capacities and losses; wheeling, and links without limits, stay."""
    return msgspec.structs.replace(
        network,
        links=tuple(
            link
            if link.link_id not in limits
            else msgspec.structs.replace(
                link,
                capacity_forward_wh=limits[link.link_id].capacity_forward_wh,
                capacity_backward_wh=limits[link.link_id].capacity_backward_wh,
                loss_ppm=limits[link.link_id].loss_ppm,
            )
            for link in network.links
        ),
    )


class _Bracket(NamedTuple):
    """A feasible and an infeasible share with their smallest margins (−inf: no solution)."""

    low: float
    margin_low: float
    high: float
    margin_high: float

    def next(self) -> Floats:
        """Where to look next: just below and just above the secant's root, or the middle where there is none."""
        middle = (self.low + self.high) / 2
        if not math.isfinite(self.margin_high) or self.margin_low <= self.margin_high:
            return np.array([middle])
        root = self.low + (self.high - self.low) * max(self.margin_low, 0.0) / (self.margin_low - self.margin_high)
        # a little to both sides, so that one look usually closes the bracket, and a piece inside so that it shrinks
        inside = np.clip([root - 0.45 * STEP, root + 0.45 * STEP], self.low + 0.1 * STEP, self.high - 0.1 * STEP)
        return np.unique(np.append(inside, middle))


class _Shift:
    """Transfers on a state: who produces and consumes what when zones send and receive."""

    def __init__(self, case: GridCase, state: State, bounds: Bounds) -> None:
        self.case, self.bounds = case, bounds
        self.produced = state.produced_wh * float(W_PER_WH)
        self.consumed = state.consumed_wh * float(W_PER_WH)

    def able(self, zone: int, *, sends: bool) -> bool:
        """Whether anybody in the zone could produce, or consume, more."""
        return bool(self._weights(zone, sends=sends).any())

    def surplus_wh(self, zone: int) -> int:
        """What the zone's meters produced beyond their own consumption, each by itself."""
        surplus = np.where(self.case.meter_zone == zone, self.produced - self.consumed, 0.0)
        return round(float(surplus.clip(min=0).sum())) // W_PER_WH

    def _weights(self, zone: int, *, sends: bool) -> Floats:
        inside = self.case.meter_zone == zone
        did = np.where(inside, self.produced if sends else self.consumed, 0.0)
        if not did.any():  # nobody did in the epoch before: by what their meters are rated for
            can = inside & self.case.meter_produces if sends else inside
            did = np.where(can, self.case.meter_rating_w, 0).astype(np.float64)
        total = did.sum()
        return did / total if total else did

    def powers(self, exports_w: Mapping[int, float], shares: Floats) -> tuple[Floats, Floats]:
        """Produced and consumed W, (shares, meters), when each zone sends its export (below 0: receives) × share."""
        produced, consumed = (np.tile(each, (len(shares), 1)) for each in (self.produced, self.consumed))
        for zone, export in sorted(exports_w.items()):
            inside = self.case.meter_zone == zone
            own_produced, own_consumed = float(self.produced[inside].sum()), float(self.consumed[inside].sum())
            if export >= 0:
                target = (own_consumed + export * shares)[:, None] * self._weights(zone, sends=True)
                produced = np.where(inside, target, produced)
            else:
                target = (own_produced - export * shares)[:, None] * self._weights(zone, sends=False)
                consumed = np.where(inside, target, consumed)
        return produced, consumed

    def most(self, exports_w: Mapping[int, float]) -> tuple[float, str]:
        """The largest share in 0…1 of these exports that an AC flow finds feasible, and what ends it."""
        if self._worst(exports_w, np.array([1.0]))[0] >= -SLACK:
            return 1.0, UNBOUND
        probe = flow(self.case, *self.powers(exports_w, np.array([0.0, PROBE])))
        near = margins(probe, self.bounds)
        if near[0].min() < -SLACK:
            return 0.0, element_at(self.case, probe, 0, int(near[0].argmin()), self.bounds).words()
        bracket = _Bracket(0.0, float(near[0].min()), 1.0, -math.inf)
        if np.isfinite(near[1]).any():
            # the linear model's answer, then AC flows around it
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = np.where(near[1] < near[0], near[0] / (near[0] - near[1]) * PROBE, np.inf)
            guess = float(np.clip(np.nanmin(reach), 2 * PROBE, 1.0))
            bracket = self._narrow(exports_w, np.array([0.9, 0.97, 1.0, 1.03, 1.1]) * guess, bracket)
        for _ in range(MOST_NARROWINGS):
            if bracket.high - bracket.low <= STEP:
                break
            bracket = self._narrow(exports_w, bracket.next(), bracket)
        beyond = flow(self.case, *self.powers(exports_w, np.array([bracket.high])))
        place = int(margins(beyond, self.bounds)[0].argmin())
        return bracket.low, element_at(self.case, beyond, 0, place, self.bounds).words()

    def _narrow(self, exports_w: Mapping[int, float], shares: Floats, bracket: _Bracket) -> _Bracket:
        """The bracket after AC flows at these shares, ascending; those outside it tell nothing and are left out."""
        shares = shares[(shares > bracket.low) & (shares < bracket.high)]
        if not len(shares):
            return bracket
        found = self._worst(exports_w, shares).tolist()
        for share, margin in zip(shares.tolist(), found, strict=True):
            if margin < -SLACK:
                return bracket._replace(high=share, margin_high=margin)
            bracket = bracket._replace(low=share, margin_low=margin)
        return bracket

    def _worst(self, exports_w: Mapping[int, float], shares: Floats) -> Floats:
        lowest: Floats = margins(flow(self.case, *self.powers(exports_w, shares)), self.bounds).min(axis=1)
        return lowest

    def losses_w(self, exports_w: Mapping[int, float], shares: Floats) -> Floats:
        """Losses of the whole network at each share, NaN without a solution."""
        lost: Floats = flow(self.case, *self.powers(exports_w, shares)).loss_mw * 10**6
        return lost


def _direction(shift: _Shift, link: Link, forward: bool) -> tuple[int, str]:
    """Capacity in Wh of one direction of a link by itself, and what ends it."""
    source, target = (link.from_zone, link.to_zone) if forward else (link.to_zone, link.from_zone)
    given = link.capacity_forward_wh if forward else link.capacity_backward_wh
    if given <= 0:
        return 0, UNBOUND
    if not shift.able(source, sends=True):
        return 0, f"nobody in zone {source} can produce"
    if not shift.able(target, sends=False):
        return 0, f"nobody in zone {target} can consume"
    share, binding = shift.most(_exports(source, target, given))
    # a lattice: the last digits of a float solver must not decide a Wh
    return math.floor(given * math.floor(share / STEP) * STEP), binding


def _exports(source: int, target: int, sent_wh: int) -> dict[int, float]:
    return {source: float(sent_wh * W_PER_WH), target: -float(sent_wh * W_PER_WH)}


def _share(shift: _Shift, network: Network, found: dict[int, list[tuple[int, str]]]) -> None:
    """Scale the links of a zone that has several to what it can send, and receive, over all of them at once."""
    for zone in sorted(zone.zone_id for zone in network.zones):
        mine = [link for link in network.links if zone in (link.from_zone, link.to_zone)]
        if len(mine) < 2:
            continue
        for sends in (True, False):
            sign = 1 if sends else -1
            exports: dict[int, float] = {zone: 0.0}
            for link in mine:
                place = 0 if (link.from_zone == zone) == sends else 1
                other = link.to_zone if link.from_zone == zone else link.from_zone
                power = float(found[link.link_id][place][0] * W_PER_WH)
                exports[zone] += sign * power
                exports[other] = exports.get(other, 0.0) - sign * power
            if exports[zone] == 0:
                continue
            share, binding = shift.most(exports)
            for link in mine if share < 1 else ():
                place = 0 if (link.from_zone == zone) == sends else 1
                capacity = found[link.link_id][place][0]
                found[link.link_id][place] = (
                    math.floor(capacity * share),
                    f"{binding}, with zone {zone}'s other links",
                )


def _loss_ppm(shift: _Shift, link: Link, forward_wh: int, backward_wh: int) -> int:
    worst = -1
    for source, target, capacity in (
        (link.from_zone, link.to_zone, forward_wh),
        (link.to_zone, link.from_zone, backward_wh),
    ):
        sent_wh = min(capacity, max(shift.surplus_wh(source), math.ceil(capacity * LEAST_SENT)))
        if sent_wh == 0:
            continue
        sent = _exports(source, target, sent_wh)
        without, added = shift.losses_w(sent, np.array([0.0, 1.0])).tolist()
        share = (added - without) / sent[source]
        if math.isfinite(share):
            # to a millionth of a ppm first: the last digit of a float must not decide an integer
            worst = max(worst, math.ceil(round(share * PARTS_PER_MILLION, 6)))
    return link.loss_ppm if worst < 0 else min(max(worst, 0), MAX_LOSS_PPM)


def _unknown(network: Network, state: State) -> EpochLimits:
    words = "the state of the epoch before has no power flow"
    return EpochLimits(
        links=tuple(
            LinkLimit(
                link_id=link.link_id,
                from_zone=link.from_zone,
                to_zone=link.to_zone,
                capacity_forward_wh=0,
                capacity_backward_wh=0,
                loss_ppm=link.loss_ppm,
                binding_forward=words,
                binding_backward=words,
            )
            for link in sorted(network.links, key=lambda link: link.link_id)
        ),
        converged=False,
        lowest_pu=math.nan,
        highest_pu=math.nan,
        line_percent=math.nan,
        trafo_percent=math.nan,
        loss_wh=0,
        violations=(words,),
        unplaced=state.unplaced,
    )

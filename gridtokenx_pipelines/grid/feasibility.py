"""Whether the network can carry what a clearing sold, and which capacity would make it so.

Belongs here: AC flow of the cleared state, the violations by element, the repair. Does not belong here: clearing again
(settlement_service/feasible.py).

The cleared state is the market's schedule: what was sold is fed in, what was bought is drawn, at the meters of the
wallets that trade; the upstream grid gives only the losses. What wasn't traded is the supplier's: it flows whatever the
market does, no capacity of a link could repair it, and it is judged in the grid report. See docs/decisions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.states import SLACK, W_PER_WH, Bounds, Violation, flow, violations, worst

Floats = NDArray[np.float64]

SECTIONS: Final = 16
ROUNDS: Final = 3


class MeterNet(msgspec.Struct, frozen=True, kw_only=True):
    """A meter's net energy of the epoch and its owner."""

    meter_id: str
    wallet: str
    net_wh: int


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A link's flow as cleared: `from_zone` sends."""

    link_id: int
    from_zone: int
    to_zone: int
    sent_wh: int
    delivered_wh: int


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Wh fed in and drawn per column of the case, by the market alone."""

    fed_wh: Floats
    drawn_wh: Floats


def schedule_of(case: GridCase, traded_wh: Mapping[str, int], meters: Sequence[MeterNet]) -> Schedule:
    """The schedule of wallets' trades (bought +, sold −).

    A wallet sells from its meters with a surplus and buys for those with a deficit, in proportion; where the epoch
    shows neither (GRID sold from stock), at all its meters alike. Meters without a place are left out.
    """
    columns = case.columns()
    by_wallet: dict[str, list[MeterNet]] = {}
    for meter in meters:
        if meter.wallet in traded_wh and meter.meter_id in columns:
            by_wallet.setdefault(meter.wallet, []).append(meter)
    fed, drawn = np.zeros(len(columns)), np.zeros(len(columns))
    for wallet, mine in sorted(by_wallet.items()):
        traded = traded_wh[wallet]
        sign = -1 if traded > 0 else 1
        weights = [max(sign * meter.net_wh, 0) for meter in mine]
        if not any(weights):
            weights = [1] * len(mine)
        for meter, weight in zip(mine, weights, strict=True):
            (drawn if traded > 0 else fed)[columns[meter.meter_id]] += abs(traded) * weight / sum(weights)
    return Schedule(fed_wh=fed, drawn_wh=drawn)


def check(case: GridCase, schedule: Schedule, bounds: Bounds | None = None) -> list[Violation]:
    """Bounds that the cleared state breaks, worst first; none: it is feasible."""
    result = flow(case, schedule.fed_wh * W_PER_WH, schedule.drawn_wh * W_PER_WH)
    return violations(case, result, 0, bounds or Bounds())


def repair(
    case: GridCase, schedule: Schedule, flows: Sequence[Flow], bounds: Bounds | None = None
) -> dict[int, int] | None:
    """The most Wh that links may send for the schedule to be feasible: link id → sent Wh; None: no link repairs it.

    The link whose flow has to fall least is cut; where no single one is enough, all are cut alike. A cut takes the
    energy from the sending zone's sellers and the receiving zone's buyers in proportion to what they traded.
    """
    bounds = bounds or Bounds()
    sending = [each for each in flows if each.sent_wh > 0]
    cuts: list[tuple[int, int, dict[int, int]]] = []
    for each in sending:
        share = _kept(case, schedule, [each], bounds)
        if share is not None:
            kept = math.floor(each.sent_wh * share)
            cuts.append((each.sent_wh - kept, each.link_id, {each.link_id: kept}))
    if cuts:
        return min(cuts)[2]
    share = _kept(case, schedule, sending, bounds) if len(sending) > 1 else None
    return None if share is None else {each.link_id: math.floor(each.sent_wh * share) for each in sending}


def _kept(case: GridCase, schedule: Schedule, flows: Sequence[Flow], bounds: Bounds) -> float | None:
    """The largest share of these flows, found by AC flows, at which the schedule is feasible; None: not even at 0."""
    if _margins(case, schedule, flows, np.zeros(1), bounds)[0] < -SLACK:
        return None
    low, high = 0.0, 1.0
    for _ in range(ROUNDS):
        shares = np.linspace(low, high, SECTIONS + 1)[1:-1]
        found = _margins(case, schedule, flows, shares, bounds).tolist()
        for share, margin in zip(shares.tolist(), found, strict=True):
            if margin < -SLACK:
                high = share
                break
            low = share
    return low


def _margins(case: GridCase, schedule: Schedule, flows: Sequence[Flow], shares: Floats, bounds: Bounds) -> Floats:
    fed, drawn = (np.tile(each, (len(shares), 1)) for each in (schedule.fed_wh, schedule.drawn_wh))
    for each in flows:
        for zone, powers, energy_wh in (
            (each.from_zone, fed, each.sent_wh),
            (each.to_zone, drawn, each.delivered_wh),
        ):
            inside = case.meter_zone == zone
            total = powers[0, inside].sum()
            if total > 0:
                cut = np.clip((1 - shares) * energy_wh / total, 0, 1)
                powers[:, inside] *= (1 - cut)[:, None]
    return worst(flow(case, fed * W_PER_WH, drawn * W_PER_WH), bounds)

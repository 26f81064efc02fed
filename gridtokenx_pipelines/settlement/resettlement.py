"""Which corrections a resettlement run books, and what each of them moves (domain §7).

Belongs here: x, refunds, take-backs, and what waits, is only recorded or is rejected. Does not belong here: money and
balances after it (ledger.py's `book_resettlement`), late entries (`book_late`). Corrections are few, so this is plain
Python, one at a time in a fixed order: boundary epoch, then meter id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import MarketAccounts
from gridtokenx_pipelines.units import value_floor_uthb

OUTCOMES = pl.Schema(
    {
        "meter_id": pl.String,
        "boundary_epoch": pl.Int64,
        "revision": pl.Int64,
        "status": pl.String,
        "x_wh": pl.Int64,
        "reason": pl.String,
    }
)


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """One meter's corrected boundary as it is booked; Wh. `x_wh` is the change of Σ max(net, 0) over the two epochs.

    x > 0 is minted and burned at once. x < 0: refund = taken back + returned + re-billed, and −(|x| − re-billed) is
    added to the meter's minted and deficit (`booked_x_wh`).
    """

    meter_id: str
    wallet: str
    zone_id: int
    deficit_epoch: int
    surplus_epoch: int
    x_wh: int
    refund_wh: int = 0
    taken_back_wh: int = 0
    returned_wh: int = 0
    rebilled_wh: int = 0

    @property
    def booked_x_wh(self) -> int:
        """What is added to the meter's minted and to its deficit."""
        return self.x_wh if self.x_wh >= 0 else self.x_wh + self.rebilled_wh


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The next resettlement run: its boundary epoch (None: nothing to book), its shifts, an outcome per correction.

    `outcomes` (OUTCOMES) has status `booked` for those in `shifts`, `recorded` for x = 0, `rejected` with its reason;
    corrections without a row wait for a later run.
    """

    epoch: int | None
    shifts: tuple[Shift, ...]
    outcomes: pl.DataFrame


def bound_wh(rating_w: int) -> int:
    """Most Wh that a boundary may move for a meter: 1.1 × rating × 15 min."""
    return rating_w * 11 * EPOCH_SECONDS // (10 * 3_600)


def shift_x_wh(net_before_wh: int, net_of_wh: int, shift_wh: int) -> int:
    """Change of Σ max(net, 0) when `shift_wh` moves into the epoch before the boundary, out of the one after it."""
    before = max(net_before_wh, 0) + max(net_of_wh, 0)
    return max(net_before_wh + shift_wh, 0) + max(net_of_wh - shift_wh, 0) - before


def judge(
    *,
    corrections: pl.DataFrame,
    nets: pl.DataFrame,
    residuals: pl.DataFrame,
    bought_back: pl.DataFrame,
    ratings: Mapping[str, int],
    balances: pl.DataFrame,
    accounts: MarketAccounts,
    rules: Mapping[int, Rules] | Rules,
) -> Judgement:
    """Judge waiting corrections and pick the next run; call again with the balances after it until it picks none.

    Args: `corrections` waiting (several revisions of one boundary add up); `nets` (meter_id, zone_id, epoch, net_wh)
    as booked, earlier corrections included; `residuals` (wallet, epoch, residual_wh) not refunded yet; `bought_back`
    (wallet, epoch, bought_back_wh) not returned yet; `ratings` in W; balances and accounts before the run. A correction
    whose two epochs are not both in `nets` waits. Only the lowest boundary with something to book is taken, at most
    one shift a wallet, so that what follows sees the balances this run leaves.
    """
    book = _Book(
        net={(meter, epoch): value for meter, epoch, value in nets.select("meter_id", "epoch", "net_wh").iter_rows()},
        zones=dict(nets.select("meter_id", "zone_id").iter_rows()),
        residual_left=_keyed(residuals, "residual_wh"),
        bought_back_left=_keyed(bought_back, "bought_back_wh"),
        grid=dict(balances.select("owner", "grid_wh").iter_rows()),
    )
    supplier_uthb, supplier_wh = accounts.supplier_thbc_uthb, accounts.supplier_grid_wh
    in_force = rules.at if isinstance(rules, Rules) else rules.__getitem__
    outcomes: list[tuple[str, int, int, str, int, str | None]] = []
    shifts: dict[str, Shift] = {}  # by wallet
    waiting: set[str] = set()  # meters: what follows on one must see its earlier correction booked
    run_epoch: int | None = None
    for (boundary, meter), rows in _grouped(corrections).items():
        wallet: str = rows[0]["wallet"]
        if meter in waiting or not book.has(meter, boundary):
            waiting.add(meter)
            continue
        production = sum(row["production_delta_wh"] for row in rows)
        consumption = sum(row["consumption_delta_wh"] for row in rows)
        reason = _beyond(production, consumption, bound_wh(ratings.get(meter, 0)))
        x = 0 if reason else book.x_wh(meter, boundary, production - consumption)
        if x == 0:
            status = "rejected" if reason else "recorded"
            if not reason:
                book.move(meter, boundary, production - consumption)
        else:
            shift = book.shift(meter, wallet, boundary, x)
            tariff = in_force(shift.deficit_epoch).tariff_uthb_per_kwh(shift.deficit_epoch)
            refund_uthb = value_floor_uthb(shift.refund_wh, tariff)
            uncovered = refund_uthb > supplier_uthb or shift.returned_wh > supplier_wh
            waiting.add(meter)
            if run_epoch not in (None, boundary) or wallet in shifts or uncovered:
                continue
            status, run_epoch, shifts[wallet] = "booked", boundary, shift
            supplier_uthb -= refund_uthb
            supplier_wh -= shift.returned_wh
        outcomes.extend((meter, boundary, row["revision"], status, x, reason) for row in rows)
    return Judgement(
        epoch=run_epoch, shifts=tuple(shifts.values()), outcomes=pl.DataFrame(outcomes, OUTCOMES, orient="row")
    )


class _Book(msgspec.Struct):
    """What is booked so far; net energy moves on as corrections are recorded."""

    net: dict[tuple[str, int], int]
    zones: dict[str, int]
    residual_left: dict[tuple[str, int], int]
    bought_back_left: dict[tuple[str, int], int]
    grid: dict[str, int]

    def has(self, meter: str, boundary: int) -> bool:
        return (meter, boundary - 1) in self.net and (meter, boundary) in self.net

    def x_wh(self, meter: str, boundary: int, moved_wh: int) -> int:
        return shift_x_wh(self.net[meter, boundary - 1], self.net[meter, boundary], moved_wh)

    def move(self, meter: str, boundary: int, moved_wh: int) -> None:
        self.net[meter, boundary - 1] += moved_wh
        self.net[meter, boundary] -= moved_wh

    def shift(self, meter: str, wallet: str, boundary: int, x: int) -> Shift:
        # x < 0 happens only with one of the two epochs in deficit and the other in surplus
        prior_in_deficit = self.net[meter, boundary - 1] < 0
        deficit, surplus = (boundary - 1, boundary) if prior_in_deficit else (boundary, boundary - 1)
        refund = min(-x, self.residual_left.get((wallet, deficit), 0)) if x < 0 else 0
        taken_back = min(refund, self.grid.get(wallet, 0))
        returned = min(refund - taken_back, self.bought_back_left.get((wallet, surplus), 0))
        return Shift(
            meter_id=meter,
            wallet=wallet,
            zone_id=self.zones[meter],
            deficit_epoch=deficit,
            surplus_epoch=surplus,
            x_wh=x,
            refund_wh=refund,
            taken_back_wh=taken_back,
            returned_wh=returned,
            rebilled_wh=refund - taken_back - returned,
        )


def _beyond(production: int, consumption: int, bound: int) -> str | None:
    if max(abs(production), abs(consumption), abs(production - consumption)) <= bound:
        return None
    return (
        f"boundary moves {production} Wh produced and {consumption} Wh consumed; at most {bound} Wh is possible at the "
        "meter's rating: check the meter"
    )


def _keyed(frame: pl.DataFrame, column: str) -> dict[tuple[str, int], int]:
    return {(wallet, epoch): value for wallet, epoch, value in frame.select("wallet", "epoch", column).iter_rows()}


def _grouped(corrections: pl.DataFrame) -> dict[tuple[int, str], list[dict[str, Any]]]:
    groups: defaultdict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in corrections.sort("boundary_epoch", "meter_id", "revision").iter_rows(named=True):
        groups[row["boundary_epoch"], row["meter_id"]].append(row)
    return dict(groups)

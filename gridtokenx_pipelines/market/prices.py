"""Prices that guide or guard a market but settle nothing: reference prices, the circuit breaker, rounded midpoints.

Belongs here: exact integer rules of domain §5. Does not belong here: clearing prices (mechanisms).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.units import BASIS_POINTS, PRICE_TICK_UTHB_PER_KWH

PRICED_EPOCHS = 4
BASE_UTHB_PER_KWH, ALPHA_BP = 3_000_000, 2_500
DISPLAY_BASE_UTHB_PER_KWH, DISPLAY_STEP_UTHB_PER_KWH = 5_000_000, 500_000
DISPLAY_LOW_WH, DISPLAY_HIGH_WH = 2_000, 4_000


def rounded_midpoint(lowest: Fraction | int, highest: Fraction | int) -> Fraction | int:
    """Midpoint of an interval of equilibrium prices: down to the tick if that still lies in it, else to the µTHB.

    An interval without a whole µTHB keeps its exact midpoint; the price is then rounded once, at the very end.
    """
    middle = (Fraction(lowest) + Fraction(highest)) / 2
    for step in (PRICE_TICK_UTHB_PER_KWH, 1):
        rounded = middle // step * step
        if rounded >= lowest:
            return rounded
    return middle


def reference_price(
    demand_wh: int,
    supply_wh: int,
    rules: Rules,
    base_uthb_per_kwh: int = BASE_UTHB_PER_KWH,
    alpha_bp: int = ALPHA_BP,
) -> int:
    """P_t = base × (1 + α × demand / supply), down to the µTHB, clamped to the price band; no supply: the cap."""
    if supply_wh <= 0:
        return rules.price_max_uthb_per_kwh
    price = base_uthb_per_kwh + base_uthb_per_kwh * alpha_bp * demand_wh // (BASIS_POINTS * supply_wh)
    return min(max(price, rules.price_min_uthb_per_kwh), rules.price_max_uthb_per_kwh)


def display_price(demand_wh: int, meters: int, hours: Fraction | int = Fraction(1, 4)) -> int:
    """The documents' second rule, for display only: base 5.00 THB, −0.50 below 2 kWh per meter and hour, +0.50 above 4.

    Without meters there is no demand to speak of, so it is the lower price.
    """
    per_meter_hour = Fraction(demand_wh) / (meters * hours) if meters else Fraction(0)
    below, above = per_meter_hour < DISPLAY_LOW_WH, per_meter_hour > DISPLAY_HIGH_WH
    return DISPLAY_BASE_UTHB_PER_KWH + (above - below) * DISPLAY_STEP_UTHB_PER_KWH


def halt_check(
    zone_prices: Mapping[int, int | None], history: Mapping[int, Sequence[int]], halt_bound_bp: int
) -> dict[int, str]:
    """Zones whose price lies more than the bound away from the mean of their last four priced epochs, with the reason.

    `history` gives each zone's earlier prices, latest last. Off for a zone with fewer than four, or without a price.
    """
    tripped = {}
    for zone_id, price in sorted(zone_prices.items()):
        last = list(history.get(zone_id, ()))[-PRICED_EPOCHS:]
        if price is None or len(last) < PRICED_EPOCHS:
            continue
        total = sum(last)  # four times the mean, so that nothing is rounded
        if abs(PRICED_EPOCHS * price - total) * BASIS_POINTS > halt_bound_bp * total:
            tripped[zone_id] = (
                f"price of zone {zone_id} was {price} µTHB/kWh, must lie within {halt_bound_bp} basis points of "
                f"{total // PRICED_EPOCHS}, the mean of its last {PRICED_EPOCHS} priced epochs; an operator may resume"
            )
    return tripped

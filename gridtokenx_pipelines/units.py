"""Quantities and their arithmetic: Wh, µTHB, µTHB/kWh, all integers.

Belongs here: rounding rules of domain §1 and their polars twins, and how people see quantities.
Does not belong here: what is charged for what (market, settlement), anything that does I/O.
"""

from __future__ import annotations

import polars as pl

WH_PER_KWH = 1_000
UTHB_PER_THB = 1_000_000
BASIS_POINTS = 10_000
PARTS_PER_MILLION = 1_000_000
PRICE_TICK_UTHB_PER_KWH = 10_000
I64_MAX = 2**63 - 1


def ceil_div(dividend: int, divisor: int) -> int:
    """⌈dividend / divisor⌉ for any sign of the dividend; the divisor must be positive."""
    return -(-dividend // divisor)


def value_floor_uthb(energy_wh: int, price_uthb_per_kwh: int) -> int:
    """What is received for energy: rounded down (domain §1)."""
    return energy_wh * price_uthb_per_kwh // WH_PER_KWH


def value_ceil_uthb(energy_wh: int, price_uthb_per_kwh: int) -> int:
    """What is paid for energy: rounded up (domain §1)."""
    return ceil_div(energy_wh * price_uthb_per_kwh, WH_PER_KWH)


def floor_div_expr(dividend: pl.Expr, divisor: int | pl.Expr) -> pl.Expr:
    """⌊dividend / divisor⌋ on Int64 columns; polars' `//` floors, so it agrees with Python for any sign."""
    return dividend // divisor


def ceil_div_expr(dividend: pl.Expr, divisor: int | pl.Expr) -> pl.Expr:
    """⌈dividend / divisor⌉ on Int64 columns."""
    return -((-dividend) // divisor)


def value_floor_expr(energy_wh: pl.Expr, price_uthb_per_kwh: pl.Expr) -> pl.Expr:
    """Column twin of `value_floor_uthb`."""
    return floor_div_expr(energy_wh * price_uthb_per_kwh, WH_PER_KWH)


def value_ceil_expr(energy_wh: pl.Expr, price_uthb_per_kwh: pl.Expr) -> pl.Expr:
    """Column twin of `value_ceil_uthb`."""
    return ceil_div_expr(energy_wh * price_uthb_per_kwh, WH_PER_KWH)


def _decimal(amount: int, unit: int, places: int) -> str:
    sign, magnitude = ("-" if amount < 0 else ""), abs(amount)
    return f"{sign}{magnitude // unit:,}.{magnitude % unit:0{places}d}"


def kwh(energy_wh: int) -> str:
    """Wh as a decimal string in kWh, exact: 1234 → '1.234'."""
    return _decimal(energy_wh, WH_PER_KWH, 3)


def thb(amount_uthb: int) -> str:
    """µTHB as a decimal string in THB, exact: 4_100_000 → '4.100000'."""
    return _decimal(amount_uthb, UTHB_PER_THB, 6)

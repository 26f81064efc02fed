"""The frames of settlement: column names and types, and the structs that travel with them.

Belongs here: schemas of docs/reference/contract.md as data, `MarketAccounts`, `Header`, `Booking`, `LedgerError`. Does
not belong here: any computing.
"""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

METERING, CLEARING, LATE, RESETTLEMENT = range(4)

TRADED_AMOUNTS: Final = (
    "traded_wh",
    "cost_uthb",
    "energy_cost_uthb",
    "zone_wheeling_uthb",
    "value_uthb",
    "fee_uthb",
    "proceeds_uthb",
)

WALLET_AMOUNTS: Final = (
    "net_wh",
    "traded_wh",
    "minted_wh",
    "deficit_wh",
    "deficit_on_peak_wh",
    "deficit_off_peak_wh",
    "burned_wh",
    "residual_wh",
    "residual_on_peak_wh",
    "residual_off_peak_wh",
    "billed_uthb",
    "paid_to_supplier_uthb",
    "debt_delta_uthb",
    "debt_repaid_uthb",
    *TRADED_AMOUNTS[1:],
    "bought_back_wh",
    "buy_back_uthb",
    "refund_wh",
    "refund_uthb",
    "taken_back_wh",
    "returned_wh",
    "returned_uthb",
    "rebilled_wh",
    "grid_after_wh",
    "thbc_after_uthb",
    "debt_after_uthb",
)
RUN_KEY: Final = {"seq": pl.Int64, "epoch": pl.Int64, "run": pl.Int64, "kind": pl.Int64}
WALLET_ENTRIES: Final = pl.Schema(
    {
        **RUN_KEY,
        "wallet": pl.String,
        "zone_id": pl.Int64,
        **dict.fromkeys(WALLET_AMOUNTS, pl.Int64),
        # the two epochs of a correction that refunds; null in every other entry
        "refund_epoch": pl.Int64,
        "surplus_epoch": pl.Int64,
    }
)
METER_AMOUNTS: Final = (
    "last_epoch",
    "production_delta_wh",
    "consumption_delta_wh",
    "surplus_wh",
    "deficit_wh",
    "x_wh",
)
METER_ENTRIES: Final = pl.Schema(
    {**RUN_KEY, "meter_id": pl.String, "wallet": pl.String, **dict.fromkeys(METER_AMOUNTS, pl.Int64)}
)
BALANCES: Final = pl.Schema(
    {"owner": pl.String, "grid_wh": pl.Int64, "thbc_uthb": pl.Int64, "debt_uthb": pl.Int64},
)
TRADED: Final = pl.Schema({"wallet": pl.String, "zone_id": pl.Int64, **dict.fromkeys(TRADED_AMOUNTS, pl.Int64)})
LEDGER_ROWS: Final = pl.Schema(
    {"debit": pl.String, "credit": pl.String, "unit": pl.String, "amount": pl.Int64, "memo": pl.String}
)


class LedgerError(ValueError):
    """Inputs that can't be booked: names the value, the bound and the remedy."""


class MarketAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """Balances of the market's own accounts (Wh, µTHB); none may fall below 0."""

    supplier_grid_wh: int = 0
    supplier_thbc_uthb: int = 0
    platform_thbc_uthb: int = 0
    grid_operator_thbc_uthb: int = 0


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What leaf 0 of a run says besides its counts; zones are (zone_id, price, zone wheeling), price 0: none."""

    halted: bool = False
    buy_back: bool = False
    lost_wh: int = 0
    link_wheeling_uthb: int = 0
    rent_uthb: int = 0
    zones: tuple[tuple[int, int, int], ...] = ()


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """One run in the ledger: its entries, the balances and accounts after it, and the double-entry rows."""

    seq: int
    epoch: int
    run: int
    kind: int
    header: Header
    wallet_entries: pl.DataFrame
    meter_entries: pl.DataFrame
    balances: pl.DataFrame
    accounts: MarketAccounts
    ledger_rows: pl.DataFrame
    corrections: pl.DataFrame | None = None


def no_traded() -> pl.DataFrame:
    """The traded frame of an epoch without trades."""
    return pl.DataFrame(schema=TRADED)

"""Steps on columns that every kind of run is made of, and the booking that they end in.

Belongs here: the twins of `Wallet::credit`, `charge` and `burn_or_bill` in programs/trading/src/settlement/mod.rs, on
frames with the running balances `grid_wh`, `thbc_uthb`, `debt_uthb`. Does not belong here: which steps a kind of run
takes (ledger.py).
"""

from __future__ import annotations

from typing import Final

import polars as pl

from gridtokenx_pipelines.settlement.double_entry import ledger_rows
from gridtokenx_pipelines.settlement.frames import (
    BALANCES,
    METER_ENTRIES,
    WALLET_AMOUNTS,
    WALLET_ENTRIES,
    Booking,
    Header,
    LedgerError,
    MarketAccounts,
)
from gridtokenx_pipelines.units import ceil_div_expr

BEFORE: Final = ("grid_wh", "thbc_uthb", "debt_uthb")


def least(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """The smaller of two columns, row by row."""
    return pl.min_horizontal(one, other)


def with_balances(wallets: pl.DataFrame, balances: pl.DataFrame) -> pl.DataFrame:
    """Wallets with their running balances (0 where they have none yet) and the running bills at 0."""
    zero = {"billed_uthb": 0, "paid_to_supplier_uthb": 0, "debt_repaid_uthb": 0}
    return wallets.join(
        balances.select(pl.col("owner").alias("wallet"), *BEFORE), on="wallet", how="left"
    ).with_columns(
        pl.col(*BEFORE).fill_null(0),
        pl.col("debt_uthb").fill_null(0).alias("debt_before_uthb"),
        *(pl.lit(value, pl.Int64).alias(name) for name, value in zero.items()),
    )


def credit(entries: pl.DataFrame, amount: pl.Expr) -> pl.DataFrame:
    """Money received: debt first."""
    repaid = least(pl.col("debt_uthb"), amount)
    return entries.with_columns(
        (pl.col("thbc_uthb") + amount - repaid).alias("thbc_uthb"),
        (pl.col("debt_uthb") - repaid).alias("debt_uthb"),
        (pl.col("debt_repaid_uthb") + repaid).alias("debt_repaid_uthb"),
    )


def charge(entries: pl.DataFrame, amount: pl.Expr) -> pl.DataFrame:
    """Money owed to the supplier: what THBC lacks becomes debt."""
    paid = least(pl.col("thbc_uthb"), amount)
    return entries.with_columns(
        (pl.col("thbc_uthb") - paid).alias("thbc_uthb"),
        (pl.col("debt_uthb") + amount - paid).alias("debt_uthb"),
        (pl.col("paid_to_supplier_uthb") + paid).alias("paid_to_supplier_uthb"),
    )


def burn_and_bill(entries: pl.DataFrame, deficit: pl.Expr, tariff: int, residual: str) -> pl.DataFrame:
    """Burns what is held of a deficit into `residual`, the rest, and bills that at the tariff."""
    held = pl.col("grid_wh")
    entries = entries.with_columns(
        (deficit - least(deficit, held)).alias(residual), (held - least(deficit, held)).alias("grid_wh")
    ).with_columns(ceil_div_expr(pl.col(residual) * tariff, 1_000).alias("this_bill"))
    return charge(entries, pl.col("this_bill")).with_columns(pl.col("billed_uthb") + pl.col("this_bill"))


def booking(
    *,
    seq: int,
    epoch: int,
    run: int,
    kind: int,
    header: Header,
    entries: pl.DataFrame,
    meters: pl.DataFrame,
    balances: pl.DataFrame,
    accounts: MarketAccounts,
) -> Booking:
    """The booking of entries whose steps are done; raises LedgerError if a market account would fall below 0."""
    key = [
        pl.lit(value, pl.Int64).alias(name)
        for name, value in (("seq", seq), ("epoch", epoch), ("run", run), ("kind", kind))
    ]
    entries = entries.with_columns(
        (pl.col("deficit_wh") - pl.col("residual_wh")).alias("burned_wh"),
        (pl.col("debt_uthb") - pl.col("debt_before_uthb")).alias("debt_delta_uthb"),
        pl.col("grid_wh").alias("grid_after_wh"),
        pl.col("thbc_uthb").alias("thbc_after_uthb"),
        pl.col("debt_uthb").alias("debt_after_uthb"),
    )
    absent = [name for name in WALLET_AMOUNTS if name not in entries.columns]
    epochs = [name for name in ("refund_epoch", "surplus_epoch") if name not in entries.columns]
    wallet_entries = (
        entries.with_columns(
            *key,
            *(pl.lit(0, pl.Int64).alias(name) for name in absent),
            *(pl.lit(None, pl.Int64).alias(name) for name in epochs),
        )
        .select(WALLET_ENTRIES.names())
        .sort("wallet")
    )
    meter_entries = meters.with_columns(*key).select(METER_ENTRIES.names()).sort("meter_id")
    after = pl.concat(
        [
            balances.select(BALANCES.names()).join(
                wallet_entries.select(pl.col("wallet").alias("owner")), on="owner", how="anti"
            ),
            wallet_entries.select(
                pl.col("wallet").alias("owner"),
                pl.col("grid_after_wh").alias("grid_wh"),
                pl.col("thbc_after_uthb").alias("thbc_uthb"),
                pl.col("debt_after_uthb").alias("debt_uthb"),
            ),
        ]
    ).sort("owner")
    return Booking(
        seq=seq,
        epoch=epoch,
        run=run,
        kind=kind,
        header=header,
        wallet_entries=wallet_entries,
        meter_entries=meter_entries,
        balances=after,
        accounts=_accounts_after(accounts, wallet_entries, header),
        ledger_rows=ledger_rows(wallet_entries, header),
    )


def _accounts_after(accounts: MarketAccounts, entries: pl.DataFrame, header: Header) -> MarketAccounts:
    total = {name: int(entries[name].sum()) for name in WALLET_AMOUNTS}
    receipts = total["paid_to_supplier_uthb"] + total["debt_repaid_uthb"]
    after = MarketAccounts(
        supplier_grid_wh=accounts.supplier_grid_wh + total["bought_back_wh"] - total["returned_wh"],
        supplier_thbc_uthb=accounts.supplier_thbc_uthb + receipts - total["buy_back_uthb"] - total["refund_uthb"],
        platform_thbc_uthb=accounts.platform_thbc_uthb + total["fee_uthb"],
        grid_operator_thbc_uthb=accounts.grid_operator_thbc_uthb
        + total["zone_wheeling_uthb"]
        + header.link_wheeling_uthb
        + header.rent_uthb,
    )
    for name in after.__struct_fields__:
        if getattr(after, name) < 0:
            raise LedgerError(f"{name} would be {getattr(after, name)}, must be ≥ 0; fund that market account first")
    return after

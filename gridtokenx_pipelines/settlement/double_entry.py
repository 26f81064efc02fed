"""Double-entry rows of a run: every change of a balance as an amount from one account to another.

Belongs here: which accounts an entry's columns move between. Does not belong here: computing the entries (ledger.py).
An account's balance is Σ debit − Σ credit. A household's account is its wallet address; the market's are `supplier`,
`platform`, `grid_operator`; `clearing` is passed through by trades and ends every run at 0; `debt:<wallet>` is what a
household owes, its counter-account `external:residual`; `external:production` and `external:burned` face GRID,
`external:bridge` faces THBC.
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.settlement.frames import LEDGER_ROWS, Header

PRODUCTION, BURNED, RESIDUAL, BRIDGE = (f"external:{name}" for name in ("production", "burned", "residual", "bridge"))
SUPPLIER, PLATFORM, GRID_OPERATOR, CLEARING = "supplier", "platform", "grid_operator", "clearing"

Flow = tuple[str, str | None, str | None, str, str]
# column, to, from, unit, memo; None stands for the entry's wallet; a negative amount goes the other way
WALLET_FLOWS: tuple[Flow, ...] = (
    ("minted_wh", None, PRODUCTION, "GRID", "surplus minted"),
    ("traded_wh", None, CLEARING, "GRID", "energy traded"),
    ("burned_wh", BURNED, None, "GRID", "deficit burned"),
    ("bought_back_wh", SUPPLIER, None, "GRID", "surplus bought back"),
    ("returned_wh", None, SUPPLIER, "GRID", "bought-back energy returned"),
    ("cost_uthb", CLEARING, None, "THBC", "purchase"),
    ("proceeds_uthb", None, CLEARING, "THBC", "sale"),
    ("paid_to_supplier_uthb", SUPPLIER, None, "THBC", "bill"),
    ("buy_back_uthb", None, SUPPLIER, "THBC", "buy-back"),
    ("refund_uthb", None, SUPPLIER, "THBC", "refund"),
    ("debt_repaid_uthb", SUPPLIER, None, "THBC", "debt repaid"),
)


def row(debit: str, credit: str, unit: str, amount: int, memo: str) -> list[tuple[str, str, str, int, str]]:
    """One row to `debit` from `credit`, turned round where the amount is negative, none where it is 0."""
    if amount == 0:
        return []
    return [(debit, credit, unit, amount, memo) if amount > 0 else (credit, debit, unit, -amount, memo)]


def _flow(entries: pl.DataFrame, flow: Flow) -> pl.DataFrame:
    column, to, source, unit, memo = flow
    target = pl.lit(to) if to else pl.col("wallet")
    origin = pl.lit(source) if source else pl.col("wallet")
    forward = pl.col(column) > 0
    return entries.filter(pl.col(column) != 0).select(
        pl.when(forward).then(target).otherwise(origin).alias("debit"),
        pl.when(forward).then(origin).otherwise(target).alias("credit"),
        pl.lit(unit).alias("unit"),
        pl.col(column).abs().alias("amount"),
        pl.lit(memo).alias("memo"),
    )


def ledger_rows(entries: pl.DataFrame, header: Header) -> pl.DataFrame:
    """Rows of a run's wallet entries and of what trades leave to platform, grid operator and losses."""
    owed = entries.with_columns(pl.format("debt:{}", "wallet").alias("debtor"))
    debts = _flow(
        owed.select(pl.col("debtor").alias("wallet"), "debt_delta_uthb"),
        ("debt_delta_uthb", None, RESIDUAL, "THBC", "debt"),
    )
    fee, wheeling = int(entries["fee_uthb"].sum()), int(entries["zone_wheeling_uthb"].sum())
    shared = [
        *row(BURNED, CLEARING, "GRID", header.lost_wh, "lost on links"),
        *row(PLATFORM, CLEARING, "THBC", fee, "platform fees"),
        *row(GRID_OPERATOR, CLEARING, "THBC", wheeling, "zone wheeling"),
        *row(GRID_OPERATOR, CLEARING, "THBC", header.link_wheeling_uthb, "link wheeling"),
        *row(GRID_OPERATOR, CLEARING, "THBC", header.rent_uthb, "congestion rent and rounding"),
    ]
    parts = [_flow(entries, flow) for flow in WALLET_FLOWS]
    return pl.concat([*parts, debts, pl.DataFrame(shared, schema=LEDGER_ROWS, orient="row")])


def balances_of(rows: pl.DataFrame) -> dict[tuple[str, str], int]:
    """Σ debit − Σ credit per (account, unit), accounts at 0 left out."""
    moved = pl.concat(
        [
            rows.select("unit", pl.col("debit").alias("account"), "amount"),
            rows.select("unit", pl.col("credit").alias("account"), -pl.col("amount")),
        ]
    )
    sums = moved.group_by("account", "unit").agg(pl.col("amount").sum()).filter(pl.col("amount") != 0)
    return {(account, unit): amount for account, unit, amount in sums.select("account", "unit", "amount").iter_rows()}

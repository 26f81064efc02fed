"""Checks on one epoch's book before it is cleared: limits, cover, ids, root.

Belongs here: judgements on the book frame, made without the code that built it. Does not belong here: building it.
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.market.roots import book_rows, merkle_root
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, verdict
from gridtokenx_pipelines.units import BASIS_POINTS, PRICE_TICK_UTHB_PER_KWH, WH_PER_KWH, ceil_div_expr

LIMITS = "limits_of_the_domain"
COVERED = "covered_by_balance"
SINGLE = "no_double_order_id"
ROOT = "book_root_recomputed"
CHECKS = (LIMITS, COVERED, SINGLE, ROOT)
BUY, SELL = 0, 1
SHOWN = ["order_id", "wallet", "zone_id", "side", "energy_wh", "limit_uthb_per_kwh", "covered_wh"]


def inspect(
    book: pl.DataFrame,
    *,
    epoch: int,
    net_energy: pl.DataFrame,
    balances: pl.DataFrame,
    rules: Rules,
    network: Network,
    stored: pl.DataFrame,
    root: bytes,
) -> list[Verdict]:
    """All four checks. `net_energy`: the epoch's rows that entered; `stored`: the book as read back from the store."""
    return [
        _limits(book, epoch, rules, network),
        _covered(book, epoch, net_energy, balances),
        _single(book, epoch),
        _root(stored, epoch, rules, root),
    ]


def wheeling_frame(network: Network) -> pl.DataFrame:
    """zone_id, wheeling_uthb_per_kwh."""
    return pl.DataFrame(
        {
            "zone_id": [zone.zone_id for zone in network.zones],
            "wheeling_uthb_per_kwh": [zone.zone_wheeling_uthb_per_kwh for zone in network.zones],
        },
        schema={"zone_id": pl.Int64, "wheeling_uthb_per_kwh": pl.Int64},
    )


def _limits(book: pl.DataFrame, epoch: int, rules: Rules, network: Network) -> Verdict:
    limit, sells = pl.col("limit_uthb_per_kwh"), pl.col("side") == SELL
    net_limit = (
        pl.when(sells)
        .then(ceil_div_expr(limit * BASIS_POINTS, BASIS_POINTS - rules.fee_bp))
        .otherwise(limit - pl.col("wheeling_uthb_per_kwh"))
    )
    placed = pl.col("is_mandate").not_().sum().over("wallet")
    faults = {
        "energy": ~pl.col("energy_wh").is_between(1, rules.max_order_wh),
        "cut": ~((pl.col("covered_wh") > 0) & (pl.col("covered_wh") <= pl.col("energy_wh"))),
        "price": ~limit.is_between(rules.price_min_uthb_per_kwh, rules.price_max_uthb_per_kwh),
        "tick": limit % PRICE_TICK_UTHB_PER_KWH != 0,
        "net limit": (pl.col("net_limit_uthb_per_kwh") != net_limit) | (pl.col("net_limit_uthb_per_kwh") <= 0),
        "zone": pl.col("wheeling_uthb_per_kwh").is_null(),
        "epoch": pl.col("epoch") != epoch,
        "side": pl.col("side").n_unique().over("wallet") > 1,
        "count": placed > rules.max_orders_per_wallet_epoch,
    }
    failing = (
        book.join(wheeling_frame(network), on="zone_id", how="left")
        .with_columns(fault=pl.coalesce([pl.when(rule).then(pl.lit(name)) for name, rule in faults.items()]))
        .filter(pl.col("fault").is_not_null())
        .select(*SHOWN, "net_limit_uthb_per_kwh", "fault")
    )
    return verdict(
        LIMITS, epoch, failing, f"{book.height} orders within limits", "an order outside a limit (see fault)"
    )


def _covered(book: pl.DataFrame, epoch: int, net_energy: pl.DataFrame, balances: pl.DataFrame) -> Verdict:
    surplus = (
        net_energy.filter(~pl.col("missing"))
        .group_by(pl.col("wallet"))
        .agg(surplus_wh=pl.max_horizontal(pl.col("net_wh").sum(), pl.lit(0)))
    )
    asked = book.group_by("wallet").agg(
        sold_wh=pl.col("covered_wh").filter(pl.col("side") == SELL).sum(),
        # in thousandths of a µTHB: what all fills at their limits would cost, before the one rounding per wallet
        spent=(pl.col("covered_wh") * pl.col("limit_uthb_per_kwh")).filter(pl.col("side") == BUY).sum(),
    )
    held = balances.rename({"owner": "wallet"}).select("wallet", "grid_wh", "thbc_uthb")
    failing = (
        asked.join(surplus, on="wallet", how="left")
        .join(held, on="wallet", how="left")
        .with_columns(pl.col("surplus_wh", "grid_wh", "thbc_uthb").fill_null(0))
        .filter(
            (pl.col("sold_wh") > pl.col("grid_wh") + pl.col("surplus_wh"))
            | (pl.col("spent") > pl.col("thbc_uthb") * WH_PER_KWH)
        )
        .sort("wallet")
    )
    return verdict(
        COVERED,
        epoch,
        failing,
        f"{asked.height} wallets cover their orders",
        "a wallet whose orders exceed what it holds",
    )


def _single(book: pl.DataFrame, epoch: int) -> Verdict:
    failing = book.filter(pl.col("order_id").is_duplicated()).select(SHOWN)
    return verdict(
        SINGLE, epoch, failing, f"{book.height} ids, all different", "an order that stands in the book twice"
    )


def _root(stored: pl.DataFrame, epoch: int, rules: Rules, root: bytes) -> Verdict:
    found = merkle_root(book_rows(stored, rules.network_id, epoch))
    failing = pl.DataFrame({"announced": [root.hex()], "of_stored_rows": [found.hex()]}).filter(
        pl.col("announced") != pl.col("of_stored_rows")
    )
    return verdict(
        ROOT, epoch, failing, f"root {root.hex()[:16]}…", "a stored book with another root; materialise again"
    )

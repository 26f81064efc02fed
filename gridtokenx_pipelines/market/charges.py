"""What traded energy costs and earns: energy, zone wheeling, fee, and the VAT inside them (domain §6).

Belongs here: charges per wallet and epoch (uniform prices) or per order (pay-as-bid), and the VAT report.
Does not belong here: prices (mechanisms), residuals and tariffs (settlement).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.kernel import Int64s, places
from gridtokenx_pipelines.market.names import are_distinct, order_of_names
from gridtokenx_pipelines.units import BASIS_POINTS, WH_PER_KWH, ceil_div_expr, floor_div_expr

NOTHING = pl.lit(0, pl.Int64)


def charge(traded: pl.DataFrame, zones: pl.DataFrame, fee_bp: int) -> pl.DataFrame:
    """Charges of each wallet, once per epoch: `traded` (wallet, zone_id, traded_wh; bought +, sold −) → frames.TRADED.

    A wallet that did both (only in books from elsewhere) is charged for each: `traded` then has bought_wh and sold_wh.
    Bought b costs ⌈b(p + w)/1000⌉, of which ⌊b·p/1000⌋ is energy; sold s earns v = ⌊s·p/1000⌋ less ⌊v × fee⌋.
    Raises ValueError if energy was traded in a zone without a price.
    """
    ordered = traded[order_of_names(traded["wallet"])]
    zone = ordered["zone_id"].to_numpy()
    price, wheeling = _rates(zone, ordered["traded_wh"].to_numpy(), zones)
    if "bought_wh" in traded.columns:
        bought, sold = ordered["bought_wh"].to_numpy(), ordered["sold_wh"].to_numpy()
    else:
        net = ordered["traded_wh"].to_numpy()
        bought, sold = np.maximum(net, 0), np.maximum(-net, 0)
    cost = -(-(bought * (price + wheeling)) // WH_PER_KWH)
    energy_cost = bought * price // WH_PER_KWH
    value = sold * price // WH_PER_KWH
    # a negative value (negative prices, books from elsewhere) bears no fee: none would be earned back
    fee = np.maximum(value, 0) * fee_bp // BASIS_POINTS
    columns = {
        "cost_uthb": cost,
        "energy_cost_uthb": energy_cost,
        "zone_wheeling_uthb": cost - energy_cost,
        "value_uthb": value,
        "fee_uthb": fee,
        "proceeds_uthb": value - fee,
    }
    return frames.conform(
        ordered.with_columns(**{name: pl.Series(each) for name, each in columns.items()}), frames.TRADED, "traded"
    )


def _rates(zone: Int64s, traded_wh: Int64s, zones: pl.DataFrame) -> tuple[Int64s, Int64s]:
    """Price and zone wheeling of each row's zone; 0 where nothing was traded in a zone without a price."""
    rates = zones.sort("zone_id")
    known, priced = rates["zone_id"].to_numpy(), rates["price_uthb_per_kwh"].is_not_null().to_numpy()
    if len(zone) and int(zone.min()) == int(zone.max()) and traded_wh.any():
        zone, traded_wh = zone[:1], np.ones(1, np.int64)  # one zone: one price for all rows
    place = places(zone, known)
    found = known[place] == zone if len(known) else np.zeros(len(zone), np.bool_)
    lacking = (traded_wh != 0) & ~(found & priced[place] if len(known) else found)
    if lacking.any():
        raise ValueError(f"zones {sorted(set(zone[lacking].tolist()))} traded without a price; clear them first")
    columns = (rates[name].fill_null(0).to_numpy() for name in ("price_uthb_per_kwh", "zone_wheeling_uthb_per_kwh"))
    price, wheeling = (each[place] * found if len(known) else np.zeros(len(zone), np.int64) for each in columns)
    return price, wheeling


def with_charges(
    traded: pl.DataFrame, *, cost: pl.Expr, energy_cost: pl.Expr, value: pl.Expr, fee_bp: int
) -> pl.DataFrame:
    """The charge columns from cost, energy cost and value: wheeling is the cost's rest, the fee rounds down."""
    return (
        traded.with_columns(cost_uthb=cost, energy_cost_uthb=energy_cost, value_uthb=value)
        .with_columns(
            zone_wheeling_uthb=pl.col("cost_uthb") - pl.col("energy_cost_uthb"),
            # a negative value (negative prices, books from elsewhere) bears no fee: none would be earned back
            fee_uthb=floor_div_expr(pl.col("value_uthb").clip(lower_bound=0) * fee_bp, BASIS_POINTS),
        )
        .with_columns(proceeds_uthb=pl.col("value_uthb") - pl.col("fee_uthb"))
        .select([pl.col(name).cast(kind) for name, kind in frames.TRADED.items()])
    )


def charge_per_order(orders: pl.DataFrame, fee_bp: int) -> pl.DataFrame:
    """Pay-as-bid: charges on the floor of each order's exact sum, then added up per wallet.

    `orders`: wallet, zone_id, side, filled_wh, value_exact (Σ Wh × price, in µTHB/1000), zone_wheeling_uthb_per_kwh.
    """
    buys = pl.col("side") == 0
    value = floor_div_expr(pl.col("value_exact"), WH_PER_KWH)
    wheeling = ceil_div_expr(pl.col("filled_wh") * pl.col("zone_wheeling_uthb_per_kwh"), WH_PER_KWH)
    charged = with_charges(
        orders.with_columns(traded_wh=pl.when(buys).then("filled_wh").otherwise(-pl.col("filled_wh"))),
        cost=pl.when(buys).then(value + wheeling).otherwise(NOTHING),
        energy_cost=pl.when(buys).then(value).otherwise(NOTHING),
        value=pl.when(buys).then(NOTHING).otherwise(value),
        fee_bp=fee_bp,
    )
    sums = [name for name in frames.TRADED if name not in ("wallet", "zone_id")]
    if are_distinct(charged["wallet"]):
        added = charged
    else:
        added = charged.group_by("wallet", "zone_id").agg(pl.col(sums).sum())
    return added[order_of_names(added["wallet"])].select(list(frames.TRADED))


def vat_uthb(charge_uthb: int, vat_bp: int) -> int:
    """The VAT that a charge includes: ⌊charge × rate / (1 + rate)⌋."""
    return charge_uthb * vat_bp // (BASIS_POINTS + vat_bp)


def vat_report(traded: pl.DataFrame, vat_bp: int) -> pl.DataFrame:
    """VAT per wallet inside what the market charges it: vat_wheeling_uthb, vat_fee_uthb."""
    inside = [
        floor_div_expr(pl.col(column) * vat_bp, BASIS_POINTS + vat_bp).alias(name)
        for column, name in (("zone_wheeling_uthb", "vat_wheeling_uthb"), ("fee_uthb", "vat_fee_uthb"))
    ]
    return traded.select("wallet", *inside)

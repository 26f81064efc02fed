"""The book at the gate: admitted orders, mandates turned into orders, cut to cover, in priority order (domain §4, §5).

Belongs here: `build_book` and the net limit. Does not belong here: admission of single orders (intake.py), clearing.
The book of an epoch is a function of its inputs' contents only: row order of any input never matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.orders import OrderReject, Side, mandate_order_id
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.units import (
    BASIS_POINTS,
    PRICE_TICK_UTHB_PER_KWH,
    WH_PER_KWH,
    ceil_div,
    ceil_div_expr,
    value_ceil_expr,
    value_ceil_uthb,
)

PRIORITY = ["side", "_rank", "broker_us", "order_id"]


class Book(NamedTuple):
    """`frame`: admitted orders in priority order, buys then sells; `rejected`: dropped ones with their reason."""

    frame: pl.DataFrame
    rejected: pl.DataFrame


def net_limit_uthb_per_kwh(side: int, limit_uthb_per_kwh: int, fee_bp: int, zone_wheeling_uthb_per_kwh: int) -> int:
    """All-in limit → the limit that prices are compared with: ⌈ask ÷ (1 − fee)⌉, bid − zone wheeling."""
    if side == Side.SELL:
        return ceil_div(limit_uthb_per_kwh * BASIS_POINTS, BASIS_POINTS - fee_bp)
    return limit_uthb_per_kwh - zone_wheeling_uthb_per_kwh


def build_book(  # noqa: PLR0917 (the contract's door)
    orders: pl.DataFrame,
    mandates: pl.DataFrame,
    net_energy: pl.DataFrame,
    balances: pl.DataFrame,
    rules: Rules,
    network: Network,
    epoch: int,
) -> Book:
    """Freeze the book of an epoch.

    `orders`: live ones (frames.ORDERS; other epochs' are ignored), `mandates` (frames.MANDATES; end_epoch null: open),
    `net_energy`: the epoch's rows, of which revision 0 counts, `balances`: the ledger's after the run before this one
    (a wallet without a row holds nothing). Raises ValueError for a frame that lacks columns or a fee of 100 %.
    """
    if not 0 <= rules.fee_bp < BASIS_POINTS:
        raise ValueError(f"fee was {rules.fee_bp} basis points, must lie in 0…{BASIS_POINTS - 1}")
    meters = _present_meters(net_energy, epoch)
    nets = meters.group_by("wallet").agg(pl.col("net_wh").sum(), pl.col("zone_id").min())
    own = frames.conform(orders, frames.ORDERS, "orders").filter(pl.col("epoch") == epoch)
    in_force = _in_force(mandates, epoch)
    own, dropped = _admit(own, meters, network, in_force["order_id"])
    made = _mandate_orders(in_force, own, nets, epoch)
    made, dropped_mandates = _split(made, _mandate_faults(rules, network))
    book = _with_net_limits(pl.concat([own, made]), rules, network)
    book, priceless = _split(book, [(OrderReject.NET_BID_NOT_POSITIVE, pl.col("net_limit_uthb_per_kwh") <= 0)])
    book, uncovered = _cover(book, nets, balances)
    rejected = pl.concat([dropped, dropped_mandates, priceless, uncovered]).sort("side", "order_id", "wallet")
    return Book(book, rejected)


def _present_meters(net_energy: pl.DataFrame, epoch: int) -> pl.DataFrame:
    # later revisions are catch-ups booked after the clearing; the book must not change when they appear
    on_time = (pl.col("epoch") == epoch) & (pl.col("revision") == 0) & ~pl.col("missing")
    return net_energy.filter(on_time).select("meter_id", "wallet", "zone_id", "net_wh")


def _split(orders: pl.DataFrame, faults: Iterable[tuple[OrderReject, pl.Expr]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Orders without a fault, and those with one (the first that holds names the reason)."""
    code = pl.coalesce(*[pl.when(fault).then(pl.lit(int(reason))) for reason, fault in faults], pl.lit(0))
    judged = orders.with_columns(reason_code=code.cast(pl.Int64))
    names = {int(reason): reason.name.lower() for reason in OrderReject}
    rejected = judged.filter(pl.col("reason_code") > 0).with_columns(
        reason=pl.col("reason_code").replace_strict(names, return_dtype=pl.String)
    )
    return judged.filter(pl.col("reason_code") == 0).drop("reason_code"), rejected.select(list(frames.BOOK_REJECTED))


def _admit(
    own: pl.DataFrame, meters: pl.DataFrame, network: Network, mandate_ids: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    owner = meters.select("meter_id", owner="wallet", meter_zone="zone_id")
    judged = own.join(owner, on="meter_id", how="left").sort("broker_us", "wallet", "nonce", "order_id")
    named = [zone.zone_id for zone in network.zones]
    kept, *dropped = _split(
        judged.with_columns(zone_id=pl.coalesce("meter_zone", "zone_id")),
        [
            (OrderReject.METER_MISSING, pl.col("owner").is_null()),
            (OrderReject.METER_NOT_OWNED, pl.col("owner") != pl.col("wallet")),
            (OrderReject.ZONE_UNKNOWN, ~pl.col("zone_id").is_in(named)),
        ],
    )
    # intake sees one partition: two partitions could each admit an id, or a side, and the earlier one stands. Each rule
    # judges what the rule before it kept, so that a dropped order shadows nobody's; a mandate's id is public before
    # its order is made, and whoever takes it must not keep the mandate, or the epoch, from trading.
    taken = pl.col("order_id").is_in(mandate_ids.implode()) | pl.col("order_id").is_first_distinct().not_()
    for fault in (
        (OrderReject.ORDER_ID_USED, taken),
        (OrderReject.SELF_TRADE, pl.col("side") != pl.col("side").first().over("wallet")),
    ):
        kept, refused = _split(kept, [fault])
        dropped.append(refused)
    return kept.select(list(frames.ORDERS)), pl.concat(dropped)


def _in_force(mandates: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """The mandate of each wallet that acts in the epoch, with the id of the order it may become."""
    return (
        frames.conform(mandates, frames.MANDATES, "mandates")
        .filter(pl.col("effective_epoch") <= epoch)
        .sort("wallet", "effective_epoch")
        .unique("wallet", keep="last", maintain_order=True)
        .filter(pl.col("end_epoch").is_null() | (pl.col("end_epoch") > epoch))
        .with_columns(
            order_id=pl.col("wallet").map_elements(lambda name: mandate_order_id(name, epoch), return_dtype=pl.Binary)
        )
    )


def _mandate_orders(in_force: pl.DataFrame, own: pl.DataFrame, nets: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """One order per wallet whose mandate is in force, for what its own orders leave of its net energy."""
    placed = own.group_by("wallet").agg(own_side=pl.col("side").first(), own_wh=pl.col("energy_wh").sum())
    sells = pl.col("net_wh") > 0
    left = pl.col("net_wh").abs() - pl.col("own_wh").fill_null(0)
    limit = pl.when(sells).then("sell_min_uthb_per_kwh").otherwise("buy_max_uthb_per_kwh")
    made = (
        in_force.join(nets, on="wallet", how="inner")
        .join(placed, on="wallet", how="left")
        .with_columns(side=sells.cast(pl.Int64), energy_wh=pl.min_horizontal(left, "max_wh"), limit_uthb_per_kwh=limit)
        .filter(
            (pl.col("energy_wh") > 0)
            & (pl.col("limit_uthb_per_kwh") > 0)  # 0: the mandate doesn't act on this side
            & (pl.col("own_side").is_null() | (pl.col("own_side") == pl.col("side")))
        )
        .with_columns(
            meter_id=pl.lit(None, pl.String),
            epoch=pl.lit(epoch, pl.Int64),
            nonce=pl.lit(0, pl.Int64),
            placed_at_us=pl.col("set_at_us"),
            broker_us=pl.col("set_at_us"),
            certificate_id=pl.lit(None, pl.Binary),
            is_mandate=pl.lit(True),
        )
    )
    return frames.conform(made, frames.ORDERS, "mandate orders")


def _mandate_faults(rules: Rules, network: Network) -> list[tuple[OrderReject, pl.Expr]]:
    """The limits of domain §4 that intake holds signed orders to, for orders that never passed intake."""
    limit = pl.col("limit_uthb_per_kwh")
    named = [zone.zone_id for zone in network.zones]
    return [
        (OrderReject.ZONE_UNKNOWN, ~pl.col("zone_id").is_in(named)),
        (OrderReject.PRICE_BAND, ~limit.is_between(rules.price_min_uthb_per_kwh, rules.price_max_uthb_per_kwh)),
        (OrderReject.PRICE_TICK, limit % PRICE_TICK_UTHB_PER_KWH != 0),
    ]


def _with_net_limits(orders: pl.DataFrame, rules: Rules, network: Network) -> pl.DataFrame:
    wheeling = {zone.zone_id: zone.zone_wheeling_uthb_per_kwh for zone in network.zones}
    limit = pl.col("limit_uthb_per_kwh")
    return orders.with_columns(
        # a mandate may cover more than one order may hold: its order is held to the same bound
        energy_wh=pl.when("is_mandate")
        .then(pl.min_horizontal("energy_wh", pl.lit(rules.max_order_wh)))
        .otherwise("energy_wh"),
        net_limit_uthb_per_kwh=pl.when(pl.col("side") == int(Side.SELL))
        .then(ceil_div_expr(limit * BASIS_POINTS, BASIS_POINTS - rules.fee_bp))
        .otherwise(limit - pl.col("zone_id").replace_strict(wheeling, return_dtype=pl.Int64)),
    )


def _cover(book: pl.DataFrame, nets: pl.DataFrame, balances: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cut orders in priority order to the GRID held plus surplus (sells), to the THBC held at their limit (buys)."""
    held = nets.select("wallet", surplus=pl.col("net_wh").clip(lower_bound=0)).join(
        balances.select(pl.col("owner").alias("wallet"), "grid_wh", "thbc_uthb"), on="wallet", how="left"
    )
    sells = pl.col("side") == int(Side.SELL)
    ranked = (
        book.join(held, on="wallet", how="left")
        .with_columns(
            _rank=pl.when(sells).then("net_limit_uthb_per_kwh").otherwise(-pl.col("net_limit_uthb_per_kwh")),
            _cover=pl.when(sells)
            .then(pl.col("grid_wh").fill_null(0) + pl.col("surplus").fill_null(0))
            .otherwise(pl.col("thbc_uthb").fill_null(0)),
            _need=pl.when(sells)
            .then("energy_wh")
            .otherwise(value_ceil_expr(pl.col("energy_wh"), pl.col("limit_uthb_per_kwh"))),
        )
        .sort(PRIORITY)
    )
    covered = ranked.with_columns(
        covered_wh=pl.when(pl.col("_need").cum_sum().over("wallet") <= pl.col("_cover")).then("energy_wh").otherwise(-1)
    )
    # whole prefixes are decided in columns; only orders at or behind a wallet's cut are walked through
    short = _walk(covered.filter(pl.col("covered_wh").min().over("wallet") < 0))
    covered = covered.join(short, on="order_id", how="left").with_columns(
        covered_wh=pl.coalesce("cut_wh", "covered_wh")
    )
    kept, uncovered = _split(covered, [(OrderReject.NOT_COVERED, pl.col("covered_wh") == 0)])
    return kept.sort(PRIORITY).select(list(frames.BOOK)), uncovered


def _walk(short: pl.DataFrame) -> pl.DataFrame:
    left: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    columns = ("order_id", "wallet", "side", "energy_wh", "limit_uthb_per_kwh", "_cover")
    for order_id, wallet, side, energy, limit, cover in short.select(columns).iter_rows():
        rest = left.get(wallet, cover)
        # at the limit, all-in and rounded up: a buyer never owes more than is held, whatever the price becomes
        cut = min(energy, rest if side == Side.SELL else rest * WH_PER_KWH // limit)
        left[wallet] = rest - (cut if side == Side.SELL else value_ceil_uthb(cut, limit))
        rows.append({"order_id": order_id, "cut_wh": cut})
    return pl.DataFrame(rows, schema={"order_id": pl.Binary, "cut_wh": pl.Int64})

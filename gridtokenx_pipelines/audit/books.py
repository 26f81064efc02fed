"""Books of a whole range of epochs at once: what `market.book.build_book` makes epoch by epoch, in columns.

Belongs here: the rules of domain §4 with the epoch as one more key, so that 2 880 books cost what a few did. Does not
belong here: clearing. Written apart from the market's own code, an audit's book is a second opinion on it; a test holds
the two against each other on random books.
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.orders import OrderReject, Side, mandate_order_id
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.units import (
    BASIS_POINTS,
    PRICE_TICK_UTHB_PER_KWH,
    WH_PER_KWH,
    ceil_div_expr,
    value_ceil_expr,
    value_ceil_uthb,
)

BY_WALLET = ("epoch", "wallet")
FAULTS = {int(reason): reason.name.lower() for reason in OrderReject}
REJECTED = {**frames.BOOK_REJECTED}


def build_books(  # noqa: PLR0917
    orders: pl.DataFrame,
    mandates: pl.DataFrame,
    net_energy: pl.DataFrame,
    covers: pl.DataFrame,
    rules: Rules,
    network: Network,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Books (frames.BOOK, in priority order within each epoch) and rejected orders of all epochs in `net_energy`.

    `orders` live ones of all epochs; `net_energy` rows with epoch, of which revision 0 counts; `covers` (epoch, wallet,
    grid_wh, thbc_uthb): what each wallet's orders of that epoch may count on.
    """
    meters = net_energy.filter((pl.col("revision") == 0) & ~pl.col("missing")).select(
        "epoch", "meter_id", "wallet", "zone_id", "net_wh"
    )
    nets = meters.group_by(BY_WALLET).agg(pl.col("net_wh").sum(), pl.col("zone_id").min())
    in_force = mandates_in_force(mandates, nets)
    own, rejected = _admit(frames.conform(orders, frames.ORDERS, "orders"), meters, network, in_force)
    made = _mandate_orders(in_force, own, nets)
    made, refused = _split(made, _mandate_faults(rules, network))
    rejected.append(refused)
    book = _net_limits(pl.concat([own, made]), rules, network)
    book, refused = _split(book, [(OrderReject.NET_BID_NOT_POSITIVE, pl.col("net_limit_uthb_per_kwh") <= 0)])
    rejected.append(refused)
    book, refused = _cover(book, nets, covers)
    return book, pl.concat([*rejected, refused]).sort("epoch", "side", "order_id", "wallet")


def mandates_in_force(mandates: pl.DataFrame, nets: pl.DataFrame) -> pl.DataFrame:
    """Each epoch's and wallet's mandate: the one that began last, if it has not ended; with its order's id."""
    given = frames.conform(mandates, frames.MANDATES, "mandates").sort("effective_epoch")
    found = (
        nets.sort("epoch")
        .join_asof(given, left_on="epoch", right_on="effective_epoch", by="wallet", check_sortedness=False)
        .filter(
            pl.col("effective_epoch").is_not_null()
            & (pl.col("end_epoch").is_null() | (pl.col("end_epoch") > pl.col("epoch")))
        )
    )
    ids = [mandate_order_id(wallet, epoch) for epoch, wallet in found.select(BY_WALLET).iter_rows()]
    return found.with_columns(order_id=pl.Series(ids, dtype=pl.Binary))


def _split(orders: pl.DataFrame, faults: list[tuple[OrderReject, pl.Expr]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    code = pl.coalesce(*[pl.when(fault).then(pl.lit(int(reason))) for reason, fault in faults], pl.lit(0))
    judged = orders.with_columns(reason_code=code.cast(pl.Int64))
    bad = judged.filter(pl.col("reason_code") > 0).with_columns(
        reason=pl.col("reason_code").replace_strict(FAULTS, return_dtype=pl.String)
    )
    return judged.filter(pl.col("reason_code") == 0).drop("reason_code"), bad.select(list(REJECTED))


def _admit(
    own: pl.DataFrame, meters: pl.DataFrame, network: Network, in_force: pl.DataFrame
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    owner = meters.select("epoch", "meter_id", owner="wallet", meter_zone="zone_id")
    named = [zone.zone_id for zone in network.zones]
    judged = own.join(owner, on=["epoch", "meter_id"], how="left").sort(
        "epoch", "broker_us", "wallet", "nonce", "order_id"
    )
    kept, *dropped = _split(
        judged.with_columns(zone_id=pl.coalesce("meter_zone", "zone_id")),
        [
            (OrderReject.METER_MISSING, pl.col("owner").is_null()),
            (OrderReject.METER_NOT_OWNED, pl.col("owner") != pl.col("wallet")),
            (OrderReject.ZONE_UNKNOWN, ~pl.col("zone_id").is_in(named)),
        ],
    )
    mandates_ids = in_force.select("epoch", "order_id", is_taken=pl.lit(True))
    kept = kept.join(mandates_ids, on=["epoch", "order_id"], how="left", maintain_order="left")
    again = pl.struct("epoch", "order_id").is_first_distinct().not_()
    for fault in (
        (OrderReject.ORDER_ID_USED, pl.col("is_taken").is_not_null() | again),
        (OrderReject.SELF_TRADE, pl.col("side") != pl.col("side").first().over(BY_WALLET)),
    ):
        kept, refused = _split(kept, [fault])
        dropped.append(refused)
    return kept.select(list(frames.ORDERS)), dropped


def _mandate_orders(in_force: pl.DataFrame, own: pl.DataFrame, nets: pl.DataFrame) -> pl.DataFrame:
    placed = own.group_by(BY_WALLET).agg(own_side=pl.col("side").first(), own_wh=pl.col("energy_wh").sum())
    sells = pl.col("net_wh") > 0
    left = pl.col("net_wh").abs() - pl.col("own_wh").fill_null(0)
    made = (
        in_force.join(placed, on=BY_WALLET, how="left")
        .with_columns(
            side=sells.cast(pl.Int64),
            energy_wh=pl.min_horizontal(left, "max_wh"),
            limit_uthb_per_kwh=pl.when(sells).then("sell_min_uthb_per_kwh").otherwise("buy_max_uthb_per_kwh"),
        )
        .filter(
            (pl.col("energy_wh") > 0)
            & (pl.col("limit_uthb_per_kwh") > 0)
            & (pl.col("own_side").is_null() | (pl.col("own_side") == pl.col("side")))
        )
        .with_columns(
            meter_id=pl.lit(None, pl.String),
            nonce=pl.lit(0, pl.Int64),
            placed_at_us=pl.col("set_at_us"),
            broker_us=pl.col("set_at_us"),
            certificate_id=pl.lit(None, pl.Binary),
            is_mandate=pl.lit(True),
        )
    )
    return frames.conform(made, frames.ORDERS, "mandate orders")


def _mandate_faults(rules: Rules, network: Network) -> list[tuple[OrderReject, pl.Expr]]:
    limit = pl.col("limit_uthb_per_kwh")
    named = [zone.zone_id for zone in network.zones]
    return [
        (OrderReject.ZONE_UNKNOWN, ~pl.col("zone_id").is_in(named)),
        (OrderReject.PRICE_BAND, ~limit.is_between(rules.price_min_uthb_per_kwh, rules.price_max_uthb_per_kwh)),
        (OrderReject.PRICE_TICK, limit % PRICE_TICK_UTHB_PER_KWH != 0),
    ]


def _net_limits(orders: pl.DataFrame, rules: Rules, network: Network) -> pl.DataFrame:
    wheeling = {zone.zone_id: zone.zone_wheeling_uthb_per_kwh for zone in network.zones}
    limit = pl.col("limit_uthb_per_kwh")
    return orders.with_columns(
        energy_wh=pl.when("is_mandate")
        .then(pl.min_horizontal("energy_wh", pl.lit(rules.max_order_wh)))
        .otherwise("energy_wh"),
        net_limit_uthb_per_kwh=pl.when(pl.col("side") == int(Side.SELL))
        .then(ceil_div_expr(limit * BASIS_POINTS, BASIS_POINTS - rules.fee_bp))
        .otherwise(limit - pl.col("zone_id").replace_strict(wheeling, return_dtype=pl.Int64)),
    )


def _cover(book: pl.DataFrame, nets: pl.DataFrame, covers: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    held = nets.select(*BY_WALLET, surplus=pl.col("net_wh").clip(lower_bound=0)).join(
        covers.select(*BY_WALLET, "grid_wh", "thbc_uthb"), on=BY_WALLET, how="left"
    )
    sells = pl.col("side") == int(Side.SELL)
    priority = ["epoch", "side", "_rank", "broker_us", "order_id"]
    ranked = (
        book.join(held, on=BY_WALLET, how="left")
        .with_columns(
            _rank=pl.when(sells).then("net_limit_uthb_per_kwh").otherwise(-pl.col("net_limit_uthb_per_kwh")),
            _cover=pl.when(sells)
            .then(pl.col("grid_wh").fill_null(0) + pl.col("surplus").fill_null(0))
            .otherwise(pl.col("thbc_uthb").fill_null(0)),
            _need=pl.when(sells)
            .then("energy_wh")
            .otherwise(value_ceil_expr(pl.col("energy_wh"), pl.col("limit_uthb_per_kwh"))),
        )
        .sort(priority)
        .with_columns(_fits=pl.col("_need").cum_sum().over(BY_WALLET) <= pl.col("_cover"))
    )
    short = _walk(ranked.filter(~pl.col("_fits").all().over(BY_WALLET)))
    covered = ranked.join(short, on=["epoch", "order_id"], how="left", maintain_order="left").with_columns(
        covered_wh=pl.coalesce("cut_wh", "energy_wh")
    )
    kept, refused = _split(covered, [(OrderReject.NOT_COVERED, pl.col("covered_wh") == 0)])
    return kept.sort(priority).select(list(frames.BOOK)), refused


def _walk(short: pl.DataFrame) -> pl.DataFrame:
    """Orders of wallets that are not covered whole, cut one after the other in priority order."""
    left: dict[tuple[int, str], int] = {}
    rows = []
    columns = ("epoch", "order_id", "wallet", "side", "energy_wh", "limit_uthb_per_kwh", "_cover")
    for epoch, order_id, wallet, side, energy, limit, cover in short.select(columns).iter_rows():
        rest = left.get((epoch, wallet), cover)
        cut = min(energy, rest if side == Side.SELL else rest * WH_PER_KWH // limit)
        left[epoch, wallet] = rest - (cut if side == Side.SELL else value_ceil_uthb(cut, limit))
        rows.append((epoch, order_id, cut))
    return pl.DataFrame(rows, {"epoch": pl.Int64, "order_id": pl.Binary, "cut_wh": pl.Int64}, orient="row")

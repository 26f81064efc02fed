"""Clearing a book: mechanism, circuit breaker, and the result as frames (domain §5, contract.md).

Belongs here: `clear` and `ClearingResult`. Does not belong here: how a mechanism finds it (mechanisms), settlement.
The same book in any row order gives the same result, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.charges import charge, charge_per_order
from gridtokenx_pipelines.market.mechanisms import mechanism_named
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingCheckError, ClearingError, Int64s, Orders, Outcome
from gridtokenx_pipelines.market.pairing import pairs_of
from gridtokenx_pipelines.market.prices import halt_check
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.units import WH_PER_KWH

BUY, SELL = 0, 1


class ClearingResult(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of contract.md and their sums. `volume_wh` is bought Wh; `rent_uthb` is signed and covers all rounding.

    `halted`: the circuit breaker tripped and there are no trades; `halt_reasons` says why, `zones` has no prices then.
    """

    mechanism: str
    fills: pl.DataFrame
    matches: pl.DataFrame
    zones: pl.DataFrame
    flows: pl.DataFrame
    traded: pl.DataFrame
    lost_wh: int
    link_wheeling_uthb: int
    rent_uthb: int
    welfare_uthb: int
    volume_wh: int
    halted: bool
    halt_reasons: tuple[str, ...] = ()


def clear(
    book: pl.DataFrame,
    network: Network,
    rules: Rules,
    mechanism: str = "zonal",
    *,
    history: Mapping[int, Sequence[int]] | None = None,
) -> ClearingResult:
    """Clear a book (frames.BOOK) by a mechanism.

    `history`: earlier prices per zone, latest last; with it the circuit breaker may halt the epoch, without it is off.
    Raises ClearingError for a book or network that can't be cleared, ClearingCheckError for a result that fails its
    check, NotYetCleared for `continuous`.
    """
    find = mechanism_named(mechanism)
    ordered = _in_priority_order(book, network)
    orders = _columns(ordered)
    outcome = find(orders, network)
    halts = halt_check(outcome.prices, history, rules.halt_bound_bp) if history is not None else {}
    if halts:
        idle = Outcome(np.zeros_like(outcome.filled), dict.fromkeys(outcome.prices))
        return _result(
            ordered,
            orders,
            idle,
            mechanism=mechanism,
            network=network,
            rules=rules,
            halts=tuple(halts.values()),
        )
    return _result(ordered, orders, outcome, mechanism=mechanism, network=network, rules=rules, halts=())


def halted_result(
    book: pl.DataFrame, network: Network, rules: Rules, reason: str, mechanism: str = "zonal"
) -> ClearingResult:
    """The result of an epoch that an operator or an earlier halt keeps from trading."""
    ordered = _in_priority_order(book, network)
    idle = Outcome(np.zeros(ordered.height, np.int64), {zone.zone_id: None for zone in network.zones})
    return _result(ordered, _columns(ordered), idle, mechanism=mechanism, network=network, rules=rules, halts=(reason,))


def _in_priority_order(book: pl.DataFrame, network: Network) -> pl.DataFrame:
    book = frames.conform(book, frames.BOOK, "book")
    strange = set(book["zone_id"]) - {zone.zone_id for zone in network.zones}
    if strange:
        raise ClearingError(f"book names zones {sorted(strange)} that the network lacks; build it with this network")
    if book["order_id"].n_unique() != book.height:
        raise ClearingError(f"book has {book.height} rows but {book['order_id'].n_unique()} order ids; each once")
    people = book.select("wallet", "side").unique().height, book.select("wallet", "zone_id").unique().height
    if people != (book["wallet"].n_unique(),) * 2:
        raise ClearingError("a wallet stands on both sides or in two zones of the book; one side and zone an epoch")
    if book.height and (book.select("covered_wh", "net_limit_uthb_per_kwh").min_horizontal().min() or 0) <= 0:  # type: ignore[operator]
        raise ClearingError("book has an order without covered Wh or with a net limit of 0 or less; drop it first")
    limit = pl.col("net_limit_uthb_per_kwh")
    return book.sort("side", pl.when(pl.col("side") == BUY).then(-limit).otherwise(limit), "broker_us", "order_id")


def _columns(book: pl.DataFrame) -> Orders:
    numbers = [
        book[name].to_numpy() for name in ("side", "zone_id", "covered_wh", "net_limit_uthb_per_kwh", "broker_us")
    ]
    side, zone, wh, limit, time_us = numbers
    return Orders(side, zone, wh, limit, time_us, book["order_id"].to_list())


def _result(
    book: pl.DataFrame,
    orders: Orders,
    outcome: Outcome,
    *,
    mechanism: str,
    network: Network,
    rules: Rules,
    halts: tuple[str, ...],
) -> ClearingResult:
    pairs = outcome.pairs
    if pairs is None:
        pairs = pairs_of(orders, outcome)
    fills = book.with_columns(filled_wh=pl.Series(outcome.filled, dtype=pl.Int64))
    zones = _zones(fills, outcome, network)
    fills = (
        fills.filter(pl.col("filled_wh") > 0)
        .join(zones.select("zone_id", "price_uthb_per_kwh", "zone_wheeling_uthb_per_kwh"), on="zone_id", how="left")
        .sort("side", "order_id")
    )
    if outcome.pairs is None:
        signed = pl.when(pl.col("side") == BUY).then("filled_wh").otherwise(-pl.col("filled_wh"))
        traded = charge(fills.group_by("wallet", "zone_id").agg(traded_wh=signed.sum()), zones, rules.fee_bp)
    else:
        fills = fills.drop("price_uthb_per_kwh").join(_order_values(book, outcome), on="order_id", how="left")
        fills = fills.with_columns(price_uthb_per_kwh=pl.col("value_exact") // pl.col("filled_wh"))
        traded = charge_per_order(fills, rules.fee_bp)
    ids = book["order_id"].to_list()
    wallets = book["wallet"].to_list()
    matches = [
        (number, ids[pair.buy], ids[pair.sell], wallets[pair.buy], wallets[pair.sell], *pair[2:])
        for number, pair in enumerate(pairs, 1)
    ]
    flows = [
        (
            flow.link.link_id,
            flow.from_zone,
            flow.to_zone,
            flow.sent_wh,
            flow.delivered_wh,
            flow.sent_wh - flow.delivered_wh,
            flow.wheeling_uthb,
        )
        for flow in outcome.flows
    ]
    link_wheeling = sum(flow.wheeling_uthb for flow in outcome.flows)
    sums = {name: int(traded[name].sum()) for name in frames.TRADED if name not in ("wallet", "zone_id")}
    lost = sum(flow.sent_wh - flow.delivered_wh for flow in outcome.flows)
    if sums["traded_wh"] != -lost:
        raise ClearingCheckError(f"traded Wh added up to {sums['traded_wh']}, must be −{lost}, the Wh lost on links")
    return ClearingResult(
        mechanism=mechanism,
        fills=fills.select([pl.col(name).cast(kind) for name, kind in frames.FILLS.items()]),
        matches=pl.DataFrame(matches, schema=dict(frames.MATCHES), orient="row"),
        zones=zones,
        flows=pl.DataFrame(flows, schema=dict(frames.FLOWS), orient="row"),
        traded=traded,
        lost_wh=lost,
        link_wheeling_uthb=link_wheeling,
        rent_uthb=sums["cost_uthb"]
        - sums["proceeds_uthb"]
        - sums["fee_uthb"]
        - sums["zone_wheeling_uthb"]
        - link_wheeling,
        welfare_uthb=_welfare(orders, outcome.filled) - link_wheeling,
        volume_wh=int(outcome.filled[orders.side == BUY].sum()),
        halted=bool(halts),
        halt_reasons=halts,
    )


def _zones(filled: pl.DataFrame, outcome: Outcome, network: Network) -> pl.DataFrame:
    sums = filled.group_by("zone_id").agg(
        bought_wh=pl.col("filled_wh").filter(pl.col("side") == BUY).sum(),
        sold_wh=pl.col("filled_wh").filter(pl.col("side") == SELL).sum(),
    )
    rows = [
        (zone.zone_id, outcome.prices[zone.zone_id], zone.zone_wheeling_uthb_per_kwh)
        for zone in sorted(network.zones, key=lambda zone: zone.zone_id)
    ]
    schema = {name: frames.ZONES[name] for name in list(frames.ZONES)[:3]}
    return (
        pl.DataFrame(rows, schema=schema, orient="row")
        .join(sums, on="zone_id", how="left")
        .with_columns(pl.col("bought_wh", "sold_wh").fill_null(0))
        .sort("zone_id")
        .select(list(frames.ZONES))
    )


def _order_values(book: pl.DataFrame, outcome: Outcome) -> pl.DataFrame:
    """Exact Σ Wh × price of each order's own matches (µTHB/1000)."""
    values: dict[int, int] = {}
    for pair in outcome.pairs or ():
        for row in (pair.buy, pair.sell):
            values[row] = values.get(row, 0) + pair.energy_wh * pair.price_uthb_per_kwh
    ids = book["order_id"].to_list()
    rows = [(ids[row], value) for row, value in values.items()]
    return pl.DataFrame(rows, schema={"order_id": pl.Binary, "value_exact": pl.Int64}, orient="row")


def _welfare(orders: Orders, filled: Int64s) -> int:
    """Σ net bids of what was bought − Σ net asks of what was sold, down to the µTHB."""
    signed = np.where(orders.side == BUY, filled, -filled)
    return sum(int(wh) * int(limit) for wh, limit in zip(signed, orders.limit, strict=True) if wh) // WH_PER_KWH

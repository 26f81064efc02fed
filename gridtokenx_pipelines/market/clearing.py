"""Clearing a book: mechanism, circuit breaker, and the result as frames (domain §5, contract.md).

Belongs here: `clear` and `ClearingResult`. Does not belong here: how a mechanism finds it (mechanisms), what a book
must be (columns.py), settlement. The same book in any row order gives the same result, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.charges import charge, charge_per_order
from gridtokenx_pipelines.market.columns import Columns, columns_of
from gridtokenx_pipelines.market.kernel import Int64s, exact_dot, order_of
from gridtokenx_pipelines.market.mechanisms import run
from gridtokenx_pipelines.market.mechanisms.continuous import Breaker
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingCheckError, Orders, Outcome, Pairs
from gridtokenx_pipelines.market.pairing import pairs_of
from gridtokenx_pipelines.market.prices import halt_check
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.units import WH_PER_KWH


class ClearingResult(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of contract.md and their sums. `volume_wh` is bought Wh; `rent_uthb` is signed and covers all rounding.

    `halted`: the circuit breaker tripped; `halt_reasons` says why. A halted auction has no trades and no prices; in a
    continuous market, what traded before the halt stands.
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
    resumed_us: Sequence[int] = (),
    limits: Literal["rules"] | None = "rules",
    record: bool = True,
) -> ClearingResult:
    """Clear a book (frames.BOOK) by a mechanism.

    `history`: earlier prices per zone, latest last; with it the circuit breaker may halt the epoch, without it is off.
    A continuous market's breaker looks at its own last minute instead; `resumed_us`: when an operator resumed it.
    `limits=None`: a book from elsewhere, whose net limits may also be 0 or negative. `record=False`: who met whom is
    left out (`matches` is empty), fills and charges are the same.
    Raises ClearingError for a book or network that can't be cleared, ClearingCheckError for a result that fails its
    check.
    """
    columns = columns_of(book, network, positive_limits=limits is not None)
    breaker = Breaker(resumed_us=tuple(resumed_us)) if history is not None else None
    outcome = run(mechanism, columns.orders, network, breaker)
    tripped = halt_check(outcome.prices, history, rules.halt_bound_bp) if history is not None else {}
    if tripped:
        outcome = Outcome(
            np.zeros_like(outcome.filled), dict.fromkeys(outcome.prices), halts=tuple(tripped.values()), halted=True
        )
    return _result(columns, outcome, _Market(mechanism, network, rules), record=record)


def halted_result(
    book: pl.DataFrame, network: Network, rules: Rules, reason: str, mechanism: str = "zonal"
) -> ClearingResult:
    """The result of an epoch that an operator or an earlier halt keeps from trading."""
    columns = columns_of(book, network, positive_limits=False)
    prices: dict[int, int | None] = {zone.zone_id: None for zone in network.zones}
    idle = Outcome(np.zeros(book.height, np.int64), prices, halts=(reason,), halted=True)
    return _result(columns, idle, _Market(mechanism, network, rules), record=False)


class _Market(NamedTuple):
    """What a book was cleared under."""

    mechanism: str
    network: Network
    rules: Rules


def _result(columns: Columns, outcome: Outcome, market: _Market, *, record: bool) -> ClearingResult:
    book, orders = columns.book, columns.orders
    pairs = outcome.pairs
    if pairs is None and record:
        pairs = pairs_of(orders, outcome)
    zones = _zones(columns, outcome, market.network)
    fills = _fills(columns, outcome)
    if outcome.pairs is None:
        traded = charge(_traded(columns, outcome.filled), zones, market.rules.fee_bp)
    else:
        charged = fills.join(zones.select("zone_id", "zone_wheeling_uthb_per_kwh"), on="zone_id", how="left")
        traded = charge_per_order(charged, market.rules.fee_bp)
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
        mechanism=market.mechanism,
        fills=frames.conform(fills, frames.FILLS, "fills"),
        matches=_matches(book, pairs if record else None),
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
        welfare_uthb=_welfare_uthb(orders, outcome.filled) - link_wheeling,
        volume_wh=int(outcome.filled[~orders.is_sell].sum()),
        halted=outcome.halted,
        halt_reasons=outcome.halts,
    )


def _zones(columns: Columns, outcome: Outcome, network: Network) -> pl.DataFrame:
    by_id = sorted(network.zones, key=lambda zone: zone.zone_id)
    sums = np.zeros(2 * len(by_id), np.int64)
    np.add.at(sums, columns.zone_place * 2 + columns.orders.side, outcome.filled)
    frame = {
        "zone_id": [zone.zone_id for zone in by_id],
        "price_uthb_per_kwh": [outcome.prices[zone.zone_id] for zone in by_id],
        "zone_wheeling_uthb_per_kwh": [zone.zone_wheeling_uthb_per_kwh for zone in by_id],
        "bought_wh": sums[::2],
        "sold_wh": sums[1::2],
    }
    return pl.DataFrame(frame, schema=dict(frames.ZONES))


def _fills(columns: Columns, outcome: Outcome) -> pl.DataFrame:
    """frames.FILLS, by side and id; with `value_exact` where matches have prices of their own."""
    orders = columns.orders
    some = outcome.filled > 0
    sides = (np.flatnonzero(some & ~orders.is_sell), np.flatnonzero(some & orders.is_sell))
    rows = np.concatenate([part[order_of(orders.ids.keys(part))] for part in sides])
    filled = outcome.filled[rows]
    if outcome.pairs is None:
        prices = np.array([outcome.prices[zone] or 0 for zone in sorted(outcome.prices)], np.int64)
        extra = {"price_uthb_per_kwh": prices[columns.zone_place[rows]]}
    else:
        exact = _order_values(outcome.pairs, len(orders.side))[rows]
        extra = {"price_uthb_per_kwh": exact // filled, "value_exact": exact}
    found = columns.book.select("order_id", "wallet", "zone_id", "side", "is_mandate")[rows]
    found = found.with_columns(filled_wh=pl.Series(filled), **{name: pl.Series(each) for name, each in extra.items()})
    return found.select(*frames.FILLS, *(name for name in extra if name not in frames.FILLS))


def _traded(columns: Columns, filled: Int64s) -> pl.DataFrame:
    """Wh bought and sold per wallet with fills: wallet, zone_id, traded_wh (bought +, sold −), bought_wh, sold_wh."""
    n_wallets = len(columns.wallet_row)
    if n_wallets == len(filled):  # an order a wallet
        filled = filled[columns.wallet_row]
        sold = filled * columns.orders.is_sell[columns.wallet_row]
        bought = filled - sold
    else:
        sums = np.zeros(2 * n_wallets, np.int64)
        np.add.at(sums, columns.wallet + columns.orders.is_sell * n_wallets, filled)
        bought, sold = sums.reshape(2, -1)
    some = np.flatnonzero(bought + sold)
    return columns.book.select("wallet", "zone_id")[columns.wallet_row[some]].with_columns(
        traded_wh=pl.Series(bought[some] - sold[some]),
        bought_wh=pl.Series(bought[some]),
        sold_wh=pl.Series(sold[some]),
    )


def _matches(book: pl.DataFrame, pairs: Pairs | None) -> pl.DataFrame:
    if pairs is None:
        return frames.frame(frames.MATCHES)
    ids, wallets = book["order_id"], book["wallet"]
    columns = {
        "match_id": np.arange(1, len(pairs.buy) + 1),
        "buy_order_id": ids.gather(pairs.buy),
        "sell_order_id": ids.gather(pairs.sell),
        "buyer": wallets.gather(pairs.buy),
        "seller": wallets.gather(pairs.sell),
        "energy_wh": pairs.energy_wh,
        "price_uthb_per_kwh": pairs.price_uthb_per_kwh,
    }
    return pl.DataFrame(columns, schema=dict(frames.MATCHES))


def _order_values(pairs: Pairs, n_orders: int) -> Int64s:
    """Exact Σ Wh × price of each order's own matches (µTHB/1000)."""
    values = np.zeros(n_orders, np.int64)
    worth = pairs.energy_wh * pairs.price_uthb_per_kwh
    np.add.at(values, pairs.buy, worth)
    np.add.at(values, pairs.sell, worth)
    return values


def _welfare_uthb(orders: Orders, filled: Int64s) -> int:
    """Σ net bids of what was bought − Σ net asks of what was sold, down to the µTHB."""
    return (exact_dot(filled, orders.limit) - 2 * exact_dot(filled * orders.is_sell, orders.limit)) // WH_PER_KWH

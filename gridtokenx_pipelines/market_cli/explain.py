"""Why an order was or wasn't filled, in words, from the frozen book and result of its epoch.

Belongs here: reading the rules of domain §5 backwards for one order. Does not belong here: finding orders that never
came into a book (traces.py), files (folder.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.market_cli.folder import History
from gridtokenx_pipelines.units import (
    BASIS_POINTS,
    PRICE_TICK_UTHB_PER_KWH,
    ceil_div,
    kwh,
    thb,
    value_ceil_uthb,
    value_floor_uthb,
)

BUY, SELL = 0, 1
SIDE = {BUY: "buy", SELL: "sell"}
PRICE = "THB/kWh"
FILLED, PARTLY, NOT_FILLED, REFUSED = "filled", "partly_filled", "not_filled", "refused"
WHY_REFUSED = {
    "meter_missing": "its meter had no reading at a boundary of the epoch",
    "meter_not_owned": "its meter belongs to another wallet",
    "zone_unknown": "its zone is not one of the network's",
    "order_id_used": "an earlier order has the same id",
    "self_trade": "its wallet had an earlier order on the other side, and a wallet has one side an epoch",
    "price_band": "its limit lies outside the market's price band",
    "price_tick": "its limit lies off the tick",
    "net_bid_not_positive": "its limit doesn't even cover the zone's wheeling",
    "not_covered": "nothing of it was covered by what its wallet held, after its orders with better priority",
}


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict (filled, partly_filled, not_filled, refused, cancelled, unknown) and its reasons, one a line."""

    order_id: str
    epoch: str
    verdict: str
    words: list[str]


class _Case(msgspec.Struct, frozen=True):
    order: dict[str, Any]
    history: History
    network: Network
    rules: Rules
    mechanism: str
    filled: int
    price: int | None

    @property
    def buys(self) -> bool:
        return bool(self.order["side"] == BUY)

    @property
    def net(self) -> int:
        return int(self.order["net_limit_uthb_per_kwh"])

    @property
    def wheeling(self) -> int:
        zones = {zone.zone_id: zone.zone_wheeling_uthb_per_kwh for zone in self.network.zones}
        return zones.get(self.order["zone_id"], 0)


def explain(
    order: dict[str, Any], history: History, network: Network, rules: Rules, *, mechanism: str, halted: bool
) -> Explanation:
    """Explain an order of the epoch's book (a row of frames.BOOK)."""
    mine = history.fills.filter(pl.col("order_id") == order["order_id"])
    zone = history.zones.filter(pl.col("zone_id") == order["zone_id"])
    case = _Case(
        order,
        history,
        network,
        rules,
        mechanism,
        int(mine["filled_wh"].sum()),
        zone["price_uthb_per_kwh"].item() if zone.height else None,
    )
    verdict = FILLED if case.filled == order["covered_wh"] else PARTLY if case.filled else NOT_FILLED
    words = [*_what(case), *(_halted() if halted else _why(case, mine)), *_links(case)]
    return _explanation(order, verdict, words)


def explain_refused(order: dict[str, Any]) -> Explanation:
    """Explain an order that was dropped when the book was built (a row of frames.BOOK_REJECTED)."""
    why = WHY_REFUSED.get(order["reason"], order["reason"].replace("_", " "))
    words = [_order_words(order), f"it did not enter the book: {why} ({order['reason']})"]
    return _explanation(order, REFUSED, words)


def _explanation(order: dict[str, Any], verdict: str, words: list[str]) -> Explanation:
    return Explanation(
        order_id=order["order_id"].hex(), epoch=key_of(int(order["epoch"])), verdict=verdict, words=words
    )


def _order_words(order: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(order["broker_us"] / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    bound = "at most" if order["side"] == BUY else "at least"
    whose = "made from a mandate" if order["is_mandate"] else "placed"
    return (
        f"{SIDE[order['side']]} order of {order['wallet']} in zone {order['zone_id']}: {kwh(order['energy_wh'])} kWh "
        f"for {bound} {thb(order['limit_uthb_per_kwh'])} {PRICE} with all charges, {whose} at {at}"
    )


def _what(case: _Case) -> Iterator[str]:
    order = case.order
    yield _order_words(order)
    if order["covered_wh"] < order["energy_wh"]:
        held = "the THBC it held at its limit" if case.buys else "the GRID it held and the epoch's surplus"
        yield f"cut to {kwh(order['covered_wh'])} kWh, which is what {held} covered"
    if case.net != order["limit_uthb_per_kwh"]:
        charge = (
            f"less the zone's wheeling of {thb(case.wheeling)} it competes as a bid at"
            if case.buys
            else f"with the fee of {case.rules.fee_bp / 100:g} % it competes as an offer at"
        )
        yield f"{charge} {thb(case.net)} {PRICE}"


def _halted() -> Iterator[str]:
    yield "the epoch was halted: it has no trades"


def _why(case: _Case, mine: pl.DataFrame) -> Iterator[str]:
    if case.filled:
        yield from _traded(case, mine)
    if case.filled == case.order["covered_wh"]:
        return
    if case.price is None:
        yield from _no_price(case)
    elif case.net == case.price:
        yield from _at_the_price(case)
    elif (case.net > case.price) if case.buys else (case.net < case.price):
        # losses round down on every link, so a Wh of an order that would gain can be left over
        yield "the rest was rounded away: losses on links are rounded to whole Wh"
    else:
        yield from _too_dear(case)


def _traded(case: _Case, mine: pl.DataFrame) -> Iterator[str]:
    filled, whole = case.filled, case.order["covered_wh"]
    part = "whole" if filled == whole else f"in part, {kwh(filled)} of {kwh(whole)} kWh"
    price = int(mine["price_uthb_per_kwh"].item())
    yield f"filled {part}, at {thb(price)} {PRICE} ({case.mechanism})"
    if case.price is not None and case.net != price:
        better = "below its bid" if case.buys else "above its offer"
        yield f"that is {thb(abs(case.net - price))} {PRICE} {better}"
    matches = case.history.matches.filter(
        pl.col("buy_order_id" if case.buys else "sell_order_id") == case.order["order_id"]
    )
    prices = sorted(set(matches["price_uthb_per_kwh"].to_list()))
    if case.price is None and len(prices) > 1:
        yield f"from {matches.height} matches at {thb(prices[0])} to {thb(prices[-1])} {PRICE}"
    if case.buys:
        cost = value_ceil_uthb(filled, price + case.wheeling)
        yield f"with wheeling it pays about {thb(cost)} THB (charges are summed once per wallet)"
    else:
        value = value_floor_uthb(filled, price)
        earned = value - value * case.rules.fee_bp // BASIS_POINTS
        yield f"after the fee it earns about {thb(earned)} THB (charges are summed once per wallet)"


def _no_price(case: _Case) -> Iterator[str]:
    """No one price: nothing traded in the zone, or each match has its own."""
    one_area = case.mechanism != "zonal"
    others = case.history.book.filter(pl.col("side") != case.order["side"])
    if not one_area:
        others = others.filter(pl.col("zone_id") == case.order["zone_id"])
    filled = case.history.fills.select("order_id", "filled_wh")
    left = others.join(filled, on="order_id", how="left").filter(
        pl.col("filled_wh").fill_null(0) < pl.col("covered_wh")
    )
    where = "the market" if one_area else "its zone"
    kind = "offer" if case.buys else "bid"
    rest = "the rest" if case.filled else "it"
    if left.is_empty():
        if others.is_empty():
            yield f"{rest} found no counterpart: there was no {kind} in {where}"
        else:
            yield f"{rest} found no counterpart: orders with better priority took every {kind} in {where}"
        return
    nets = left["net_limit_uthb_per_kwh"]
    best = int(nets.min() if case.buys else nets.max())  # type: ignore[arg-type] # not empty
    word = "lowest offer" if case.buys else "highest bid"
    yield f"{rest} found no counterpart: the {word} left in {where} competed at {thb(best)} {PRICE}"


def _at_the_price(case: _Case) -> Iterator[str]:
    book, order = case.history.book, case.order
    peers = book.filter(
        (pl.col("side") == order["side"])
        & (pl.col("zone_id") == order["zone_id"])
        & (pl.col("net_limit_uthb_per_kwh") == case.net)
        & (
            (pl.col("broker_us") < order["broker_us"])
            | ((pl.col("broker_us") == order["broker_us"]) & (pl.col("order_id") < order["order_id"]))
        )
    )
    yield f"its net limit is the zone's price, {thb(case.net)} {PRICE}: it is marginal, only part at it could trade"
    if peers.height:
        energy = kwh(int(peers["covered_wh"].sum()))
        yield f"{peers.height} orders at the same price in its zone came before it by time or id, with {energy} kWh"


def _too_dear(case: _Case) -> Iterator[str]:
    price = case.price or 0
    if case.buys:
        needed = ceil_div(price + case.wheeling, PRICE_TICK_UTHB_PER_KWH) * PRICE_TICK_UTHB_PER_KWH
        words = f"its bid was below the zone's price of {thb(price)}; a limit of at least {thb(needed)} {PRICE}"
    else:
        after = price * (BASIS_POINTS - case.rules.fee_bp) // BASIS_POINTS
        needed = after // PRICE_TICK_UTHB_PER_KWH * PRICE_TICK_UTHB_PER_KWH
        words = f"its offer was above the zone's price of {thb(price)}; a limit of at most {thb(needed)} {PRICE}"
    yield f"{words} would have reached the price"


def _links(case: _Case) -> Iterator[str]:
    """What joined or parted the zone from its neighbours."""
    zone = case.order["zone_id"]
    if case.mechanism != "zonal":
        return
    prices = dict(case.history.zones.select("zone_id", "price_uthb_per_kwh").iter_rows())
    sent = {row["link_id"]: row for row in case.history.flows.iter_rows(named=True) if row["sent_wh"]}
    for link in case.network.links:
        if zone not in (link.from_zone, link.to_zone):
            continue
        other = link.to_zone if link.from_zone == zone else link.from_zone
        price = prices.get(other)
        there = f"zone {other} at {thb(price)} {PRICE}" if price is not None else f"zone {other} without a price"
        flow = sent.get(link.link_id)
        if flow is None:
            yield f"link {link.link_id} to {there} was idle"
            continue
        forward = flow["from_zone"] == link.from_zone
        capacity = link.capacity_forward_wh if forward else link.capacity_backward_wh
        full = flow["sent_wh"] >= capacity
        way = "sent to" if flow["from_zone"] == zone else "brought from"
        yield (
            f"link {link.link_id} {way} {there} {kwh(flow['sent_wh'])} of {kwh(capacity)} kWh: "
            + ("full, so it keeps the prices apart" if full else "not full, so it couples the prices")
        )

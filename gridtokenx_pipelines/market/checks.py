"""A slow second opinion on a clearing: everything recomputed from the book in plain integers, row by row.

Belongs here: `faults_of`, which trusts no number of the result and shares no code with the mechanisms.
Does not belong here: clearing; Dagster's checks (they call this).
An optimum is proven by its certificate: no order left out and no link could still gain at the result's prices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import polars as pl

from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market.rules import Link, Network, Rules

BUY, SELL = 0, 1
MILLION = 1_000_000
ENERGY, MONEY, LIMITS, BAND, OPTIMUM, RECORD = "energy", "money", "limits", "band", "optimum", "record"
NO_CEILING = 10**15
PRICED_BY_MATCH = ("pay_as_bid", "continuous")
Row = dict[str, Any]


class Fault(NamedTuple):
    """What doesn't hold: which check, and value and bound."""

    check: str
    detail: str


class _Case(NamedTuple):
    """A result by rows, with the orders it was made from."""

    orders: dict[bytes, Row]
    filled: dict[bytes, int]
    zones: dict[int, Row]
    flows: list[Row]
    links: dict[int, Link]
    traded: dict[str, Row]
    matches: list[Row]
    result: ClearingResult
    rules: Rules
    own: set[str]
    sums: dict[tuple[str, int], int]


def faults_of(book: pl.DataFrame, result: ClearingResult, network: Network, rules: Rules) -> list[Fault]:
    """All that is wrong with a result of this book; an empty list is a pass. Frames as in contract.md."""
    orders = {row["order_id"]: row for row in book.iter_rows(named=True)}
    filled: dict[bytes, int] = dict(result.fills.select("order_id", "filled_wh").rows())
    sums: dict[tuple[str, int], int] = defaultdict(int)
    for ident, wh in filled.items():
        if ident in orders:
            sums[orders[ident]["wallet"], orders[ident]["side"]] += wh
    case = _Case(
        orders=orders,
        filled=filled,
        zones={row["zone_id"]: row for row in result.zones.iter_rows(named=True)},
        flows=result.flows.to_dicts(),
        links={link.link_id: link for link in network.links},
        traded={row["wallet"]: row for row in result.traded.iter_rows(named=True)},
        matches=result.matches.to_dicts(),
        result=result,
        rules=rules,
        own=_on_both_sides(book),
        sums=sums,
    )
    parts = [_fills(case), _energy(case), _flows(case), _money(case), _limits(case), _band(case), _record(case)]
    found = [fault for part in parts for fault in part]
    if not found and not result.halted:
        found += list(_largest_volume(case) if result.mechanism != "zonal" else _equilibrium(case))
    return found


def _on_both_sides(book: pl.DataFrame) -> set[str]:
    """Wallets that could trade with themselves: what only their own orders could take is rightly left out."""
    sides: dict[str, set[int]] = defaultdict(set)
    for wallet, side in book.select("wallet", "side").iter_rows():
        sides[wallet].add(side)
    return {wallet for wallet, both in sides.items() if len(both) > 1}


def _fills(case: _Case) -> Iterator[Fault]:
    for ident, wh in case.filled.items():
        order = case.orders.get(ident)
        if order is None:
            yield Fault(ENERGY, f"order {ident.hex()} was filled but is not in the book")
        elif not 0 < wh <= order["covered_wh"]:
            yield Fault(ENERGY, f"order {ident.hex()} got {wh} Wh, must lie in 1…{order['covered_wh']}")
    is_auction = case.result.mechanism != "continuous"  # what traded before its halt stands there
    if case.result.halted and is_auction and (case.filled or case.traded or case.matches):
        yield Fault(ENERGY, f"a halted epoch had {len(case.filled)} fills, must have none")


def _energy(case: _Case) -> Iterator[Fault]:
    sums: dict[tuple[int, int], int] = defaultdict(int)
    wallets: dict[str, int] = defaultdict(int)
    for ident, wh in case.filled.items():
        if ident in case.orders:
            order = case.orders[ident]
            sums[order["zone_id"], order["side"]] += wh
            wallets[order["wallet"]] += wh if order["side"] == BUY else -wh
    for zone, row in case.zones.items():
        if (row["bought_wh"], row["sold_wh"]) != (sums[zone, BUY], sums[zone, SELL]):
            yield Fault(ENERGY, f"zone {zone} reports {row}, fills add up to {sums[zone, BUY]} and {sums[zone, SELL]}")
        arrived = sum(flow["delivered_wh"] for flow in case.flows if flow["to_zone"] == zone)
        sent = sum(flow["sent_wh"] for flow in case.flows if flow["from_zone"] == zone)
        across = case.result.mechanism == "zonal"  # the other mechanisms see one area
        if across and sums[zone, SELL] + arrived != sums[zone, BUY] + sent:
            yield Fault(ENERGY, f"zone {zone}: sold + arrived − bought − sent is not 0 Wh")
    if wallets != {name: row["traded_wh"] for name, row in case.traded.items()}:
        yield Fault(ENERGY, "traded Wh per wallet differ from the fills")
    lost = sum(flow["sent_wh"] - flow["delivered_wh"] for flow in case.flows)
    if case.result.lost_wh != lost or sum(wallets.values()) != -lost:
        yield Fault(ENERGY, f"lost was {case.result.lost_wh} Wh, links lost {lost}, trades {-sum(wallets.values())}")
    bought = sum(wh for (_, side), wh in sums.items() if side == BUY)
    if case.result.volume_wh != bought:
        yield Fault(ENERGY, f"volume was {case.result.volume_wh} Wh, fills bought {bought}")


def _flows(case: _Case) -> Iterator[Fault]:
    seen: set[int] = set()
    for flow in case.flows:
        link = case.links.get(flow["link_id"])
        ends = (flow["from_zone"], flow["to_zone"])
        if link is None or set(ends) != {link.from_zone, link.to_zone} or flow["link_id"] in seen:
            yield Fault(ENERGY, f"flow {flow} is not over one link of the network, once")
            continue
        seen.add(flow["link_id"])
        capacity = link.capacity_forward_wh if ends[0] == link.from_zone else link.capacity_backward_wh
        sent = flow["sent_wh"]
        expected = sent - -(-sent * link.loss_ppm // MILLION)  # the loss rounded up is the delivery rounded down
        if not 0 <= sent <= max(capacity, 0) or flow["delivered_wh"] != expected:
            yield Fault(ENERGY, f"flow {flow} must send 0…{capacity} Wh and deliver {expected}")
        if flow["lost_wh"] != sent - expected:
            yield Fault(ENERGY, f"flow {flow} must lose {sent - expected} Wh")
        if flow["wheeling_uthb"] != -(-sent * link.link_wheeling_uthb_per_kwh // 1_000):
            yield Fault(MONEY, f"flow {flow} has the wrong link wheeling")


def _money(case: _Case) -> Iterator[Fault]:
    total: dict[str, int] = defaultdict(int)
    for wallet, row in case.traded.items():
        for name, amount in row.items():
            if name.endswith("_uthb"):
                total[name] += amount
        if row["zone_wheeling_uthb"] != row["cost_uthb"] - row["energy_cost_uthb"]:
            yield Fault(MONEY, f"{wallet}: wheeling is not the cost's rest in {row}")
        if row["proceeds_uthb"] != row["value_uthb"] - row["fee_uthb"]:
            yield Fault(MONEY, f"{wallet}: proceeds are not value less fee in {row}")
        if case.result.mechanism not in PRICED_BY_MATCH:
            yield from _uniform_charges(case, wallet, row)
    wheeling = sum(flow["wheeling_uthb"] for flow in case.flows)
    if case.result.link_wheeling_uthb != wheeling:
        yield Fault(MONEY, f"link wheeling was {case.result.link_wheeling_uthb} µTHB, flows add up to {wheeling}")
    paid_on = total["proceeds_uthb"] + total["fee_uthb"] + total["zone_wheeling_uthb"] + wheeling
    if total["cost_uthb"] != paid_on + case.result.rent_uthb:
        yield Fault(MONEY, f"costs {total['cost_uthb']} µTHB, paid on {paid_on}, rent {case.result.rent_uthb}")


def _uniform_charges(case: _Case, wallet: str, row: Row) -> Iterator[Fault]:
    zone, bought, sold = case.zones[row["zone_id"]], case.sums[wallet, BUY], case.sums[wallet, SELL]
    price, wheeling = zone["price_uthb_per_kwh"], zone["zone_wheeling_uthb_per_kwh"]
    if price is None:
        yield Fault(MONEY, f"{wallet} traded in zone {row['zone_id']}, which has no price")
        return
    value = sold * price // 1_000
    expected = {
        "cost_uthb": -(-bought * (price + wheeling) // 1_000),
        "energy_cost_uthb": bought * price // 1_000,
        "value_uthb": value,
        "fee_uthb": max(value, 0) * case.rules.fee_bp // 10_000,
    }
    wrong = {name: (row[name], amount) for name, amount in expected.items() if row[name] != amount}
    if wrong:
        yield Fault(MONEY, f"{wallet}: charges (given, expected) {wrong}")


def _limits(case: _Case) -> Iterator[Fault]:
    """All-in, as the chain judges: a wallet's whole trade against the strictest limit among its filled orders."""
    by_wallet: dict[tuple[str, int], list[tuple[Row, int]]] = defaultdict(list)
    for ident, wh in case.filled.items():
        if ident in case.orders:
            by_wallet[case.orders[ident]["wallet"], case.orders[ident]["side"]].append((case.orders[ident], wh))
    for (wallet, _), filled in by_wallet.items():
        row, total = case.traded.get(wallet), sum(wh for _, wh in filled)
        if row is None or (row["traded_wh"] == 0 and wallet not in case.own):
            yield Fault(LIMITS, f"{wallet} has fills but no charges")
            continue
        worth = sum(order["limit_uthb_per_kwh"] * wh for order, wh in filled)
        if filled[0][0]["side"] == BUY:
            if row["cost_uthb"] * 1_000 > worth:
                yield Fault(LIMITS, f"{wallet} pays {row['cost_uthb']} µTHB, its limits allow {worth // 1_000}")
        elif row["proceeds_uthb"] * 1_000 < worth:
            yield Fault(LIMITS, f"{wallet} gets {row['proceeds_uthb']} µTHB, its limits ask for {worth / 1_000}")
        zone = case.zones[row["zone_id"]]
        price = zone["price_uthb_per_kwh"]
        for order, _ in filled:
            limit = order["limit_uthb_per_kwh"]
            if price is None:
                continue
            if order["side"] == BUY and price + zone["zone_wheeling_uthb_per_kwh"] > limit:
                yield Fault(LIMITS, f"{wallet} pays {price} µTHB/kWh and wheeling, its limit was {limit}")
            if order["side"] == SELL and limit * total > 1_000 * row["proceeds_uthb"]:
                yield Fault(LIMITS, f"{wallet} gets {row['proceeds_uthb']} µTHB at limit {limit}")


def _band(case: _Case) -> Iterator[Fault]:
    low, high = case.rules.price_min_uthb_per_kwh, case.rules.price_max_uthb_per_kwh
    for zone, row in case.zones.items():
        price = row["price_uthb_per_kwh"]
        if price is not None and not low <= price <= high:
            yield Fault(BAND, f"price of zone {zone} was {price} µTHB/kWh, must lie in {low}…{high}")
        if price is not None and case.result.halted:
            yield Fault(BAND, f"zone {zone} of a halted epoch has a price")


def _record(case: _Case) -> Iterator[Fault]:
    """Matches give every buyer exactly its fill, and no seller more than its own."""
    paired: dict[bytes, int] = defaultdict(int)
    for match in case.matches:
        paired[match["buy_order_id"]] += match["energy_wh"]
        paired[match["sell_order_id"]] += match["energy_wh"]
    for match in case.matches:
        if match["buyer"] == match["seller"]:
            yield Fault(RECORD, f"match {match['match_id']}: {match['buyer']} trades with itself")
    unlost = case.result.lost_wh == 0
    for ident, wh in case.filled.items():
        exact = unlost or (ident in case.orders and case.orders[ident]["side"] == BUY)
        if paired[ident] > wh or (exact and paired[ident] != wh):
            yield Fault(RECORD, f"order {ident.hex()} was filled with {wh} Wh, its matches add up to {paired[ident]}")


def _largest_volume(case: _Case) -> Iterator[Fault]:
    limits = {order["net_limit_uthb_per_kwh"] for order in case.orders.values()}
    best = 0
    if case.own or case.result.mechanism == "continuous":
        limits, best = set(), case.result.volume_wh  # no one price says how much can be traded
    for price in limits:
        sides = [0, 0]
        for order in case.orders.values():
            limit = order["net_limit_uthb_per_kwh"]
            if limit >= price if order["side"] == BUY else limit <= price:
                sides[order["side"]] += order["covered_wh"]
        best = max(best, min(sides))
    if case.result.volume_wh != best:
        yield Fault(OPTIMUM, f"volume was {case.result.volume_wh} Wh, {best} can be traded")
    for match in case.matches:
        price = match["price_uthb_per_kwh"]
        bid, ask = case.orders[match["buy_order_id"]], case.orders[match["sell_order_id"]]
        if not ask["net_limit_uthb_per_kwh"] <= price <= bid["net_limit_uthb_per_kwh"]:
            yield Fault(OPTIMUM, f"match {match['match_id']} at {price} µTHB/kWh lies outside its orders' net limits")


def _equilibrium(case: _Case) -> Iterator[Fault]:
    """No order and no link could still gain: within one µTHB a hop, and one Wh a zone and lossy link at it."""
    yield from _served(case)
    sent = {(flow["from_zone"], flow["link_id"]): flow["sent_wh"] for flow in case.flows}
    ways = [
        _Way(link, start, end, capacity, sent.get((start, link.link_id), 0))
        for link in case.links.values()
        for start, end, capacity in (
            (link.from_zone, link.to_zone, link.capacity_forward_wh),
            (link.to_zone, link.from_zone, link.capacity_backward_wh),
        )
    ]
    yield from _no_link_gains(case, ways)
    for way in ways:
        prices = case.zones[way.start]["price_uthb_per_kwh"], case.zones[way.end]["price_uthb_per_kwh"]
        if way.sent and None in prices:
            yield Fault(OPTIMUM, f"link {way.link.link_id} sends {way.sent} Wh between zones without prices {prices}")
        elif way.sent:
            gain = prices[1] * way.kept - (prices[0] + way.link.link_wheeling_uthb_per_kwh) * MILLION
            if gain < -MILLION:
                yield Fault(OPTIMUM, f"link {way.link.link_id} sends {way.sent} Wh at a loss of {-gain} ppm µTHB/kWh")


class _Way(NamedTuple):
    """A link in one direction."""

    link: Link
    start: int
    end: int
    capacity: int
    sent: int

    @property
    def kept(self) -> int:
        """Parts per million that arrive."""
        return MILLION - self.link.loss_ppm


def _served(case: _Case) -> Iterator[Fault]:
    spare = dict.fromkeys(case.zones, 1)
    for link in case.links.values():
        for zone in (link.from_zone, link.to_zone):
            spare[zone] += link.loss_ppm > 0
    left_out: dict[int, int] = defaultdict(int)
    for ident, order in case.orders.items():
        zone, limit = order["zone_id"], order["net_limit_uthb_per_kwh"]
        price = case.zones[zone]["price_uthb_per_kwh"]
        if order["wallet"] in case.own:
            continue
        if price is not None and (limit > price if order["side"] == BUY else limit < price):
            left_out[zone] += order["covered_wh"] - case.filled.get(ident, 0)
    together = _coupled(case)
    for zone, wh in left_out.items():
        allowed = sum(spare[other] for other in together[zone])
        if wh > allowed:
            yield Fault(OPTIMUM, f"zone {zone} left out {wh} Wh that would gain, at most {allowed} round away")


def _coupled(case: _Case) -> dict[int, list[int]]:
    """For each zone, the zones that flows couple it to: what links round away adds up among them."""
    together = {zone: [zone] for zone in case.zones}
    for flow in case.flows:
        ends = flow["from_zone"], flow["to_zone"]
        prices = [case.zones[zone]["price_uthb_per_kwh"] for zone in ends]
        link = case.links[flow["link_id"]]
        if flow["sent_wh"] and None not in prices and together[ends[0]] is not together[ends[1]]:
            gain = prices[1] * (MILLION - link.loss_ppm) - (prices[0] + link.link_wheeling_uthb_per_kwh) * MILLION
            if abs(gain) <= MILLION:
                joined = together[ends[0]] + together[ends[1]]
                together |= dict.fromkeys(joined, joined)
    return together


def _no_link_gains(case: _Case, ways: list[_Way]) -> Iterator[Fault]:
    """Zones with a price are held to it; an idle zone must leave room for one at which nothing gains."""
    lowest = {zone: Fraction(row["price_uthb_per_kwh"] or 0) for zone, row in case.zones.items()}
    highest = {zone: Fraction(row["price_uthb_per_kwh"] or NO_CEILING) for zone, row in case.zones.items()}
    for order in case.orders.values():
        zone, limit = order["zone_id"], Fraction(order["net_limit_uthb_per_kwh"])
        if case.zones[zone]["price_uthb_per_kwh"] is None and order["wallet"] not in case.own:
            if order["side"] == BUY:
                lowest[zone] = max(lowest[zone], limit)
            else:
                highest[zone] = min(highest[zone], limit)
    lossy: dict[int, int] = defaultdict(int)
    for link in case.links.values():
        for zone in (link.from_zone, link.to_zone):
            lossy[zone] += link.loss_ppm > 0
    together = _coupled(case)
    rounded = {zone: sum(lossy[other] for other in zones) for zone, zones in together.items()}
    for _ in case.zones:
        for way in ways:
            # a link that is full but for what other lossy links at its ends round away is full
            away = max(rounded[way.start], rounded[way.end]) - (way.link.loss_ppm > 0)
            if way.sent < way.capacity - max(away, 0):
                wheeling = way.link.link_wheeling_uthb_per_kwh + 1  # the µTHB that each hop may round away
                highest[way.end] = min(highest[way.end], (highest[way.start] + wheeling) * MILLION / way.kept)
                lowest[way.start] = max(lowest[way.start], lowest[way.end] * way.kept / MILLION - wheeling)
    for zone in case.zones:
        if lowest[zone] > highest[zone]:
            yield Fault(OPTIMUM, f"zone {zone} could still gain: {lowest[zone]} > {highest[zone]} µTHB/kWh")

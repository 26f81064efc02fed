"""Zonal coupling by definition: domain §5's linear program in exact arithmetic, then its rules of rounding.

Belongs here: the program with its order of objectives, prices from its optimal duals, Wh from its optimum. Does not
belong here: anything of the production mechanism. For small networks only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from gridtokenx_pipelines.market.rules import Link, Network
from tests.unit.market.exact_lp import Program
from tests.unit.market.reference import BUY, SELL, Charges, Order, midpoint, priority

MILLION = 1_000_000
# docs/reference/market.md: what the program leaves of an order or a link below it counts as nothing
LEAST_WH = Fraction(1, 10_000)


class Undetermined(Exception):
    """The optimum is degenerate in a way that domain §5 leaves open, or rounding needs more than the marginal order."""


@dataclass(frozen=True)
class Coupling:
    """`optimum_uthb`: the program's own welfare before rounding, in µTHB (a fraction)."""

    filled: dict[bytes, int]
    prices: dict[int, int | None]
    sent: dict[int, tuple[int, int, int, int]]  # link → from, to, sent, delivered
    optimum_uthb: Fraction


@dataclass(frozen=True)
class Way:
    link: Link
    start: int
    end: int
    capacity: int

    @property
    def name(self) -> str:
        return f"link {self.link.link_id} from {self.start} to {self.end}"

    @property
    def kept(self) -> Fraction:
        return 1 - Fraction(self.link.loss_ppm, MILLION)


def ways_of(network: Network) -> list[Way]:
    ways = []
    for link in network.links:
        ways.append(Way(link, link.from_zone, link.to_zone, link.capacity_forward_wh))
        ways.append(Way(link, link.to_zone, link.from_zone, link.capacity_backward_wh))
    return [way for way in ways if way.capacity > 0]


def zonal(orders: Iterable[Order], network: Network, charges: Charges) -> Coupling:
    """Fills, prices and flows. Raises Undetermined where domain §5 doesn't say which of several."""
    orders, ways = list(orders), ways_of(network)
    point, optimum = _optimum(orders, ways, network, charges)
    bounds = [(point[o.ident.hex()], o.wh) for o in orders] + [(point[way.name], way.capacity) for way in ways]
    if any(0 < wh < LEAST_WH or 0 < most - wh < LEAST_WH for wh, most in bounds):
        raise Undetermined("an order or a link closer to a bound than the rules look")
    parts = _components(network, ways, point)
    filled, sent = _quantities(orders, ways, parts, point)
    prices = _prices(orders, ways, parts, point, charges)
    shown = {zone.zone_id: floor(prices[zone.zone_id]) if zone.zone_id in prices else None for zone in network.zones}
    return Coupling(filled, shown, sent, optimum)


def linear_program(orders: list[Order], ways: list[Way], zones: Iterable[int]) -> Program:
    program = Program()
    for zone in zones:
        balance = {order.ident.hex(): (-1 if order.side == BUY else 1) for order in orders if order.zone == zone}
        for way in ways:
            if way.start == zone:
                balance[way.name] = -1
            elif way.end == zone:
                balance[way.name] = way.kept
        program.equal(balance, 0)
    for order in orders:
        program.at_most({order.ident.hex(): 1}, order.wh)
    for way in ways:
        program.at_most({way.name: 1}, way.capacity)
    return program


def _optimum(
    orders: list[Order], ways: list[Way], network: Network, charges: Charges
) -> tuple[dict[str, Fraction], Fraction]:
    """Most welfare, then largest volume, then least sent, then orders by priority, then lowest flows by link id."""
    welfare = {o.ident.hex(): (1 if o.side == BUY else -1) * charges.net(o) for o in orders}
    welfare |= {way.name: -way.link.link_wheeling_uthb_per_kwh for way in ways}
    by_priority = sorted(orders, key=lambda o: (o.side, *priority(o, charges)))
    by_link = sorted({way.link.link_id for way in ways})
    objectives = [
        welfare,
        {order.ident.hex(): 1 for order in orders if order.side == BUY},
        {way.name: -1 for way in ways},
        *({order.ident.hex(): 1} for order in by_priority),
        *({way.name: -1 for way in ways if way.link.link_id == link} for link in by_link),
    ]
    point = linear_program(orders, ways, [zone.zone_id for zone in network.zones]).best(objectives)
    return point, sum((factor * point[name] for name, factor in welfare.items()), Fraction(0)) / 1_000


def _components(network: Network, ways: list[Way], point: dict[str, Fraction]) -> list[tuple[set[int], list[Way]]]:
    """Zones held together by links that are neither idle nor full, with those links."""
    coupling = [way for way in ways if 0 < point[way.name] < way.capacity]
    parts: list[tuple[set[int], list[Way]]] = []
    left = sorted(zone.zone_id for zone in network.zones)
    while left:
        zones, inner = {left[0]}, []
        while True:
            more = [way for way in coupling if way not in inner and {way.start, way.end} & zones]
            if not more:
                break
            inner += more
            zones |= {zone for way in more for zone in (way.start, way.end)}
        parts.append((zones, inner))
        left = [zone for zone in left if zone not in zones]
    return parts


def _partly(orders: list[Order], zones: set[int], point: dict[str, Fraction]) -> list[Order]:
    return [o for o in orders if o.zone in zones and 0 < point[o.ident.hex()] < o.wh]


def _quantities(
    orders: list[Order], ways: list[Way], parts: list[tuple[set[int], list[Way]]], point: dict[str, Fraction]
) -> tuple[dict[bytes, int], dict[int, tuple[int, int, int, int]]]:
    sent = {
        way.name: (way, way.capacity) for way in ways if point[way.name] == way.capacity
    }  # full links first: they are what the components' balances start from
    filled = {o.ident: int(point[o.ident.hex()]) for o in orders if point[o.ident.hex()] in (0, o.wh)}
    for zones, inner in parts:
        partly = _partly(orders, zones, point)
        if len(partly) > 1 or len(inner) != len(zones) - 1:
            raise Undetermined("a component without a tree of links and at most one partly filled order")
        root = partly[0].zone if partly else min(zones)
        open_ways = list(inner)
        while open_ways:
            leaf, way = _outermost(open_ways, root)
            need = _need(leaf, orders, filled, sent)
            wh = ceil(need / way.kept) if way.end == leaf else -need
            if not 0 <= wh <= way.capacity:
                raise Undetermined(f"rounding turns {way.name} or overfills it")
            sent[way.name] = (way, wh)
            open_ways.remove(way)
        rest = -_need(root, orders, filled, sent)  # what sells of the root would have too much
        if partly:
            wh = rest if partly[0].side == BUY else -rest
            if not 0 <= wh <= partly[0].wh:
                raise Undetermined("the partly filled order can't take the rest")
            filled[partly[0].ident] = wh
        elif rest:
            raise Undetermined("no partly filled order to take the rest")
    flows = {way.link.link_id: (way.start, way.end, wh, floor(wh * way.kept)) for way, wh in sent.values() if wh}
    return filled, flows


def _outermost(open_ways: list[Way], root: int) -> tuple[int, Way]:
    for way in open_ways:
        for zone in (way.start, way.end):
            if zone != root and sum(zone in (other.start, other.end) for other in open_ways) == 1:
                return zone, way
    raise Undetermined("links in a circle")


def _need(zone: int, orders: list[Order], filled: dict[bytes, int], sent: dict[str, tuple[Way, int]]) -> int:
    """Wh that the zone still has to get (negative: to send)."""
    need = sum(filled.get(order.ident, 0) * (1 if order.side == BUY else -1) for order in orders if order.zone == zone)
    for way, wh in sent.values():
        need += wh if way.start == zone else 0
        need -= floor(wh * way.kept) if way.end == zone else 0
    return need


def _prices(
    orders: list[Order],
    ways: list[Way],
    parts: list[tuple[set[int], list[Way]]],
    point: dict[str, Fraction],
    charges: Charges,
) -> dict[int, Fraction]:
    """Of the zones that the optimum uses; anchors with a partly filled order first, then from the lowest zone up.

    Rounding to the tick can leave the optimal prices where an idle or full link holds two components within less than
    a tick of each other: then the later one takes the nearest price that the earlier ones leave it.
    """
    used = {order.zone for order in orders if point[order.ident.hex()]}
    used |= {zone for way in ways if point[way.name] for zone in (way.start, way.end)}
    duals = Duals(orders, ways, point, charges)
    prices: dict[int, Fraction] = {}
    for zones, inner in sorted(parts, key=lambda part: (not _partly(orders, part[0], point), min(part[0]))):
        partly = _partly(orders, zones, point)
        if not zones & used:
            continue
        if partly:
            anchor, price = partly[0].zone, Fraction(charges.net(partly[0]))
        else:
            anchor = min(zones)
            pinned = {zone: price for zone, price in prices.items() if zone in _anchored(orders, parts, point)}
            price = midpoint(*(duals.bound(anchor, sign, pinned) for sign in (-1, 1)))
            price = max(price, duals.bound(anchor, -1, prices))
            price = min(price, duals.bound(anchor, 1, prices))
        prices[anchor] = price
        for _ in inner:
            for way in inner:
                if way.start in prices:
                    prices[way.end] = (prices[way.start] + way.link.link_wheeling_uthb_per_kwh) / way.kept
                elif way.end in prices:
                    prices[way.start] = prices[way.end] * way.kept - way.link.link_wheeling_uthb_per_kwh
    return prices


def _anchored(orders: list[Order], parts: list[tuple[set[int], list[Way]]], point: dict[str, Fraction]) -> set[int]:
    return {zone for zones, _ in parts if _partly(orders, zones, point) for zone in zones}


class Duals:
    """The prices at which nobody in the whole network would rather trade otherwise."""

    def __init__(self, orders: list[Order], ways: list[Way], point: dict[str, Fraction], charges: Charges) -> None:
        self.bounds: list[tuple[dict[int, Fraction | int], Fraction | int]] = []  # Σ factor × price ≤ value
        for order in orders:
            wh, net = point[order.ident.hex()], charges.net(order)
            if wh > 0:
                self._at_most({order.zone: 1}, net, 1 if order.side == BUY else -1)
            if wh < order.wh:
                self._at_most({order.zone: 1}, net, -1 if order.side == BUY else 1)
        for way in ways:
            gain: dict[int, Fraction | int] = {way.end: way.kept, way.start: -1}
            if point[way.name] < way.capacity:
                self._at_most(gain, way.link.link_wheeling_uthb_per_kwh, 1)
            if point[way.name] > 0:
                self._at_most(gain, way.link.link_wheeling_uthb_per_kwh, -1)

    def _at_most(self, terms: dict[int, Fraction | int], value: int, sense: int) -> None:
        self.bounds.append(({zone: sense * factor for zone, factor in terms.items()}, sense * value))

    def bound(self, zone: int, sign: int, pinned: Mapping[int, Fraction]) -> Fraction:
        """Highest (sign 1) or lowest (−1) such price of a zone, given others."""
        program = Program()
        fixed = [({held: 1}, price) for held, price in pinned.items()]
        fixed += [({held: -1}, -price) for held, price in pinned.items()]
        for terms, value in [*self.bounds, *fixed]:
            split = {f"+{z}": factor for z, factor in terms.items()} | {f"-{z}": -f for z, f in terms.items()}
            program.at_most(split, value)
        best = program.best([{f"+{zone}": sign, f"-{zone}": -sign}])
        return best[f"+{zone}"] - best[f"-{zone}"]


__all__ = ["BUY", "SELL", "Coupling", "Duals", "Undetermined", "zonal"]

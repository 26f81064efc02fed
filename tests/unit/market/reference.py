"""The market's rules a second time, slowly and in exact arithmetic, written from domain §5 and §6 alone.

Belongs here: `uniform`, `pay_as_bid`, `continuous` and the charges, by definition instead of by algorithm: the best
price is searched among all, priority is a sort, every number a fraction or an integer. Does not belong here: anything
of the production mechanisms, which these are compared with; `zonal` is in reference_zonal.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

BUY, SELL = 0, 1
TICK = 10_000


@dataclass(frozen=True)
class Order:
    ident: bytes
    side: int
    wh: int
    limit: int  # all-in, µTHB/kWh
    time: int
    zone: int = 1
    wallet: str = ""


@dataclass(frozen=True)
class Match:
    buy: bytes
    sell: bytes
    wh: int
    price: int


@dataclass(frozen=True)
class Charges:
    """What the market takes: a fee on proceeds in basis points, and each zone's wheeling in µTHB/kWh."""

    fee_bp: int = 0
    wheeling: Mapping[int, int] = None  # type: ignore[assignment] # none given: none anywhere

    def zone_wheeling(self, zone: int) -> int:
        return (self.wheeling or {}).get(zone, 0)

    def net(self, order: Order) -> int:
        """The limit that prices are compared with."""
        if order.side == BUY:
            return order.limit - self.zone_wheeling(order.zone)
        return ceil(order.limit / (1 - Fraction(self.fee_bp, 10_000)))


def priority(order: Order, charges: Charges) -> tuple[int, int, bytes]:
    net = charges.net(order)
    return (-net if order.side == BUY else net, order.time, order.ident)


def largest_volume(orders: Iterable[Order], charges: Charges) -> int:
    """The most that any single price lets trade: every limit is tried."""
    orders = list(orders)
    best = 0
    for price in {charges.net(order) for order in orders}:
        demand = sum(o.wh for o in orders if o.side == BUY and charges.net(o) >= price)
        supply = sum(o.wh for o in orders if o.side == SELL and charges.net(o) <= price)
        best = max(best, min(demand, supply))
    return best


def allocate(orders: Iterable[Order], volume: int, charges: Charges) -> dict[bytes, int]:
    """Who gets how much of a volume, each side by priority."""
    filled = {}
    for side in (BUY, SELL):
        left = volume
        for order in sorted((o for o in orders if o.side == side), key=lambda o: priority(o, charges)):
            filled[order.ident] = min(order.wh, left)
            left -= filled[order.ident]
    return filled


def midpoint(lowest: Fraction | int, highest: Fraction | int) -> Fraction:
    """Down to the tick if that lies between the bounds, else to the µTHB if that does, else as it is."""
    middle = (Fraction(lowest) + Fraction(highest)) / 2
    to_tick, to_unit = floor(middle / TICK) * TICK, floor(middle)
    if lowest <= to_tick:
        return Fraction(to_tick)
    return Fraction(to_unit) if lowest <= to_unit else middle


def uniform(orders: Iterable[Order], charges: Charges) -> tuple[dict[bytes, int], int | None]:
    """Fills and the one price; None where nothing trades."""
    orders = list(orders)
    volume = largest_volume(orders, charges)
    filled = allocate(orders, volume, charges)
    if not volume:
        return filled, None
    partly = [order for order in orders if 0 < filled[order.ident] < order.wh]
    if partly:
        (order,) = partly
        return filled, charges.net(order)
    accepted, rejected = defaultdict(list), defaultdict(list)
    for order in orders:
        (accepted if filled[order.ident] else rejected)[order.side].append(charges.net(order))
    lowest = max([*accepted[SELL], *rejected[BUY]])
    highest = min([*accepted[BUY], *rejected[SELL]])
    return filled, int(midpoint(lowest, highest))


def pay_as_bid(orders: Iterable[Order], charges: Charges) -> list[Match]:
    """The uniform fills, paired along both sides' priority; the earlier order of a pair sets its price."""
    orders = list(orders)
    filled = allocate(orders, largest_volume(orders, charges), charges)
    queues = {
        side: [
            [order, filled[order.ident]]
            for order in sorted((o for o in orders if o.side == side), key=lambda o: priority(o, charges))
            if filled[order.ident]
        ]
        for side in (BUY, SELL)
    }
    matches = []
    while queues[BUY] and queues[SELL]:
        (bid, bid_wh), (ask, ask_wh) = queues[BUY][0], queues[SELL][0]
        wh = min(bid_wh, ask_wh)
        earlier = min(bid, ask, key=lambda o: (o.time, o.ident))
        matches.append(Match(bid.ident, ask.ident, wh, charges.net(earlier)))
        for side in (BUY, SELL):
            queues[side][0][1] -= wh
            if not queues[side][0][1]:
                del queues[side][0]
    return matches


def continuous(orders: Iterable[Order], charges: Charges) -> list[Match]:
    """Orders arrive one by one; each trades with the best resting ones at their price, its rest rests."""
    resting: list[list] = []
    matches = []
    for order in sorted(orders, key=lambda o: (o.time, o.ident)):
        left = order.wh
        while left:
            fits = [
                entry
                for entry in resting
                if entry[0].side != order.side
                and entry[0].wallet != order.wallet  # one's own orders are passed over, and stay
                and (charges.net(entry[0]) - charges.net(order)) * (1 if order.side == SELL else -1) >= 0
            ]
            if not fits:
                break
            best = min(fits, key=lambda entry: priority(entry[0], charges))
            wh = min(left, best[1])
            pair = (order.ident, best[0].ident) if order.side == BUY else (best[0].ident, order.ident)
            matches.append(Match(*pair, wh, charges.net(best[0])))
            left -= wh
            best[1] -= wh
            if not best[1]:
                resting.remove(best)
        if left:
            resting.append([order, left])
    return matches


Money = tuple[int, int, int, int]


def money_at_prices(
    orders: Iterable[Order], filled: Mapping[bytes, int], prices: Mapping[int, int | None], charges: Charges
) -> dict[str, Money]:
    """Per trading wallet (cost, energy cost, value, fee): one sum of Wh, then the charges on it."""
    bought, sold, zones = defaultdict(int), defaultdict(int), {}
    for order in orders:
        (bought if order.side == BUY else sold)[order.wallet] += filled.get(order.ident, 0)
        zones[order.wallet] = order.zone
    result = {}
    for wallet, zone in zones.items():
        b, s, price = bought[wallet], sold[wallet], prices[zone]
        if not b + s:
            continue
        assert price is not None
        cost = ceil(Fraction(b * (price + charges.zone_wheeling(zone)), 1_000))
        value = floor(Fraction(s * price, 1_000))
        result[wallet] = (
            cost,
            floor(Fraction(b * price, 1_000)),
            value,
            floor(value * Fraction(charges.fee_bp, 10_000)),
        )
    return result


def money_by_match(orders: Iterable[Order], matches: Iterable[Match], charges: Charges) -> dict[str, Money]:
    """The same where each match has its price: charges per order, on the floor of its exact sum."""
    known = {order.ident: order for order in orders}
    worth, wh = defaultdict(Fraction), defaultdict(int)
    for match in matches:
        for ident in (match.buy, match.sell):
            worth[ident] += Fraction(match.wh * match.price, 1_000)
            wh[ident] += match.wh
    result: dict[str, Money] = defaultdict(lambda: (0, 0, 0, 0))
    for ident, exact in worth.items():
        order, value = known[ident], floor(exact)
        if order.side == BUY:
            wheeling = ceil(Fraction(wh[ident] * charges.zone_wheeling(order.zone), 1_000))
            row = (value + wheeling, value, 0, 0)
        else:
            row = (0, 0, value, floor(value * Fraction(charges.fee_bp, 10_000)))
        result[order.wallet] = tuple(a + b for a, b in zip(result[order.wallet], row, strict=True))  # type: ignore[assignment]
    return dict(result)


def filled_by_match(orders: Iterable[Order], matches: Iterable[Match]) -> dict[bytes, int]:
    filled = dict.fromkeys((order.ident for order in orders), 0)
    for match in matches:
        filled[match.buy] += match.wh
        filled[match.sell] += match.wh
    return filled

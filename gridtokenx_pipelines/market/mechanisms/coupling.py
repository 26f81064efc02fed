"""The zonal problem as data: orders summed per zone, side and net limit, and links as directed arcs.

Belongs here: the columns that the solver, the prices, the quantities and the checks of zonal coupling share.
Does not belong here: solving or judging.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridtokenx_pipelines.market.kernel import Int64s, places
from gridtokenx_pipelines.market.mechanisms.outcome import BUY, ClearingError, Orders
from gridtokenx_pipelines.market.rules import Link, Network
from gridtokenx_pipelines.units import I64_MAX, PARTS_PER_MILLION

MOST_WHEELING = 10**12  # µTHB/kWh
MOST_CAPACITY_WH = I64_MAX // PARTS_PER_MILLION  # so that a loss fits 64 bits
Floats = npt.NDArray[np.float64]
TABLE_PER_ROW = 16  # distinct values are found by a table up to this span a row, by sorting beyond


class Arc(NamedTuple):
    """One direction of a link between zone indexes; capacity and flow in sent Wh."""

    link: Link
    start: int
    end: int
    capacity_wh: int

    @property
    def kept_ppm(self) -> int:
        """Parts per million of the sent energy that arrive."""
        return PARTS_PER_MILLION - self.link.loss_ppm

    @property
    def wheeling(self) -> int:
        """µTHB per sent kWh."""
        return self.link.link_wheeling_uthb_per_kwh

    def delivered_wh(self, sent_wh: int) -> int:
        """⌊sent × (1 − loss)⌋."""
        return sent_wh * self.kept_ppm // PARTS_PER_MILLION

    def sent_for(self, delivered_wh: int) -> int:
        """Least Wh to send so that exactly this much arrives."""
        return -(-delivered_wh * PARTS_PER_MILLION // self.kept_ppm)

    def price_at_end(self, price_at_start: Fraction) -> Fraction:
        """Price at the end of the arc that makes sending over it neither gain nor lose."""
        return (price_at_start + self.wheeling) * PARTS_PER_MILLION / self.kept_ppm

    def price_at_start(self, price_at_end: Fraction) -> Fraction:
        """The inverse of `price_at_end`."""
        return price_at_end * self.kept_ppm / PARTS_PER_MILLION - self.wheeling


class Problem(NamedTuple):
    """Groups of orders (zone index, side, net limit, total Wh), in priority order per side, and arcs by link id.

    `group_of` names each order row's group.
    """

    zones: tuple[int, ...]
    zone: Int64s
    side: Int64s
    limit: Int64s
    wh: Int64s
    arcs: tuple[Arc, ...]
    group_of: Int64s

    @property
    def n_zones(self) -> int:
        """Number of zones."""
        return len(self.zones)


def check_network(network: Network) -> None:
    """Raise ClearingError for a network that can't be one: names given twice, ends that aren't zones, bad numbers."""
    zones = {zone.zone_id for zone in network.zones}
    for name, ids in (("zone", [z.zone_id for z in network.zones]), ("link", [li.link_id for li in network.links])):
        if len(set(ids)) < len(ids):
            raise ClearingError(f"network names a {name} twice in {sorted(ids)}; name each once")
    for zone in network.zones:
        _within(f"zone_wheeling of zone {zone.zone_id}", zone.zone_wheeling_uthb_per_kwh, MOST_WHEELING)
    for link in network.links:
        if link.from_zone not in zones or link.to_zone not in zones or link.from_zone == link.to_zone:
            raise ClearingError(
                f"link {link.link_id} joins {link.from_zone} and {link.to_zone}; name two of {sorted(zones)}"
            )
        _within(f"capacity_forward_wh of link {link.link_id}", link.capacity_forward_wh, MOST_CAPACITY_WH)
        _within(f"capacity_backward_wh of link {link.link_id}", link.capacity_backward_wh, MOST_CAPACITY_WH)
        _within(f"link_wheeling of link {link.link_id}", link.link_wheeling_uthb_per_kwh, MOST_WHEELING)
        _within(f"loss_ppm of link {link.link_id}", link.loss_ppm, PARTS_PER_MILLION - 1)


def _within(name: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise ClearingError(f"{name} was {value}, must lie in 0…{most}; correct the network")


def arcs_of(network: Network) -> tuple[tuple[int, ...], tuple[Arc, ...]]:
    """Zone ids ascending, and the usable arcs by link id, of a network that `check_network` lets pass."""
    zones = tuple(sorted(zone.zone_id for zone in network.zones))
    index = {zone: place for place, zone in enumerate(zones)}
    arcs: list[Arc] = []
    for link in sorted(network.links, key=lambda link: link.link_id):
        start, end = index[link.from_zone], index[link.to_zone]
        arcs += [Arc(link, start, end, link.capacity_forward_wh), Arc(link, end, start, link.capacity_backward_wh)]
    return zones, tuple(arc for arc in arcs if arc.capacity_wh > 0)


def problem_of(orders: Orders, network: Network) -> Problem:
    """Sum up a book for coupling."""
    zones, arcs = arcs_of(network)
    zone_of_row = places(orders.zone, np.array(zones, np.int64))
    code, levels = _levels(orders.limit)
    # groups are numbered by side, then price priority, then zone: a priority order
    rank = np.where(orders.is_sell, code, len(levels) - 1 - code)
    key = ((orders.side * len(levels)) + rank) * len(zones) + zone_of_row
    present, group_of = _numbered(key, 2 * len(levels) * len(zones))
    wh = np.zeros(len(present), np.int64)
    np.add.at(wh, group_of, orders.wh)
    rest, zone = np.divmod(present, len(zones))
    side, rank = np.divmod(rest, max(len(levels), 1))
    return Problem(
        zones=zones,
        zone=zone,
        side=side,
        limit=levels[np.where(side == BUY, len(levels) - 1 - rank, rank)],
        wh=wh,
        arcs=arcs,
        group_of=group_of,
    )


def _levels(limit: Int64s) -> tuple[Int64s, Int64s]:
    """Each row's place among the distinct limits, and those, ascending."""
    if not len(limit):
        return limit, limit
    low = int(limit.min())
    code, levels = _numbered(limit - low, int(limit.max()) - low + 1)[::-1]
    return code, levels + low


def _numbered(key: Int64s, span: int) -> tuple[Int64s, Int64s]:
    """The distinct keys of 0…span − 1, ascending, and each row's place among them; by a table if the span allows."""
    if span > TABLE_PER_ROW * len(key):
        distinct, place = np.unique(key, return_inverse=True)
        return distinct, place.reshape(-1).astype(np.int64)
    table = np.zeros(span, np.int32)
    table[key] = 1
    distinct = np.flatnonzero(table)
    np.cumsum(table, out=table)
    return distinct, table[key].astype(np.int64) - 1


class Areas:
    """Union–find over zones: which are joined by the arcs added so far."""

    def __init__(self, n_zones: int) -> None:
        self._root = list(range(n_zones))

    def find(self, zone: int) -> int:
        """The area's representative: its lowest zone index."""
        while self._root[zone] != zone:
            zone = self._root[zone]
        return zone

    def join(self, arc: Arc) -> bool:
        """Join both ends; False if they were joined already (the arc closes a cycle)."""
        first, second = sorted((self.find(arc.start), self.find(arc.end)))
        self._root[second] = first
        return first != second

    def members(self) -> list[list[int]]:
        """Zone indexes per area, ascending."""
        found: dict[int, list[int]] = {}
        for zone in range(len(self._root)):
            found.setdefault(self.find(zone), []).append(zone)
        return [found[root] for root in sorted(found)]


def forest(n_zones: int, arcs: Iterable[Arc]) -> tuple[Areas, list[bool]]:
    """Areas joined by the arcs, and for each arc whether it belongs to the spanning forest (by the arcs' order)."""
    areas = Areas(n_zones)
    return areas, [areas.join(arc) for arc in arcs]

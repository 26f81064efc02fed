"""Market zones from the topology of a grid: which bus lies in which zone, and the links between zones.

Belongs here: cutting the feeders into zones and rating the links from their cables. Does not belong here: power flow
(grid/), who lives where (neighbourhood.py). Everything is decided by topology and load alone, so it is the same for
every seed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import combinations

import msgspec

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.market.rules import Link, Network, Zone
from gridtokenx_pipelines.simulation.grids import LV_KV, Grid
from gridtokenx_pipelines.units import PARTS_PER_MILLION

MAX_ZONES = 63  # what the epoch account on chain has room for
ZONE_WHEELING_UTHB_PER_KWH = 150_000
LINK_WHEELING_UTHB_PER_KWH = 100_000


class ZonesError(ValueError):
    """A number of zones that this grid can't be cut into."""


class ZoneMap(msgspec.Struct, frozen=True, kw_only=True):
    """Zone of each bus that hangs on the busbar, and the network that the market couples."""

    zone_of_bus: dict[int, int]
    network: Network


class _Segment(msgspec.Struct, kw_only=True):
    """A connected part of the tree below one cable: its buses in breadth-first order, nearest first."""

    buses: list[int]
    cable: int
    parent: _Segment | None
    load: int


def zones_of(grid: Grid, zones: int) -> ZoneMap:
    """Cut the grid into `zones` zones balanced by load.

    Feeders leaving the busbar are grouped, heaviest first into the lightest zone; if there are fewer feeders than
    zones, the heaviest part is cut near the middle of its longest path. Raises ZonesError for a number of zones that
    is below 1, above 63 or more than the grid can be cut into.
    """
    if not 1 <= zones <= MAX_ZONES:
        raise ZonesError(f"zones was {zones}, must be 1 to {MAX_ZONES}; choose fewer market zones")
    tree = _Tree(grid)
    segments = tree.feeders()
    while len(segments) < zones:
        segments.append(tree.cut(segments, zones))
    loads, zone_of_segment = [0] * zones, {}
    for segment in sorted(segments, key=lambda part: (-part.load, part.cable)):
        lightest = min(range(zones), key=lambda index: (loads[index], index))
        loads[lightest] += max(segment.load, 1)  # an empty feeder must not leave the next one's zone empty
        zone_of_segment[segment.cable] = lightest + 1
    zone_of_bus = {bus: zone_of_segment[segment.cable] for segment in segments for bus in segment.buses}
    zone_of_bus[grid.root_bus] = 1
    return ZoneMap(
        zone_of_bus=zone_of_bus,
        network=Network(
            zones=tuple(
                Zone(zone_id=zone, name=f"Zone {zone}", zone_wheeling_uthb_per_kwh=ZONE_WHEELING_UTHB_PER_KWH)
                for zone in range(1, zones + 1)
            ),
            links=_links(grid, segments, zone_of_segment),
        ),
    )


def _links(grid: Grid, segments: list[_Segment], zone_of_segment: dict[int, int]) -> tuple[Link, ...]:
    heads: dict[int, list[int]] = defaultdict(list)
    pairs: dict[tuple[int, int], tuple[int, int]] = {}
    for segment in segments:
        zone = zone_of_segment[segment.cable]
        if segment.parent is None:
            heads[zone].append(segment.cable)
        else:
            other = zone_of_segment[segment.parent.cable]
            rating = _capacity_wh(grid, [segment.cable]), _loss_share(grid, [segment.cable])
            pairs[min(zone, other), max(zone, other)] = _rounded(*rating)
    for one, other in combinations(sorted(heads), 2):
        # a zone's head cables serve all its links over the busbar: their capacity is shared out, never counted twice
        capacity = min(_capacity_wh(grid, heads[zone]) for zone in (one, other)) / (len(heads) - 1)
        pairs[one, other] = _rounded(capacity, _loss_share(grid, heads[one]) + _loss_share(grid, heads[other]))
    return tuple(
        Link(
            link_id=number,
            from_zone=one,
            to_zone=other,
            capacity_forward_wh=capacity_wh,
            capacity_backward_wh=capacity_wh,
            link_wheeling_uthb_per_kwh=LINK_WHEELING_UTHB_PER_KWH,
            loss_ppm=loss_ppm,
        )
        for number, ((one, other), (capacity_wh, loss_ppm)) in enumerate(sorted(pairs.items()), start=1)
    )


def _rounded(capacity_wh: float, loss_share: float) -> tuple[int, int]:
    return max(1, math.floor(capacity_wh)), math.ceil(loss_share * PARTS_PER_MILLION)


def _capacity_wh(grid: Grid, cables: list[int]) -> float:
    """What the cables carry in an epoch at their current limit: √3 · U · I · 15 min."""
    kilovolt_ampere = sum(math.sqrt(3) * LV_KV * 1_000 * float(grid.line_max_ka[cable]) for cable in cables)
    return kilovolt_ampere * 1_000 * EPOCH_SECONDS / 3_600


def _loss_share(grid: Grid, cables: list[int]) -> float:
    """3·I²·R over √3·U·I at half of each cable's current limit, all cables of the group together."""
    half = [float(grid.line_max_ka[cable]) * 500 for cable in cables]
    lost = sum(
        3 * ampere**2 * float(grid.line_resistance_ohm[cable]) for ampere, cable in zip(half, cables, strict=True)
    )
    return lost / (math.sqrt(3) * LV_KV * 1_000 * sum(half))


class _Tree:
    """The radial grid seen from its busbar."""

    def __init__(self, grid: Grid) -> None:
        self._root = grid.root_bus
        neighbours: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for cable, (one, other) in enumerate(grid.lines.tolist()):
            neighbours[one].append((other, cable))
            neighbours[other].append((one, cable))
        self._children: dict[int, list[int]] = defaultdict(list)
        self._cable: dict[int, int] = {}  # of each bus, towards the busbar
        self._parent: dict[int, int] = {}
        queue = [grid.root_bus]
        for bus in queue:
            for other, cable in neighbours[bus]:
                if other != grid.root_bus and other not in self._cable:
                    self._cable[other], self._parent[other] = cable, bus
                    self._children[bus].append(other)
                    queue.append(other)
        self._load: dict[int, int] = defaultdict(int)
        for bus, total in zip(grid.load_bus, grid.load_milliwatt.sum(axis=0, dtype="int64").tolist(), strict=True):
            self._load[bus] += total

    def feeders(self) -> list[_Segment]:
        return [self._segment(bus, None, None) for bus in self._children[self._root]]

    def cut(self, segments: list[_Segment], zones: int) -> _Segment:
        """Take the far half of the heaviest part that can be cut; shrinks that part and returns the new one."""
        for near in sorted(segments, key=lambda part: (-part.load, part.cable)):
            inside = set(near.buses)
            path = [near.buses[-1]]  # breadth first: the last bus is a farthest one
            while path[-1] != near.buses[0]:
                path.append(self._parent[path[-1]])
            for bus in sorted(path[:-1], key=lambda bus: (abs(2 * path.index(bus) - len(path) + 1), path.index(bus))):
                far = self._segment(bus, inside, near)
                if 0 < far.load < near.load:
                    near.buses = [bus for bus in near.buses if bus not in set(far.buses)]
                    near.load -= far.load
                    return far
        raise ZonesError(f"zones was {zones}, this grid can be cut into {len(segments)}; choose at most that many")

    def _segment(self, head: int, within: set[int] | None, parent: _Segment | None) -> _Segment:
        buses = [head]
        for bus in buses:
            buses.extend(child for child in self._children[bus] if within is None or child in within)
        return _Segment(buses=buses, cable=self._cable[head], parent=parent, load=sum(self._load[bus] for bus in buses))

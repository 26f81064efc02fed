"""The network under a fleet: a SimBench grid, a pandapower file, or a street built from the documents' cable.

Belongs here: loading, where meters can be connected, zones by feeder. Does not belong here: whether the network can be
computed (grid/), who lives on it (fleet.py). Networks are read, never changed,
so one of a name serves a whole process.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gridtokenx_pipelines.metering.registry import MAX_ZONE
from gridtokenx_pipelines.simulation.fleet.errors import FleetError, NetworkFileError
from gridtokenx_pipelines.simulation.fleet.templates import LINE_TYPE
from gridtokenx_pipelines.simulation.grids import LV_CODES, UnknownGridError

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet

STREET = "street"
STREET_HOUSES = 40
HOUSES_PER_FEEDER = 8  # eight Residential Large in their weekend peak stay below the cable's 142 A
HOUSE_SPACING_KM = 0.03


class ConnectedNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A network and its connection points: a bus index per point (a bus with three loads has three)."""

    name: str
    net: pandapowerNet
    points: tuple[int, ...]
    zone_of_bus: dict[int, int]


def load_network(source: str, zones: int = 1) -> ConnectedNetwork:
    """`street`, a SimBench low-voltage code, or the path of a pandapower JSON file.

    Raises UnknownGridError, NetworkFileError, FleetError for a number of zones that the feeders can't give.
    """
    require_known(source)
    if source == STREET:
        net = _street()
    elif source in LV_CODES:
        net = _simbench(source)
    else:
        net = _from_file(Path(source))
    points = _points(net)
    if not points:
        raise NetworkFileError(f"{source}: no bus to connect a meter to, must have at least one; add low-voltage buses")
    return ConnectedNetwork(name=source, net=net, points=points, zone_of_bus=_zones(net, points, zones))


def require_known(source: str) -> None:
    """Raises UnknownGridError for what is no network's name, NetworkFileError for a file that is not there."""
    if source == STREET or source in LV_CODES:
        return
    if not source.endswith(".json"):
        raise UnknownGridError(
            f"network was {source!r}, must be {STREET!r}, a pandapower .json file, or a SimBench low-voltage grid: "
            f"one of {', '.join(LV_CODES)}"
        )
    if not Path(source).is_file():
        raise NetworkFileError(f"network file {source} is not there; give the path of a pandapower JSON file")


@cache
def _simbench(code: str) -> pandapowerNet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside SimBench say nothing about the network
        import simbench  # noqa: PLC0415 - seconds of import

        return simbench.get_simbench_net(code)


def _from_file(path: Path) -> pandapowerNet:
    import pandapower  # noqa: PLC0415 - seconds of import
    from pandapower.auxiliary import pandapowerNet as Net  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = pandapower.from_json(str(path))
    except Exception as error:  # pandapower lets any error of its decoder through
        raise NetworkFileError(
            f"{path} could not be read as a pandapower network ({type(error).__name__}: {error}); "
            "write it with pandapower.to_json"
        ) from error
    if not isinstance(net, Net):
        raise NetworkFileError(
            f"{path} held {type(net).__name__}, must hold a network; write it with pandapower.to_json"
        )
    return net


@cache
def _street() -> pandapowerNet:
    """A 20/0.4 kV transformer and feeders of houses along the documents' cable, 30 m apart."""
    import pandapower  # noqa: PLC0415 - seconds of import

    net = pandapower.create_empty_network(name=STREET)
    upstream = pandapower.create_bus(net, 20.0, name="MV")
    busbar = pandapower.create_bus(net, 0.4, name="LV busbar")
    pandapower.create_ext_grid(net, upstream, vm_pu=1.0)
    pandapower.create_transformer(net, upstream, busbar, "0.4 MVA 20/0.4 kV")
    for feeder in range(STREET_HOUSES // HOUSES_PER_FEEDER):
        before = busbar
        for house in range(HOUSES_PER_FEEDER):
            bus = pandapower.create_bus(net, 0.4, name=f"House {feeder + 1}.{house + 1}")
            pandapower.create_line(net, before, bus, HOUSE_SPACING_KM, LINE_TYPE)
            pandapower.create_load(net, bus, 0.0)
            before = bus
    return net


def _points(net: pandapowerNet) -> tuple[int, ...]:
    """Buses of the loads; without loads every bus of the lowest voltage that is no external grid's or busbar's."""
    alive = set(net.bus.index[net.bus.in_service.astype(bool)].tolist())
    loads = net.load[net.load.in_service.astype(bool)]
    found = tuple(sorted(bus for bus in loads.bus.astype(int).tolist() if bus in alive))
    if found or not alive:
        return found
    busbars = set(net.ext_grid.bus.tolist()) | set(net.trafo.lv_bus.tolist()) | set(net.trafo.hv_bus.tolist())
    lowest = min(float(net.bus.vn_kv.at[bus]) for bus in alive)
    return tuple(sorted(bus for bus in alive - busbars if float(net.bus.vn_kv.at[bus]) == lowest))


def _zones(net: pandapowerNet, points: tuple[int, ...], zones: int) -> dict[int, int]:
    """Feeders of the busbar grouped into zones, most points first into the emptiest; what no feeder holds: zone 1."""
    if not 1 <= zones <= MAX_ZONE:
        raise FleetError(f"zones was {zones}, must be 1 to {MAX_ZONE}; choose fewer market zones")
    busbars = set(net.trafo.lv_bus.tolist()) or set(net.ext_grid.bus.tolist())
    neighbours = _neighbours(net)
    zone_of_bus = dict.fromkeys(net.bus.index.tolist(), 1)
    feeders, seen = [], set(busbars)
    for busbar in sorted(busbars):
        for head in sorted(neighbours[busbar]):
            if head in seen:
                continue
            feeder = [head]
            seen.add(head)
            for bus in feeder:
                new = sorted(neighbours[bus] - seen)
                seen.update(new)
                feeder.extend(new)
            feeders.append(feeder)
    if zones > max(len(feeders), 1):
        raise FleetError(
            f"zones was {zones}, this network has {len(feeders)} feeders to make zones of; choose at most that many"
        )
    count = {bus: points.count(bus) for bus in set(points)}
    filled = [0] * zones
    for feeder in sorted(feeders, key=lambda buses: (-sum(count.get(bus, 0) for bus in buses), buses[0])):
        zone = min(range(zones), key=lambda index: (filled[index], index))
        filled[zone] += max(1, sum(count.get(bus, 0) for bus in feeder))
        zone_of_bus.update(dict.fromkeys(feeder, zone + 1))
    return zone_of_bus


def _neighbours(net: pandapowerNet) -> defaultdict[int, set[int]]:
    found: defaultdict[int, set[int]] = defaultdict(set)
    open_lines = set(net.switch.element[(net.switch.et == "l") & ~net.switch.closed.astype(bool)].tolist())
    lines = net.line[net.line.in_service.astype(bool)]
    pairs = [
        (int(one), int(other))
        for index, one, other in zip(lines.index, lines.from_bus, lines.to_bus, strict=True)
        if index not in open_lines
    ]
    ties = net.switch[(net.switch.et == "b") & net.switch.closed.astype(bool)]
    pairs += [(int(one), int(other)) for one, other in zip(ties.bus, ties.element, strict=True)]
    for one, other in pairs:
        found[one].add(other)
        found[other].add(one)
    return found

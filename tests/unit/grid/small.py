"""A small network for tests: two feeders from one busbar, a zone each, a meter that produces and one that consumes.

Belongs here: the network and its meters. Does not belong here: assertions.
"""

from __future__ import annotations

from typing import Any

import pandapower as pp

from gridtokenx_pipelines.grid.case import GridCase, MeterPlace, case_of
from gridtokenx_pipelines.grid.states import State, state_of
from gridtokenx_pipelines.market.rules import Link, Network, Zone

CABLE_KM = 0.15
PRODUCERS, CONSUMERS = {1: "P1", 2: "P2", 3: "P3"}, {1: "C1", 2: "C2", 3: "C3"}


def network(zones: int = 2, capacity_wh: int = 100_000) -> Network:
    pairs = [(one, other) for one in range(1, zones + 1) for other in range(one + 1, zones + 1)]
    return Network(
        zones=tuple(Zone(zone_id=zone, name=f"zone {zone}") for zone in range(1, zones + 1)),
        links=tuple(
            Link(
                link_id=number,
                from_zone=one,
                to_zone=other,
                capacity_forward_wh=capacity_wh,
                capacity_backward_wh=capacity_wh,
                loss_ppm=5_000,
            )
            for number, (one, other) in enumerate(pairs, start=1)
        ),
    )


def pandapower_net(zones: int = 2) -> Any:
    """Slack, a 400 kVA transformer, a feeder of two NAYY 4x150 cables per zone: bus 2z + 1 near, 2z + 2 at the end."""
    net = pp.create_empty_network()
    high = pp.create_bus(net, vn_kv=20.0, name="medium voltage")
    busbar = pp.create_bus(net, vn_kv=0.4, name="busbar")
    pp.create_ext_grid(net, high)
    pp.create_transformer(net, high, busbar, "0.4 MVA 20/0.4 kV", name="transformer")
    for zone in range(1, zones + 1):
        near, far = (pp.create_bus(net, vn_kv=0.4, name=f"{place} {zone}") for place in ("near", "far"))
        pp.create_line(net, busbar, near, CABLE_KM, "NAYY 4x150 SE", name=f"head {zone}")
        pp.create_line(net, near, far, CABLE_KM, "NAYY 4x150 SE", name=f"tail {zone}")
    return net


def places(zones: int = 2) -> list[MeterPlace]:
    """A producer at the near bus and a consumer at the far bus of each zone."""
    found = []
    for zone in range(1, zones + 1):
        found += [
            MeterPlace(meter_id=PRODUCERS[zone], bus=2 * zone, zone_id=zone, rating_w=50_000, produces=True),
            MeterPlace(meter_id=CONSUMERS[zone], bus=2 * zone + 1, zone_id=zone, rating_w=50_000, produces=False),
        ]
    return found


def case(zones: int = 2, *, derate: dict[str, float] | None = None) -> GridCase:
    """The case; `derate`: a factor on the rating of lines by name."""
    net = pandapower_net(zones)
    for name, factor in (derate or {}).items():
        net.line.loc[net.line["name"] == name, "max_i_ka"] *= factor
    zone_of_bus = {2 * zone + offset: zone for zone in range(1, zones + 1) for offset in (0, 1)}
    return case_of(net, places(zones), zone_of_bus)


def state(of: GridCase, **net_wh: int) -> State:
    """By meter: above 0 produced, below 0 consumed Wh of the epoch; nothing said: everybody idle."""
    return state_of(of, {meter: (max(wh, 0), max(-wh, 0)) for meter, wh in net_wh.items()})

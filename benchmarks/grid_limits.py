"""What the network costs an epoch: limits of all links, the feasibility check, loading a case, one power flow.

    python benchmarks/grid_limits.py

Belongs here: what is measured and against which limit. Does not belong here: correctness (tests/unit/grid). The limit:
`settle_epoch` of 10 000 meters has 15 s to cleared, the demo's 96 epochs some 45–60 s. The SimBench grid is the demo's;
the large case has 40 feeders of 250 buses at 20 kV with a meter on each.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandapower as pp

from gridtokenx_pipelines.grid.case import GridCase, MeterPlace, case_of, load, save
from gridtokenx_pipelines.grid.feasibility import MeterNet, check, schedule_of
from gridtokenx_pipelines.grid.limits import grid_limits
from gridtokenx_pipelines.grid.states import State, flow_of
from gridtokenx_pipelines.market.rules import Link, Network, Zone
from gridtokenx_pipelines.simulation.neighbourhood import build_neighbourhood
from gridtokenx_pipelines.simulation.network_case import case_of_neighbourhood

FEEDERS, BUSES, ZONES = 40, 250, 4
REPEATS = 7


def fastest(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Milliseconds of the fastest repeat."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found) * 1_000


def large() -> tuple[GridCase, Network]:
    """10 000 meters on 10 001 buses, ten feeders a zone, all pairs of zones linked."""
    net = pp.create_empty_network()
    root = pp.create_bus(net, vn_kv=20.0)
    pp.create_ext_grid(net, root)
    buses = pp.create_buses(net, FEEDERS * BUSES, vn_kv=20.0)
    ends = buses.reshape(FEEDERS, BUSES)
    starts = np.column_stack([np.full(FEEDERS, root), ends[:, :-1]])
    pp.create_lines(net, starts.ravel(), ends.ravel(), 0.05, "NA2XS2Y 1x240 RM/25 12/20 kV")
    zone_of_bus = {int(bus): 1 + feeder % ZONES for feeder, row in enumerate(ends) for bus in row}
    places = [
        MeterPlace(meter_id=f"M-{bus:05d}", bus=bus, zone_id=zone, rating_w=10_000, produces=bus % 2 == 0)
        for bus, zone in zone_of_bus.items()
    ]
    pairs = [(one, other) for one in range(1, ZONES + 1) for other in range(one + 1, ZONES + 1)]
    network = Network(
        zones=tuple(Zone(zone_id=zone) for zone in range(1, ZONES + 1)),
        links=tuple(
            Link(
                link_id=number,
                from_zone=one,
                to_zone=other,
                capacity_forward_wh=10**7,
                capacity_backward_wh=10**7,
                loss_ppm=5_000,
            )
            for number, (one, other) in enumerate(pairs, start=1)
        ),
    )
    return case_of(net, places, zone_of_bus), network


def measure(name: str, case: GridCase, network: Network) -> str:
    """One row of the table."""
    draw = np.random.default_rng(1)
    count = len(case.meter_id)
    state = State(
        produced_wh=np.where(case.meter_produces, draw.integers(0, 600, count), 0),
        consumed_wh=draw.integers(0, 300, count),
    )
    net = (state.produced_wh - state.consumed_wh).tolist()
    meters = [MeterNet(meter_id=str(each), wallet=str(each), net_wh=net[at]) for at, each in enumerate(case.meter_id)]
    traded = {str(each): -net[at] // 2 for at, each in enumerate(case.meter_id)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.npz"
        save(case, path)
        loading = fastest(lambda: load(path))
    flow = fastest(lambda: flow_of(case, state))
    limits = fastest(lambda: grid_limits(case, network, state), 3)
    feasible = fastest(lambda: check(case, schedule_of(case, traded, meters)))
    shape = f"{count} | {len(case.bus_name)} | {len(network.links)}"
    return f"| {name} | {shape} | {loading:.0f} | {flow:.1f} | {limits:.0f} | {feasible:.1f} |"


def main() -> None:
    """Print the table."""
    home = build_neighbourhood()
    print("| network | meters | buses | links | load case | one flow | grid_limits an epoch | feasibility an epoch |")
    print("|---|---|---|---|---|---|---|---|")
    print(measure("SimBench 1-LV-urban6--2-sw (demo)", case_of_neighbourhood(home), home.network))
    print(measure("40 feeders at 20 kV", *large()))


if __name__ == "__main__":
    main()

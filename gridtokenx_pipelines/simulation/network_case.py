"""The grid case of a simulated neighbourhood: its SimBench network, its meters on their buses, its zones.

Belongs here: handing what was made up to the network room. Does not belong here: power flow (grid/), people
(neighbourhood.py). The case depends on the grid and the number of zones alone, not on the seed.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from gridtokenx_pipelines.grid.case import FORMAT, GridCase, MeterPlace, case_of, load, save
from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.simulation.grids import simbench_network
from gridtokenx_pipelines.simulation.neighbourhood import MeterUnit, Neighbourhood, is_base_load
from gridtokenx_pipelines.simulation.zones import zones_of

WH_PER_MWH = W_PER_MW = 10**6
FIRST, DEFERRABLE = 1, 2  # classes that an island serves in this order


def case_of_neighbourhood(neighbourhood: Neighbourhood, cache_dir: Path | None = None) -> GridCase:
    """The case of a neighbourhood, from the cache if it is there; the first one loads SimBench (seconds)."""
    zones = len(neighbourhood.network.zones)
    name = f"{neighbourhood.grid_code}.{zones}-zones.simbench-{version('simbench')}.case-{FORMAT}.npz"
    path = None if cache_dir is None else cache_dir / name
    if path is not None and path.is_file():
        try:
            return load(path)
        except NetworkError:
            path.unlink()  # a cache: made again below
    case = _case(neighbourhood, zones)
    if path is not None:
        save(case, path)
    return case


def _case(neighbourhood: Neighbourhood, zones: int) -> GridCase:
    net = simbench_network(neighbourhood.grid_code)
    capacity_wh = [round(float(each) * WH_PER_MWH) for each in net.storage.max_e_mwh.fillna(0)]
    power_w = [round(abs(float(each)) * W_PER_MW) for each in net.storage.p_mw.fillna(0)]

    def place(bus: int, meter: MeterUnit) -> MeterPlace:
        return MeterPlace(
            meter_id=meter.meter_id,
            bus=bus,
            zone_id=meter.zone_id,
            rating_w=meter.rating_w,
            produces=meter.meter_type != "Grid",
            storage_wh=sum(capacity_wh[column] for column in meter.storage_columns),
            storage_w=sum(power_w[column] for column in meter.storage_columns),
            # homes, businesses and farms before chargers and heat pumps, which can wait
            priority=DEFERRABLE
            if meter.load_columns and not any(map(is_base_load, meter.profile.split("+")))
            else FIRST,
        )

    meters = [place(home.bus, meter) for home in neighbourhood.households for meter in home.meters]
    return case_of(net, meters, zones_of(neighbourhood.grid, zones).zone_of_bus)

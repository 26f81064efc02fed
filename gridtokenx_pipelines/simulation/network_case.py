"""The grid case of a simulated neighbourhood: its SimBench network, its meters on their buses, its zones.

Belongs here: handing what was made up to the network room. Does not belong here: power flow (grid/), people
(neighbourhood.py). The case depends on the grid and the number of zones alone, not on the seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.case import FORMAT, TAN_PHI, GridCase, MeterPlace, case_of, load, save
from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.simulation.grids import simbench_network
from gridtokenx_pipelines.simulation.neighbourhood import MeterUnit, Neighbourhood, is_base_load
from gridtokenx_pipelines.simulation.zones import zones_of

Floats = NDArray[np.float64]
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

    active, reactive = _load_powers(net)

    def place(bus: int, meter: MeterUnit) -> MeterPlace:
        return MeterPlace(
            meter_id=meter.meter_id,
            bus=bus,
            zone_id=meter.zone_id,
            rating_w=meter.rating_w,
            produces=meter.meter_type != "Grid",
            storage_wh=sum(capacity_wh[column] for column in meter.storage_columns),
            storage_w=sum(power_w[column] for column in meter.storage_columns),
            tan_phi=_tan_phi(active, reactive, meter.load_columns),
            # homes, businesses and farms before chargers and heat pumps, which can wait
            priority=DEFERRABLE
            if meter.load_columns and not any(map(is_base_load, meter.profile.split("+")))
            else FIRST,
        )

    meters = [place(home.bus, meter) for home in neighbourhood.households for meter in home.meters]
    return case_of(net, meters, zones_of(neighbourhood.grid, zones).zone_of_bus)


def _load_powers(net: Any) -> tuple[Floats, Floats]:
    """Each load's published active and reactive power of the year, (quarter hours, loads) in the table's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' deprecations inside SimBench say nothing about the data
        import simbench  # noqa: PLC0415 - see simulation/grids.py

        powers = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    return tuple(powers["load", name][net.load.index].to_numpy(np.float64) for name in ("p_mw", "q_mvar"))


def _tan_phi(active: Floats, reactive: Floats, columns: Sequence[int]) -> float:
    """Of a meter's loads together, by least squares, so that hours of much load count most: they reach the limits.

    A meter without any load draws next to nothing, at the default.
    """
    p, q = (powers[:, list(columns)].sum(axis=1) for powers in (active, reactive))
    squared = float(p @ p)
    return float(p @ q) / squared if squared else TAN_PHI

"""A SimBench low-voltage grid with its published 15-minute profiles, as plain arrays.

Belongs here: extraction from the installed SimBench wheel (offline), the cache of what was extracted, the mapping of
Bangkok local time to a row of the 2016 profile year. Does not belong here: households, zones, keys.
Powers become whole milliwatts here, once; everything after is integer arithmetic.
"""

from __future__ import annotations

import os
import warnings
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.epochs import BANGKOK_OFFSET_SECONDS, EPOCH_SECONDS, EPOCHS_PER_DAY

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_GRID = "1-LV-urban6--2-sw"
LV_CODES = tuple(
    f"1-LV-{grid}--{scenario}-{switches}"
    for grid in ("rural1", "rural2", "rural3", "semiurb4", "semiurb5", "urban6")
    for scenario in (0, 1, 2)
    for switches in ("sw", "no_sw")
)
PROFILE_YEAR = 2016  # a leap year, so every calendar day of any year has its rows
PROFILE_ROWS = 366 * EPOCHS_PER_DAY
LV_KV = 0.4
MILLIWATT_PER_MW = 10**9
UWH_PER_MILLIWATT_ROW = 250  # 1 mW for a quarter hour is 250 µWh, exactly


class UnknownGridError(ValueError):
    """A code that is no SimBench low-voltage grid; the text lists those that are."""


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Topology and profiles; index i of a `load_*` field and column i of `load_mw_` belong together.

    Buses are SimBench's bus indices, `root_bus` the low-voltage busbar. `lines`: rows (from_bus, to_bus).
    Power arrays have shape (35 136 quarter hours of 2016 local time, units) in milliwatts, never negative.
    """

    code: str
    root_bus: int
    lines: NDArray[np.int64]
    line_resistance_ohm: NDArray[np.float64]
    line_max_ka: NDArray[np.float64]
    load_bus: tuple[int, ...]
    load_profile: tuple[str, ...]
    load_milliwatt: NDArray[np.int32]
    pv_bus: tuple[int, ...]
    pv_profile: tuple[str, ...]
    pv_milliwatt: NDArray[np.int32]
    storage_bus: tuple[int, ...]
    storage_profile: tuple[str, ...]
    storage_milliwatt: NDArray[np.int32]


def profile_row(epoch: int) -> int:
    """Row of the 2016 profiles for an epoch, by Bangkok local date and quarter hour, so that noon there is sunny."""
    local = datetime.fromtimestamp(epoch * EPOCH_SECONDS + BANGKOK_OFFSET_SECONDS, UTC)
    day = (date(PROFILE_YEAR, local.month, local.day) - date(PROFILE_YEAR, 1, 1)).days
    return day * EPOCHS_PER_DAY + local.hour * 4 + local.minute // 15


def load_grid(code: str = DEFAULT_GRID, cache_dir: Path | None = None) -> Grid:
    """The grid of a SimBench code, from the cache if it is there. Raises UnknownGridError for any other code.

    The first call imports pandapower (seconds); later ones read one .npz, keyed by code and package version.
    """
    if code not in LV_CODES:
        raise UnknownGridError(f"grid was {code!r}, must be a SimBench low-voltage grid: one of {', '.join(LV_CODES)}")
    if cache_dir is None:
        return _grid(code, _extract(code))
    path = cache_dir / f"{code}.simbench-{version('simbench')}.npz"
    if not path.exists():
        arrays = _extract(code)
        cache_dir.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as handle:
            np.savez(handle, **arrays)
        temporary.replace(path)  # a run killed half way must not leave a torn cache behind
    with np.load(path, allow_pickle=False) as stored:
        return _grid(code, dict(stored))


def _grid(code: str, arrays: dict[str, NDArray[Any]]) -> Grid:
    return Grid(
        code=code,
        root_bus=int(arrays["root_bus"]),
        lines=arrays["lines"],
        line_resistance_ohm=arrays["line_resistance_ohm"],
        line_max_ka=arrays["line_max_ka"],
        **{
            f"{unit}_{field}": tuple(arrays[f"{unit}_{field}"].tolist())
            for unit in ("load", "pv", "storage")
            for field in ("bus", "profile")
        },
        **{f"{unit}_milliwatt": arrays[f"{unit}_milliwatt"] for unit in ("load", "pv", "storage")},
    )


@lru_cache(maxsize=1)
def simbench_network(code: str) -> Any:
    """The pandapower network of a SimBench code; its profiles come along. Not to be changed by the caller."""
    with warnings.catch_warnings():
        # SimBench's converter triggers pandas and pandapower deprecations that say nothing about the data
        warnings.simplefilter("ignore")
        import simbench  # noqa: PLC0415 - pulls in pandapower: seconds that a cached run does not pay

        return simbench.get_simbench_net(code)


def _extract(code: str) -> dict[str, NDArray[Any]]:
    net = simbench_network(code)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench  # noqa: PLC0415 - see simbench_network

        powers = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    opened = set(net.switch.element[(net.switch.et == "l") & ~net.switch.closed.astype(bool)])
    lines = net.line[net.line.in_service & ~net.line.index.isin(opened)]
    arrays: dict[str, NDArray[Any]] = {
        "root_bus": np.int64(net.trafo.lv_bus.iloc[0]),
        "lines": lines[["from_bus", "to_bus"]].to_numpy(np.int64),
        "line_resistance_ohm": (lines.r_ohm_per_km * lines.length_km / lines.parallel).to_numpy(np.float64),
        "line_max_ka": (lines.max_i_ka * lines.parallel).to_numpy(np.float64),
    }
    # SimBench's storages are PV systems with a battery: their profile is what the pair feeds in, as negative power
    for unit, table, sign in (("load", "load", 1), ("pv", "sgen", 1), ("storage", "storage", -1)):
        arrays |= _unit_arrays(unit, net[table], powers[(table, "p_mw")], sign)
    return arrays


def _unit_arrays(unit: str, table: pd.DataFrame, power_mw: pd.DataFrame, sign: int) -> dict[str, NDArray[Any]]:
    if table.empty:  # scenario 0 has no storages
        power = np.zeros((PROFILE_ROWS, 0))
    else:
        power = np.rint(sign * power_mw[table.index].to_numpy(np.float64) * MILLIWATT_PER_MW)
    if power.shape[0] != PROFILE_ROWS:
        raise ValueError(f"{unit} profiles had {power.shape[0]} rows, must have {PROFILE_ROWS} (quarter hours of 2016)")
    return {
        f"{unit}_bus": table.bus.to_numpy(np.int64),
        f"{unit}_profile": table.profile.to_numpy(np.str_),
        # a few published values lie micro-watts below zero; a register can't run back
        f"{unit}_milliwatt": np.maximum(power, 0).astype(np.int32),
    }

"""A network made ready for the market: matrices, names, places, and which meter hangs where, in one file.

Belongs here: making a case from a pandapower network, its file (.npz, no pickle), its fingerprint. Does not belong
here: solving (power_flow.py), limits (limits.py). pandapower takes seconds to import and to convert; a settlement
process reads this file in milliseconds and never imports it.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.admittance import Branches, Matrices
from gridtokenx_pipelines.grid.errors import NetworkError, UnknownBusError
from gridtokenx_pipelines.grid.places import places_of
from gridtokenx_pipelines.grid.power_flow import PreparedNetwork
from gridtokenx_pipelines.grid.solvers import System

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet

FORMAT: Final = 3
NO_TAN_PHI: Final = 2  # a format that is still read: every load at LOAD_COS_PHI
# what a load draws whose power factor nobody knows
LOAD_COS_PHI: Final = 0.95
TAN_PHI: Final = math.tan(math.acos(LOAD_COS_PHI))
Texts = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class MeterPlace:
    """Where a meter hangs. `storage_*`: a battery behind it, else 0. `priority`: 1 is served first in an island.

    `tan_phi`: reactive over active energy of what it consumes, inductive above 0.
    """

    meter_id: str
    bus: int
    zone_id: int
    rating_w: int
    produces: bool
    storage_wh: int = 0
    storage_w: int = 0
    priority: int = 1
    tan_phi: float = TAN_PHI


@dataclass(frozen=True, kw_only=True)
class GridCase:
    """Arrays by bus (`matrices.bus_ids`), line (`matrices.lines.ids`), transformer and meter (ascending by id).

    `bus_zone` 0: in no zone. `bus_xy`: places to draw at, degrees where the network has coordinates, else laid out.
    """

    matrices: Matrices
    bus_name: Texts
    bus_zone: NDArray[np.int64]
    bus_xy: NDArray[np.float64]
    line_name: Texts
    line_ends: NDArray[np.int64]
    trafo_name: Texts
    trafo_ends: NDArray[np.int64]
    meter_id: Texts
    meter_bus: NDArray[np.int64]
    meter_zone: NDArray[np.int64]
    meter_rating_w: NDArray[np.int64]
    meter_produces: NDArray[np.bool_]
    meter_storage_wh: NDArray[np.int64]
    meter_storage_w: NDArray[np.int64]
    meter_priority: NDArray[np.int64]
    meter_tan_phi: NDArray[np.float64]

    @cached_property
    def network(self) -> PreparedNetwork:
        """The power flow of this case, one column per meter."""
        return PreparedNetwork.from_matrices(self.matrices, self.meter_bus.tolist())

    @cached_property
    def island(self) -> tuple[GridCase, str]:
        """This network without upstream, and the meter whose storage forms it: `grid.island.island_case`, once."""
        from gridtokenx_pipelines.grid.island import island_case  # noqa: PLC0415 - the island is made of cases

        return island_case(self)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over everything in the case: what limits were computed on."""
        digest = sha256()
        for name, array in sorted(_arrays(self).items()):
            digest.update(name.encode() + str(array.dtype).encode() + str(array.shape).encode() + array.tobytes())
        return digest.hexdigest()[:16]

    def columns(self) -> dict[str, int]:
        """Column of each meter id."""
        return {str(meter): column for column, meter in enumerate(self.meter_id.tolist())}


def case_of(net: pandapowerNet, meters: list[MeterPlace], zone_of_bus: Mapping[int, int]) -> GridCase:
    """A case from a pandapower network. Raises the errors of PreparedNetwork, NetworkError for two meters on one id."""
    ordered = sorted(meters, key=lambda meter: meter.meter_id)
    for former, latter in pairwise(ordered):
        if former.meter_id == latter.meter_id:
            raise NetworkError(
                f"meter {former.meter_id} was placed twice (buses {former.bus} and {latter.bus}), must be placed once; "
                "a replaced device gets a new meter id"
            )
    prepared = PreparedNetwork(net, [meter.bus for meter in ordered])
    matrices = prepared.matrices
    buses = matrices.bus_ids.tolist()
    strangers = sorted(set(zone_of_bus) - set(buses))
    if strangers:
        raise UnknownBusError(f"zone of bus {strangers[0]} was given, must be a bus of the network; correct the zones")
    return GridCase(
        matrices=matrices,
        bus_name=_names(net.bus, "bus"),
        bus_zone=np.array([zone_of_bus.get(bus, 0) for bus in buses], np.int64),
        bus_xy=places_of(net, buses),
        line_name=_names(net.line, "line"),
        line_ends=net.line[["from_bus", "to_bus"]].to_numpy(np.int64).reshape(-1, 2),
        trafo_name=np.concatenate([_names(net.trafo, "trafo"), _names(net.trafo3w, "trafo3w")]).astype(np.str_),
        trafo_ends=np.concatenate(
            [net.trafo[["hv_bus", "lv_bus"]].to_numpy(np.int64), net.trafo3w[["hv_bus", "lv_bus"]].to_numpy(np.int64)]
        ).reshape(-1, 2),
        meter_id=np.array([meter.meter_id for meter in ordered], np.str_),
        meter_bus=np.array([meter.bus for meter in ordered], np.int64),
        meter_zone=np.array([meter.zone_id for meter in ordered], np.int64),
        meter_rating_w=np.array([meter.rating_w for meter in ordered], np.int64),
        meter_produces=np.array([meter.produces for meter in ordered], np.bool_),
        meter_storage_wh=np.array([meter.storage_wh for meter in ordered], np.int64),
        meter_storage_w=np.array([meter.storage_w for meter in ordered], np.int64),
        meter_priority=np.array([meter.priority for meter in ordered], np.int64),
        meter_tan_phi=np.array([meter.tan_phi for meter in ordered], np.float64),
    )


def save(case: GridCase, path: Path) -> None:
    """Write the case whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, format=np.int64(FORMAT), **_arrays(case))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)


def load(path: Path) -> GridCase:
    """Read a case. Raises NetworkError naming the file for one that isn't a case of this format."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        if int(arrays["format"]) == NO_TAN_PHI:
            arrays["meter_tan_phi"] = np.full(len(arrays["meter_id"]), TAN_PHI)
        elif int(arrays["format"]) != FORMAT:
            raise NetworkError(
                f"{path} had format {int(arrays['format'])}, must be {FORMAT}; make it again: gridtokenx grid prepare"
            )
        return _case(arrays)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, NetworkError):
            raise
        raise NetworkError(f"{path} was no grid case ({error}); make one with gridtokenx grid prepare") from error


def _names(table: Any, kind: str) -> Texts:
    given = table["name"].tolist() if "name" in table.columns else [None] * len(table)
    found = [
        name if isinstance(name, str) and name else f"{kind} {index}"
        for name, index in zip(given, table.index.tolist(), strict=True)
    ]
    return np.array(found, np.str_)


BRANCHES: Final = ("lines", "trafos", "trafo3w")


def _arrays(case: GridCase) -> dict[str, NDArray[Any]]:
    matrices, system = case.matrices, case.matrices.system
    arrays: dict[str, NDArray[Any]] = {
        each.name: getattr(case, each.name) for each in fields(GridCase) if each.name != "matrices"
    }
    for name in ("bus_ids", "bus_place", "from_bus", "to_bus", "base_kv", "own"):
        arrays[f"m_{name}"] = getattr(matrices, name)
    arrays["m_base_mva"] = np.float64(matrices.base_mva)  # type: ignore[assignment]
    for name in ("start", "ref", "pv", "pq"):
        arrays[f"s_{name}"] = getattr(system, name)
    sparse = {"admittance": system.admittance, "from_side": matrices.from_side, "to_side": matrices.to_side}
    for name, matrix in sparse.items():
        for part in ("data", "indices", "indptr"):
            arrays[f"{name}_{part}"] = getattr(matrix, part)
    for name in BRANCHES:
        branches: Branches = getattr(matrices, name)
        for part in ("ids", "row", "rated_from_ka", "rated_to_ka"):
            arrays[f"{name}_{part}"] = getattr(branches, part)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _case(arrays: dict[str, NDArray[Any]]) -> GridCase:
    buses, branches = len(arrays["s_start"]), len(arrays["m_from_bus"])
    shapes = {"admittance": (buses, buses), "from_side": (branches, buses), "to_side": (branches, buses)}
    from scipy.sparse import csc_matrix, csr_matrix  # noqa: PLC0415 - a market without a grid case loads without it

    kinds = {"admittance": csc_matrix, "from_side": csr_matrix, "to_side": csr_matrix}
    sparse = {
        name: kind(tuple(arrays[f"{name}_{part}"] for part in ("data", "indices", "indptr")), shape=shapes[name])
        for name, kind in kinds.items()
    }
    tables = {
        name: Branches(
            table=name.removesuffix("s"),
            **{part: arrays[f"{name}_{part}"] for part in ("ids", "row", "rated_from_ka", "rated_to_ka")},
        )
        for name in BRANCHES
    }
    matrices = Matrices(
        base_mva=float(np.squeeze(arrays["m_base_mva"])),
        system=System(
            admittance=sparse["admittance"],
            **{name: arrays[f"s_{name}"] for name in ("start", "ref", "pv", "pq")},
            ppci={},
        ),
        from_side=sparse["from_side"],
        to_side=sparse["to_side"],
        **{name: arrays[f"m_{name}"] for name in ("bus_ids", "bus_place", "from_bus", "to_bus", "base_kv", "own")},
        **tables,
    )
    return GridCase(
        matrices=matrices,
        **{each.name: arrays[each.name] for each in fields(GridCase) if each.name != "matrices"},
    )

"""A pandapower network as matrices: built once per set of tap positions, through pandapower's own converter.

Belongs here: the way from tables to Ybus, Yf, Yt and to the places of buses and branches in them. Does not belong
here: solving (solvers.py), results (power_flow.py). pandapower models lines, transformers, switches and shunts; this
file only keeps what it built, so that a thousand steps don't build it a thousand times.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.solvers import System, no_load_voltages

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Complexes = NDArray[np.complex128]
ABSENT: Final = -1  # place of a bus or branch that is out of service


@dataclass(frozen=True, kw_only=True)
class Branches:
    """Rows of one branch table: place in Yf/Yt (ABSENT: carries nothing), and rated current of both ends in kA."""

    table: str
    ids: Ints
    row: Ints
    rated_from_ka: Floats
    rated_to_ka: Floats


@dataclass(frozen=True, kw_only=True)
class Matrices:
    """What one set of taps amounts to, in p.u. of `base_mva`; bus_place: where each of bus_ids is in it."""

    base_mva: float
    bus_ids: Ints
    bus_place: Ints
    system: System
    from_side: csr_matrix
    to_side: csr_matrix
    from_bus: Ints
    to_bus: Ints
    base_kv: Floats
    own: Complexes
    lines: Branches
    trafos: Branches
    trafo3w: Branches


def build(net: pandapowerNet) -> Matrices:
    """Matrices of the network as it stands; writes pandapower's look-ups into `net`, nothing else."""
    from pandapower.auxiliary import _init_runpp_options  # noqa: PLC0415 - seconds of import
    from pandapower.pd2ppc import _pd2ppc  # noqa: PLC0415
    from pandapower.pf.ppci_variables import _get_pf_variables_from_ppci  # noqa: PLC0415
    from pandapower.pypower.idx_brch import F_BUS, T_BUS  # noqa: PLC0415
    from pandapower.pypower.idx_bus import BASE_KV  # noqa: PLC0415
    from pandapower.pypower.makeSbus import makeSbus  # noqa: PLC0415
    from pandapower.pypower.makeYbus import makeYbus  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' deprecations inside pandapower say nothing about the network
        _init_runpp_options(
            net,
            algorithm="nr",
            calculate_voltage_angles=True,
            init="auto",
            max_iteration="auto",
            tolerance_mva=1e-8,
            trafo_model="t",
            trafo_loading="current",
            enforce_q_lims=False,
            check_connectivity=True,
            voltage_depend_loads=False,
        )
        empty = np.array([], np.int64)
        net._pd2ppc_lookups = {key: empty for key in ("bus", "bus_dc", "ext_grid", "gen", "branch", "branch_dc")}
        _, ppci = _pd2ppc(net)
        variables = _get_pf_variables_from_ppci(ppci, True)
        base_mva, bus, gen, branch = variables[:4]
        ref, pv, pq, v0 = variables[8], variables[9], variables[10], variables[-2]
        admittance, from_side, to_side = makeYbus(base_mva, bus, branch)
        own = makeSbus(base_mva, bus, gen)
    from scipy.sparse import csc_matrix, csr_matrix  # noqa: PLC0415 - only who builds matrices pays for it

    admittance = csc_matrix(admittance)
    admittance.sort_indices()
    ref, pv, pq = (np.asarray(each, np.int64) for each in (ref, pv, pq))
    start = no_load_voltages(admittance, v0, ref)
    if len(pv):  # generators hold voltages that the slack alone wouldn't give: only the angles are of use
        start = np.abs(v0) * np.exp(1j * np.angle(start))
    ids = net.bus.index.to_numpy(np.int64)
    place = np.asarray(net._pd2ppc_lookups["bus"], np.int64)[ids]
    in_service = np.isin(ids, net.bus.index[net.bus.in_service.astype(bool)])
    known = (place >= 0) & (place < len(bus)) & in_service
    rows = _rows(ppci["internal"]["branch_is"])
    look = net._pd2ppc_lookups["branch"]
    return Matrices(
        base_mva=float(base_mva),
        bus_ids=ids,
        bus_place=np.where(known, place, ABSENT),
        system=System(
            admittance=admittance, start=start, ref=ref, pv=pv, pq=pq, ppci=ppci | {"options": dict(net._options)}
        ),
        from_side=csr_matrix(from_side),
        to_side=csr_matrix(to_side),
        from_bus=branch[:, F_BUS].real.astype(np.int64),
        to_bus=branch[:, T_BUS].real.astype(np.int64),
        base_kv=bus[:, BASE_KV].real.astype(np.float64),
        own=np.asarray(own, np.complex128),
        lines=_lines(net, rows, look),
        trafos=_trafos(net, rows, look),
        trafo3w=_trafo3w(net, rows, look),
    )


def _rows(active: NDArray[np.bool_]) -> Ints:
    return np.where(active, np.cumsum(active) - 1, ABSENT).astype(np.int64)


def _lines(net: pandapowerNet, rows: Ints, look: dict[str, tuple[int, int]]) -> Branches:
    start, end = look.get("line", (0, 0))
    rated = (net.line.max_i_ka * net.line.df * net.line.parallel).to_numpy(np.float64)
    return Branches(
        table="line",
        ids=net.line.index.to_numpy(np.int64),
        row=rows[start:end],
        rated_from_ka=rated,
        rated_to_ka=rated,
    )


def _trafos(net: pandapowerNet, rows: Ints, look: dict[str, tuple[int, int]]) -> Branches:
    start, end = look.get("trafo", (0, 0))
    trafo = net.trafo
    power = (trafo.sn_mva * trafo.df * trafo.parallel).to_numpy(np.float64)
    return Branches(
        table="trafo",
        ids=trafo.index.to_numpy(np.int64),
        row=rows[start:end],
        rated_from_ka=power / (np.sqrt(3) * trafo.vn_hv_kv.to_numpy(np.float64)),
        rated_to_ka=power / (np.sqrt(3) * trafo.vn_lv_kv.to_numpy(np.float64)),
    )


def _trafo3w(net: pandapowerNet, rows: Ints, look: dict[str, tuple[int, int]]) -> Branches:
    """Three branches each, to an inner bus: only the outer end of each has a rating."""
    start, end = look.get("trafo3w", (0, 0))
    trafo = net.trafo3w
    rated = {
        side: (trafo[f"sn_{side}_mva"] / (np.sqrt(3) * trafo[f"vn_{side}_kv"])).to_numpy(np.float64)
        for side in ("hv", "mv", "lv")
    }
    unrated = np.full(len(trafo), np.inf)
    return Branches(
        table="trafo3w",
        ids=trafo.index.to_numpy(np.int64),
        row=rows[start:end],
        rated_from_ka=np.concatenate([rated["hv"], unrated, unrated]),
        rated_to_ka=np.concatenate([unrated, rated["mv"], rated["lv"]]),
    )

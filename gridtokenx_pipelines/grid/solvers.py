"""Newton-Raphson on an admittance matrix: the fastest kept backend first.

Belongs here: one step, V from Sbus. Does not belong here: networks, meters, results (power_flow.py).

- `lightsim2grid`: C++ with KLU, 50–100 µs a step on a low-voltage grid; the default where it is installed.
- `numba`: pandapower's own `newtonpf` with its compiled Jacobian.
- `pandapower`: the same without numba, the slowest, needs nothing more.
All stop at a mismatch below `TOLERANCE_PU` of the network's base power, and start from the same voltages, so the
result doesn't depend on what was solved before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.errors import UnsupportedNetworkError

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

Complexes = NDArray[np.complex128]
Ints = NDArray[np.int64]
Solve = Callable[[Complexes], Complexes | None]

BACKENDS: Final = ("lightsim2grid", "numba", "pandapower")
MAX_ITERATIONS: Final = 20
TOLERANCE_PU: Final = 1e-9


def choose(backend: str) -> str:
    """The backend to use: `auto` is the fastest that is installed. Raises UnsupportedNetworkError for another name."""
    if backend != "auto":
        if backend not in BACKENDS:
            raise UnsupportedNetworkError(f"backend was {backend!r}, must be auto or one of {', '.join(BACKENDS)}")
        return backend
    for name, module in (("lightsim2grid", "lightsim2grid"), ("numba", "numba")):
        try:
            __import__(module)
        except ImportError:
            continue
        return name
    return "pandapower"


@dataclass(frozen=True, kw_only=True)
class System:
    """The equations of a network in p.u.: admittances, start voltages and bus types; `ppci`: pandapower's form."""

    admittance: csc_matrix
    start: Complexes
    ref: Ints
    pv: Ints
    pq: Ints
    ppci: dict[str, Any]


def solver(backend: str, system: System) -> Solve:
    """A function from injected powers (p.u., generation positive, shape (buses,)) to voltages, None if it diverges."""
    if backend == "lightsim2grid":
        return _lightsim2grid(system)
    return _pandapower(system, numba=backend == "numba")


def no_load_voltages(admittance: csc_matrix, given: Complexes, ref: Ints) -> Complexes:
    """Voltages with nothing drawn, from those of the slack buses: the start that knows every vector group.

    Solves Y_LL V_L = −Y_LS V_S once; a flat start fails across a transformer that turns the angle by 150°.
    """
    from scipy.sparse.linalg import spsolve  # noqa: PLC0415 - not needed by who only reads results

    rest = np.setdiff1d(np.arange(len(given)), ref)
    voltages = given.astype(np.complex128, copy=True)
    if len(rest):
        voltages[rest] = spsolve(admittance[rest][:, rest].tocsc(), -(admittance[rest][:, ref] @ given[ref]))
    return voltages


def _lightsim2grid(system: System) -> Solve:
    from lightsim2grid.algorithm import NRSing_KLU  # noqa: PLC0415 - optional and compiled

    algorithm = NRSing_KLU()
    weights = np.zeros(len(system.start))
    weights[system.ref] = 1 / len(system.ref)

    def solve(injected: Complexes) -> Complexes | None:
        converged = algorithm.compute_pf(
            system.admittance,
            system.start.copy(),
            injected,
            system.ref,
            weights,
            system.pv,
            system.pq,
            MAX_ITERATIONS,
            TOLERANCE_PU,
        )
        if not converged:
            algorithm.reset()  # a diverged factorisation must not be the start of the next step
            return None
        return np.array(algorithm.get_V(), np.complex128)

    return solve


def _pandapower(system: System, *, numba: bool) -> Solve:
    from pandapower.pf.makeYbus_numba import makeYbus as make_compiled  # noqa: PLC0415 - seconds of import
    from pandapower.pypower.makeYbus import makeYbus as make_plain  # noqa: PLC0415
    from pandapower.pypower.newtonpf import newtonpf  # noqa: PLC0415

    ppci = system.ppci
    options = ppci["options"] | {"tolerance_mva": TOLERANCE_PU, "max_iteration": MAX_ITERATIONS, "numba": numba}
    make = make_compiled if numba else make_plain
    by_row = system.admittance.tocsr()

    def solve(injected: Complexes) -> Complexes | None:
        voltages, converged, *_ = newtonpf(
            by_row, injected, system.start.copy(), system.ref, system.pv, system.pq, ppci, options, make
        )
        return np.array(voltages, np.complex128) if converged else None

    return solve

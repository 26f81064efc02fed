"""AC power flow: a network prepared once, solved many times for given powers of its meters.

Belongs here: from P and Q per meter and step to voltages, loadings, losses and the exchange with the upstream grid.
Does not belong here: who draws what (simulation/), what is acceptable (limits.py), energy and money (they are integers
and live elsewhere). Conventions: MW, Mvar, p.u. and percent as floats; a meter's power is positive where it consumes
and negative where it feeds in; the slack's is positive where the upstream grid delivers.

Method: Newton-Raphson in polar coordinates (Tinney and Hart, "Power Flow Solution by Newton's Method", IEEE
Transactions PAS-86, 1967) on pandapower's model (Thurner et al., "pandapower", IEEE Transactions on Power Systems
33(6), 2018), by lightsim2grid where it is installed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridtokenx_pipelines.grid.admittance import ABSENT, Branches, Complexes, Floats, Ints, Matrices, build
from gridtokenx_pipelines.grid.errors import (
    IslandWithoutSlackError,
    NotConvergedError,
    PowersError,
    UnknownBusError,
    UnsupportedNetworkError,
)
from gridtokenx_pipelines.grid.solvers import MAX_ITERATIONS, Solve, choose, solver
from gridtokenx_pipelines.grid.taps import make_taps_work
from gridtokenx_pipelines.grid.validation import require_supplied, validate

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet


@dataclass(frozen=True, kw_only=True)
class FlowResult:
    """Results of T steps; NaN in every column of a step that did not converge (`converged` False).

    vm_pu, va_degree: (T, buses) in the order of `PreparedNetwork.bus_ids`, NaN for a bus out of service.
    line_*: (T, lines) by `line_ids`; trafo_*: (T, transformers) by `trafo_ids`, two-winding before three-winding.
    line_mw: power entering a line at its from-bus. Losses, slack_mw, slack_mvar: (T,); losses are of all branches.
    """

    converged: NDArray[np.bool_]
    vm_pu: Floats
    va_degree: Floats
    line_loading_percent: Floats
    line_ka: Floats
    line_mw: Floats
    line_loss_mw: Floats
    trafo_loading_percent: Floats
    trafo_loss_mw: Floats
    loss_mw: Floats
    slack_mw: Floats
    slack_mvar: Floats

    def __len__(self) -> int:
        return len(self.converged)


class PreparedNetwork:
    """A validated network and where its meters hang; solve() may be called from one thread at a time."""

    def __init__(
        self,
        net: pandapowerNet,
        meter_buses: Sequence[int],
        *,
        own_injections: bool = False,
        backend: str = "auto",
    ) -> None:
        """Validate and prepare a copy of `net`.

        `meter_buses`: bus index of each meter, any number per bus. Without `own_injections` the network's own loads,
        static generators and storages count for nothing: the meters are all there is. Raises RatingError,
        IslandWithoutSlackError, UnknownBusError, UnsupportedNetworkError.
        """
        validate(net, own_injections=own_injections)
        self._net: pandapowerNet | None = copy.deepcopy(net)
        make_taps_work(self._net)
        if not own_injections:
            for table in ("load", "sgen", "storage", "ward", "asymmetric_load", "asymmetric_sgen", "motor"):
                self._net[table] = self._net[table].iloc[:0]
        self.backend = choose(backend)
        self._by_taps: dict[tuple[int, ...], tuple[Matrices, Solve]] = {}
        self.default_taps = self._taps_of(self._net)
        base, _ = self._prepared(self.default_taps)
        self._place(base, meter_buses)
        unsupplied = self.bus_ids[base.bus_place == ABSENT]
        require_supplied(net, unsupplied.tolist(), meter_buses=self.meter_buses.tolist())

    @classmethod
    def from_matrices(cls, matrices: Matrices, meter_buses: Sequence[int]) -> PreparedNetwork:
        """Of matrices that were built and validated before (case.py), at the taps they were built with.

        Raises UnsupportedNetworkError without lightsim2grid: the other backends need pandapower's own form.
        """
        if choose("auto") != "lightsim2grid":
            raise UnsupportedNetworkError("a stored network needs lightsim2grid, which isn't installed; install it")
        made = cls.__new__(cls)
        made._net, made.backend, made.default_taps = None, "lightsim2grid", ()
        made._by_taps = {(): (matrices, solver("lightsim2grid", matrices.system))}
        made._place(matrices, meter_buses)
        if (made._meter_place == ABSENT).any():
            dead = made.meter_buses[made._meter_place == ABSENT].tolist()
            raise IslandWithoutSlackError(f"meter bus {dead[0]} is without supply; connect it to an external grid")
        return made

    @property
    def matrices(self) -> Matrices:
        """The matrices at the default taps."""
        return self._prepared(self.default_taps)[0]

    def _place(self, base: Matrices, meter_buses: Sequence[int]) -> None:
        self.bus_ids = base.bus_ids
        self.line_ids = base.lines.ids
        self.trafo_ids = np.concatenate([base.trafos.ids, base.trafo3w.ids])
        self.meter_buses = np.asarray(meter_buses, np.int64).reshape(-1)
        position = {bus: place for place, bus in enumerate(self.bus_ids.tolist())}
        unknown = [bus for bus in self.meter_buses.tolist() if bus not in position]
        if unknown:
            raise UnknownBusError(f"meter bus was {unknown[0]}, must be a bus of the network; register it on one")
        self._meter_place = np.array([base.bus_place[position[bus]] for bus in self.meter_buses.tolist()], np.int64)

    @property
    def taps(self) -> int:
        """Two-winding transformers, each with one tap position."""
        return len(self.default_taps)

    def solve(
        self, p_mw: ArrayLike, q_mvar: ArrayLike, *, taps: ArrayLike | None = None, strict: bool = True
    ) -> FlowResult:
        """Power flow of one step, shapes (meters,), or of T steps, shapes (T, meters); consumption positive.

        `taps`: positions per two-winding transformer, (transformers,) for all steps or (T, transformers); default: the
        network's. Raises PowersError for wrong shapes or values that aren't finite, NotConvergedError naming the steps
        without a solution; with `strict=False` those steps are NaN and flagged instead, never invented.
        """
        p, q = self._powers(p_mw, "p_mw"), self._powers(q_mvar, "q_mvar")
        if p.shape != q.shape:
            raise PowersError(f"p_mw had shape {p.shape} and q_mvar {q.shape}, must be alike; give both per meter")
        positions = self._positions(taps, len(p))
        voltages: dict[tuple[int, ...], tuple[list[int], list[Complexes]]] = {}
        failed = []
        for step in range(len(p)):
            key = positions[0] if len(positions) == 1 else positions[step]
            matrices, solve = self._prepared(key)
            found = solve(self._injected(matrices, p[step], q[step]))
            if found is None:
                failed.append(step)
            else:
                steps, values = voltages.setdefault(key, ([], []))
                steps.append(step)
                values.append(found)
        if failed and strict:
            raise NotConvergedError(failed, len(p), MAX_ITERATIONS, self.backend)
        result = self._empty(len(p))
        for key, (steps, values) in voltages.items():
            self._fill(result, self._prepared(key)[0], np.array(steps), np.array(values).T)
            self._fill_slack(result, self._prepared(key)[0], np.array(steps), np.array(values).T, (p[steps], q[steps]))
        return result

    def _injected(self, matrices: Matrices, p: Floats, q: Floats) -> Complexes:
        injected = matrices.own.copy()
        count = len(injected)
        drawn = np.bincount(self._meter_place, p, count) + 1j * np.bincount(self._meter_place, q, count)
        injected -= drawn / matrices.base_mva
        return injected

    def _prepared(self, taps: tuple[int, ...]) -> tuple[Matrices, Solve]:
        if taps not in self._by_taps:
            if self._net is None:
                raise UnsupportedNetworkError(
                    "taps of a stored network are fixed; prepare it from pandapower's network"
                )
            self._net.trafo["tap_pos"] = np.array(taps, np.float64)
            matrices = build(self._net)
            solve = solver(self.backend, matrices.system)
            self._by_taps[taps] = (matrices, solve)
        return self._by_taps[taps]

    @staticmethod
    def _taps_of(net: pandapowerNet) -> tuple[int, ...]:
        taps = net.trafo.tap_pos.astype(float) if "tap_pos" in net.trafo else net.trafo.sn_mva * 0
        neutral = net.trafo.tap_neutral.astype(float).fillna(0) if "tap_neutral" in net.trafo else taps * 0
        return tuple(int(tap) for tap in taps.fillna(neutral))

    def _powers(self, values: ArrayLike, name: str) -> Floats:
        powers = np.atleast_2d(np.asarray(values, np.float64))
        if powers.ndim != 2 or powers.shape[1] != len(self.meter_buses):
            raise PowersError(
                f"{name} had shape {np.shape(values)}, must be (meters,) or (steps, meters) with "
                f"{len(self.meter_buses)} meters; give one value per meter"
            )
        if not np.isfinite(powers).all():
            step, meter = np.argwhere(~np.isfinite(powers))[0]
            raise PowersError(
                f"{name} of meter {meter} in step {step} was {powers[step, meter]}, must be finite; fill the gap first"
            )
        return powers

    def _positions(self, taps: ArrayLike | None, steps: int) -> list[tuple[int, ...]]:
        if taps is None:
            return [self.default_taps]
        given = np.atleast_2d(np.asarray(taps))
        if given.shape not in ((1, self.taps), (steps, self.taps)):
            raise PowersError(
                f"taps had shape {np.shape(taps)}, must be ({self.taps},) or ({steps}, {self.taps}): "
                "one position per two-winding transformer"
            )
        return [tuple(map(int, row)) for row in given.tolist()]

    def _empty(self, steps: int) -> FlowResult:
        def nothing(*columns: int) -> Floats:
            return np.full((steps, *columns), np.nan)

        buses, lines, trafos = len(self.bus_ids), len(self.line_ids), len(self.trafo_ids)
        return FlowResult(
            converged=np.zeros(steps, np.bool_),
            vm_pu=nothing(buses),
            va_degree=nothing(buses),
            line_loading_percent=nothing(lines),
            line_ka=nothing(lines),
            line_mw=nothing(lines),
            line_loss_mw=nothing(lines),
            trafo_loading_percent=nothing(trafos),
            trafo_loss_mw=nothing(trafos),
            loss_mw=nothing(),
            slack_mw=nothing(),
            slack_mvar=nothing(),
        )

    def _fill(self, result: FlowResult, at: Matrices, steps: Ints, v: Complexes) -> None:
        """Write the results of some steps; `v` has shape (matrix buses, len(steps))."""
        result.converged[steps] = True
        alive = at.bus_place != ABSENT
        places = at.bus_place[alive]
        result.vm_pu[np.ix_(steps, alive)] = np.abs(v[places]).T
        result.va_degree[np.ix_(steps, alive)] = np.degrees(np.angle(v[places])).T
        current_from, current_to = at.from_side @ v, at.to_side @ v
        power_from = v[at.from_bus] * np.conj(current_from) * at.base_mva
        power_to = v[at.to_bus] * np.conj(current_to) * at.base_mva
        lost = (power_from + power_to).real
        ka_from = np.abs(current_from) * (at.base_mva / np.sqrt(3) / at.base_kv[at.from_bus])[:, None]
        ka_to = np.abs(current_to) * (at.base_mva / np.sqrt(3) / at.base_kv[at.to_bus])[:, None]
        lines = at.lines
        result.line_ka[steps] = np.maximum(_of(lines, ka_from), _of(lines, ka_to)).T
        result.line_loading_percent[steps] = _loading(lines, ka_from, ka_to).T
        result.line_mw[steps] = _of(lines, power_from.real).T
        result.line_loss_mw[steps] = _of(lines, lost).T
        two, three = at.trafos, at.trafo3w
        units = len(three.ids)
        loading = np.vstack(
            [_loading(two, ka_from, ka_to), _loading(three, ka_from, ka_to).reshape(3, units, len(steps)).max(axis=0)]
        )
        result.trafo_loading_percent[steps] = loading.T
        result.trafo_loss_mw[steps] = np.vstack(
            [_of(two, lost), _of(three, lost).reshape(3, units, len(steps)).sum(axis=0)]
        ).T
        result.loss_mw[steps] = lost.sum(axis=0)

    def _fill_slack(
        self, result: FlowResult, at: Matrices, steps: Ints, v: Complexes, powers: tuple[Floats, Floats]
    ) -> None:
        """What enters at the slack buses beyond what meters and own elements there inject."""
        ref = at.system.ref
        entering = (v[ref] * np.conj((at.system.admittance @ v)[ref])).sum(axis=0) * at.base_mva
        at_slack = np.isin(self._meter_place, ref)
        others = at.own[ref].sum() * at.base_mva
        result.slack_mw[steps] = entering.real - others.real + powers[0][:, at_slack].sum(axis=1)
        result.slack_mvar[steps] = entering.imag - others.imag + powers[1][:, at_slack].sum(axis=1)


def _of(branches: Branches, values: Floats) -> Floats:
    """Rows of a table's branches, 0 where a branch is out of service."""
    return np.where((branches.row == ABSENT)[:, None], 0.0, values[branches.row])


def _loading(branches: Branches, ka_from: Floats, ka_to: Floats) -> Floats:
    by_from = _of(branches, ka_from) / branches.rated_from_ka[:, None]
    by_to = _of(branches, ka_to) / branches.rated_to_ka[:, None]
    # an element out of service may lack its rating: it carries nothing
    return np.where((branches.row == ABSENT)[:, None], 0.0, np.maximum(by_from, by_to) * 100)

"""One step: powers that answer the voltage, and the AC power flow that gives it, until both agree.

Belongs here: the coupling, transformer taps, what a meter sees at its bus. Does not belong here: the power flow itself
(grid/power_flow.py), energy (accounts.py). Powers W and var at the meters, voltages in p.u.; a step without a solution
is NaN in all that a power flow would have given.

The coupling is the usual fixed point of a quasi-static simulation (Dugan and McDermott, "An open source platform for
collaborating on smart grid research", IEEE PES General Meeting 2011): powers at the last voltages, power flow, new
voltages, in smaller steps where curves are steep. What is reported is the last power flow with exactly the powers it
was given, so energy balances to the solver's tolerance however far the iteration came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.power_flow import FlowResult, PreparedNetwork
from gridtokenx_pipelines.simulation.fleet.errors import NoSolutionError
from gridtokenx_pipelines.simulation.fleet.fleet import Fleet
from gridtokenx_pipelines.simulation.fleet.inverters import Curve, generation, zip_factor
from gridtokenx_pipelines.simulation.fleet.networks import ConnectedNetwork

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AGREED_PU: Final = 2e-4  # 0.05 V: two orders below what the 1.10 limit is measured with
ROUNDS: Final = 60
LIMIT_PU: Final = 1.105  # from here on inverters feed nothing in
BAND_PU: Final = (0.98, 1.02)
TAP_DELAY_STEPS: Final = 2


@dataclass(frozen=True, kw_only=True)
class StepPowers:
    """A step's result per member (W, var, p.u.) and per copy (W); NaN where the copy's power flow did not converge.

    `settled` False: powers and voltages still moved after the last round; the power flow itself is exact.
    """

    load_w: Floats
    produced_w: Floats
    curtailed_w: Floats
    reactive_var: Floats
    voltage_pu: Floats
    losses_w: Floats
    upstream_w: Floats
    converged: NDArray[np.bool_]
    settled: NDArray[np.bool_]
    line_loading: Floats
    trafo_loading: Floats
    taps: Ints
    flows: int


class Physics:
    """A fleet's network, solved for all its copies at once, with the tap positions that they stand at."""

    def __init__(
        self, network: ConnectedNetwork, fleet: Fleet, *, curve: Curve, regulate: bool, backend: str = "auto"
    ) -> None:
        """Raises the errors of grid/errors.py, NoSolutionError if not even the empty network has a solution."""
        self._curve, self._copies = curve, fleet.copies
        buses = sorted({member.bus for member in fleet.members})
        place = {bus: index for index, bus in enumerate(buses)}
        self._buses = len(buses)
        self._copy = np.array([member.copy for member in fleet.members], np.int64)
        self._slot = self._copy * self._buses + np.array([place[member.bus] for member in fleet.members], np.int64)
        self.prepared = PreparedNetwork(network.net, buses, backend=backend)
        ids = self.prepared.bus_ids.tolist()
        self._column = np.array([ids.index(bus) for bus in buses], np.int64)
        self._rated_va = np.array([member.template.rated_kva for member in fleet.members]) * 1_000
        self._zip = np.array([member.template.zip for member in fleet.members], np.float64)
        factor = fleet.column("power_factor")
        self._tangent = np.sqrt(1 - factor**2) / factor
        self._voltage = np.ones((fleet.copies, len(buses)))
        self._taps = _Taps(network.net, self.prepared, fleet.copies, regulate=regulate)
        empty = self.prepared.solve(np.zeros((1, self._buses)), np.zeros((1, self._buses)), strict=False)
        if not empty.converged[0]:
            raise NoSolutionError(
                f"{network.name} has no power flow solution with nothing connected; check its impedances, taps and "
                "external grid's voltage"
            )

    def step(self, load_w: Floats, charge_w: Floats, available_w: Floats) -> StepPowers:
        """Solve for nominal loads, battery charging and what inverters could feed in; all W, shape (members,)."""
        flows, active = 0, np.ones(self._copies, np.bool_)
        parts = _Parts(self._copies, len(load_w), self.prepared)
        seek = _Seek(self._voltage)
        for _ in range(ROUNDS):
            voltage = seek.voltage.reshape(-1)[self._slot]
            draw = load_w * zip_factor(voltage, self._zip)
            feed, given_var = generation(voltage, available_w, self._rated_va, self._curve)
            net_w, net_var = draw + charge_w - feed, draw * self._tangent - given_var
            chosen = np.flatnonzero(active)  # copies that agreed are not solved again
            p, q = (self._by_bus(power, chosen) for power in (net_w, net_var))
            flow = self.prepared.solve(p, q, taps=self._taps.of(chosen), strict=False)
            flows += len(chosen)
            found = np.full((self._copies, self._buses), np.nan)
            found[chosen] = flow.vm_pu[:, self._column]
            seen = found.reshape(-1)[self._slot]
            parts.take(chosen, active[self._copy], flow, (draw + charge_w, feed, net_var, seen))
            agreed, given_up = seek.move(found, active)
            parts.settled |= agreed
            active &= ~(agreed | given_up)
            if not active.any():
                break
        self._voltage = np.where(parts.settled[:, None], seek.voltage, 1.0)
        taps = self._taps.positions.copy()
        self._taps.move(parts)
        return parts.result(available_w, taps, flows)

    def _by_bus(self, power_w: Floats, chosen: Ints) -> Floats:
        by_slot = np.bincount(self._slot, power_w, self._copies * self._buses) / 1e6
        chosen_rows: Floats = by_slot.reshape(self._copies, self._buses)[chosen]
        return chosen_rows


class _Seek:
    """The fixed point of each bus: goes all the way to the voltage found, and half as far each time it overshoots.

    Where a copy has no solution at the powers tried, it is tried once more from the limit, where nothing feeds in:
    panels that the network can't take at nominal voltage may well be taken once they are curtailed.
    """

    def __init__(self, voltage: Floats) -> None:
        self.voltage = voltage.copy()
        self._weight, self._before = np.ones_like(voltage), np.zeros_like(voltage)
        self._retried = np.zeros(len(voltage), np.bool_)

    def move(self, found: Floats, active: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(copies that agree, copies given up) of the active ones, by voltages (copies, buses); NaN: no solution."""
        failed = active & np.isnan(found).any(axis=1)
        residual = np.where(np.isfinite(found) & active[:, None], found - self.voltage, 0.0)
        agreed = active & ~failed & (np.abs(residual).max(axis=1) <= AGREED_PU)
        going = active & ~failed & ~agreed
        overshot = residual * self._before < 0
        self._weight = np.where(overshot, self._weight * 0.5, np.minimum(self._weight * 1.1, 1.0))
        self._before = residual
        self.voltage += np.where(going[:, None], self._weight * residual, 0.0)
        again = failed & ~self._retried
        self.voltage[again], self._weight[again] = LIMIT_PU, 0.1
        self._retried |= failed
        return agreed, failed & ~again


class _Parts:
    """What the rounds found, copy by copy: those that agreed early keep their result."""

    def __init__(self, copies: int, members: int, prepared: PreparedNetwork) -> None:
        self.draw, self.feed, self.reactive, self.voltage = (np.full(members, np.nan) for _ in range(4))
        self.losses, self.upstream = np.full(copies, np.nan), np.full(copies, np.nan)
        self.converged, self.settled = np.zeros(copies, np.bool_), np.zeros(copies, np.bool_)
        self.line_loading = np.full((copies, len(prepared.line_ids)), np.nan)
        self.trafo_loading = np.full((copies, len(prepared.trafo_ids)), np.nan)
        self.busbar: Floats = np.full((copies, len(prepared.bus_ids)), np.nan)

    def take(self, chosen: Ints, members: NDArray[np.bool_], flow: FlowResult, powers: tuple[Floats, ...]) -> None:
        for mine, new in zip((self.draw, self.feed, self.reactive, self.voltage), powers, strict=True):
            np.copyto(mine, new, where=members)
        self.losses[chosen], self.upstream[chosen] = flow.loss_mw * 1e6, flow.slack_mw * 1e6
        self.converged[chosen] = flow.converged
        self.line_loading[chosen], self.trafo_loading[chosen] = flow.line_loading_percent, flow.trafo_loading_percent
        self.busbar[chosen] = flow.vm_pu

    def result(self, available_w: Floats, taps: Ints, flows: int) -> StepPowers:
        unknown = np.isnan(self.voltage)
        draw, feed, reactive = (np.where(unknown, np.nan, each) for each in (self.draw, self.feed, self.reactive))
        return StepPowers(
            load_w=draw,
            produced_w=feed,
            curtailed_w=available_w - feed,
            reactive_var=reactive,
            voltage_pu=self.voltage,
            losses_w=self.losses,
            upstream_w=self.upstream,
            converged=self.converged,
            settled=self.settled,
            line_loading=self.line_loading,
            trafo_loading=self.trafo_loading,
            taps=taps,
            flows=flows,
        )


class _Taps:
    """Tap positions by copy and transformer; one moves when its busbar was outside the band for two steps."""

    def __init__(self, net: pandapowerNet, prepared: PreparedNetwork, copies: int, *, regulate: bool) -> None:
        self._prepared = prepared
        self.positions = np.tile(np.array(prepared.default_taps, np.int64), (copies, 1))
        trafo = net.trafo
        steps = trafo.tap_step_percent.astype(float).fillna(0).to_numpy() if len(trafo) else np.zeros(0)
        self._can = np.flatnonzero(
            (steps > 0) & np.isfinite(_number(trafo, "tap_min")) & np.isfinite(_number(trafo, "tap_max"))
        )
        if not regulate:
            self._can = self._can[:0]
        lowest, highest = _number(trafo, "tap_min"), _number(trafo, "tap_max")
        self._low, self._high = (np.nan_to_num(each).astype(np.int64) for each in (lowest, highest))
        # a higher position on the high-voltage side lowers the low-voltage side
        self._sense = np.where(trafo.tap_side.astype(str).to_numpy() == "lv", 1, -1) if len(trafo) else np.zeros(0, int)
        ids = prepared.bus_ids.tolist()
        self._watched = np.array([ids.index(int(trafo.lv_bus.iloc[place])) for place in self._can], np.int64)
        self._outside = np.zeros((copies, len(self._can)), np.int64)

    def of(self, chosen: Ints) -> Ints | None:
        """Positions of some copies, None where no transformer moves: one set serves all."""
        return self.positions[chosen] if len(self._can) else None

    def move(self, parts: _Parts) -> None:
        if not len(self._can):
            return
        voltage = parts.busbar[:, self._watched]
        with np.errstate(invalid="ignore"):
            wish = np.where(voltage < BAND_PU[0], 1, np.where(voltage > BAND_PU[1], -1, 0))
        self._outside = np.where(wish == 0, 0, np.where(self._outside * wish > 0, self._outside + wish, wish))
        go = np.abs(self._outside) >= TAP_DELAY_STEPS
        change = np.where(go, np.sign(self._outside), 0) * self._sense[self._can]
        moved = np.clip(self.positions[:, self._can] + change, self._low[self._can], self._high[self._can])
        self.positions[:, self._can] = moved
        self._outside[go] = 0


def _number(trafo: object, column: str) -> Floats:
    found: Floats = trafo[column].astype(float).to_numpy()  # type: ignore[index] # a pandas frame
    return found

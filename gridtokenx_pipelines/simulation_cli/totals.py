"""What a run came to so far: sums of its steps, extremes, and what an operator must know.

Belongs here: adding up. Does not belong here: the steps (simulation/fleet/engine.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from gridtokenx_pipelines.simulation.fleet.engine import Step

KEPT_PROBLEMS = 50


class Totals:
    """Sums over steps; energies in Wh of the registers, exact sums in µWh beside them."""

    def __init__(self) -> None:
        self.steps = self.readings = self.flows = self.not_converged = self.unsettled = 0
        self.energy: dict[str, int] = {}
        self.lowest_pu, self.highest_pu = float("inf"), 0.0
        self.line_loading = self.trafo_loading = 0.0
        self.over_voltage = self.over_line = self.over_trafo = 0
        self.problems: list[dict[str, Any]] = []
        self.last: Step | None = None

    def add(self, step: Step) -> None:
        """Take a step in."""
        self.steps += 1
        self.readings += step.readings
        self.flows += step.flows
        self.not_converged += len(step.not_converged)
        self.unsettled += step.unsettled
        for name, value in msgspec.structs.asdict(step.account).items():
            self.energy[name] = self.energy.get(name, 0) + value
        if step.highest_pu:
            self.lowest_pu, self.highest_pu = min(self.lowest_pu, step.lowest_pu), max(self.highest_pu, step.highest_pu)
        self.line_loading = max(self.line_loading, step.line_loading_percent)
        self.trafo_loading = max(self.trafo_loading, step.trafo_loading_percent)
        self.over_voltage += step.highest_pu > 1.1 or 0 < step.lowest_pu < 0.9
        self.over_line += step.line_loading_percent > 100
        self.over_trafo += step.trafo_loading_percent > 100
        if step.not_converged and len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(
                {
                    "step": step.number,
                    "time": stamp(step.end),
                    "problem": "not_converged",
                    "copies": list(step.not_converged[:10]),
                    "detail": f"power flow of {len(step.not_converged)} networks had no solution: registers stand "
                    "still, readings say not_converged",
                }
            )
        self.last = step

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "steps": self.steps,
            "readings": self.readings,
            "power_flows": self.flows,
            "not_converged": self.not_converged,
            "unsettled": self.unsettled,
            "energy": self.energy,
            "voltage_pu": [round(self.lowest_pu, 5), round(self.highest_pu, 5)] if self.highest_pu else None,
            "highest_line_loading_percent": round(self.line_loading, 2),
            "highest_trafo_loading_percent": round(self.trafo_loading, 2),
            "steps_outside_voltage_band": self.over_voltage,
            "steps_with_overloaded_line": self.over_line,
            "steps_with_overloaded_trafo": self.over_trafo,
            "problems": self.problems,
        }


def stamp(second: int) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")

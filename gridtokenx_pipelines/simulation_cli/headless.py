"""`simulate run`: steps without a server, with progress and a summary.

Belongs here: the loop of one process and its text. Does not belong here: steps (simulation/fleet/), options
(commands.py).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from gridtokenx_pipelines.simulation.fleet.engine import Simulator
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from gridtokenx_pipelines.simulation_cli.sinks import Nowhere, sink_of
from gridtokenx_pipelines.simulation_cli.totals import Totals, stamp

PROGRESS_EVERY_SECONDS = 1.0


class Result(msgspec.Struct, frozen=True):
    """What a run came to; `failed`: steps without a power flow solution."""

    document: dict[str, Any]
    text: str
    failed: bool


def play(scenario: Scenario, steps: int, speed: float, target: str, cache_dir: Path, *, progress: bool) -> Result:
    """Play the steps; raises what Simulator and sink_of raise."""
    sink = sink_of(target)
    if sink.partitions is not None:
        scenario = msgspec.structs.replace(scenario, partitions=sink.partitions)
    began = time.monotonic()
    try:
        simulator = Simulator(scenario, steps=steps, cache_dir=cache_dir)
        emit = not isinstance(sink, Nowhere)
        if emit:
            sink.take(simulator.registry())
        built, totals, told = time.monotonic(), Totals(), 0.0
        for number in range(steps):
            step, events = simulator.advance(emit=emit)
            totals.add(step)
            sink.take(events)
            now = time.monotonic()
            if progress and now - told > PROGRESS_EVERY_SECONDS:
                told = now
                print(f"\r{stamp(simulator.time)}  step {number + 1} of {steps}", end="", file=sys.stderr, flush=True)
            if speed:
                time.sleep(max(0.0, built + (simulator.time - scenario.start) / speed - time.monotonic()))
        if emit:
            sink.take(simulator.finish())
    finally:
        sink.close()
    if progress:
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    document = {
        "network": simulator.network.name,
        "meters": len(simulator.fleet),
        "copies": simulator.fleet.copies,
        "backend": simulator.physics.prepared.backend if simulator.physics else None,
        "from": stamp(scenario.start),
        "to": stamp(simulator.time),
        "scenario": msgspec.to_builtins(scenario),
        **totals.document(),
    }
    return Result(document, _text(document, built - began, time.monotonic() - built), totals.not_converged > 0)


def _text(found: dict[str, Any], building: float, playing: float) -> str:
    energy = found["energy"]
    lines = [
        f"{found['meters']} meters on {found['copies']} × {found['network']}, {found['from']} to {found['to']}",
        f"consumption {_kwh(energy['consumption_wh'])}, production {_kwh(energy['production_wh'])}, "
        f"losses {_kwh(energy['losses_wh'])}, upstream {_kwh(energy['upstream_wh'])}, "
        f"curtailed {_kwh(energy['curtailed_uwh'] // 1_000_000)}",
        f"balance: upstream − consumption + production − losses = "
        f"{energy['upstream_uwh'] - energy['consumption_uwh'] + energy['production_uwh'] - energy['losses_uwh']} µWh, "
        f"{energy['carried_wh']} Wh carried below whole Wh",
    ]
    if found["voltage_pu"] and found["backend"]:
        low, high = found["voltage_pu"]
        lines.append(
            f"voltage {low:.4f} to {high:.4f} p.u., highest loading: line {found['highest_line_loading_percent']} %, "
            f"transformer {found['highest_trafo_loading_percent']} %; steps outside ±10 %: "
            f"{found['steps_outside_voltage_band']}, with overload: {found['steps_with_overloaded_line']} line, "
            f"{found['steps_with_overloaded_trafo']} transformer"
        )
    lines.append(
        f"{found['steps']} steps, {found['readings']} messages of readings, {found['power_flows']} power flows "
        f"({found['backend'] or 'none'}), {found['not_converged']} not converged; built in {building:.1f} s, played in "
        f"{playing:.1f} s"
    )
    lines += [f"{problem['time']}: {problem['detail']}" for problem in found["problems"][:10]]
    return "\n".join(lines)


def _kwh(wh: int) -> str:
    sign = "-" if wh < 0 else ""
    return f"{sign}{abs(wh) // 1_000}.{abs(wh) % 1_000:03d} kWh"

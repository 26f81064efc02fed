"""Simulation: 1 000 to 100 000 meters a tick, with and without power flow and signing; a SimBench year.

    python benchmarks/simulation.py [--sizes 1000,10000,100000] [--year-steps 35136]

Belongs here: what is measured against which limit, and the report. A tick is everything between two instants: weather,
loads, batteries, AC power flow of every copy of the grid until powers and voltages agree, registers, faults, and each
meter's reading as bytes (signed or not) in the events a broker takes; sending is not in it. Each case is a process of
its own; of its ticks the fastest counts, which on a shared machine is the one least disturbed, and the mean stands
beside it. The signing limit is libsodium's `crypto_sign` of the same documents on the same threads and process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

GRID = "1-LV-urban6--2-sw"
SIZES = (1_000, 10_000, 100_000)
TICKS = {1_000: 12, 10_000: 6, 100_000: 3}
NOON = 1_781_456_400 + 12 * 3_600  # panels and batteries at work: the costliest hours
PUBLISHED = "434–606"


def measure_ticks(meters: int, power_flow: bool, sign: bool) -> dict[str, Any]:
    """Meters a second of one case."""
    from gridtokenx_pipelines.simulation.fleet.engine import Simulator  # noqa: PLC0415 - in the case's own process
    from gridtokenx_pipelines.simulation.fleet.scenario import Scenario  # noqa: PLC0415

    began = time.perf_counter()
    simulator = Simulator(
        Scenario(network=GRID, fleet="templates", meters=meters, power_flow=power_flow, sign=sign, start=NOON)
    )
    built = time.perf_counter() - began
    simulator.advance()
    seconds, rates, flows = [], [], 0
    for _ in range(TICKS.get(meters, 6)):
        began = time.perf_counter()
        step, events = simulator.advance()
        seconds.append(time.perf_counter() - began)
        flows += step.flows
        assert step.readings == meters
        assert step.not_converged == ()
        if sign:  # in turns with the ticks, so that other work on the cores slows both alike
            documents = [event.value for event in events if event.key is not None][:20_000]
            began = time.perf_counter()
            simulator.output.signatures(list(range(len(documents))), documents)
            rates.append(len(documents) / (time.perf_counter() - began))
    found = {
        "best": meters / min(seconds),
        "mean": meters * len(seconds) / sum(seconds),
        "built": built,
        "copies": simulator.fleet.copies,
        "flows_a_tick": flows / len(seconds),
    }
    if sign:
        found["signing_limit"] = max(rates)
    return found


def measure_year(steps: int) -> dict[str, Any]:
    """Seconds of a year of published profiles, every quarter hour solved."""
    from gridtokenx_pipelines.simulation.fleet.engine import Simulator  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.fleet.scenario import Scenario  # noqa: PLC0415
    from gridtokenx_pipelines.simulation_cli.totals import Totals  # noqa: PLC0415

    simulator, totals = Simulator(Scenario(network=GRID, start=1_767_200_400, sign=False)), Totals()
    began = time.perf_counter()
    for _ in range(steps):
        step, _ = simulator.advance(emit=False)
        totals.add(step)
    seconds = time.perf_counter() - began
    energy = totals.energy
    balance = energy["upstream_uwh"] - energy["consumption_uwh"] + energy["production_uwh"] - energy["losses_uwh"]
    return {
        "steps": steps,
        "seconds": seconds,
        "flows": totals.flows,
        "meters": len(simulator.fleet),
        "balance_uwh": balance,
        "not_converged": totals.not_converged,
        "losses_kwh": energy["losses_wh"] // 1_000,
        "upstream_kwh": energy["upstream_wh"] // 1_000,
        "voltage_pu": [totals.lowest_pu, totals.highest_pu],
    }


def report(ticks: dict[str, dict[str, Any]], year: dict[str, Any], sizes: list[int]) -> str:
    """The section of RESULTS.md."""
    from results import machine, table  # noqa: PLC0415 - beside this file

    told = machine("lightsim2grid", "pandapower", "pvlib")
    names = {
        "False False": "no power flow, unsigned",
        "True False": "AC power flow, unsigned",
        "False True": "no power flow, signed",
        "True True": "AC power flow, signed",
    }
    rows = [
        [name] + [f"{ticks[f'{size} {case}']['best']:,.0f} ({ticks[f'{size} {case}']['mean']:,.0f})" for size in sizes]
        for case, name in names.items()
    ]
    limits = [ticks[f"{size} False True"]["signing_limit"] for size in sizes]
    rows.append(["limit: signing alone", *(f"{limit:,.0f}" for limit in limits)])
    rows.append(["published simulator", *[PUBLISHED] * len(sizes)])
    top = str(sizes[-1])
    best, limit = ticks[f"{top} False False"]["best"], limits[-1]
    # a reading costs its simulation and its signature one after the other
    both = 1 / (1 / best + 1 / limit)
    held = [
        ["without signing, meters/s", "≥ 100 000", f"{best:,.0f}", f"{best / 100_000:.2f}"],
        ["without signing, with power flow", "≥ 100 000", f"{ticks[f'{top} True False']['best']:,.0f}", ""],
        [
            "with signing, meters/s",
            f"signing alone {limit:,.0f}",
            f"{ticks[f'{top} False True']['best']:,.0f}",
            f"{ticks[f'{top} False True']['best'] / limit:.2f}",
        ],
        [
            "with signing and power flow",
            f"signing alone {ticks[f'{top} True True']['signing_limit']:,.0f}",
            f"{ticks[f'{top} True True']['best']:,.0f}",
            f"{ticks[f'{top} True True']['best'] / ticks[f'{top} True True']['signing_limit']:.2f}",
        ],
        [
            f"SimBench year, {year['steps']:,} steps",
            "900 s",
            f"{year['seconds']:.0f} s",
            f"{year['seconds'] / 900:.2f}",
        ],
    ]
    big = ticks[f"{top} True False"]
    return "\n\n".join(
        [
            f"`python benchmarks/simulation.py`, {told} The two cores were shared with other work throughout.",
            table(["held to", "limit", "measured", "of the limit"], held),
            "Meters a second, the fastest tick and in brackets the mean:",
            table(["tick", *(f"{size:,} meters" for size in sizes)], rows),
            "Each signed row is held to the signing limit of its own process, taken in turns with its ticks; a reading "
            "is simulated, written and signed, so 1.00 would mean that all but the signature costs nothing.",
            f"With {int(top):,} meters {big['copies']} grids of {GRID} are solved, {big['flows_a_tick']:.0f} power "
            f"flows a tick. Simulating and signing in turn, each as fast as alone, would give {both:,.0f}/s.",
            f"The year of {GRID} ({year['meters']} meters): {year['flows']:,} power flows, {year['not_converged']} "
            f"steps without a solution, upstream {year['upstream_kwh']:,} kWh, losses {year['losses_kwh']:,} kWh, "
            f"voltages {year['voltage_pu'][0]:.3f} to {year['voltage_pu'][1]:.3f} p.u.; upstream − consumption + "
            f"production − losses = {year['balance_uwh']} µWh.",
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="meters, separated by commas")
    parser.add_argument("--year-steps", type=int, default=35_136, help="quarter hours of the year to play")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--year", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        meters, power_flow, sign = asked.one
        sys.stdout.write(json.dumps(measure_ticks(int(meters), power_flow == "True", sign == "True")) + "\n")
        return
    if asked.year:
        sys.stdout.write(json.dumps(measure_year(asked.year_steps)) + "\n")
        return
    sizes = [int(size) for size in asked.sizes.split(",")]
    ticks = {}
    for size in sizes:
        for case in ("False False", "True False", "False True", "True True"):
            ticks[f"{size} {case}"] = _alone(["--one", str(size), *case.split()])
            sys.stderr.write(f"{size} {case}: {ticks[f'{size} {case}']}\n")
    year = _alone(["--year", "--year-steps", str(asked.year_steps)])
    section = report(ticks, year, sizes)
    print(section)
    from results import write_section  # noqa: PLC0415 - beside this file

    write_section("simulation", section)


def _alone(arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

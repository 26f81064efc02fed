"""Clearing: 1 000 to 1 000 000 orders by mechanism, beside the sort of packed keys and the peers that are installed.

    python benchmarks/clearing.py [--sizes 1000,…] [--peers PYTHON] [--most-seconds 60]

Belongs here: what is measured against which limit, and the report. Does not belong here: books (clearing_books.py),
peers (clearing_peers.py). Each figure comes from a process of its own (fresh memory), all from the same books in the
same run; of several repeats the fastest counts, which on a shared machine is the one least disturbed. `--peers` names
the Python of an environment with assume-framework, order-matching (and what it forgets to ask for: polars, pandera,
loguru) and pymarket; a peer that takes more than --most-seconds at one size is not asked for the next.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import clearing_books  # noqa: E402 - beside this file, whatever the working folder
import numpy as np  # noqa: E402
from memory import peak_mebibytes, restart_peak  # noqa: E402

SIZES = (1_000, 10_000, 100_000, 1_000_000)
PEERS = ("assume-framework", "order-matching", "pymarket")
REPEATS = {1_000: 30, 10_000: 15, 100_000: 5, 1_000_000: 3}
IMAGE = HERE.parent / "docs" / "images" / "clearing-scaling.svg"
SORT, KERNEL, DOOR = "sort of packed keys", "uniform, kernel", "uniform"
ARGSORT, STABLE = "argsort of packed keys", "stable argsort of packed keys"


class Work(NamedTuple):
    """What is timed: `prepare(orders)` gives the timed call; the call returns the Wh traded, or None."""

    prepare: Callable[[int], Callable[[], int | None]]
    told: str


def _sort(orders: int) -> Callable[[], None]:
    keys = clearing_books.packed(clearing_books.draw(orders))
    return lambda: np.sort(keys) is None or None


def _argsort(orders: int) -> Callable[[], None]:
    keys = clearing_books.packed(clearing_books.draw(orders))
    return lambda: np.argsort(keys) is None or None


def _stable_argsort(orders: int) -> Callable[[], None]:
    keys = clearing_books.packed(clearing_books.draw(orders))
    return lambda: np.argsort(keys, kind="stable") is None or None


def _kernel(orders: int) -> Callable[[], int]:
    from gridtokenx_pipelines.market.kernel import clear_uniform_arrays  # noqa: PLC0415 - not for the sort's memory

    columns = clearing_books.draw(orders)
    arrays = columns.side, columns.limit, columns.wh, columns.time_us, columns.id_high, columns.id_low
    return lambda: clear_uniform_arrays(*arrays).volume_wh


def _mechanism(name: str, zones: int = 1, links: int = 0, *, record: bool = True) -> Callable[[int], Any]:
    def prepare(orders: int) -> Callable[[], int]:
        from gridtokenx_pipelines.market.clearing import clear  # noqa: PLC0415
        from gridtokenx_pipelines.market.rules import Rules  # noqa: PLC0415

        book = clearing_books.book_of(clearing_books.draw(orders, zones))
        network = clearing_books.network_of(zones, links, orders)
        return lambda: clear(book, network, Rules(fee_bp=0), name, record=record).volume_wh

    return prepare


WORKS: dict[str, Work] = {
    SORT: Work(_sort, "numpy.sort of 64-bit keys (side, price, time): gives no fills"),
    ARGSORT: Work(_argsort, "numpy.argsort of them: gives the priority order, no fills"),
    STABLE: Work(_stable_argsort, "numpy.argsort(kind='stable'): what the 125 ms of the target were measured by"),
    KERNEL: Work(_kernel, "columns in, price and every order's fill out"),
    DOOR: Work(_mechanism("uniform", record=False), "frames in and out, checks, charges per wallet"),
    "uniform, who met whom": Work(_mechanism("uniform"), "the same with the record of matches"),
    "pay_as_bid": Work(_mechanism("pay_as_bid"), "frames, with matches, each at its price"),
    "continuous": Work(_mechanism("continuous"), "frames, with matches, in arrival order"),
    "zonal, 50 zones": Work(_mechanism("zonal", 50, 80, record=False), "80 lossy links, dual certificate checked"),
    "zonal, 200 zones": Work(_mechanism("zonal", 200, 1_000, record=False), "1 000 lossy links, certificate checked"),
}


def measure(name: str, orders: int) -> dict[str, Any]:
    """Fastest of the repeats in seconds, Wh traded, MiB that the work added to the process's peak."""
    call = WORKS[name].prepare(orders)
    # the limit is a multiple of the sort: both are timed in turns, so that a busy moment hits both
    beside = WORKS[SORT].prepare(orders) if name == KERNEL else None
    before = restart_peak()
    times, sorts, volume = [], [], None
    for _ in range(REPEATS.get(orders, 5) * (3 if beside else 1)):
        started = time.perf_counter()
        volume = call()
        times.append(time.perf_counter() - started)
        if beside is not None:
            started = time.perf_counter()
            beside()
            sorts.append(time.perf_counter() - started)
        if sum(times) > 12:
            break
    found = {"seconds": min(times), "volume_wh": volume, "mebibytes": peak_mebibytes() - before}
    return found | ({"sort_seconds": min(sorts)} if sorts else {})


def apart(command: list[str], most_seconds: float) -> dict[str, Any]:
    """The JSON line of a process of its own, or {"error": …}."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=most_seconds, cwd=HERE, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"over {most_seconds:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no answer"])[-1][:120]}
    return json.loads(lines[-1])


def run(sizes: list[int], peers: str | None, most_seconds: float) -> dict[str, dict[int, dict[str, Any]]]:
    """All figures by name and size, printed as they come."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name in WORKS:
        found[name] = {}
        for orders in sizes:
            command = [sys.executable, str(HERE / "clearing.py"), "--one", name, str(orders)]
            found[name][orders] = apart(command, 600)
            say(name, orders, found[name][orders])
    for name in PEERS:
        found[name] = {}
        for orders in sizes:
            if peers is None:
                figure = {"error": "not asked: give --peers PYTHON"}
            elif any("error" in each for each in found[name].values()):
                figure = {"error": "not asked: failed at a smaller size"}
            else:
                figure = apart([peers, "clearing_peers.py", name, str(orders)], most_seconds)
            found[name][orders] = figure
            say(name, orders, figure)
    return found


def say(name: str, orders: int, figure: dict[str, Any]) -> None:
    """One line of progress."""
    words = figure.get("error") or f"{milliseconds(figure['seconds'])}, {figure['mebibytes']:.0f} MiB"
    sys.stdout.write(f"{name:26} {orders:>9,}  {words}\n")
    sys.stdout.flush()


def milliseconds(seconds: float) -> str:
    """Three digits."""
    return f"{seconds * 1_000:.3g} ms" if seconds < 10 else f"{seconds:.3g} s"


def held_to(found: dict[str, dict[int, dict[str, Any]]]) -> list[list[str]]:
    """Figures beside the limits of the specification: what, limit, measured, part of the limit used."""

    def seconds(name: str, orders: int) -> float | None:
        return found.get(name, {}).get(orders, {}).get("seconds")

    sort = found.get(KERNEL, {}).get(1_000_000, {}).get("sort_seconds")
    limits = [
        ("uniform with all fills, 1 000 000 orders", "twice the sort", sort and 2 * sort, seconds(KERNEL, 1_000_000)),
        *(
            (f"uniform with frames and charges, 1 000 000 orders, against {name}", "twice", each and 2 * each, door)
            for name in (SORT, ARGSORT, STABLE)
            for each in [seconds(name, 1_000_000)]
            for door in [seconds(DOOR, 1_000_000)]
        ),
        ("zonal, 1 000 000 orders, 50 zones", "1 s", 1.0, seconds("zonal, 50 zones", 1_000_000)),
        ("uniform, 1 000 orders, kernel", "10 ms", 0.010, seconds(KERNEL, 1_000)),
        ("uniform, 1 000 orders, with frames and charges", "10 ms", 0.010, seconds(DOOR, 1_000)),
    ]
    return [
        [what, f"{said} ({milliseconds(limit)})", milliseconds(figure), f"{figure / limit:.2f}"]
        for what, said, limit, figure in limits
        if limit and figure
    ]


def figures(found: dict[str, dict[int, dict[str, Any]]], sizes: list[int]) -> list[list[str]]:
    """Seconds by size, memory of the greatest size, and what share of the largest volume was traded."""
    rows = []
    for name, by_size in found.items():
        cells = [milliseconds(by_size[size]["seconds"]) if "seconds" in by_size[size] else "–" for size in sizes]
        known = [size for size in sizes if "seconds" in by_size[size]]
        memory = f"{by_size[known[-1]]['mebibytes']:.0f}" if known else "–"
        share = "–"
        if known and by_size[known[-1]].get("volume_wh") is not None:
            best = found[KERNEL][known[-1]].get("volume_wh") or 0
            share = f"{100 * by_size[known[-1]]['volume_wh'] / best:.1f} %" if best else "–"
        version = f" {by_size[known[0]]['version']}" if known and "version" in by_size[known[0]] else ""
        rows.append([f"{name}{version}", *cells, memory, share])
    return rows


def draw_scaling(found: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    """Time against orders, both logarithmic, names at the ends of the lines."""
    import matplotlib as mpl  # noqa: PLC0415 - only the report draws

    mpl.use("agg")
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "gridtokenx", "font.size": 9, "axes.spines.top": False}):
        figure = Figure(figsize=(8.5, 5), layout="constrained")
        axes = figure.subplots()
        axes.spines["right"].set_visible(False)
        for number, (name, by_size) in enumerate(found.items()):
            points = [(size, each["seconds"]) for size, each in by_size.items() if "seconds" in each]
            if not points:
                continue
            style = "--" if name in PEERS else ":" if "sort" in name else "-"
            axes.plot(*zip(*points, strict=True), style, color=f"C{number}", marker="o", markersize=3, label=name)
        axes.set(xscale="log", yscale="log", xlabel="orders", ylabel="seconds, fastest of the repeats")
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def report(found: dict[str, dict[int, dict[str, Any]]], sizes: list[int]) -> str:
    """The section of RESULTS.md."""
    from results import machine, table  # noqa: PLC0415 - beside this file

    named = [f"{size:,}".replace(",", " ") for size in sizes]
    shown = table(["work", *named, "MiB", "volume"], figures(found, sizes))
    told = "\n".join(f"- {name}: {work.told}." for name, work in WORKS.items())
    lacking = [
        f"- {name} at {size:,} orders: {each['error']}."
        for name, by_size in found.items()
        for size, each in by_size.items()
        if "error" in each and not each["error"].startswith("not asked: failed")
    ]
    return "\n\n".join(
        [
            f"`python benchmarks/clearing.py`, {machine('numpy', 'polars', 'scipy')}",
            table(["held to", "limit", "measured", "of the limit"], held_to(found)),
            shown,
            "MiB is what the work added to its process's peak at the greatest size it was measured at; volume is its "
            "traded energy there, as a share of the largest volume that one price lets trade (other mechanisms may "
            "rightly trade more or less).",
            told,
            *(["\n".join(lacking)] if lacking else []),
            "![Time against orders](../docs/images/clearing-scaling.svg)",
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="orders, separated by commas")
    parser.add_argument("--peers", help="Python of an environment that has the peers")
    parser.add_argument("--most-seconds", type=float, default=60, help="for one peer at one size")
    parser.add_argument("--one", nargs=2, metavar=("WORK", "ORDERS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        sys.stdout.write(json.dumps(measure(asked.one[0], int(asked.one[1]))) + "\n")
        return
    sizes = [int(size) for size in asked.sizes.split(",")]
    found = run(sizes, asked.peers, asked.most_seconds)
    for row in held_to(found):
        sys.stdout.write(" | ".join(row) + "\n")
    if sizes == list(SIZES):  # a shorter run is a look, not a result
        from results import write_section  # noqa: PLC0415

        draw_scaling(found, IMAGE)
        write_section("clearing", report(found, sizes))


if __name__ == "__main__":
    main()

"""The streams: signed readings from a real Kafka broker to net energy, windowing, latency, order intake, memory.

    python benchmarks/streaming.py [--short] [--soak SECONDS] [--only NAME,…]

Belongs here: what is measured against which limit, and the report. Does not belong here: the fleet's records
(streaming_load.py), the flow's process (streaming_worker.py), windows without a broker (streaming_parts.py). The bare
`crypto_sign_open` rate is taken on the same records before and after each run with a broker, by as many processes, so
that what else the machine does hits both; broker, Postgres and flow share the cores with the measurement.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# the project first: its package `streaming` and this file have one name
sys.path[:0] = [str(HERE.parent), str(HERE)]

import streaming_load as loads  # noqa: E402 - beside this file, whatever the working folder
import streaming_parts as parts  # noqa: E402
from streaming_place import Place, fill, place  # noqa: E402

BARE_CHECKS = 12_000


def _bare(pairs: list[tuple[bytes, bytes]]) -> tuple[float, float]:
    from nacl.bindings import crypto_sign_open  # noqa: PLC0415

    started, used = time.time(), time.process_time()
    for signed, key in pairs:
        crypto_sign_open(signed, key)
    return time.time() - started, time.process_time() - used


def bare_rate(load: loads.Load, processes: int) -> tuple[float, float]:
    """Signatures a second of that many processes at once, each over the load's own records, and µs of a core each."""
    from gridtokenx_pipelines.metering.readings import reading_message  # noqa: PLC0415

    pairs = []
    for records in load.records:
        for value, headers in records[1 : BARE_CHECKS // 8]:
            given = dict(headers)
            if "kind" not in given:
                pairs.append((given["sig"] + reading_message(loads.NETWORK, value), given["pub"]))
    with get_context("spawn").Pool(processes) as pool:
        pool.map(_bare, [pairs[:50]] * processes, chunksize=1)
        times = pool.map(_bare, [pairs] * processes, chunksize=1)
    cpu_us = sum(cpu for _, cpu in times) / (len(pairs) * processes) * 1e6
    return sum(len(pairs) / wall for wall, _ in times), cpu_us


def flow_run(where: Place, load: loads.Load, meters: int, processes: int, threads: int) -> dict[str, Any]:
    """Readings a second from the first batch to the last write, stages, and whether the totals are exact."""
    ends, url = fill(where, load, meters), where.database()
    bare = [bare_rate(load, 2)]
    archive = Path(tempfile.mkdtemp(dir=where.folder))
    running = []
    for number in range(processes):
        mine = {partition: last for partition, last in ends.items() if partition % processes == number}
        command = [sys.executable, str(HERE / "streaming_worker.py"), where.brokers, url, str(archive), str(threads)]
        running.append(subprocess.Popen([*command, json.dumps(mine)], stdout=subprocess.PIPE, text=True))
    found = [json.loads(each.communicate(timeout=900)[0].strip().splitlines()[-1]) for each in running]
    bare.append(bare_rate(load, 2))
    seconds = max(each["last"] for each in found) - min(each["first"] for each in found)
    spent: dict[str, float] = {}
    for each in found:
        for name, value in each["spent"].items():
            spent[name] = spent.get(name, 0.0) + value
    return {
        "readings_per_second": load.readings / seconds,
        "bare_per_second": sum(rate for rate, _ in bare) / len(bare),
        "bare_cpu_us": sum(cpu_us for _, cpu_us in bare) / len(bare),
        "cpu_us": sum(each["cpu_seconds"] for each in found) / load.readings * 1e6,
        "system_us": sum(each["system_seconds"] for each in found) / load.readings * 1e6,
        "seconds": seconds,
        "cpu_seconds": sum(each["cpu_seconds"] for each in found),
        "mebibytes": max(each["mebibytes"] for each in found),
        "spent": spent,
        "exact": parts.totals(url) == (load.production_wh, load.consumption_wh),
    }


def run(short: bool, only: set[str], soak_seconds: float) -> dict[str, Any]:
    """All figures by name, printed as they come."""
    meters, steps = (800, 30) if short else (4_000, 30)
    found: dict[str, Any] = {}

    def take(name: str, work: Any) -> None:
        if not only or name in only:
            found[name] = work()
            sys.stdout.write(f"{name}: {json.dumps(found[name])}\n")
            sys.stdout.flush()

    take("windowing", lambda: parts.windowing(20_000 if short else 100_000, 4 if short else 15, 2 if short else 3))
    take("memory", lambda: parts.memory(10_000 if short else 100_000))
    take("half garbage", lambda: parts.half_garbage(2_000 if short else 20_000))
    if not only or only & {"signed", "blocks", "one process", "latency", "orders", "soak"}:
        with tempfile.TemporaryDirectory(prefix="bench") as folder, place(Path(folder)) as where:
            singles = loads.load(meters, steps) if not only or only & {"signed", "one process"} else None
            take("signed", lambda: flow_run(where, singles, meters, processes=2, threads=1))
            take("one process", lambda: flow_run(where, singles, meters, processes=1, threads=2))
            take("blocks", lambda: flow_run(where, loads.load(meters, steps * 4, block=15), meters, 2, 1))
            take("latency", lambda: parts.latency(where.brokers, where.database(), Path(folder), 4 if short else 20))
            take("orders", lambda: parts.orders(where.database(), 4_000 if short else 20_000))
            if soak_seconds:
                take("soak", lambda: parts.soak(where.brokers, where.database(), Path(folder), soak_seconds))
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="small sizes: a look, not a result")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="1800 for the long form")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    asked = parser.parse_args()
    found = run(asked.short, set(filter(None, asked.only.split(","))), asked.soak)
    if asked.write:
        from results import write_section  # noqa: PLC0415 - beside this file
        from streaming_report import report  # noqa: PLC0415

        write_section("streaming", report(found))


if __name__ == "__main__":
    main()

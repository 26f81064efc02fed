"""Half an hour of steady signed readings through the flow's own process, on real Kafka: does its memory stay flat?

    python benchmarks/streaming_soak.py [--seconds 1800] [--per-second 250] [--write]

Belongs here: the load, a sample of the process every few seconds, the table and the plot. Does not belong here: speed
(streaming.py). Event time runs faster than the clock, so that half an hour closes many epochs: what grows with epochs,
meters or readings would show.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# the project first: its package `streaming` and the benchmark of that name are two things
sys.path[:0] = [str(HERE.parent), str(HERE)]

import streaming_load as loads  # noqa: E402 - beside this file, whatever the working folder
import streaming_parts as parts  # noqa: E402

PLOT = HERE.parent / "docs" / "images" / "streaming-soak.svg"
SAMPLES, ROWS = 180, 10
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 260, 60, 40
TICKS = os.sysconf("SC_CLK_TCK")


def soak(brokers: str, url: str, folder: Path, seconds: float, per_second: int, *, meters: int = 200) -> dict[str, Any]:
    """Samples (s, readings sent, MiB, processor s, recovery MiB) of the flow under a steady load, and whether its
    totals are exact in the end."""
    sender, process = parts._fresh_topics(brokers, meters), parts._flow(brokers, url, folder)
    began, count, samples = time.time(), 0, []
    due = began
    while time.time() - began < seconds:
        step, number = divmod(count, meters)
        if number == 0:
            for partition in range(loads.PARTITIONS):
                parts._send(sender, partition, loads.tick(step * loads.STEP_SECONDS + 5))
        parts._send(sender, number % loads.PARTITIONS, loads._signed((number, step, 0)))
        count += 1
        if count % max(per_second // 4, 1) == 0:
            time.sleep(max(0.0, began + count / per_second - time.time()))
        if time.time() >= due:
            samples.append((time.time() - began, count, *_of_process(process.pid), _recovery(folder)))
            due += seconds / SAMPLES
    whole = count // meters * loads.STEP_SECONDS // 900  # epochs that all meters ended with a reading
    for partition in range(loads.PARTITIONS):
        parts._send(sender, partition, loads.tick(whole * 900 + 31))
    sender.flush(60)
    expected = tuple(wh * whole * 900 // loads.STEP_SECONDS * meters for wh in (20, 10))
    deadline = time.time() + 60
    while parts.totals(url) != expected and time.time() < deadline:
        time.sleep(0.5)
    last = (time.time() - began, count, *_of_process(process.pid), _recovery(folder))
    process.terminate()
    code = process.wait(60)
    return {
        "seconds": round(last[0]),
        "meters": meters,
        "readings": count,
        "epochs": whole,
        "samples": [*samples, last],
        "exit": code,
        "exact": parts.totals(url) == expected,
        **_flatness(samples),
    }


def _flatness(samples: list[tuple[float, ...]]) -> dict[str, float]:
    """MiB on average over the second and the last third of the time, and at most."""
    sizes = [sample[2] for sample in samples]
    third = len(sizes) // 3
    second, last = sizes[third : 2 * third], sizes[2 * third :]
    return {
        "mebibytes_second_third": sum(second) / len(second),
        "mebibytes_last_third": sum(last) / len(last),
        "mebibytes_highest": max(sizes),
    }


def _of_process(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return parts._resident(pid), (int(fields[11]) + int(fields[12])) / TICKS


def _recovery(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("recovery-*/*.sqlite3*")) / 2**20


def report(found: dict[str, Any]) -> str:
    """The section of RESULTS.md."""
    from results import machine, table  # noqa: PLC0415 - beside this file

    samples = found["samples"]
    picked = [samples[at * (len(samples) - 1) // ROWS] for at in range(1, ROWS + 1)]
    rows = [
        [f"{at / 60:.0f}", f"{count:,}".replace(",", " "), f"{size:.0f}", f"{cpu:.0f}", f"{store:.1f}"]
        for at, count, size, cpu, store in picked
    ]
    grown = found["mebibytes_last_third"] - found["mebibytes_second_third"]
    return "\n\n".join(
        [
            f"`make soak`, {machine('bytewax', 'confluent-kafka')}",
            f"The telemetry flow's own process on a real broker and Postgres: "
            f"{found['readings'] / found['seconds']:.0f} signed readings a second of {found['meters']} meters for "
            f"{found['seconds']} s, {found['epochs']} epochs "
            f"closed, snapshots every second. Memory over the second third {found['mebibytes_second_third']:.1f} MiB, "
            f"over the last {found['mebibytes_last_third']:.1f} ({grown:+.1f}), at most "
            f"{found['mebibytes_highest']:.1f}; totals exact: {'yes' if found['exact'] else 'NO'}.",
            table(["minute", "readings sent", "MiB", "processor s", "recovery store MiB"], rows),
            "![memory over time](../docs/images/streaming-soak.svg)",
        ]
    )


def plot(found: dict[str, Any]) -> str:
    """Memory of the flow's process over time as a small SVG, its axis from zero."""
    points = [(at / 60, size) for at, _, size, *_ in found["samples"]]
    end, top = points[-1][0] or 1.0, max(size for _, size in points) * 1.1
    inner_width, inner_height = WIDTH - LEFT - 20, HEIGHT - BOTTOM - 20

    def place(minute: float, size: float) -> str:
        return f"{LEFT + minute / end * inner_width:.1f},{20 + (1 - size / top) * inner_height:.1f}"

    line = " ".join(place(minute, size) for minute, size in points)
    marks = [
        f'<text x="{LEFT - 8}" y="{20 + (1 - share) * inner_height + 4:.0f}" text-anchor="end">{share * top:.0f}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    ] + [
        f'<text x="{LEFT + share * inner_width:.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
        f"{share * end:.0f}</text>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f'<path d="M{LEFT} 20V{HEIGHT - BOTTOM}H{WIDTH - 20}" fill="none" stroke="black"/>\n'
        + "\n".join(marks)
        + f'\n<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>\n'
        f'<text x="{LEFT + 8}" y="16">resident memory of the telemetry flow, MiB</text>\n'
        f'<text x="{WIDTH - 20}" y="{HEIGHT - 6}" text-anchor="end">minutes</text>\n</svg>\n'
    )


def main() -> None:
    """Soak, print, write."""
    from streaming_place import place  # noqa: PLC0415 - starts Java

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1_800)
    parser.add_argument("--per-second", type=int, default=250, help="signed readings")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md and the plot")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak") as folder, place(Path(folder)) as where:
        found = soak(where.brokers, where.database(), Path(folder), asked.seconds, asked.per_second)
    section = report(found)
    sys.stdout.write(section + "\n")
    if asked.write:
        from results import write_section  # noqa: PLC0415 - beside this file

        write_section("streaming soak", section)
        PLOT.write_text(plot(found), encoding="utf-8")
    if not found["exact"] or found["exit"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

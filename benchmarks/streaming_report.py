"""The streaming benchmark's section of RESULTS.md.

Belongs here: figures beside their limits, in words. Does not belong here: measuring.
"""

from __future__ import annotations

from typing import Any

from results import machine, table

SHARED = (
    "Taken while other work kept the two cores busy (the bare rate of the same run shows how much was left): read the "
    "shares, not the rates. A figure per processor second is what one undisturbed core would do."
)


def _n(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def report(found: dict[str, Any]) -> str:
    """Held to, stages, the rest; a figure that was not taken is left out."""
    held = [row for row in (_signed(found), _blocks(found), _windowing(found), *_others(found)) if row]
    text = [
        f"`python benchmarks/streaming.py --write`, {machine('bytewax', 'confluent-kafka', 'pynacl', 'polars')}",
        SHARED,
        table(["held to", "limit", "measured", "exact"], held),
    ]
    stages = [(name, found[name]) for name in ("signed", "one process", "blocks") if name in found]
    if stages:
        names = sorted({stage for _, each in stages for stage in each["spent"]})
        rows = [
            [
                name,
                _n(each["readings_per_second"]),
                _n(each["bare_per_second"]),
                f"{each['cpu_us']:.1f}",
                f"{each['bare_cpu_us']:.1f}",
                *(f"{100 * each['spent'].get(stage, 0) / sum(each['spent'].values()):.0f} %" for stage in names),
            ]
            for name, each in stages
        ]
        text.append(
            table(["run", "readings/s", "bare signatures/s", "µs of a core a reading", "of a bare check", *names], rows)
        )
        text.append(
            "From a filled topic on one real Kafka broker (eight partitions), through verification and window, to "
            "Postgres, `net-energy` and the archive; `signed` and `blocks` (15 readings a signature) by two processes "
            "of four partitions each, `one process` by one with two verifying threads. Shares of the stages' processor "
            "time."
        )
    return "\n\n".join([*text, *_words(found)])


def _signed(found: dict[str, Any]) -> list[str] | None:
    each = found.get("signed")
    if not each:
        return None
    share = each["readings_per_second"] / each["bare_per_second"]
    measured = f"{_n(each['readings_per_second'])}/s = {100 * share:.0f} %"
    return ["signed single readings, Kafka to net energy", "≥ 80 % of bare `crypto_sign_open`", measured, _yes(each)]


def _blocks(found: dict[str, Any]) -> list[str] | None:
    each = found.get("blocks")
    if not each:
        return None
    share = each["readings_per_second"] / each["bare_per_second"]
    measured = f"{_n(each['readings_per_second'])}/s = {share:.1f} × the bare signature rate"
    return ["the same in blocks of 15", "≥ 150 000 readings/s", measured, _yes(each)]


def _windowing(found: dict[str, Any]) -> list[str] | None:
    each = found.get("windowing")
    if not each:
        return None
    measured = f"{_n(each['per_second'])}/s, {_n(each['per_cpu_second'])} a processor second"
    return [f"windowing alone, {_n(each['meters'])} meters", "≥ 500 000/s", measured, _yes(each)]


def _others(found: dict[str, Any]) -> list[list[str]]:
    rows = []
    if each := found.get("orders"):
        rows.append(["order intake", "> 2 500/s", f"{_n(each['per_second'])}/s", _yes(each, "stored", "orders")])
    if each := found.get("latency"):
        measured = f"p50 {each['p50_ms']:.0f} ms, p95 {each['p95_ms']:.0f} ms, p99 {each['p99_ms']:.0f} ms"
        lost = "yes" if not each["never_seen"] else f"{each['never_seen']} never seen"
        rows.append(["arrival to view", "median 1 s, all 5 s", measured, lost])
    return rows


def _yes(each: dict[str, Any], one: str = "", other: str = "") -> str:
    return "yes" if (each[one] == each[other] if one else each["exact"]) else "NO"


def _words(found: dict[str, Any]) -> list[str]:
    lines = []
    if each := found.get("windowing"):
        peaks = ", ".join(map(str, each["mebibytes_by_epoch"]))
        lines.append(f"- Windowing: peak memory by closed epoch {peaks} MiB ({_n(each['readings'])} readings in all).")
    if each := found.get("memory"):
        lines.append(
            f"- State of one partition with {_n(each['meters'])} meters: {each['mebibytes']:.0f} MiB, a snapshot of "
            f"{each['snapshot_mebibytes']:.0f} MiB written in {1_000 * each['snapshot_seconds']:.0f} ms."
        )
    if each := found.get("half garbage"):
        good, mixed = each["good"]["records_per_second"], each["mixed"]["records_per_second"]
        lines.append(
            f"- Half garbage: {_n(mixed)} records/s against {_n(good)} of good ones alone; {each['mixed']['refused']} "
            f"refused by reason, {each['mixed']['accepted']} accepted of {each['good']['accepted']}."
        )
    if each := found.get("soak"):
        lines.append(
            f"- Soak: {each['seconds']} s, {_n(each['readings'])} signed readings over {each['epochs']} epochs: "
            f"{each['mebibytes_warm']:.0f} MiB once warm, {each['mebibytes_at_the_end']:.0f} at the end, "
            f"{each['mebibytes_highest']:.0f} at most."
        )
    return ["\n".join(lines)] if lines else []

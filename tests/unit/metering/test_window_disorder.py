"""Any interleaving, duplication, delay and crash: the same net energy, or corrections that make the sum right."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from metering_world import (
    BASE_CONSUMPTION,
    BASE_PRODUCTION,
    EPOCH,
    NETWORK,
    START_US,
    Stream,
    gather,
    meter_record,
    registry_of,
    run,
)
from slow_reference import EPOCH_US, SlowMeter

from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.state import ShardState
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import step

ZONES = {"MEA-001": 1, "MEA-005": 5}
RECORDS = {meter: meter_record(meter, zone_id=zone) for meter, zone in ZONES.items()}
REGISTRY = registry_of(*RECORDS.values())
TICK_SECONDS = 20
ALLOWED_SECONDS = 29  # the watermark is 30 s behind the last tick


class Sent(NamedTuple):
    """A reading of a true meter: registers grow by what its power allows."""

    meter: str
    seq: int
    seconds: int
    production: int
    consumption: int
    delay: int
    copies: int


def sent_readings(most_delay: int) -> st.SearchStrategy[list[Sent]]:
    # gap in seconds, Wh per 10 s, delay, copies; 0 and less: to that long before the next boundary; a gap above 900 s
    # makes the meter missing
    gaps = st.sampled_from((0, -1, -5, -30, -45, -59, -60, 15, 40, 61, 400, 1_000, 2_000))
    power = st.integers(0, 12)
    one = st.tuples(gaps, power, power, st.integers(0, most_delay), st.sampled_from((1, 1, 1, 2, 3)))
    of_meter = st.lists(one, min_size=1, max_size=22)

    def build(given: dict[str, list[tuple[int, int, int, int, int]]]) -> list[Sent]:
        found = []
        for meter, steps in given.items():
            at = production = consumption = 0
            for number, (gap, made, used, delay, copies) in enumerate(steps):
                before = at
                at = at + gap if gap > 0 else ((at - gap) // 900 + 1) * 900 + gap
                production += made * (at - before) // 10
                consumption += used * (at - before) // 10
                found.append(Sent(meter, 11 + number, at, production, consumption, delay, copies))
        return found

    return st.fixed_dictionaries({meter: of_meter for meter in ZONES}).map(build)


def stream_of(sent: list[Sent], last_tick: int, delayed: bool = True) -> list[Raw]:
    """Records in order of arrival, ticks between; without delays and copies it is the clean, sorted stream."""
    arrivals = sorted(
        (each.seconds + (each.delay if delayed else 0) + 7 * copy, each.meter, each.seq, each)
        for each in sent
        for copy in range(each.copies if delayed else 1)
    )
    stream, now = Stream(), 0
    stream.tick(0)
    for at, _, _, each in arrivals:
        while now + TICK_SECONDS <= at:
            now += TICK_SECONDS
            stream.tick(now)
        who = {"meter_id": each.meter, "signer": each.meter, "zone_id": ZONES[each.meter]}
        stream.read(each.seq, each.seconds, each.production, each.consumption, **who)
    while now < last_tick:
        now += TICK_SECONDS
        stream.tick(now)
    return stream.raws


def ending(sent: list[Sent]) -> int:
    """A tick by which everything has come and every epoch of it is closed."""
    return (max(each.seconds + each.delay for each in sent) // 900 + 2) * 900


def energies(outputs: Outputs) -> list[tuple]:
    """Net energy by meter, epoch and revision; how many readings came in time may differ."""
    return sorted((row[0], row[3], row[4], *row[5:12], row[13], row[14]) for row in outputs.net_energy_rows)


def corrected(outputs: Outputs) -> dict[tuple[str, int], tuple[int, int]]:
    """Registers at every settled boundary, all corrections included."""
    found = {(row[0], row[3] + 1): (row[7], row[8]) for row in outputs.net_energy_rows if not row[14]}
    for meter, _, boundary, _, production_wh, consumption_wh, *_ in outputs.correction_rows:
        was = found[meter, boundary]
        found[meter, boundary] = was[0] + production_wh, was[1] + consumption_wh
    return found


@settings(max_examples=25, deadline=None)
@given(sent=sent_readings(ALLOWED_SECONDS - 14), batch=st.sampled_from((1, 9, 1_000)))
def test_delay_within_the_allowed_disorder_and_copies_give_what_clean_sorted_input_gives(
    sent: list[Sent], batch: int
) -> None:
    last = ending(sent)
    _, clean = run(stream_of(sent, last, delayed=False), REGISTRY)
    _, got = run(stream_of(sent, last), REGISTRY, batch=batch)
    assert energies(got) == energies(clean)
    assert got.dead_letters == got.correction_rows == clean.correction_rows == []
    assert got.counts["accepted", ""] == len(sent) and got.counts["duplicate", ""] == sum(s.copies - 1 for s in sent)


@settings(max_examples=25, deadline=None)
@given(sent=sent_readings(4_000), cuts=st.lists(st.integers(0, 10_000), max_size=4), every=st.integers(1, 40))
def test_crashes_at_any_points_change_nothing(sent: list[Sent], cuts: list[int], every: int) -> None:
    raws = stream_of(sent, ending(sent))
    _, expected = run(raws, REGISTRY)
    verifier = Verifier(NETWORK)
    crashes = sorted({cut % len(raws) for cut in cuts})
    snapshot, state, at, given = ShardState(0, 4).to_bytes(), ShardState(0, 4), 0, []
    resume = 0
    while at < len(raws):
        if crashes and at >= crashes[0]:
            crashes.pop(0)
            state, at = ShardState.from_bytes(snapshot), resume
        state, outputs = step(state, verifier.messages(raws[at : at + 1]), REGISTRY)
        given.append(outputs)
        at += 1
        if at % every == 0:
            snapshot, resume = state.to_bytes(), at
    verifier.close()
    got = gather(given)
    # outputs came at least once: what has one key is one row
    assert sorted(set(got.net_energy_rows)) == sorted(expected.net_energy_rows)
    assert sorted(set(got.correction_rows)) == sorted(expected.correction_rows)
    assert state.counts == run(raws, REGISTRY)[0].counts


@settings(max_examples=40, deadline=None)
@given(sent=sent_readings(6_000))
def test_whatever_comes_late_corrections_make_the_sum_right(sent: list[Sent]) -> None:
    _, outputs = run(stream_of(sent, ending(sent)), REGISTRY)
    assert outputs.dead_letters == []
    registers = corrected(outputs)
    for meter in ZONES:
        mine = [each for each in sent if each.meter == meter]
        for boundary in {epoch for name, epoch in registers if name == meter}:
            end = (boundary - EPOCH) * 900
            last = [each for each in mine if end - 60 < each.seconds <= end]
            if last:  # a reading stands at the boundary, however late it came
                truth = BASE_PRODUCTION + last[-1].production, BASE_CONSUMPTION + last[-1].consumption
                assert registers[meter, boundary] == truth
        ordered = [registers[key] for key in sorted(registers) if key[0] == meter]
        assert ordered == sorted(ordered)
        assert all(one[1] <= two[1] for one, two in pairwise(ordered))


@settings(max_examples=60, deadline=None)
@given(sent=sent_readings(3_000))
def test_rows_are_those_of_the_slow_and_obvious_reference(sent: list[Sent]) -> None:
    raws = stream_of(sent, ending(sent))
    _, outputs = run(raws, REGISTRY)
    slow = {meter: SlowMeter(record) for meter, record in RECORDS.items()}
    watermark_us, closed, known = -1, EPOCH - 1, set()
    for raw in raws:
        said = json_of(raw)
        if "gateway_id" in said:
            watermark_us = said["timestamp"] - 30_000_000
            while (closed + 2) * EPOCH_US <= watermark_us:
                closed += 1
                for meter in slow.values():
                    meter.close(closed)
        elif (said["meter_id"], said["seq"]) not in known:
            known.add((said["meter_id"], said["seq"]))
            registers = said["production_wh"], said["consumption_wh"]
            slow[said["meter_id"]].read(said["timestamp"], *registers, watermark_us)
    for meter, expected in slow.items():
        got = [
            (row[3], row[4], row[9], row[10], row[13], row[14], row[17])
            for row in outputs.net_energy_rows
            if row[0] == meter and row[3] >= EPOCH
        ]
        assert sorted(got) == sorted(expected.rows)


def json_of(raw: Raw) -> dict:
    import json  # noqa: PLC0415

    return json.loads(raw.value)


def test_the_disorder_reaches_corrections_estimates_and_missing_meters() -> None:
    """A property over inputs that never reach a branch would prove nothing."""
    seen: set[str] = set()

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(sent=sent_readings(6_000))
    def look(sent: list[Sent]) -> None:
        _, outputs = run(stream_of(sent, ending(sent)), REGISTRY)
        seen.update("estimated" for row in outputs.net_energy_rows if row[13])
        seen.update("missing" for row in outputs.net_energy_rows if row[14])
        seen.update("correction" for _ in outputs.correction_rows)

    look()
    assert seen == {"estimated", "missing", "correction"} and START_US == EPOCH * EPOCH_US

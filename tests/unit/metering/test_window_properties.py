"""Properties of the window: order doesn't matter, repeats don't count, no Wh is lost or made."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from metering_world import BASE_CONSUMPTION, BASE_PRODUCTION, EPOCH, Stream, meter_record, registry_of, run

from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw

STEP_SECONDS = 25
MAX_WH_PER_STEP = 30  # 1.1 × 4 000 W for 25 s
ZONES = {"MEA-001": 1, "MEA-005": 5}  # two zones of one partition
METERS = tuple(ZONES)
REGISTRY = registry_of(*(meter_record(meter, zone_id=zone) for meter, zone in ZONES.items()))

Step = tuple[int, int, bool]  # Wh produced, Wh consumed, whether a reading is sent
steps = st.lists(
    st.tuples(st.integers(0, MAX_WH_PER_STEP), st.integers(0, MAX_WH_PER_STEP), st.booleans()), min_size=1, max_size=150
)


def batches(days: dict[str, list[Step]]) -> list[list[Raw]]:
    """Per step of 25 s its readings and then a tick at the same instant: all are on time."""
    stream, groups = Stream(), [[]]
    groups[0].append(stream.tick(0))
    totals = {meter: [0, 0] for meter in days}
    for index in range(max(map(len, days.values()))):
        at, group = (index + 1) * STEP_SECONDS, []
        for meter, meter_steps in days.items():
            if index < len(meter_steps):
                production, consumption, sends = meter_steps[index]
                totals[meter][0] += production
                totals[meter][1] += consumption
                if sends:
                    group.append(
                        stream.read(11 + index, at, *totals[meter], meter_id=meter, signer=meter, zone_id=ZONES[meter])
                    )
        groups.append(group)
        groups.append([stream.tick(at)])
    return groups


def offsets_anew(raws: list[Raw]) -> list[Raw]:
    return [Raw(offset, raw.broker_us, raw.value, raw.headers, raw.key) for offset, raw in enumerate(raws)]


def energy(outputs: Outputs) -> list[tuple]:
    return sorted(outputs.net_energy_rows)


@settings(max_examples=30, deadline=None)
@given(days=st.fixed_dictionaries({meter: steps for meter in METERS}), seed=st.integers(0, 2**32))
def test_any_order_of_readings_between_two_ticks_gives_the_same_rows(days: dict[str, list[Step]], seed: int) -> None:
    groups = batches(days)
    in_order = [raw for group in groups for raw in group]
    order = random.Random(seed)  # noqa: S311 - a shuffle, no secret
    # each reading waits up to one tick longer: still on time, and then mixed with the next step's
    shuffled: list[Raw] = []
    held: list[Raw] = []
    for group in groups:
        if len(group) == 1 and b"gateway_id" in group[0].value:
            shuffled += group
            continue
        both = held + group
        order.shuffle(both)
        cut = order.randint(0, len(both))
        keep = [raw for raw in both[cut:] if raw not in held]
        shuffled += [raw for raw in both if raw not in keep]
        held = keep
    shuffled += held
    _, expected = run(in_order, REGISTRY)
    _, got = run(offsets_anew(shuffled), REGISTRY)
    assert got.dead_letters == expected.dead_letters == []
    assert energy(got) == energy(expected)
    assert got.correction_rows == expected.correction_rows == []


@settings(max_examples=30, deadline=None)
@given(day=steps, repeats=st.lists(st.integers(0, 10_000), max_size=20), size=st.integers(1, 50))
def test_repeated_records_and_batch_sizes_change_nothing(day: list[Step], repeats: list[int], size: int) -> None:
    raws = [raw for group in batches({METERS[0]: day}) for raw in group]
    repeated = list(raws)
    for at in repeats:
        index = at % len(repeated)
        repeated.insert(index + 1, repeated[index])
    _, expected = run(raws, REGISTRY)
    _, got = run(offsets_anew(repeated), REGISTRY, batch=size, through_bytes=True)
    assert got.net_energy_rows == expected.net_energy_rows
    assert got.counts["accepted", ""] == expected.counts["accepted", ""]
    assert got.counts["duplicate", ""] + got.counts["duplicate", "tick"] == len(repeats)


@settings(max_examples=40, deadline=None)
@given(day=steps)
def test_the_epochs_of_a_meter_add_up_to_its_register_at_the_last_boundary_minus_its_baseline(day: list[Step]) -> None:
    _, outputs = run([raw for group in batches({METERS[0]: day}) for raw in group], REGISTRY)
    latest: dict[int, tuple] = {}
    for row in outputs.net_energy_rows:
        if row[0] == METERS[0]:
            latest[row[3]] = row
    booked = [row for epoch, row in sorted(latest.items()) if not row[14]]
    if not booked:
        return
    # catching up books everything before it, so only the newest epochs can be missing
    assert [row[3] for row in booked] == list(range(EPOCH, booked[-1][3] + 1))
    assert sum(row[9] for row in booked) == booked[-1][7] - BASE_PRODUCTION
    assert sum(row[10] for row in booked) == booked[-1][8] - BASE_CONSUMPTION
    for before, after in pairwise(booked):
        assert before[7:9] == after[5:7]


@settings(max_examples=30, deadline=None)
@given(day=steps, late=st.sets(st.integers(0, 149)))
def test_late_readings_only_shift_energy_between_epochs(day: list[Step], late: set[int]) -> None:
    groups = batches({METERS[0]: day})
    held = [raw for index, group in enumerate(groups[1::2]) for raw in group if index in late]
    raws = [raw for group in groups for raw in group if raw not in held]
    _, without = run(offsets_anew(raws), REGISTRY)
    _, outputs = run(offsets_anew(raws + held), REGISTRY)
    assert outputs.net_energy_rows == without.net_energy_rows
    assert outputs.dead_letters == []
    corrected = {(row[2], row[3]) for row in outputs.correction_rows}
    assert len(corrected) == len(outputs.correction_rows)
    # corrected registers at the boundaries still grow from one to the next
    ends = {row[3] + 1: row[7] for row in outputs.net_energy_rows if not row[14]}
    for row in outputs.correction_rows:
        ends[row[2]] += row[4]
    registers = [ends[boundary] for boundary in sorted(ends)]
    assert registers == sorted(registers)

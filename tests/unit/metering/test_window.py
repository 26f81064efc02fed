"""The window's rules on the conformance table, whatever the batch size, and state that survives a restart."""

from __future__ import annotations

import pickle

import pytest
from metering_cases import CASES, Case, expected, observed
from metering_world import (
    BASE_CONSUMPTION,
    BASE_PRODUCTION,
    EPOCH,
    NETWORK,
    PARTITIONS,
    START_US,
    Stream,
    meter_record,
    registry_of,
    run,
)

from gridtokenx_pipelines.metering.outputs import ClosedEpoch, Progress
from gridtokenx_pipelines.metering.readings import RejectReason
from gridtokenx_pipelines.metering.state import StateVersionError
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("batch", [1, 1_000])
def test_every_message_case_gives_its_whole_expected_result(case: Case, batch: int) -> None:
    stream = Stream()
    case.build(stream)
    _, outputs = run(stream.raws, registry_of(*case.meters), batch=batch, through_bytes=batch == 1)
    assert observed(outputs) == expected(case)


def test_every_reason_for_rejection_has_a_case() -> None:
    assert {word for case in CASES for _, word in case.rejected} == {reason.word for reason in RejectReason}


def test_a_net_energy_row_holds_all_columns_of_the_contract() -> None:
    stream = Stream()
    CASES[0].build(stream)
    state, outputs = run(stream.raws, registry_of())
    assert outputs.net_energy().to_dicts() == [
        {
            "meter_id": "MEA-001",
            "wallet": "wallet of MEA-001",
            "zone_id": 1,
            "epoch": EPOCH,
            "revision": 0,
            "production_start_wh": BASE_PRODUCTION,
            "consumption_start_wh": BASE_CONSUMPTION,
            "production_end_wh": BASE_PRODUCTION + 300,
            "consumption_end_wh": BASE_CONSUMPTION + 100,
            "production_wh": 300,
            "consumption_wh": 100,
            "net_wh": 200,
            "readings": 2,
            "estimated": False,
            "missing": False,
            "first_seq": 11,
            "last_seq": 12,
            "late": False,
            "booked_epoch": EPOCH,
        }
    ]
    assert outputs.closed == [ClosedEpoch(EPOCH, 0, 4)]
    assert outputs.progress == Progress(0, PARTITIONS, START_US + 900_000_000, EPOCH, 4)
    assert state.counts == {("accepted", ""): 2, ("accepted", "tick"): 3}


def test_a_partition_without_meters_closes_its_epochs_all_the_same() -> None:
    stream = Stream()
    stream.tick(900)
    stream.tick(930)
    _, outputs = run(stream.raws, registry_of(), partition=2)
    assert outputs.net_energy_rows == []
    assert outputs.closed == [ClosedEpoch(EPOCH, 0, 1)]


def test_a_dead_letter_keeps_the_record_whole_and_says_value_bound_and_remedy() -> None:
    stream = Stream()
    stream.tick(0)
    raw = stream.read(11, 0, zone_id=5)
    _, outputs = run(stream.raws, registry_of())
    assert [(letter.raw, letter.detail) for letter in outputs.dead_letters] == [
        (raw, "zone_id was 5, must be 1, the zone of MEA-001")
    ]


def test_a_suspended_meter_is_missing_and_catches_up_when_it_is_active_again() -> None:
    meters = [
        meter_record(status=status, effective_epoch=EPOCH + at)
        for at, status in ((0, "active"), (1, "suspended"), (2, "active"))
    ]
    stream = Stream()
    for boundary, total in ((900, 10), (1_800, 20), (2_700, 30)):
        stream.tick(boundary)
        stream.read(10 + total, boundary, total)
        stream.tick(boundary + 30)
    _, outputs = run(stream.raws, registry_of(*meters))
    assert [(row[3] - EPOCH, row[4], row[9], row[14]) for row in outputs.net_energy_rows] == [
        (0, 0, 10, False),
        (1, 0, 0, True),
        (2, 0, 0, True),
        (1, 1, 10, False),
        (2, 1, 10, False),
    ]
    assert [letter.reason for letter in outputs.dead_letters] == [RejectReason.UNKNOWN_METER]


def test_a_meter_missing_beyond_the_horizon_books_its_energy_in_the_first_open_epoch() -> None:
    stream = Stream()
    stream.tick(895)
    stream.read(11, 895, 100)
    stream.tick(930)
    last = 1_350 * 900
    stream.tick(last)
    stream.read(12, last, 1_450)
    stream.tick(last + 30)
    _, outputs = run(stream.raws, registry_of())
    booked = [(row[3] - EPOCH, row[9]) for row in outputs.net_energy_rows if row[4] == 1]
    assert booked[0] == (1_350 - 1_344, 6)  # five closed epochs and its own, on the line
    assert {energy for _, energy in booked[1:]} <= {1, 2}
    assert sum(energy for _, energy in booked) == 1_350


def test_records_already_applied_are_passed_over() -> None:
    stream = Stream()
    CASES[0].build(stream)
    state, _ = run(stream.raws, registry_of())
    before = pickle.dumps(state)
    state, outputs = step(state, Verifier(NETWORK).messages(stream.raws), registry_of())
    assert (outputs.net_energy_rows, outputs.accepted, pickle.dumps(state)) == ([], [], before)


def test_memory_does_not_grow_with_the_number_of_readings() -> None:
    stream = Stream()
    for quarter in range(1, 30):
        for second in range(0, 900, 30):
            at = quarter * 900 + second
            stream.tick(at)
            stream.read(at, at, at // 30)
    state, _ = run(stream.raws, registry_of())
    assert len(stream.raws) == 2 * 29 * 30
    assert len(state.rows) <= 2 * 30 + 2
    assert state.waiting == {} and len(state.tallies) <= 1


def test_state_of_another_version_is_refused_by_name() -> None:
    other = pickle.dumps(("gridtokenx/shard-state", 0, ShardState(0, 4)))
    with pytest.raises(StateVersionError, match=r"'gridtokenx/shard-state', 0.*must be.*start with an empty"):
        ShardState.from_bytes(other)

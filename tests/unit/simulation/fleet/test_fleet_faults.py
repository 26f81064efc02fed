"""Faults between a true register and what arrives: on demand, by seed, and what the pipeline makes of them."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest

from gridtokenx_pipelines.metering.readings import BlockReading, Reading
from gridtokenx_pipelines.simulation.fleet.errors import FaultError
from gridtokenx_pipelines.simulation.fleet.meter_faults import KINDS, Fault, Faults, FaultShares, parse_shares
from gridtokenx_pipelines.simulation.fleet.output import FleetBlockReading, FleetReading
from tests.unit.simulation.fleet.fleet_world import START, metered, played, readings

METER, OTHER = "SIM-000001", "SIM-000002"
MINUTES = 60


@pytest.fixture
def minutes(street):
    """A street of minutes without power flow, and its events with a fault from minute 10 to 20 on one meter."""

    def play(kind: str | None, size: float = 0.0, steps: int = 30, **options):
        simulator = street(step_seconds=60, meters=16, power_flow=False, start=START + 6 * 3_600, **options)
        if kind:
            simulator.inject(
                Fault(
                    kind=kind,
                    start=simulator.time + 10 * MINUTES,
                    end=simulator.time + 20 * MINUTES,
                    meters=(METER,),
                    size=size,
                )
            )
        return simulator, played(simulator, steps)[1]

    return play


def increments(events, meter_id: str, register: str) -> list[int]:
    values = [each[register] for each in readings(events, meter_id)]
    return np.diff(values).tolist()


def test_a_silent_meter_sends_nothing_and_its_next_register_has_lost_no_energy(minutes):
    _, honest = minutes(None)
    _, events = minutes("silent")
    seqs = [each["seq"] for each in readings(events, METER)]
    assert seqs == [*range(1, 11), *range(21, 31)]
    assert readings(events, METER)[-1] == readings(honest, METER)[-1]
    assert readings(events, OTHER) == readings(honest, OTHER)


def test_a_frozen_meter_repeats_what_it_showed_and_never_counts_what_flowed(minutes):
    _, honest = minutes(None)
    _, events = minutes("frozen")
    shown = readings(events, METER)
    assert {(each["consumption_wh"], each["voltage_v"], each["current_a"]) for each in shown[9:20]} == {
        tuple(shown[9][name] for name in ("consumption_wh", "voltage_v", "current_a"))
    }
    lost = readings(honest, METER)[-1]["consumption_wh"] - shown[-1]["consumption_wh"]
    assert lost > 20
    assert abs(sum(increments(honest, METER, "consumption_wh")[9:19]) - lost) <= 2


def test_a_tampering_meter_counts_half_and_a_drifting_one_more_and_more(minutes):
    _, honest = minutes(None)
    true = sum(increments(honest, METER, "consumption_wh")[9:19])
    halved = sum(increments(minutes("tampering", 0.5)[1], METER, "consumption_wh")[9:19])
    assert halved == pytest.approx(true / 2, abs=2)
    drifted = minutes("drifting", 1.0, steps=20)[1]
    extra = sum(increments(drifted, METER, "consumption_wh")) - sum(increments(honest, METER, "consumption_wh")[:19])
    assert 0 <= extra <= 2  # one per day on ten minutes is next to nothing; the factor itself is exact
    simulator, _ = minutes("drifting", 1.0, steps=10)
    assert simulator.faults.at(simulator.time + 300).consumption[0] == pytest.approx(1 + 300 / 86_400)


def test_false_data_claims_production_that_never_was_below_the_rating_and_the_pipeline_believes_it(minutes):
    simulator, events = minutes("false_data", 0.3)
    rating = int(simulator.ratings_w[0])
    claimed = increments(events, METER, "production_wh")
    assert sum(claimed[9:19]) == pytest.approx(rating * 0.3 / 6, rel=0.02)
    assert sum(claimed[:9]) == sum(claimed[19:]) == 0
    counts = sum((output.counts for output in metered(simulator, events)), Counter())
    assert {status for status, _ in counts} == {"accepted"}


def test_a_skewed_clock_moves_timestamps_and_beyond_a_minute_the_pipeline_refuses_them_by_name(minutes):
    simulator, events = minutes("clock_skew", 300.0)
    times = {each["seq"]: each["timestamp"] // 1_000_000 - simulator.scenario.start for each in readings(events, METER)}
    assert [times[seq] - 60 * seq for seq in (10, 11, 20, 21)] == [0, 300, 300, 0]
    counts = sum((output.counts for output in metered(simulator, events)), Counter())
    assert counts["rejected", "ahead_of_arrival"] == 10
    mild = sum((output.counts for output in metered(*minutes("clock_skew", 20.0))), Counter())
    assert {status for status, _ in mild} == {"accepted"}


@pytest.mark.parametrize("block", [1, 5])
def test_an_outage_holds_a_zone_back_and_its_backlog_arrives_whole_and_in_order(street, block: int):
    simulator = street(step_seconds=60, meters=40, zones=2, power_flow=False, block=block)
    simulator.inject(Fault(kind="outage", start=simulator.time + 600, end=simulator.time + 1_200, zone_id=2))
    held, zones = [], {member.meter_id: member.zone_id for member in simulator.fleet.members}
    arrived: list[tuple[str, int, int]] = []
    for _ in range(30):
        for event in simulator.advance()[1]:
            document = msgspec.json.decode(event.value)
            for each in document.get("readings", [document]):
                if "seq" in each:
                    arrived.append((document["meter_id"], each["seq"], event.timestamp_ms // 1_000 - simulator.time))
        held.append(simulator.output.backlog)
    dark = [seq for name, seq, _ in arrived if zones[name] == 2]
    assert max(held) == sum(zone == 2 for zone in zones.values()) * 10 // block
    assert held[-1] == 0
    assert all(late == 0 for _, _, late in arrived), "a record's time is that of its arrival"
    for name, zone in zones.items():
        assert [seq for meter, seq, _ in arrived if meter == name] == list(range(1, 31)), zone
    assert len(dark) == 30 * sum(zone == 2 for zone in zones.values())


def test_faults_by_seed_are_the_same_for_a_meter_in_any_fleet_and_near_their_share(street):
    shares = FaultShares(**dict.fromkeys(KINDS, 0.1))
    small, large = (street(meters=meters, power_flow=False, sign=False).fleet for meters in (40, 4_000))
    few, many = Faults(small, shares), Faults(large, shares)
    names = [member.meter_id for member in large.members]
    places = [names.index(member.meter_id) for member in small.members]
    silent = 0
    for second in range(START, START + 86_400, 1_800):
        mine, theirs = few.at(second), many.at(second)
        for field in ("silent", "frozen", "consumption", "production", "extra_share", "skew_us"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field)[places])
        silent += int(theirs.silent.sum())
    # a tenth of the meters, for 3.25 hours on average where the day lets them, of 48 half hours
    assert 0.5 < silent / (4_000 * 0.1 * 6) < 1.1
    assert not Faults(small, FaultShares()).at(START).any


def test_honest_readings_of_a_fleet_with_faults_are_accepted_whatever_the_others_do(street):
    simulator = street(step_seconds=300, meters=40, power_flow=False, faults=FaultShares(frozen=0.3, tampering=0.3))
    _, events = played(simulator, 24)
    counts = sum((output.counts for output in metered(simulator, events)), Counter())
    assert {status for status, _ in counts} == {"accepted"}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"kind": "bogus", "meters": (METER,)}, "kind was 'bogus'"),
        ({"kind": "silent", "meters": ("nobody",)}, "meter was 'nobody'"),
        ({"kind": "silent", "zone_id": 9}, "zone_id was 9"),
        ({"kind": "silent"}, "either meters or a zone_id"),
        ({"kind": "silent", "meters": (METER,), "zone_id": 1}, "either meters or a zone_id"),
        ({"kind": "tampering", "meters": (METER,), "size": 1.5}, "size of tampering was 1.5"),
        ({"kind": "silent", "meters": (METER,), "end": START}, "its end must come after its start"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_by_name(street, fault, told: str):
    simulator = street(meters=4, power_flow=False, sign=False)
    with pytest.raises(FaultError, match=told):
        simulator.inject(Fault(**{"start": START, "end": START + 60} | fault))


@pytest.mark.parametrize("text", ["silent", "silent=2", "bogus=0.1", "silent=x", "silent=-1"])
def test_shares_that_make_no_sense_are_refused(text: str):
    with pytest.raises(FaultError, match="fault was"):
        parse_shares([text])


def test_the_bytes_of_a_reading_are_those_that_the_contract_s_encoder_writes(street):
    simulator = street(step_seconds=900, meters=40, start=START + 5 * 3_600)
    _, events = played(simulator, 3)
    for event in events:
        if b'"seq"' in event.value:
            assert msgspec.json.encode(msgspec.json.decode(event.value, type=FleetReading)) == event.value
            assert msgspec.json.decode(event.value, type=Reading).seq in (1, 2, 3)
    assert issubclass(FleetBlockReading, BlockReading)

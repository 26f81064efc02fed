from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key, start_us
from gridtokenx_pipelines.market.intake import IntakeState
from gridtokenx_pipelines.market.intake import step as intake_step
from gridtokenx_pipelines.market.records import MeterFacts, MeterLookup, TickRecord, read_record
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw, Tick, decode
from gridtokenx_pipelines.metering.registry import RegistryView, decode_record, partition_of_zone
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState
from gridtokenx_pipelines.metering.window import step as window_step
from gridtokenx_pipelines.simulation.day import day_events, registry_messages
from gridtokenx_pipelines.simulation.faults import NO_FAULTS, FaultShares
from gridtokenx_pipelines.simulation.messages import ORDERS_TOPIC, READINGS_TOPIC, Event, Manifest, total
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.simulation.registers import Registers

START = epoch_of_key("2026-06-14T22:00Z")  # five in the morning in Bangkok: sun comes up
MARKET = sha256(b"market").digest()
PARTITIONS = 4
MANY_FAULTS = FaultShares(
    forged=20_000,
    wrong_key=20_000,
    replay=20_000,
    wrong_zone=20_000,
    register_back=20_000,
    unknown_meter=20_000,
    garbage=20_000,
    duplicate=50_000,
    disorder=80_000,
    late=60_000,
)


def metered(neighbourhood: Neighbourhood, events: Iterable[Event]) -> list[Outputs]:
    """What the real window of every partition makes of the telemetry."""
    view = RegistryView(decode_record(event.value) for event in registry_messages(neighbourhood, START))
    verifier = Verifier(neighbourhood.network_id)
    raws: dict[int, list[Raw]] = {partition: [] for partition in range(PARTITIONS)}
    for event in events:
        if event.topic == READINGS_TOPIC:
            queue = raws[event.partition]
            queue.append(Raw(len(queue), event.timestamp_ms * 1_000, event.value, event.headers, event.key))
    outputs = [
        window_step(ShardState(partition, PARTITIONS), verifier.messages(queue), view)[1]
        for partition, queue in raws.items()
    ]
    verifier.close()
    return outputs


def played(neighbourhood: Neighbourhood, epochs: int, **options: object) -> tuple[list[Event], Manifest]:
    chunks = list(day_events(neighbourhood, START, epochs, market=MARKET, **options))
    return [event for chunk in chunks for event in chunk.events], total(chunk.manifest for chunk in chunks)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_pipeline_finds_exactly_what_the_manifest_says(neighbourhood_of: Callable[..., Neighbourhood], seed: int):
    neighbourhood = neighbourhood_of(seed=seed)
    events, manifest = played(neighbourhood, 12, shares=MANY_FAULTS)
    outputs = metered(neighbourhood, events)
    counts: Counter[tuple[str, str]] = sum((output.counts for output in outputs), Counter())
    net_energy = pl.concat([output.net_energy() for output in outputs])
    assert {reason: n for (status, reason), n in counts.items() if status == "rejected"} == manifest.rejected
    assert len(manifest.rejected) == 7
    assert counts["accepted", ""] + counts["accepted", "late"] == manifest.accepted == 3 * (33 * 12 - 3)
    assert counts["accepted", "late"] == manifest.late > manifest.corrections
    assert sum(len(output.correction_rows) for output in outputs) == manifest.corrections > 0
    assert counts["duplicate", ""] == manifest.duplicates > 0
    assert counts["accepted", "tick"] * 2 == manifest.ticks == 2 * PARTITIONS * (12 * 30 + 3)
    assert net_energy.filter("missing").height == manifest.missing == 4
    assert net_energy.filter("late").height == 4  # each caught up
    assert sum(event.topic == READINGS_TOPIC for event in events) == manifest.sent + manifest.ticks // 2


def test_net_energy_closes_on_the_registers_whatever_went_wrong(neighbourhood_of: Callable[..., Neighbourhood]):
    neighbourhood = neighbourhood_of()
    events, _ = played(neighbourhood, 12, shares=MANY_FAULTS)
    net_energy = pl.concat([output.net_energy() for output in metered(neighbourhood, events)]).filter(
        ~pl.col("missing")
    )
    registers = Registers(neighbourhood, START, 12)
    sums = dict(net_energy.group_by("meter_id").agg(pl.sum("production_wh", "consumption_wh")).rows_by_key("meter_id"))
    ends = net_energy.filter(pl.col("epoch") == START + 11)
    last = {row["meter_id"]: (row["production_end_wh"], row["consumption_end_wh"]) for row in ends.to_dicts()}
    for place, meter in enumerate(neighbourhood.meters):
        ((produced_wh, consumed_wh),) = sums[meter.meter_id]
        end = (meter.baseline_production_wh + produced_wh, meter.baseline_consumption_wh + consumed_wh)
        assert end == last[meter.meter_id]
        earliest, true = (registers.at(place, start_us(START + 12) - us) for us in (48_000_000, 0))
        assert earliest[0] <= end[0] <= true[0]
        assert earliest[1] <= end[1] <= true[1]


def test_order_intake_admits_and_refuses_exactly_what_the_manifest_says(
    neighbourhood_of: Callable[..., Neighbourhood],
):
    neighbourhood = neighbourhood_of("1-LV-semiurb5--0-sw")
    events, manifest = played(neighbourhood, 24)
    facts = [
        MeterFacts(
            meter_id=meter.meter_id,
            wallet=meter.wallet,
            zone_id=meter.zone_id,
            rating_w=meter.rating_w,
            produces=meter.meter_type != "Grid",
        )
        for meter in neighbourhood.meters
    ]
    lookup = MeterLookup(facts, {zone: partition_of_zone(zone, PARTITIONS) for zone in (1, 2)})
    accepted = cancelled = 0
    refused: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        state = IntakeState(partition=partition, network_id=neighbourhood.network_id, market=MARKET)
        mine = [event for event in events if event.topic == ORDERS_TOPIC and event.partition == partition]
        records = []
        for offset, event in enumerate(mine):
            headers = dict(event.headers)
            if headers["kind"] == b"tick":
                tick = decode(Raw(offset, 0, event.value, event.headers))
                assert isinstance(tick, Tick)
                records.append(TickRecord(offset=offset, tick_us=tick.timestamp_us))
            else:
                broker_us = event.timestamp_ms * 1_000
                records.append(read_record(offset, broker_us, event.value, headers["sig"], headers["pub"]))
        outputs = intake_step(state, records, lookup, Rules())
        accepted += len(outputs.accepted)
        cancelled += len(outputs.cancelled)
        refused.update(record.reason.name.lower() for record in outputs.rejected)
        assert outputs.gate_epochs == list(range(START - 1, START + 24))
    assert (accepted, cancelled, dict(refused)) == (manifest.orders, manifest.cancels, manifest.orders_rejected)
    assert manifest.orders_rejected == {
        "cancel_too_late": 2,
        "consumer_sells": 2,
        "meter_not_owned": 2,
        "price_tick": 2,
        "self_trade": 2,
        "signature": 2,
    }
    assert manifest.cancels == 2
    assert manifest.orders > 12


DIGEST_OF_A_RUN = """
import sys
from hashlib import sha256
from pathlib import Path
from gridtokenx_pipelines.simulation.day import day_events, registry_messages
from gridtokenx_pipelines.simulation.neighbourhood import build_neighbourhood

home = build_neighbourhood("1-LV-rural1--2-sw", int(sys.argv[2]), cache_dir=Path(sys.argv[1]))
digest = sha256(repr(home.network).encode() + repr(home.households).encode())
for event in registry_messages(home, int(sys.argv[3])):
    digest.update(repr(event).encode())
for chunk in day_events(home, int(sys.argv[3]), 8, market=bytes(32)):
    digest.update(repr(chunk).encode())
print(digest.hexdigest())
"""


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_another_seed_others(
    grid_cache: Path, neighbourhood_of: Callable[..., Neighbourhood]
):
    neighbourhood_of()  # so that the cache is there and the two processes needn't extract

    def digest(seed: int) -> str:
        arguments = [str(grid_cache), str(seed), str(START)]
        run = subprocess.run(
            [sys.executable, "-c", DIGEST_OF_A_RUN, *arguments], capture_output=True, text=True, check=True
        )
        assert run.stderr == ""
        return run.stdout

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_events_arrive_in_order_within_their_epoch_and_the_last_epoch_closes(
    neighbourhood_of: Callable[..., Neighbourhood],
):
    chunks = list(day_events(neighbourhood_of(), START, 3, market=MARKET))
    assert [chunk.epoch for chunk in chunks] == [START, START + 1, START + 2]
    for chunk in chunks:
        times = [event.timestamp_ms for event in chunk.events]
        until_ms = start_us(chunk.epoch + 1) // 1_000 + (60_001 if chunk is chunks[-1] else 0)
        assert times == sorted(times)
        assert start_us(chunk.epoch) // 1_000 <= times[0]
        assert times[-1] < until_ms
    assert times[-1] == start_us(START + 3) // 1_000 + 60_000


def test_without_faults_every_reading_is_accepted(neighbourhood_of: Callable[..., Neighbourhood]):
    neighbourhood = neighbourhood_of()
    events, manifest = played(neighbourhood, 2, shares=NO_FAULTS, tick_seconds=5, partitions=PARTITIONS)
    (counts,) = [sum((output.counts for output in metered(neighbourhood, events)), Counter())]
    assert {key: n for key, n in counts.items() if key[1] != "tick"} == {
        ("accepted", ""): manifest.accepted - manifest.late,
        ("accepted", "late"): manifest.late,
    }
    assert manifest.accepted == 33 * 2 * 3
    assert (manifest.rejected, manifest.duplicates, manifest.missing, manifest.corrections) == ({}, 0, 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tick_seconds": 7}, "tick_seconds was 7, must divide 30"),
        ({"tick_seconds": 60}, "tick_seconds was 60, must divide 30"),
        ({"partitions": 0}, "partitions was 0, must be at least 1"),
        ({"market": b"short"}, "market had 5 bytes, must be the 32 bytes"),
        ({"epochs": 0}, "epochs was 0, must be at least 1"),
        ({"shares": FaultShares(forged=1_000_000)}, "must be at most 1000000; lower some"),
    ],
)
def test_arguments_out_of_bounds_are_refused_at_once(
    neighbourhood_of: Callable[..., Neighbourhood], options: dict[str, object], message: str
):
    arguments = {"epochs": 2, "market": MARKET, **options}
    with pytest.raises(ValueError, match=message):
        day_events(neighbourhood_of(), START, **arguments)

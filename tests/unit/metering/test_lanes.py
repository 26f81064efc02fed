"""Both lanes of the window together give exactly what the rules give record by record, whatever comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metering_cases import CASES, Case, expected, observed
from metering_world import EPOCH, START_US, Stream, document, gateway_record, key_of, meter_record, run

from gridtokenx_pipelines.metering import epoch_close, lanes
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import RegistryView

ZONES = {"MEA-001": 1, "MEA-005": 5, "MEA-009": 9, "MEA-404": 1}
NEVER = 10**9


def registry() -> RegistryView:
    """One meter with another key and rating from the second epoch on, one that is retired then, one unknown."""
    key = bytes(key_of("a new key").verify_key)
    return RegistryView(
        [
            gateway_record(),
            meter_record(),
            meter_record("MEA-005", zone_id=5),
            meter_record("MEA-005", zone_id=5, rating_w=9_000, device_key=key, effective_epoch=EPOCH + 1),
            meter_record("MEA-009", zone_id=9),
            meter_record("MEA-009", zone_id=9, status="retired", effective_epoch=EPOCH + 1),
        ]
    )


def soup(seed: int, length: int) -> list[Raw]:
    """Readings, blocks and ticks of four meters, most of them good, the others wrong in every way."""
    draw, stream = random.Random(seed), Stream()  # noqa: S311 - a soup, no secret
    stream.tick(0)
    at, clock, seqs = 0.0, 0.0, dict.fromkeys(ZONES, 10)
    energy = {meter: [0, 0] for meter in ZONES}
    for _ in range(length):
        if draw.random() < 0.04:
            at += draw.choice((5, 30, 200, 890))
            stream.tick(at)
            clock = max(clock, at - 20)
            continue
        meter = draw.choice(list(ZONES))
        who = {"meter_id": meter, "zone_id": ZONES[meter]}
        signer = "a new key" if meter == "MEA-005" and at > 900 and draw.random() < 0.9 else meter
        clock = clock + 0.4 if clock < at + 50 else clock
        time = clock + (draw.uniform(-60, 40) if draw.random() < 0.1 else 0)
        if draw.random() < 0.85:
            seqs[meter] += draw.choice((1, 1, 2))
            energy[meter][0] += draw.choice((0, 0, 0, 0, 0, 0, 1, 40 * (draw.random() < 0.2)))
            energy[meter][1] += draw.choice((0, 0, 0, 0, 0, 1, -2 * (draw.random() < 0.1)))
        seq = seqs[meter] - draw.choice((0, 0, 0, 0, 0, 1, 3))
        production, consumption = energy[meter]
        match draw.randrange(12):
            case 0:
                changes = draw.choice(({"zone_id": 2}, {"voltage_v": "x"}, {"timestamp": "2026-01-27T12:20:00Z"}))
                stream.read(seq, time, production, consumption, signer=signer, **{**who, **changes})
            case 1:
                stream.read(seq, time, production, consumption, signer="a stranger", **who)
            case 2:
                stream.again(draw.choice(stream.raws))
            case 3:
                parts = [document(seq + n, time + 2 * n, production, consumption + n, **who) for n in range(3)]
                stream.block(*parts, meter_id=meter, zone_id=ZONES[meter])
            case _:
                stream.read(seq, time, production, consumption, signer=signer, **who)
    stream.tick(at + 2_000)
    return stream.raws


def everything(outputs: Outputs) -> dict[str, object]:
    return {
        "rows": outputs.net_energy_rows,
        "corrections": outputs.correction_rows,
        "letters": [(each.raw.offset, each.reason, each.detail) for each in outputs.dead_letters],
        "counts": dict(outputs.counts),
        "accepted": sorted(
            repr((each.record, each.timestamp_us, each.reading, each.generation_wh, each.consumption_wh))
            for each in outputs.accepted
        ),
        "closed": outputs.closed,
        "progress": outputs.progress,
    }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 250), batch=st.sampled_from((7, 60, 1_000)))
def test_any_soup_of_records_gives_the_same_as_columns_and_one_by_one(seed: int, length: int, batch: int) -> None:
    raws = soup(seed, length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "WORTH_IT", NEVER)
        patch.setattr(epoch_close, "close_in_bulk", lambda _state, roster, *_: [None] * len(roster.meter_ids))
        _, slow = run(raws, registry())
        patch.undo()
        patch.setattr(lanes, "WORTH_IT", 1)
        _, fast = run(raws, registry(), batch=batch, through_bytes=batch == 60)
    assert everything(fast) == everything(slow)


def test_the_soup_has_everything_in_it() -> None:
    """A property over inputs that never reach a branch would prove nothing."""
    reasons, kinds, taken = set(), set(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "WORTH_IT", 1)
        for seed in range(12):
            _, outputs = run(soup(seed, 250), registry())
            reasons |= {each.reason.word for each in outputs.dead_letters}
            kinds |= {kind for kind, count in outputs.counts.items() if count}
            taken += outputs.counts["accepted", ""]
    assert reasons >= {
        "bad_field",
        "unknown_meter",
        "wrong_key",
        "wrong_zone",
        "replay",
        "out_of_order",
        "register_ran_back",
        "over_rating",
    }
    assert kinds >= {("accepted", ""), ("accepted", "late"), ("duplicate", ""), ("accepted", "tick")}
    assert taken > 300


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_message_case_gives_the_same_in_the_fast_lane(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "WORTH_IT", 1)
    stream = Stream()
    case.build(stream)
    view = RegistryView([gateway_record(), *case.meters])
    assert observed(run(stream.raws, view)[1]) == expected(case)


def test_power_that_would_overflow_64_bits_is_judged_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "WORTH_IT", 1)
    stream = Stream()
    stream.tick(100)
    stream.read(11, 10, 0, 0)
    stream.tick(110)
    stream.read(12, 105, 2**61, 0)  # 2**61 Wh × 3.6e10 is far beyond 64 bits
    stream.read(13, 106, 1, 0)
    _, outputs = run(stream.raws, RegistryView([gateway_record(), meter_record()]))
    assert [(each.raw.offset, each.reason.word) for each in outputs.dead_letters] == [(3, "over_rating")]
    assert outputs.accepted[-1].reading.seq == 13 and START_US == EPOCH * 900_000_000

"""Each net-energy check passes on sound rows and fails on data that deserves it, naming the row."""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.settlement_service.inspections import net_energy
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed, first_failed_epoch

EPOCH = 1_966_080
ROW = {
    "meter_id": "MEA-001",
    "wallet": "w1",
    "zone_id": 1,
    "epoch": EPOCH,
    "revision": 0,
    "production_start_wh": 1_000,
    "consumption_start_wh": 500,
    "production_end_wh": 1_300,
    "consumption_end_wh": 550,
    "production_wh": 300,
    "consumption_wh": 50,
    "net_wh": 250,
    "missing": False,
}
NEXT = ROW | {
    "epoch": EPOCH + 1,
    "production_start_wh": 1_300,
    "consumption_start_wh": 550,
    "production_end_wh": 1_300,
    "consumption_end_wh": 650,
    "production_wh": 0,
    "consumption_wh": 100,
    "net_wh": -100,
}
METER = {
    "meter_id": "MEA-001",
    "zone_id": 1,
    "rating_w": 4_000,
    "status": "active",
    "first_epoch": EPOCH,
    "baseline_production_wh": 1_000,
    "baseline_consumption_wh": 500,
    "baseline_timestamp_us": start_us(EPOCH),
}


def judge(rows: list[dict[str, object]], meters: list[dict[str, object]] | None = None) -> dict[tuple[str, int], str]:
    """(check, epoch) → the first failing value shown, of the checks that failed."""
    found = net_energy.inspect(pl.DataFrame(rows), pl.DataFrame(meters or [METER]), [EPOCH, EPOCH + 1])
    assert len(found) == len(net_energy.CHECKS) * 2
    return {(one.check, one.epoch): one.detail for one in failed(found)}


def test_sound_rows_pass_every_check() -> None:
    assert judge([ROW, NEXT]) == {}


def test_an_absent_meter_fails_presence_of_that_epoch_alone() -> None:
    found = judge([ROW])
    assert list(found) == [(net_energy.PRESENT, EPOCH + 1)]
    assert "replay the telemetry flow" in found[net_energy.PRESENT, EPOCH + 1]


def test_a_meter_flagged_missing_is_present() -> None:
    gone = NEXT | {"missing": True, "production_wh": 0, "consumption_wh": 0, "net_wh": 0}
    assert judge([ROW, gone]) == {}


def test_a_row_of_an_unknown_meter_fails_presence() -> None:
    stranger = {**ROW, "meter_id": "MEA-999"}
    assert (net_energy.PRESENT, EPOCH) in judge([ROW, NEXT, stranger])


def test_a_row_before_the_meters_first_epoch_fails_presence() -> None:
    assert judge([ROW, NEXT], [METER | {"first_epoch": EPOCH + 1, "baseline_production_wh": 1_300,
                                        "baseline_consumption_wh": 550}]) == {
        (net_energy.PRESENT, EPOCH): judge([ROW, NEXT, {**ROW, "meter_id": "MEA-999"}])[net_energy.PRESENT, EPOCH]
    }  # fmt: skip


def test_a_register_that_does_not_start_where_it_ended_fails_continuity() -> None:
    jumped = NEXT | {"consumption_start_wh": 560, "consumption_wh": 90, "net_wh": -90}
    assert list(judge([ROW, jumped])) == [(net_energy.CONTINUOUS, EPOCH + 1)]


def test_the_first_epoch_must_start_at_the_baseline() -> None:
    assert list(judge([ROW, NEXT], [METER | {"baseline_production_wh": 999}])) == [(net_energy.CONTINUOUS, EPOCH)]


def test_an_estimate_replaces_the_missing_row_it_continues() -> None:
    missing = ROW | {"missing": True, "production_wh": 0, "consumption_wh": 0, "net_wh": 0}
    estimated = ROW | {"revision": 1}
    assert judge([missing, estimated, NEXT]) == {}


def producing(wh: int, first: dict[str, object] = ROW) -> list[dict[str, object]]:
    """Two epochs, the later one with `wh` produced."""
    end = 1_300 + wh
    return [first, NEXT | {"production_end_wh": end, "production_wh": wh, "net_wh": wh - 100}]


def test_a_meter_is_held_to_what_its_readings_were_accepted_with() -> None:
    # 1.1 × 4 000 W over 15 minutes and the 60 s that the reading at the start may lie before it: 1 173⅓ Wh
    assert judge(producing(1_174)) == {}
    over = judge(producing(1_175))
    assert set(over) == {(net_energy.RATING, EPOCH + 1), (net_energy.ZONE_BALANCE, EPOCH + 1)}
    other = METER | {"meter_id": "MEA-002"}
    idle = [row | {"meter_id": "MEA-002"} for row in (ROW, NEXT)]
    assert set(judge([*producing(1_175), *idle], [METER, other])) == {(net_energy.RATING, EPOCH + 1)}


def test_the_first_epoch_holds_what_came_since_the_baseline() -> None:
    burst = ROW | {"production_end_wh": 2_101, "production_wh": 1_101, "net_wh": 1_051}
    follow = NEXT | {"production_start_wh": 2_101, "production_end_wh": 2_101}
    assert set(judge([burst, follow])) == {(net_energy.RATING, EPOCH), (net_energy.ZONE_BALANCE, EPOCH)}
    earlier = METER | {"baseline_timestamp_us": start_us(EPOCH) - 1_000_000}
    assert judge([burst, follow], [earlier]) == {}


def test_a_late_row_may_hold_the_energy_of_epochs_closed_for_good() -> None:
    first, much = producing(9_000)
    missing = NEXT | {"missing": True, "production_wh": 0, "consumption_wh": 0, "net_wh": 0}
    assert judge([first, missing, much | {"revision": 1}]) == {}


def test_the_first_failed_epoch_is_what_must_wait() -> None:
    found = net_energy.inspect(pl.DataFrame([ROW]), pl.DataFrame([METER]), [EPOCH, EPOCH + 1])
    assert first_failed_epoch(found) == EPOCH + 1
    (only,) = failed(found)
    assert only.failing is not None
    assert only.failing.rows() == [(EPOCH + 1, "MEA-001", 1, "no row")]

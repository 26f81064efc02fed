"""Each statistic warns on data that deserves it, and stays still on data that doesn't."""

from __future__ import annotations

from typing import Any

import polars as pl

from gridtokenx_pipelines.quality import statistics

NOW = 2_000_000
SCHEMA = {
    "epoch": pl.Int64,
    "meter_id": pl.String,
    "zone_id": pl.Int64,
    "revision": pl.Int64,
    "production_wh": pl.Int64,
    "consumption_wh": pl.Int64,
    "net_wh": pl.Int64,
    "readings": pl.Int64,
    "missing": pl.Boolean,
    "estimated": pl.Boolean,
}


def meter(name: str, epoch: int, net: int = 0, **changed: Any) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "meter_id": name,
        "zone_id": 1,
        "revision": 0,
        "production_wh": max(net, 0),
        "consumption_wh": max(-net, 0),
        "net_wh": net,
        "readings": 3,
        "missing": False,
        "estimated": False,
        **changed,
    }


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


def day(name: str, net: int = -100) -> list[dict[str, Any]]:
    """A day and an hour up to and without NOW, nets wavering by a few Wh."""
    return [meter(name, epoch, net + epoch % 5) for epoch in range(NOW - 100, NOW)]


def test_a_meter_missing_for_four_epochs_is_silent_and_one_missing_for_three_is_not() -> None:
    lost = [meter("LOST", NOW - 10), *[meter("LOST", NOW - back, missing=True) for back in range(4)]]
    away = [meter("AWAY", NOW - 3), *[meter("AWAY", NOW - back, missing=True) for back in range(3)]]
    new = [meter("NEVER", NOW - back, missing=True) for back in range(5)]
    found = statistics.silent_meters(frame(*lost, *away, *new), NOW)
    assert found.rows() == [(NOW, "LOST", 1, 10), (NOW, "NEVER", 1, 5)]


def test_a_meter_that_reports_and_never_moves_for_a_day_is_frozen_and_a_solar_night_is_not() -> None:
    stuck = [meter("STUCK", epoch) for epoch in range(NOW - 95, NOW + 1)]
    solar = [meter("SOLAR", epoch, 300 if epoch < NOW - 40 else 0) for epoch in range(NOW - 95, NOW + 1)]
    deaf = [meter("DEAF", epoch, readings=0) for epoch in range(NOW - 95, NOW + 1)]
    assert statistics.frozen_meters(frame(*stuck, *solar, *deaf), NOW).rows() == [(NOW, "STUCK", 96, 288)]
    assert statistics.frozen_meters(frame(*stuck[1:]), NOW).is_empty()


def test_a_voltage_beyond_ten_percent_is_an_outlier_and_an_unknown_one_is_not() -> None:
    latest = pl.DataFrame(
        {"meter_id": ["A", "B", "C", "D"], "zone_id": [1, 1, 2, 2], "voltage_v": [206.9, 207.0, None, 253.1]}
    )
    assert statistics.voltage_outliers(latest, NOW).rows() == [(NOW, "A", 1, 206.9), (NOW, "D", 2, 253.1)]


def exchange(imported: int, exported: int = 0) -> pl.DataFrame:
    names = ("epoch", "import_wh", "export_wh")
    return pl.DataFrame([(NOW, imported, exported)], schema=dict.fromkeys(names, pl.Int64), orient="row")


def test_a_loss_that_no_network_has_and_a_gain_are_named_and_what_is_not_measured_is_not() -> None:
    rows = frame(meter("A", NOW, 2_000), meter("B", NOW, -7_000))
    # 5 000 Wh must come from upstream; 10 % of what flowed and 500 Wh may be lost on the way
    assert statistics.network_balance(rows, exchange(5_000), NOW).is_empty()
    assert statistics.network_balance(rows, exchange(6_300), NOW).is_empty()
    assert statistics.network_balance(rows, exchange(6_400), NOW).rows() == [(NOW, 6_400, 2_000, 7_000, 0, 1_400)]
    assert statistics.network_balance(rows, exchange(4_770), NOW).is_empty()
    assert statistics.network_balance(rows, exchange(4_700, 0), NOW).rows() == [(NOW, 4_700, 2_000, 7_000, 0, -300)]
    assert statistics.network_balance(rows, exchange(6_500, 1_400), NOW).is_empty()
    # a meter that is missing may have taken anything; without a register nobody knows what came
    gone = frame(meter("A", NOW, 2_000), meter("B", NOW, -7_000, missing=True))
    assert statistics.network_balance(gone, exchange(9_000), NOW).is_empty()
    assert statistics.network_balance(rows, exchange(9_000).clear(), NOW).is_empty()
    assert statistics.network_balance(frame(), exchange(9_000), NOW).is_empty()


def test_a_net_far_from_its_usual_at_that_time_is_a_jump_and_one_within_its_spread_is_not() -> None:
    rows = frame(*day("A"), *day("B"), meter("A", NOW, -2_000), meter("B", NOW, -110))
    (found,) = statistics.sudden_changes(rows, NOW).rows(named=True)
    assert (found["meter_id"], found["net_wh"], found["median_wh"]) == ("A", -2_000, -98.0)
    # what is usual at noon is no measure of midnight: only the same hours of earlier days count
    assert statistics.sudden_changes(frame(*day("A")[-20:], meter("A", NOW, -2_000)), NOW).is_empty()


def test_more_than_two_percent_of_estimates_are_too_many() -> None:
    few = [meter(f"M{number}", NOW, estimated=number == 0) for number in range(50)]
    many = [meter(f"M{number}", NOW, estimated=number < 2) for number in range(50)]
    assert statistics.estimated_share(frame(*few), NOW).is_empty()
    assert statistics.estimated_share(frame(*many), NOW).rows() == [(NOW, 50, 2)]
    assert statistics.estimated_share(frame(), NOW).is_empty()


def test_a_reason_that_refuses_more_than_one_percent_is_named() -> None:
    counts = pl.DataFrame(
        {
            "status": ["accepted", "rejected", "rejected"],
            "reason": ["", "bad_signature", "unknown_meter"],
            "records": [980, 10, 11],
        }
    )
    assert statistics.rejection_rates(counts, NOW).rows() == [(NOW, "unknown_meter", 11, 1_001)]
    assert statistics.rejection_rates(counts.clear(), NOW).is_empty()


def zones(*rows: tuple[int, int, int | None, int]) -> pl.DataFrame:
    columns = ["epoch", "zone_id", "price_uthb_per_kwh", "bought_wh"]
    return pl.DataFrame(list(rows), schema=dict.fromkeys(columns, pl.Int64), orient="row")


def history(price: int = 3_000_000, volume: int = 10_000) -> list[tuple[int, int, int | None, int]]:
    return [(NOW - 96 + near, 1, price + 10_000 * near, volume + 100 * near) for near in range(-4, 5)]


def test_a_price_far_from_its_usual_at_that_time_is_named_with_what_is_usual() -> None:
    usual, far = (NOW, 1, 3_050_000, 10_000), (NOW, 1, 3_500_000, 10_000)
    assert statistics.price_outliers(zones(*history(), usual), NOW).is_empty()
    assert statistics.price_outliers(zones(*history(), far), NOW).rows() == [
        (NOW, 1, 3_500_000, 3_000_000.0, 20_000.0, 9)
    ]
    assert statistics.price_outliers(zones(*history(), (NOW, 1, None, 0)), NOW).is_empty()
    assert statistics.price_outliers(zones(*history()[:4], far), NOW).is_empty()


def test_a_volume_far_from_its_usual_at_that_time_is_named() -> None:
    assert statistics.volume_outliers(zones(*history(), (NOW, 1, 3_000_000, 11_000)), NOW).is_empty()
    assert statistics.volume_outliers(zones(*history(), (NOW, 1, None, 0)), NOW).rows() == [
        (NOW, 0, 10_000.0, 200.0, 9)
    ]


def test_what_was_bought_dearer_than_the_supplier_sells_is_named_by_zone() -> None:
    rows = [
        (NOW - 1, 1, 9_000_000, 0, 500),  # another epoch
        (NOW, 1, 2_500_000, 80_000, 500),  # 2.58 with wheeling: as dear as the tariff
        (NOW, 2, 2_500_000, 80_001, 700),
        (NOW, 3, 4_000_000, 0, 0),  # a price at which nobody bought
        (NOW, 4, None, 0, 0),
    ]
    columns = ["epoch", "zone_id", "price_uthb_per_kwh", "zone_wheeling_uthb_per_kwh", "bought_wh"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Int64), orient="row")
    assert statistics.bought_above_tariff(frame, NOW, 2_580_000).rows() == [(NOW, 2, 2_580_001, 2_580_000, 700)]

"""Sun, clouds and temperature; batteries, vehicles and loads by the hour; SimBench's published profiles."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from gridtokenx_pipelines.simulation.fleet.demand import TemplateDemand
from gridtokenx_pipelines.simulation.fleet.devices import ONE_WAY, RESERVE, Batteries, is_dear
from gridtokenx_pipelines.simulation.fleet.engine import Simulator
from gridtokenx_pipelines.simulation.fleet.errors import ProfileError, ProfileGapError
from gridtokenx_pipelines.simulation.fleet.fleet import ORIENTATIONS, Member, assembled
from gridtokenx_pipelines.simulation.fleet.inverters import zip_factor
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from gridtokenx_pipelines.simulation.fleet.templates import LIBRARY, Template, template_named
from gridtokenx_pipelines.simulation.fleet.weather import Site, Weather, weather_table
from tests.unit.simulation.fleet.fleet_world import START

MIDNIGHT = 1_781_456_400  # 2026-06-15 00:00 in Bangkok, a Monday
CLEAR = Site(cloudiness=-9.0)


def sky(site: Site, seed: int, step_seconds: int, cells: int) -> Weather:
    return Weather(site, seed, step_seconds, cells, faces=ORIENTATIONS)


def at_hours(weather: Weather, hours: range | np.ndarray) -> np.ndarray:
    return np.stack([weather.at(int(MIDNIGHT + 3_600 * hour)).yield_kw for hour in hours])


def test_a_clear_day_has_a_night_a_noon_near_the_panels_rating_and_the_sun_on_the_right_side():
    yields = at_hours(sky(CLEAR, 1, 900, 1), range(24))[:, 0]
    south = ORIENTATIONS.index((10.0, 180.0))
    east, west = ORIENTATIONS.index((20.0, 90.0)), ORIENTATIONS.index((20.0, 270.0))
    assert yields[[0, 3, 20, 23]].max() == 0
    assert 0.65 < yields[12, south] < 0.95
    assert yields[8, east] > yields[8, west] * 1.2
    assert yields[16, west] > yields[16, east] * 1.2


def test_clouds_take_power_persist_and_are_shared_by_neighbours_but_not_by_seeds():
    seconds = MIDNIGHT + 300.0 * np.arange(288 * 20)
    cover = sky(Site(), 1, 300, 8).cover(seconds)
    assert cover.shape == (288 * 20, 8)
    assert 0.0 <= cover.min() < 0.1
    assert 0.9 < cover.max() <= 1
    near = [np.corrcoef(cover[:-lag, 0], cover[lag:, 0])[0, 1] for lag in (1, 9, 60)]
    assert near[0] > 0.9
    assert near[0] > near[1] > near[2]
    between = np.corrcoef(cover[:, 0], cover[:, 1])[0, 1]
    assert 0.6 < between < 0.99
    assert abs(np.corrcoef(cover[:, 0], sky(Site(), 2, 300, 8).cover(seconds)[:, 0])[0, 1]) < 0.3
    cloudy = at_hours(sky(Site(), 1, 900, 1), range(24)).sum()
    assert cloudy < 0.97 * at_hours(sky(CLEAR, 1, 900, 1), range(24)).sum()


def test_the_sky_of_an_instant_does_not_depend_on_when_a_run_began():
    first, later = sky(Site(), 3, 60, 2), sky(Site(), 3, 60, 2)
    first.at(MIDNIGHT)
    noon = MIDNIGHT + 12 * 3_600 + 360
    np.testing.assert_array_equal(first.at(noon).yield_kw, later.at(noon).yield_kw)


def test_heat_costs_panels_power():
    cool, hot = (sky(Site(cloudiness=-9.0, mean_celsius=mean), 1, 900, 1) for mean in (15.0, 40.0))
    noon = MIDNIGHT + 12 * 3_600
    ratio = hot.at(noon).yield_kw[0, 0] / cool.at(noon).yield_kw[0, 0]
    assert ratio == pytest.approx(1 - 0.004 * 25, abs=0.02)


def weather_file(path, rows, header="time,ghi,temp_air"):
    lines = [header] + [
        f"{datetime.fromtimestamp(MIDNIGHT + 3_600 * hour, UTC).isoformat()},{rest}" for hour, rest in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_weather_file_takes_the_place_of_the_model_and_ends_with_a_named_error(tmp_path):
    path = weather_file(tmp_path / "w.csv", [f"{900 if 10 <= hour <= 14 else 0},30" for hour in range(24)])
    scenario = Scenario(network="street", fleet="templates", weather=str(path), start=MIDNIGHT, sign=False)
    simulator = Simulator(scenario)
    assert simulator.advance(emit=False)[0].account.production_uwh >= 0
    sunny = simulator._sources.at(MIDNIGHT + 43_200)[1]
    dark = simulator._sources.at(MIDNIGHT + 3_600 * 8)[1]
    assert dark.max() == 0
    assert sunny.max() > 5_000
    with pytest.raises(ProfileGapError, match="must cover"):
        simulator._sources.at(MIDNIGHT + 24 * 3_600)


@pytest.mark.parametrize(
    ("header", "row", "error", "told"),
    [
        ("time,ghi,temp_air", "-5,30", ProfileError, "ghi was -5.0"),
        ("time,ghi,temp_air", ",30", ProfileGapError, "ghi was empty"),
        ("time,ghi", "5", ProfileError, "no column temp_air"),
        ("time,ghi,temp_air,snow", "5,30,1", ProfileError, "a column snow"),
    ],
)
def test_a_weather_file_with_gaps_or_nonsense_is_refused(tmp_path, header, row, error, told):
    with pytest.raises(error, match=told):
        weather_table(weather_file(tmp_path / "w.csv", [row] * 3, header))


def fleet_of(*templates: Template):
    return assembled(
        [Member(meter_id=f"M{place:04d}", template=each, bus=0) for place, each in enumerate(templates)], 1, 1
    )


def loads(template: Template, count: int, hours) -> np.ndarray:
    demand = TemplateDemand(fleet_of(*[template] * count), Site())
    return np.array([demand.at(int(MIDNIGHT + 3_600 * hour), 900).mean() / 1_000 for hour in hours])


def test_templates_draw_their_base_load_peak_weekend_and_season():
    large = template_named("residential_large")
    flat = Template(**{name: getattr(large, name) for name in large.__struct_fields__} | {"season": 0.0})
    night, peak, sunday = loads(flat, 400, [3.0, 20.0, 24 * 6 + 3.0])
    assert night == pytest.approx(3.0, rel=0.05)
    assert peak / night == pytest.approx(2.0, rel=0.05)
    assert sunday / night == pytest.approx(1.5, rel=0.05)
    small = template_named("residential_small")
    april, october = loads(small, 400, [-24 * 54 + 3.0, 24 * 126 + 3.0])
    assert april / october == pytest.approx(1.25 / 0.75, rel=0.08)


def test_vehicles_charge_in_the_evening_and_take_their_energy_of_the_day():
    ev = template_named("ev")
    quarter = np.arange(0, 24 * 28, 0.25)
    demand = TemplateDemand(fleet_of(*[ev] * 100), Site())
    power = np.array([demand.at(int(MIDNIGHT + 3_600 * hour), 900) for hour in quarter]) / 1_000
    by_hour = power.mean(axis=1).reshape(28, 96).mean(axis=0).reshape(24, 4).mean(axis=1)
    assert by_hour[6:16].max() == 0
    assert by_hour.argmax() in (18, 19, 20, 21, 22)
    assert power.max() <= 7.4 + 1e-9
    assert power.sum() * 0.25 / (100 * 28) == pytest.approx(9.0 * 0.7, rel=0.06)


def test_ratings_hold_whatever_templates_draw():
    fleet = fleet_of(*LIBRARY.values())
    demand = TemplateDemand(fleet, Site())
    highest = np.max([demand.at(MIDNIGHT + 900 * step, 900) for step in range(-6_000, 6_000, 7)], axis=0)
    shares = np.array([member.template.zip for member in fleet.members])
    at_limit = highest * zip_factor(np.full(len(fleet), 1.1), shares)
    assert (at_limit <= fleet.ratings_w(900)).all()


def test_a_battery_takes_surplus_gives_it_back_and_keeps_its_reserve_and_its_losses():
    batteries = Batteries(fleet_of(template_named("residential_large")))
    batteries.stored_wh[:] = RESERVE * 15_000
    given = taken = 0.0
    for surplus in [4_000.0] * 8 + [-4_000.0] * 20:
        load, panels = np.array([max(-surplus, 0)]), np.array([max(surplus, 0)])
        charge, discharge = batteries.wishes(load, panels, True, 0.25)
        assert not (charge.any() and discharge.any())
        batteries.move(charge, discharge, 0.25)
        taken, given = taken + charge[0] / 4, given + discharge[0] / 4
    assert taken == 8_000
    assert given == pytest.approx(8_000 * ONE_WAY**2)
    assert batteries.stored_wh[0] == pytest.approx(RESERVE * 15_000)


def test_a_battery_by_price_fills_when_energy_is_cheap_and_serves_the_house_when_it_is_dear():
    batteries = Batteries(fleet_of(template_named("hybrid")))
    batteries.stored_wh[:] = 5_000
    load, dark = np.array([1_500.0]), np.zeros(1)
    assert [float(each[0]) for each in batteries.wishes(load, dark, False, 0.25)] == [2_000.0, 0.0]
    assert [float(each[0]) for each in batteries.wishes(load, dark, True, 0.25)] == [0.0, 1_500.0]
    assert [is_dear(MIDNIGHT + 25_200 + 3_600 * hour) for hour in (8, 9, 21, 22)] == [False, True, True, False]
    assert not is_dear(MIDNIGHT + 25_200 + 86_400 * 5 + 43_200), "saturdays are cheap"


def test_a_simbench_fleet_draws_its_published_profile(grid_cache):
    grid = "1-LV-rural1--2-sw"
    simulator = Simulator(Scenario(network=grid, start=START, power_flow=False, sign=False), cache_dir=grid_cache)
    from gridtokenx_pipelines.simulation.neighbourhood import build_neighbourhood  # noqa: PLC0415
    from gridtokenx_pipelines.simulation.registers import Registers  # noqa: PLC0415

    neighbourhood = build_neighbourhood(grid, 1, 1, cache_dir=grid_cache)
    registers = Registers(neighbourhood, START // 900, 40)
    for _ in range(40):
        simulator.advance(emit=False)
    accounts = simulator.accounts
    baseline = simulator._registers_at_start
    moved = [now - was for now, was in zip(accounts.registers_wh(), baseline, strict=True)]
    for place, meter in enumerate(neighbourhood.meters):
        end = registers.at(place, (START // 900 + 40) * 900_000_000)
        expected = end[0] - meter.baseline_production_wh, end[1] - meter.baseline_consumption_wh
        assert abs(moved[0][place] - expected[0]) <= 1
        assert abs(moved[1][place] - expected[1]) <= 1

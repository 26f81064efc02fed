"""What can't be simulated is refused by name, with the value, the bound and the remedy."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandapower
import pytest

from gridtokenx_pipelines.grid.errors import IslandWithoutSlackError, RatingError
from gridtokenx_pipelines.simulation.fleet.engine import Simulator
from gridtokenx_pipelines.simulation.fleet.errors import (
    DuplicateMeterError,
    FleetError,
    FleetTooLargeError,
    MeterRatingError,
    NetworkFileError,
    NoSolutionError,
    ProfileError,
    ProfileGapError,
    SimulationError,
)
from gridtokenx_pipelines.simulation.fleet.networks import load_network
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from gridtokenx_pipelines.simulation.fleet.templates import LIBRARY, LINE_TYPE, parse_mix
from gridtokenx_pipelines.simulation.grids import UnknownGridError
from tests.unit.simulation.fleet.fleet_world import START


@pytest.fixture
def two_houses(tmp_path: Path):
    """A pandapower file of two houses behind a transformer, changed by the test before it is written."""

    def write(change=lambda net: None) -> str:
        net = pandapower.create_empty_network()
        top, busbar, one, two = (pandapower.create_bus(net, kv) for kv in (20.0, 0.4, 0.4, 0.4))
        pandapower.create_ext_grid(net, top)
        pandapower.create_transformer(net, top, busbar, "0.25 MVA 20/0.4 kV")
        for before, after in ((busbar, one), (one, two)):
            pandapower.create_line(net, before, after, 0.1, LINE_TYPE)
        for bus in (one, two):
            pandapower.create_load(net, bus, 0.01)
        change(net)
        path = tmp_path / "net.json"
        pandapower.to_json(net, str(path))
        return str(path)

    return write


def scenario(**options) -> Scenario:
    return Scenario(**{"network": "street", "fleet": "templates", "start": START, "sign": False} | options)


def fleet_file(tmp_path: Path, *meters: dict) -> str:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps({"meters": list(meters)}))
    return str(path)


def house(meter_id: str = "A", **about) -> dict:
    return {"meter_id": meter_id, "template": "residential_small", "bus": 2} | about


def csv(path: Path, columns: dict[str, list[str]], minutes: int = 15, start: int = START) -> str:
    moments = [datetime.fromtimestamp(start, UTC) + timedelta(minutes=minutes * row) for row in range(1_000)]
    rows = list(zip(*columns.values(), strict=True))
    lines = [",".join(["time", *columns])] + [
        ",".join([moment.isoformat(), *row]) for moment, row in zip(moments, rows, strict=False)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_pandapower_file_and_a_fleet_file_make_a_run(two_houses, tmp_path):
    fleet = fleet_file(
        tmp_path,
        house("B", bus=3, template="solar", tilt=33.5, azimuth=140, zone_id=2, rating_w=12_000),
        house("A", overrides={"base_kwh": 2.0, "pv_kw": 3}),
    )
    simulator = Simulator(scenario(network=two_houses(), fleet=fleet))
    step, _ = simulator.advance()
    assert [member.meter_id for member in simulator.fleet.members] == ["A", "B"]
    assert simulator.ratings_w.tolist()[1] == 12_000
    assert [member.template.meter_type for member in simulator.fleet.members] == ["Hybrid", "Solar"]
    assert step.not_converged == ()


def test_the_order_of_a_fleet_file_changes_no_byte(two_houses, tmp_path):
    meters = [house(f"M{number}", bus=2 + number % 2, template=name) for number, name in enumerate(LIBRARY)]
    network, sent = two_houses(), []
    for order in (meters, meters[::-1], meters[3:] + meters[:3]):
        simulator = Simulator(scenario(network=network, fleet=fleet_file(tmp_path, *order), sign=True))
        sent.append([event for _ in range(12) for event in simulator.advance()[1]])
    assert sent[0] == sent[1] == sent[2]


def test_residential_large_has_the_documents_numbers():
    large = LIBRARY["residential_large"]
    assert (large.base_kwh, large.pv_kw, large.battery_kwh, large.peak_multiplier, large.weekend_factor) == (
        3.0,
        10.0,
        15.0,
        2.0,
        1.5,
    )
    net = load_network("street").net
    assert set(net.line.std_type) == {"NAYY 4x50 SE"}


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda net: net.line.__setitem__("max_i_ka", -0.1), RatingError, "max_i_ka was -0.1"),
        (lambda net: net.line.__setitem__("max_i_ka", float("nan")), RatingError, "max_i_ka was nan"),
        (lambda net: net.trafo.__setitem__("sn_mva", 0.0), RatingError, "sn_mva was 0.0"),
        (lambda net: net.line.__setitem__("in_service", [True, False]), IslandWithoutSlackError, "without slack"),
        (lambda net: net.ext_grid.__setitem__("in_service", False), IslandWithoutSlackError, "no external grid"),
        (lambda net: pandapower.create_gen(net, 3, 900.0), NoSolutionError, "no power flow solution"),
    ],
)
def test_a_network_that_can_not_be_computed_is_refused_before_the_first_step(two_houses, change, error, told):
    with pytest.raises(error, match=told):
        Simulator(scenario(network=two_houses(change)))


def test_files_that_are_no_network_are_refused(tmp_path):
    (tmp_path / "net.json").write_text("{not json")
    (tmp_path / "list.json").write_text("[1, 2]")
    for path, told in (
        ("net.json", "could not be read|held"),
        ("list.json", "held|could not"),
        ("none.json", "not there"),
    ):
        with pytest.raises(NetworkFileError, match=told):
            load_network(str(tmp_path / path))
    with pytest.raises(UnknownGridError, match="'1-MV-rural"):
        load_network("1-MV-rural--0-sw")
    with pytest.raises(FleetError, match="has 5 feeders"):
        load_network("street", zones=6)


@pytest.mark.parametrize(
    ("meters", "error", "told"),
    [
        ([house("A"), house("A", bus=3)], DuplicateMeterError, "meter A came twice"),
        ([house(rating_w=-5)], MeterRatingError, "rating_w was -5"),
        ([house(rating_w=0)], MeterRatingError, "rating_w was 0"),
        ([house(rating_w=100)], MeterRatingError, "rating_w was 100"),
        ([house(overrides={"pv_kw": -1})], MeterRatingError, "pv_kw was -1"),
        ([house(overrides={"battery_kwh": 5})], MeterRatingError, "give the missing rating"),
        ([house(template="solar", overrides={"pv_kw": 0})], MeterRatingError, "nothing stands behind it"),
        ([house(overrides={"power_factor": 0})], MeterRatingError, "power_factor was 0"),
        ([house(overrides={"zip": [0.5, 0.5, 0.5]})], MeterRatingError, "zip was"),
        ([house(overrides={"bogus": 1})], FleetError, "bogus"),
        ([house(bus=99)], FleetError, "bus was 99"),
        ([house(template="castle")], FleetError, "template was 'castle'"),
        ([house("x" * 33)], FleetError, "Expected"),
        ([house(copy=1)], FleetError, "copy was 1"),
        ([house(zone_id=64)], FleetError, "zone_id was 64"),
        ([house(azimuth=361)], FleetError, "azimuth 361"),
        ([], FleetError, "no meter"),
    ],
)
def test_a_fleet_file_is_refused_by_the_meter_and_the_number_that_is_wrong(two_houses, tmp_path, meters, error, told):
    with pytest.raises(error, match=told):
        Simulator(scenario(network=two_houses(), fleet=fleet_file(tmp_path, *meters)))


def test_a_fleet_larger_than_its_grid_is_refused_and_spread_where_that_is_left_to_the_simulator():
    with pytest.raises(FleetTooLargeError, match="41 meters, street has 40 connection points"):
        Simulator(scenario(meters=41, copies=1))
    assert Simulator(scenario(meters=41, power_flow=False)).fleet.copies == 2


@pytest.mark.parametrize(
    ("columns", "minutes", "error", "told"),
    [
        ({"A": ["1", "", "1"], "B": ["1"] * 3}, 15, ProfileGapError, "row 3: A was empty"),
        ({"A": ["1", "nan", "1"], "B": ["1"] * 3}, 15, ProfileGapError, "row 3: A was empty"),
        ({"A": ["1", "inf", "1"], "B": ["1"] * 3}, 15, ProfileGapError, "must be finite"),
        ({"A": ["1", "x", "1"], "B": ["1"] * 3}, 15, ProfileError, "row 3: A was 'x'"),
        ({"A": ["1", "-1", "1"], "B": ["1"] * 3}, 15, ProfileError, "must be 0 or more"),
        ({"A": ["1"] * 3}, 15, ProfileError, "no column B"),
        ({"A": ["1"] * 3, "B": ["1"] * 3}, 5, ProfileGapError, "must cover"),
        ({"A": ["1"], "B": ["1"]}, 15, ProfileGapError, "1 rows"),
    ],
)
def test_profiles_with_gaps_or_nonsense_are_refused(two_houses, tmp_path, *, columns, minutes, error, told):
    fleet = fleet_file(tmp_path, house("A"), house("B", bus=3))
    profiles = csv(tmp_path / "p.csv", columns, minutes)
    with pytest.raises(error, match=told):
        Simulator(scenario(network=two_houses(), fleet=fleet, profiles=profiles), steps=3)


def test_a_missing_row_of_a_profile_is_a_gap(two_houses, tmp_path):
    path = Path(csv(tmp_path / "p.csv", {"A": ["1"] * 5}))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    fleet = fleet_file(tmp_path, house("A"))
    with pytest.raises(ProfileGapError, match="row 4: 2026-06-14T21:45:00Z follows 2026-06-14T21:15:00Z"):
        Simulator(scenario(network=two_houses(), fleet=fleet, profiles=str(path)), steps=3)


def test_profiles_of_a_file_are_what_the_registers_show(two_houses, tmp_path):
    fleet = fleet_file(tmp_path, house("A", overrides={"zip": [0, 0, 1]}), house("B", bus=3, template="solar"))
    profiles = csv(tmp_path / "p.csv", {"A": ["1.5", "2.5", "0"], "B:pv": ["0", "4", "1"]})
    simulator = Simulator(scenario(network=two_houses(), fleet=fleet, profiles=profiles), steps=3)
    moved = [simulator.advance()[0].account for _ in range(3)]
    assert [account.consumption_uwh for account in moved] == [375_000_000, 625_000_000, 0]
    assert [account.production_uwh for account in moved] == [0, 1_000_000_000, 250_000_000]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"step_seconds": 7}, "must divide 900"),
        ({"step_seconds": 0}, "step_seconds was 0"),
        ({"start": START + 1}, "must be a quarter hour"),
        ({"block": 97}, "block was 97"),
        ({"fleet": "simbench"}, "only SimBench grids have published profiles"),
        ({"partitions": 0}, "partitions was 0"),
    ],
)
def test_an_option_out_of_bounds_is_refused(options, told):
    with pytest.raises(SimulationError, match=told):
        scenario(**options).checked()


@pytest.mark.parametrize("text", ["castle=1", "solar", "solar=0", "solar=1,solar=2", "solar=x", ""])
def test_a_mix_that_makes_no_sense_is_refused(text):
    with pytest.raises(FleetError):
        parse_mix(text)

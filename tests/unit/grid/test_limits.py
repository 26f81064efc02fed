"""Transfer capacities and losses: what bounds them, how they move, and that an AC flow stands behind each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.grid.case import GridCase, MeterPlace, case_of, load, save
from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.grid.limits import _exports, _Shift, grid_limits
from gridtokenx_pipelines.grid.states import Bounds, flow, state_of, worst
from tests.unit.grid.small import case, network, pandapower_net, places, state

BUSY = {"P1": 2_000, "C1": -1_000, "P2": 500, "C2": -3_000}


@pytest.fixture(scope="module")
def small() -> GridCase:
    return case()


def test_capacities_are_the_largest_that_an_ac_flow_carries_and_name_what_binds(small: GridCase) -> None:
    found = grid_limits(small, network(), state(small, **BUSY))
    (link,) = found.links
    assert found.converged
    assert found.violations == ()
    assert "tail 2" in link.binding_forward  # zone 2's consumer sits at the end of its feeder
    assert "head 1" in link.binding_forward or "tail" in link.binding_forward
    shift = _Shift(small, state(small, **BUSY), Bounds())
    for capacity, source, target in ((link.capacity_forward_wh, 1, 2), (link.capacity_backward_wh, 2, 1)):
        at_capacity = flow(small, *shift.powers(_exports(source, target, capacity), np.ones(1)))
        beyond = flow(small, *shift.powers(_exports(source, target, capacity + 30), np.ones(1)))
        assert worst(at_capacity, Bounds())[0] >= -1e-6
        assert worst(beyond, Bounds())[0] < 0


def test_the_losses_are_those_of_the_ac_flow_rounded_up(small: GridCase) -> None:
    before = state(small, **BUSY)
    (link,) = grid_limits(small, network(), before).links
    shift = _Shift(small, before, Bounds())
    without, with_it = shift.losses_w(_exports(1, 2, 2_000), np.array([0.0, 1.0]))
    backward = shift.losses_w(_exports(2, 1, max(500, -(-link.capacity_backward_wh // 100))), np.array([0.0, 1.0]))
    shares = (
        (with_it - without) / 8_000,
        (backward[1] - backward[0]) / (4 * max(500, -(-link.capacity_backward_wh // 100))),
    )
    assert link.loss_ppm == int(np.ceil(round(max(shares) * 1e6, 6)))


@settings(max_examples=6, deadline=None)
@given(
    line=st.sampled_from(["head 1", "tail 1", "head 2", "tail 2"]),
    factor=st.floats(0.2, 0.95),
    produced=st.integers(0, 4_000),
    consumed=st.integers(0, 4_000),
)
def test_capacity_never_rises_when_a_line_is_derated(line: str, factor: float, produced: int, consumed: int) -> None:
    energy = {"P1": produced, "C1": -consumed, "P2": consumed, "C2": -produced}
    whole, derated = case(), case(derate={line: factor})
    (before,), (after,) = (grid_limits(each, network(), state(each, **energy)).links for each in (whole, derated))
    step = 100_000 // 10_000 + 1
    assert after.capacity_forward_wh <= before.capacity_forward_wh + step
    assert after.capacity_backward_wh <= before.capacity_backward_wh + step


def test_capacity_falls_with_the_rating_of_the_line_that_binds() -> None:
    capacities = []
    for factor in (1.0, 0.8, 0.6, 0.4):
        at = case(derate={"tail 2": factor})
        (link,) = grid_limits(at, network(), state(at, **BUSY)).links
        assert "tail 2" in link.binding_forward
        capacities.append(link.capacity_forward_wh)
    assert capacities == sorted(capacities, reverse=True)
    assert len(set(capacities)) == 4


def test_the_network_files_own_capacity_is_never_exceeded(small: GridCase) -> None:
    (link,) = grid_limits(small, network(capacity_wh=700), state(small, **BUSY)).links
    assert (link.capacity_forward_wh, link.capacity_backward_wh) == (700, 700)
    assert link.binding_forward == "the network file's own limit"


def test_voltage_binds_where_cables_are_long_and_thick() -> None:
    net = pandapower_net()
    net.line["max_i_ka"] = 5.0
    net.line["length_km"] = 0.6
    net.trafo["sn_mva"] = 5.0
    far = case_of(net, places(), {2: 1, 3: 1, 4: 2, 5: 2})
    (link,) = grid_limits(far, network(), state(far, **BUSY)).links
    assert "p.u." in link.binding_forward


def test_a_zone_with_two_links_carries_them_together() -> None:
    three = case(3)
    before = state(three, P1=2_000, C2=-1_500, C3=-1_500, C1=-500, P2=100, P3=100)
    found = {link.link_id: link for link in grid_limits(three, network(3), before).links}
    shift = _Shift(three, before, Bounds())
    # links 1 and 2 leave zone 1: at their capacities together they are feasible
    exports = {
        1: 4.0 * (found[1].capacity_forward_wh + found[2].capacity_forward_wh),
        2: -4.0 * found[1].capacity_forward_wh,
        3: -4.0 * found[2].capacity_forward_wh,
    }
    assert worst(flow(three, *shift.powers(exports, np.ones(1))), Bounds())[0] >= -1e-6
    assert "other links" in found[1].binding_forward


def test_the_same_state_gives_the_same_limits_whatever_was_computed_before(small: GridCase) -> None:
    first = grid_limits(small, network(), state(small, **BUSY))
    grid_limits(small, network(), state(small, P2=30_000, C1=-30_000))
    assert grid_limits(small, network(), state(small, **BUSY)) == first


def test_a_state_without_a_power_flow_is_reported_and_nothing_is_invented(small: GridCase) -> None:
    found = grid_limits(small, network(), state(small, C1=-900_000))
    assert not found.converged
    assert [(link.capacity_forward_wh, link.capacity_backward_wh) for link in found.links] == [(0, 0)]
    assert found.violations == ("the state of the epoch before has no power flow",)


def test_a_state_beyond_its_bounds_is_named_by_bus_and_line(small: GridCase) -> None:
    found = grid_limits(small, network(), state(small, C1=-50_000))
    assert found.converged
    assert any(words.startswith("line tail 1 loaded") for words in found.violations)


def test_a_zone_where_nobody_can_produce_sends_nothing() -> None:
    consumers = [
        MeterPlace(meter_id="C1", bus=3, zone_id=1, rating_w=9_000, produces=False),
        MeterPlace(meter_id="C2", bus=5, zone_id=2, rating_w=9_000, produces=False),
    ]
    only = case_of(pandapower_net(), consumers, {2: 1, 3: 1, 4: 2, 5: 2})
    (link,) = grid_limits(only, network(), state(only, C1=-100)).links
    assert (link.capacity_forward_wh, link.binding_forward) == (0, "nobody in zone 1 can produce")


def test_energy_of_a_meter_without_a_place_is_left_out_and_named(small: GridCase) -> None:
    found = state_of(small, {"P1": (10, 0), "X9": (5, 0)})
    assert found.unplaced == ("X9",)
    assert int(found.produced_wh.sum()) == 10


def test_two_meters_on_one_id_are_refused() -> None:
    with pytest.raises(NetworkError, match="meter C1 was placed twice"):
        case_of(pandapower_net(), [*places(), places()[1]], {})


def test_a_case_read_back_gives_the_same_limits_and_fingerprint(small: GridCase, tmp_path: Path) -> None:
    save(small, tmp_path / "grid.npz")
    again = load(tmp_path / "grid.npz")
    assert again.fingerprint == small.fingerprint
    assert case(derate={"head 1": 0.9}).fingerprint != small.fingerprint
    assert grid_limits(again, network(), state(again, **BUSY)) == grid_limits(small, network(), state(small, **BUSY))


def test_a_file_that_is_no_case_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "grid.npz").write_bytes(b"not a case")
    with pytest.raises(NetworkError, match=r"grid\.npz was no grid case"):
        load(tmp_path / "grid.npz")

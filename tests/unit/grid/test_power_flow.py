"""The prepared power flow against pandapower's own results, published results and named bad input."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

from gridtokenx_pipelines.grid.errors import (
    IslandWithoutSlackError,
    NotConvergedError,
    PowersError,
    RatingError,
    UnknownBusError,
    UnsupportedNetworkError,
)
from gridtokenx_pipelines.grid.power_flow import PreparedNetwork
from gridtokenx_pipelines.grid.solvers import BACKENDS

pp = pytest.importorskip("pandapower")
networks = pytest.importorskip("pandapower.networks")

REFERENCE = (
    "example_simple",
    "example_multivoltage",
    "mv_oberrhein",
    "create_cigre_network_mv",
    "create_cigre_network_lv",
    "create_kerber_landnetz_freileitung_1",
    "create_kerber_vorstadtnetz_kabel_1",
    "create_kerber_dorfnetz",
    "case9",
    "case14",
    "case30",
    "case118",
)
SLOW_BACKENDS_ON = ("example_multivoltage", "case14")
# rural2 and rural3 fall to 0.896 and 0.899 p.u. at highest load, in pandapower's own results as well
SIMBENCH_TODAY = ("1-LV-rural1--0-sw", "1-LV-semiurb4--0-sw", "1-LV-urban6--0-sw")


@cache
def simbench_net(code: str) -> Any:
    simbench = pytest.importorskip("simbench")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return simbench.get_simbench_net(code)


def feeder(**line: Any) -> Any:
    """Slack at 20 kV, a transformer, a line of 0.2 km with one bus at its end."""
    net = pp.create_empty_network()
    hv, lv, end = (pp.create_bus(net, vn_kv=kv) for kv in (20.0, 0.4, 0.4))
    pp.create_ext_grid(net, hv)
    pp.create_transformer(net, hv, lv, "0.25 MVA 20/0.4 kV")
    pp.create_line(net, lv, end, 0.2, "NAYY 4x50 SE")
    for column, value in line.items():
        net.line.loc[0, column] = value
    return net


@pytest.mark.parametrize(
    ("name", "backend"),
    [(name, BACKENDS[0]) for name in REFERENCE]
    + [(name, backend) for name in SLOW_BACKENDS_ON for backend in BACKENDS[1:]],
)
def test_results_equal_pandapowers_own_on_its_reference_networks(name: str, backend: str) -> None:
    net = getattr(networks, name)()
    pp.runpp(net, tolerance_mva=1e-9, voltage_depend_loads=False)
    found = PreparedNetwork(net, [], own_injections=True, backend=backend).solve([], [])
    assert found.converged.all()
    np.testing.assert_allclose(found.vm_pu[0], net.res_bus.vm_pu, atol=1e-7)
    np.testing.assert_allclose(found.va_degree[0], net.res_bus.va_degree, atol=1e-5)
    np.testing.assert_allclose(found.line_loading_percent[0], net.res_line.loading_percent.fillna(0), atol=1e-4)
    np.testing.assert_allclose(found.line_mw[0], net.res_line.p_from_mw.fillna(0), atol=1e-5)
    trafos = [*net.res_trafo.loading_percent, *net.res_trafo3w.loading_percent]
    np.testing.assert_allclose(found.trafo_loading_percent[0], trafos, atol=1e-4)
    losses = sum(net[f"res_{table}"].pl_mw.sum() for table in ("line", "trafo", "trafo3w", "impedance"))
    np.testing.assert_allclose(found.loss_mw[0], losses, atol=1e-5)
    np.testing.assert_allclose(found.slack_mw[0], net.res_ext_grid.p_mw.sum(), atol=1e-5)
    np.testing.assert_allclose(found.slack_mvar[0], net.res_ext_grid.q_mvar.sum(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "slack_mw", "slack_mvar", "loss_mw", "lowest_pu"),
    [("case9", 71.95, 24.07, 4.955, 0.958), ("case14", 232.39, -16.55, 13.393, 1.010)],
)
def test_ieee_cases_give_the_results_that_matpower_publishes(
    name: str, slack_mw: float, slack_mvar: float, loss_mw: float, lowest_pu: float
) -> None:
    found = PreparedNetwork(getattr(networks, name)(), [], own_injections=True).solve([], [])
    assert [round(float(found.slack_mw[0]), 2), round(float(found.slack_mvar[0]), 2)] == [slack_mw, slack_mvar]
    assert round(float(found.loss_mw[0]), 3) == loss_mw
    assert round(float(np.nanmin(found.vm_pu[0])), 3) == lowest_pu


@pytest.mark.parametrize("code", SIMBENCH_TODAY)
def test_simbench_grids_of_today_hold_their_published_limits_in_all_published_study_cases(code: str) -> None:
    net = simbench_net(code)
    loads, units = net.load, net.sgen
    prepared_buses = [*loads.bus, *units.bus]
    for case, factor in net.loadcases.iterrows():
        net.ext_grid["vm_pu"] = factor["Slack_vm"]
        pv = np.where(units.type.str.contains("PV", case=False), factor["PV_p"], factor["RES_p"])
        p = [*loads.p_mw * factor["pload"], *-units.p_mw * pv]
        q = [*loads.q_mvar * factor["qload"], *np.zeros(len(units))]
        found = PreparedNetwork(net, prepared_buses).solve(p, q)
        lowest, highest = net.bus.min_vm_pu.to_numpy(), net.bus.max_vm_pu.to_numpy()
        assert (found.vm_pu[0] >= lowest - 1e-6).all(), case
        assert (found.vm_pu[0] <= highest + 1e-6).all(), case
        assert found.line_loading_percent.max() <= 100, case
        assert found.trafo_loading_percent.max() <= 100, case


def test_a_series_equals_pandapower_step_by_step() -> None:
    net = simbench_net("1-LV-rural1--0-sw")
    draw = np.random.default_rng(5)
    shape = (6, len(net.load))
    p, q = net.load.p_mw.to_numpy() * draw.uniform(0, 1, shape), net.load.q_mvar.to_numpy() * draw.uniform(0, 1, shape)
    found = PreparedNetwork(net, net.load.bus.tolist()).solve(p, q)
    alone = copy.deepcopy(net)
    alone.sgen["in_service"] = False
    for step in range(len(p)):
        alone.load["p_mw"], alone.load["q_mvar"] = p[step], q[step]
        pp.runpp(alone, tolerance_mva=1e-9, voltage_depend_loads=False)
        np.testing.assert_allclose(found.vm_pu[step], alone.res_bus.vm_pu, atol=1e-9)
        np.testing.assert_allclose(found.line_loading_percent[step], alone.res_line.loading_percent, atol=1e-5)
        np.testing.assert_allclose(found.slack_mw[step], alone.res_ext_grid.p_mw.sum(), atol=1e-9)


def test_slack_equals_meters_plus_losses_also_for_meters_at_the_slack_bus() -> None:
    net = feeder()
    p = np.array([[0.05, 0.001], [-0.03, 0.002]])
    found = PreparedNetwork(net, [2, 0]).solve(p, p * 0)
    np.testing.assert_allclose(found.slack_mw, p.sum(axis=1) + found.loss_mw, atol=1e-9)
    np.testing.assert_allclose(found.loss_mw, found.line_loss_mw.sum(axis=1) + found.trafo_loss_mw.sum(axis=1))


def test_a_result_does_not_depend_on_what_was_solved_before() -> None:
    prepared = PreparedNetwork(feeder(), [2])
    alone = prepared.solve([0.02], [0.0])
    after = prepared.solve([[0.06], [0.02]], [[0.0], [0.0]])
    assert (alone.vm_pu[0] == after.vm_pu[1]).all()


def test_taps_move_the_voltage_and_may_differ_by_step() -> None:
    net = feeder()
    prepared = PreparedNetwork(net, [2])
    found = prepared.solve([[0.02]] * 3, [[0.0]] * 3, taps=[[0], [-2], [2]])
    for step, tap in enumerate((0, -2, 2)):
        net.trafo["tap_pos"] = tap
        again = PreparedNetwork(net, [2]).solve([0.02], [0.0])
        assert (found.vm_pu[step] == again.vm_pu[0]).all()
    assert found.vm_pu[1, 2] > found.vm_pu[0, 2] > found.vm_pu[2, 2]


def test_a_step_without_a_solution_is_named_and_never_invented() -> None:
    prepared = PreparedNetwork(feeder(), [2])
    with pytest.raises(NotConvergedError, match=r"did not converge in 1 of 2 steps \(1\)"):
        prepared.solve([[0.02], [5.0]], [[0.0], [0.0]])
    found = prepared.solve([[0.02], [5.0]], [[0.0], [0.0]], strict=False)
    assert found.converged.tolist() == [True, False]
    assert np.isnan(found.vm_pu[1]).all()
    assert np.isnan(found.slack_mw[1])
    assert found.vm_pu[0, 2] == prepared.solve([0.02], [0.0]).vm_pu[0, 2]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("max_i_ka", float("nan"), "line 0: max_i_ka was nan, must be above 0"),
        ("max_i_ka", -0.1, "line 0: max_i_ka was -0.1, must be above 0"),
        ("df", 0.0, "line 0: df was 0.0"),
        ("length_km", -1.0, "line 0: length_km was -1.0"),
        ("r_ohm_per_km", -0.6, "line 0: impedance was -0.6"),
    ],
)
def test_a_missing_or_negative_rating_is_refused_by_name(column: str, value: float, words: str) -> None:
    with pytest.raises(RatingError, match=words):
        PreparedNetwork(feeder(**{column: value}), [2])


def test_a_transformer_without_rating_is_refused_by_name() -> None:
    net = feeder()
    net.trafo["sn_mva"] = float("nan")
    with pytest.raises(RatingError, match=r"trafo 0: sn_mva was nan"):
        PreparedNetwork(net, [2])


def test_a_line_out_of_service_needs_no_rating_and_carries_nothing() -> None:
    net = feeder()
    pp.create_line(net, 1, 2, 0.2, "NAYY 4x50 SE", in_service=False)
    net.line.loc[1, "max_i_ka"] = float("nan")
    assert PreparedNetwork(net, [2]).solve([0.02], [0.0]).line_loading_percent[0, 1] == 0


def test_meters_in_an_island_without_slack_are_refused_by_bus() -> None:
    net = feeder()
    net.line.loc[0, "in_service"] = False
    with pytest.raises(IslandWithoutSlackError, match=r"1 buses with loads or meters \(2\)"):
        PreparedNetwork(net, [2])
    assert np.isnan(PreparedNetwork(net, [1]).solve([0.0], [0.0]).vm_pu[0, 2])


def test_a_network_without_any_slack_is_refused() -> None:
    net = feeder()
    net.ext_grid["in_service"] = False
    with pytest.raises(IslandWithoutSlackError):
        PreparedNetwork(net, [2])


def test_a_meter_on_a_bus_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownBusError, match="meter bus was 7"):
        PreparedNetwork(feeder(), [7])


def test_powers_of_the_wrong_shape_or_with_gaps_are_refused() -> None:
    prepared = PreparedNetwork(feeder(), [2])
    with pytest.raises(PowersError, match=r"p_mw had shape \(2,\)"):
        prepared.solve([0.1, 0.2], [0.0, 0.0])
    with pytest.raises(PowersError, match="p_mw of meter 0 in step 1 was nan"):
        prepared.solve([[0.1], [float("nan")]], [[0.0], [0.0]])
    with pytest.raises(PowersError, match=r"taps had shape \(2,\)"):
        prepared.solve([0.1], [0.0], taps=[0, 0])


def test_unknown_backends_and_unmodelled_elements_are_refused() -> None:
    with pytest.raises(UnsupportedNetworkError, match="backend was 'fast'"):
        PreparedNetwork(feeder(), [2], backend="fast")
    net = feeder()
    pp.create_dcline(net, 1, 2, p_mw=0.01, loss_percent=1, loss_mw=0, vm_from_pu=1, vm_to_pu=1)
    with pytest.raises(UnsupportedNetworkError, match="1 dcline"):
        PreparedNetwork(net, [2])

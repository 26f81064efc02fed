"""Energy adds up to the last unit; voltages come from the power flow; inverters, taps and loads answer them."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pandapower
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gridtokenx_pipelines.simulation.fleet.accounts import UWH_PER_WH, Accounts, BalanceError
from gridtokenx_pipelines.simulation.fleet.fleet import Member, assembled
from gridtokenx_pipelines.simulation.fleet.inverters import CURVES, generation, zip_factor
from gridtokenx_pipelines.simulation.fleet.networks import ConnectedNetwork, load_network
from gridtokenx_pipelines.simulation.fleet.physics import Physics, StepPowers
from gridtokenx_pipelines.simulation.fleet.streams import keys_of
from gridtokenx_pipelines.simulation.fleet.templates import Template
from tests.unit.simulation.fleet.fleet_world import played, readings

POWER = st.floats(0, 30_000, allow_nan=False)


def powers_of(load, produced, losses: float, converged: bool) -> StepPowers:
    known = np.array([converged])
    nothing = np.zeros((1, 0))
    return StepPowers(
        load_w=load,
        produced_w=produced,
        curtailed_w=produced / 10,
        reactive_var=load * 0,
        voltage_pu=np.ones(len(load)),
        losses_w=np.array([losses]),
        upstream_w=np.array([load.sum() - produced.sum() + losses]),
        converged=known,
        settled=known,
        line_loading=nothing,
        trafo_loading=nothing,
        taps=np.zeros((1, 0), np.int64),
        flows=1,
    )


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 12), st.sampled_from([1, 5, 7, 60, 900]))
def test_meters_and_losses_equal_the_transformer_in_every_step_and_no_remainder_is_lost(data, meters, seconds):
    accounts = Accounts(keys_of(1, map(str, range(meters))), np.zeros(meters, np.int64), np.ones(meters, np.bool_))
    start = [register.copy() for register in (accounts.production_uwh, accounts.consumption_uwh)]
    shown = [register.copy() for register in accounts.registers_wh()]
    exact, carried = np.zeros((2, meters)), 0
    for _ in range(data.draw(st.integers(1, 8))):
        load, produced = (data.draw(arrays(np.float64, meters, elements=POWER)) for _ in range(2))
        converged = data.draw(st.booleans())
        account = accounts.book(powers_of(load, produced, data.draw(st.floats(0, 500)), converged), seconds)
        assert account.upstream_uwh == account.consumption_uwh - account.production_uwh + account.losses_uwh
        assert (
            account.upstream_wh
            == account.consumption_wh - account.production_wh + account.losses_wh + account.carried_wh
        )
        carried += account.carried_wh
        if converged:
            exact += np.stack([produced, load]) * (seconds / 3_600)
        else:
            assert (account.upstream_uwh, account.consumption_uwh, account.production_uwh) == (0, 0, 0)
    now = accounts.registers_wh()
    for register, was, at_start, before, energy in zip(
        (accounts.production_uwh, accounts.consumption_uwh), start, shown, now, exact, strict=True
    ):
        assert (np.abs((register - was) / UWH_PER_WH - energy) < 1e-5).all()
        assert ((before - at_start) - energy < 1.00001).all()
        assert (energy - (before - at_start) < 1.00001).all()
    assert abs(carried) <= 2 * meters + 2, "what registers hold back never grows"


def test_a_balance_that_the_power_flow_does_not_know_is_an_error():
    accounts = Accounts(keys_of(1, ["a"]), np.zeros(1, np.int64), np.ones(1, np.bool_))
    wrong = powers_of(np.array([1_000.0]), np.array([0.0]), 50.0, True)
    wrong.upstream_w[0] += 10
    with pytest.raises(BalanceError, match="don't add up"):
        accounts.book(wrong, 900)


def test_a_day_of_a_street_balances_and_its_registers_moved_by_what_was_booked(street):
    simulator = street(copies=2)
    before = [register.copy() for register in simulator.accounts.registers_wh()]
    told, _ = played(simulator, 96)
    sums = {name: sum(getattr(step.account, name) for step in told) for name in told[0].account.__struct_fields__}
    assert sums["upstream_uwh"] == sums["consumption_uwh"] - sums["production_uwh"] + sums["losses_uwh"]
    moved = [int((now - was).sum()) for now, was in zip(simulator.accounts.registers_wh(), before, strict=True)]
    assert moved == [sums["production_wh"], sums["consumption_wh"]]
    assert sums["losses_uwh"] > 0
    assert sums["production_uwh"] > 0
    np.testing.assert_array_equal(simulator.meters.consumption_uwh, simulator.accounts.consumption_uwh)


def test_voltages_currents_and_losses_are_those_of_pandapower_for_the_same_powers(street):
    simulator = street(taps="fixed")
    for _ in range(32):
        simulator.advance()
    powers, measured = simulator.powers, simulator.measured
    net = deepcopy(load_network("street").net)
    net.load = net.load.iloc[:0]
    for member, load, produced, reactive in zip(
        simulator.fleet.members, powers.load_w, powers.produced_w, powers.reactive_var, strict=True
    ):
        pandapower.create_load(net, member.bus, (load - produced) / 1e6, reactive / 1e6)
    pandapower.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-10)
    theirs = np.array([net.res_bus.vm_pu.at[member.bus] for member in simulator.fleet.members])
    np.testing.assert_allclose(powers.voltage_pu, theirs, atol=1e-9)
    np.testing.assert_allclose(measured.voltage_v, theirs * 400 / np.sqrt(3), atol=0.006)
    np.testing.assert_allclose(powers.upstream_w, -net.res_ext_grid.p_mw * -1e6, atol=0.01)
    np.testing.assert_allclose(powers.losses_w, (net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum()) * 1e6, atol=0.01)
    apparent = np.hypot(powers.load_w - powers.produced_w, powers.reactive_var)
    np.testing.assert_allclose(measured.current_a * 3 * measured.voltage_v, apparent, rtol=2e-3, atol=0.4)


def feeder(km: float, *, upstream: float = 1.0, trafo: bool = True) -> ConnectedNetwork:
    net = pandapower.create_empty_network()
    if trafo:
        top, busbar = pandapower.create_bus(net, 20.0), pandapower.create_bus(net, 0.4)
        pandapower.create_transformer(net, top, busbar, "0.25 MVA 20/0.4 kV")
    else:
        top = busbar = pandapower.create_bus(net, 0.4)
    pandapower.create_ext_grid(net, top, vm_pu=upstream)
    end = pandapower.create_bus(net, 0.4)
    pandapower.create_line(net, busbar, end, km, "NAYY 4x50 SE")
    return ConnectedNetwork(name="feeder", net=net, points=(end,), zone_of_bus=dict.fromkeys(net.bus.index, 1))


def one(network: ConnectedNetwork, template: Template):
    return assembled([Member(meter_id="m", template=template, bus=network.points[0])], 1, 1)


@pytest.mark.parametrize("curve", CURVES)
def test_feed_in_that_would_lift_the_voltage_past_the_limit_is_curtailed_and_the_flow_converges(curve):
    network = feeder(1.0, upstream=1.05)
    physics = Physics(
        network, one(network, Template(name="t", pv_kw=60.0, inverter_kva=60.0)), curve=curve, regulate=False
    )
    powers = physics.step(np.zeros(1), np.zeros(1), np.array([60_000.0]))
    assert powers.converged.all()
    assert powers.settled.all()
    assert 1.05 < powers.voltage_pu[0] < 1.106
    assert powers.curtailed_w[0] > 1_000
    feed, _ = generation(powers.voltage_pu, np.array([60_000.0]), np.array([60_000.0]), curve)
    # powers reported are those of the curve at the voltage found, up to the 2e-4 p.u. at which rounds stop
    assert powers.produced_w[0] == pytest.approx(feed[0], abs=60_000 * 2e-4 * 210)
    assert (powers.reactive_var[0] > 0) == (curve != "off")


def test_curves_go_through_the_points_of_the_standards():
    volts = np.array([0.90, 0.92, 0.98, 1.0, 1.02, 1.06, 1.08, 1.10, 1.11])
    full = np.full(len(volts), 1.0)
    power, reactive = generation(volts, full, full * 1.2, "ieee1547")
    assert reactive.round(4).tolist() == [0.528, 0.528, 0, 0, 0, -0.352, -0.528, -0.528, -0.528]
    assert power.round(4).tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, round(1.2 * 0.6, 4), 0.24, 0.0]
    power, reactive = generation(volts, full, full, "vde4105")
    assert reactive.round(4).tolist() == [0.436, 0.436, 0, 0, 0, -0.327, -0.436, -0.436, -0.436]
    assert power[6] == pytest.approx(np.sqrt(1 - 0.436**2))  # reactive power has priority at the nameplate
    assert power[8] == 0
    assert generation(volts, full * 0, full, "ieee1547")[1].tolist() == [0.0] * len(volts)


def test_loads_follow_the_voltage_by_their_shares():
    shares = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.4, 0.3, 0.3]])
    assert zip_factor(np.full(4, 0.9), shares).round(6).tolist() == [0.81, 0.9, 1.0, 0.894]


def test_a_transformer_steps_its_tap_until_the_busbar_is_in_its_band_and_stays_within_its_range():
    network = feeder(0.05, upstream=1.06)
    fleet = one(network, Template(name="t", base_kwh=1.0))
    physics = Physics(network, fleet, curve="off", regulate=True)
    voltages, taps = [], []
    for _ in range(12):
        powers = physics.step(np.array([1_000.0]), np.zeros(1), np.zeros(1))
        voltages.append(float(powers.voltage_pu[0]))
        taps.append(int(powers.taps[0, 0]))
    assert voltages[0] > 1.05
    assert 0.98 <= voltages[-1] <= 1.02
    assert taps[0] == 0
    assert taps[-1] in (1, 2)
    assert taps == sorted(taps), "the tap moves one way and stays"
    extreme = feeder(0.05, upstream=1.2)
    stuck = Physics(extreme, fleet, curve="off", regulate=True)
    for _ in range(12):
        powers = stuck.step(np.array([1_000.0]), np.zeros(1), np.zeros(1))
    assert powers.taps[0, 0] == extreme.net.trafo.tap_max.iloc[0]


def test_a_step_without_a_solution_is_reported_flagged_and_books_nothing(street):
    simulator = street(copies=2)
    simulator.advance()
    before = [register.copy() for register in simulator.accounts.registers_wh()]
    far = simulator._sources.at

    def impossible(start: int):
        load, panels = far(start)
        return np.where(simulator._copy == 1, 5e6, load), panels

    simulator._sources.at = impossible  # 5 MW in every house of the second street
    step, events = simulator.advance()
    assert step.not_converged == (1,)
    lost = [member.meter_id for member in simulator.fleet.members if member.copy == 1]
    kept = [member.meter_id for member in simulator.fleet.members if member.copy == 0]
    for meter_id in lost:
        (reading,) = readings(events, meter_id)
        assert (reading["quality"], reading["voltage_v"], reading["current_a"]) == ("not_converged", 0.0, 0.0)
    assert all("quality" not in readings(events, meter_id)[0] for meter_id in kept)
    now = simulator.accounts.registers_wh()
    place = np.array([member.copy == 1 for member in simulator.fleet.members])
    for was, is_now in zip(before, now, strict=True):
        np.testing.assert_array_equal(was[place], is_now[place])
    assert (now[1][~place] - before[1][~place]).sum() > 0
    simulator._sources.at = far
    step, events = simulator.advance()
    assert step.not_converged == ()
    assert readings(events, lost[0])[0]["voltage_v"] > 200

"""An island to the Wh: dispatch conserves energy, priority loads first, and its power flow is pandapower's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.grid.case import TAN_PHI, GridCase, MeterPlace, case_of
from gridtokenx_pipelines.grid.errors import IslandWithoutSlackError
from gridtokenx_pipelines.grid.island import EFFICIENCY_PPM, dispatch, island_case, spread
from gridtokenx_pipelines.grid.states import State, flow_of, state_of
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import MarketAccounts
from gridtokenx_pipelines.settlement_service.outage import Rehearsal, rehearse, words_of
from gridtokenx_pipelines.simulation.keys import DemoKeys, address
from tests.unit.grid.small import case, network, pandapower_net

pp = pytest.importorskip("pandapower")

EPOCH = 1_969_364
STORAGE_WH, STORAGE_W = 10_000, 8_000


def wallet(meter: str) -> str:
    return address(DemoKeys(1).wallet(meter))


def places() -> list[MeterPlace]:
    """PV, a home and a charger (second class) in zone 1; a home and a storage in zone 2."""
    common = {"rating_w": 30_000, "produces": False}
    return [
        MeterPlace(meter_id="P1", bus=2, zone_id=1, rating_w=30_000, produces=True),
        MeterPlace(meter_id="H1", bus=3, zone_id=1, **common),
        MeterPlace(meter_id="X1", bus=3, zone_id=1, priority=2, **common),
        MeterPlace(meter_id="H2", bus=5, zone_id=2, **common),
        MeterPlace(
            meter_id="S2", bus=4, zone_id=2, rating_w=9_000, produces=True, storage_wh=STORAGE_WH, storage_w=STORAGE_W
        ),
    ]


@pytest.fixture(scope="module")
def whole() -> GridCase:
    return case_of(pandapower_net(), places(), {2: 1, 3: 1, 4: 2, 5: 2})


@pytest.fixture(scope="module")
def island(whole: GridCase) -> GridCase:
    return island_case(whole)[0]


def wish(at: GridCase, **net_wh: int) -> State:
    return state_of(at, {meter: (max(wh, 0), max(-wh, 0)) for meter, wh in net_wh.items()})


def stored(at: GridCase, wh: int) -> Any:
    return np.where(at.meter_storage_wh > 0, wh, 0)


def test_the_islands_power_flow_is_pandapowers_with_the_transformer_open(whole: GridCase, island: GridCase) -> None:
    net = copy.deepcopy(pandapower_net())
    net.trafo["in_service"] = False
    net.ext_grid["in_service"] = False
    pp.create_ext_grid(net, 4, vm_pu=1.0)
    for bus, kw in ((3, 12.0), (5, 8.0), (2, -10.0)):
        pp.create_load(net, bus, p_mw=kw / 1_000, q_mvar=max(kw, 0) / 1_000 * TAN_PHI)
    pp.runpp(net, tolerance_mva=1e-9)
    found = flow_of(island, wish(island, H1=-3_000, H2=-2_000, P1=2_500))
    assert island_case(whole)[1] == "S2"
    np.testing.assert_allclose(found.vm_pu[0][1:], net.res_bus.vm_pu[1:], atol=1e-8)
    assert np.isnan(found.vm_pu[0][0])
    np.testing.assert_allclose(found.line_loading_percent[0], net.res_line.loading_percent, atol=1e-5)
    np.testing.assert_allclose(found.slack_mw[0], net.res_ext_grid.p_mw[1], atol=1e-9)
    assert found.trafo_loading_percent.tolist() == [[0.0]]


def test_a_network_without_storage_can_form_no_island() -> None:
    with pytest.raises(IslandWithoutSlackError, match="must have one to form an island"):
        island_case(case())


@given(st.integers(0, 500), st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_spreading_gives_all_of_it_and_nobody_more_than_its_weight(total: int, weights: list[int]) -> None:
    found = spread(min(total, sum(weights)), np.array(weights, np.int64))
    assert int(found.sum()) == min(total, sum(weights))
    assert (found <= np.array(weights)).all()


@settings(max_examples=40, deadline=None)
@given(
    made=st.integers(0, 7_000),
    first=st.integers(0, 5_000),
    second=st.integers(0, 5_000),
    other=st.integers(0, 5_000),
    level=st.integers(0, STORAGE_WH),
)
def test_every_wh_of_an_island_is_accounted_for(
    *, island: GridCase, made: int, first: int, second: int, other: int, level: int
) -> None:
    at = island
    wished = wish(at, P1=made, H1=-first, X1=-second, H2=-other)
    done, flow = dispatch(at, wished, stored(at, level))
    assert flow.converged[0]
    # registers: what all produced = what all drew + the losses of the AC flow
    assert int(done.produced_wh.sum()) + done.unserved_loss_wh == int(done.consumed_wh.sum()) + done.loss_wh
    assert abs(done.loss_wh - float(flow.loss_mw[0]) * 10**6 / 4) <= 2
    # wished = served + shed; produced = used + curtailed
    assert (done.served_wh + done.shed_wh == wished.consumed_wh).all()
    assert (done.produced_wh - done.discharged_wh + done.curtailed_wh == wished.produced_wh).all()
    assert (done.curtailed_wh >= 0).all()
    # priority loads first: the second class gets something only if the first is whole
    columns = at.columns()
    if done.served_wh[columns["X1"]]:
        assert done.shed_wh[columns["H1"]] == done.shed_wh[columns["H2"]] == 0
    # nothing is shed while the storage could give, nothing curtailed while it could take
    storage = columns["S2"]
    assert done.charged_wh[storage] == 0 or done.discharged_wh[storage] == 0
    assert 0 <= done.stored_wh[storage] <= STORAGE_WH
    assert max(done.charged_wh[storage], done.discharged_wh[storage]) <= STORAGE_W // 4
    change = done.charged_wh[storage] * EFFICIENCY_PPM - done.discharged_wh[storage] * 10**12 // EFFICIENCY_PPM
    assert abs(int(done.stored_wh[storage]) - level - int(change) // 10**6) <= 1


def rows(epoch: int, energy: dict[str, tuple[int, int]]) -> pl.DataFrame:
    zones = {place.meter_id: place.zone_id for place in places()}
    return pl.DataFrame(
        [
            {
                "meter_id": meter,
                "wallet": wallet(meter),
                "zone_id": zones[meter],
                "epoch": epoch,
                "revision": 0,
                "production_wh": made,
                "consumption_wh": used,
                "net_wh": made - used,
                "readings": 15,
                "estimated": False,
                "missing": False,
                "late": False,
                "booked_epoch": epoch,
            }
            for meter, (made, used) in sorted(energy.items())
        ]
    )


def rehearsal(whole: GridCase) -> Rehearsal:
    wallets = [wallet(place.meter_id) for place in places()]
    mandates = pl.DataFrame(
        {
            "wallet": wallets,
            "effective_epoch": [1] * 5,
            "end_epoch": [2**32 - 1] * 5,
            "sell_min_uthb_per_kwh": [2_500_000] * 5,
            "buy_max_uthb_per_kwh": [3_900_000] * 5,
            "max_wh": [100_000] * 5,
            "buy_back": [True] * 5,
            "set_at_us": list(range(5)),
        }
    )
    balances = pl.DataFrame({"owner": wallets, "grid_wh": [0] * 5, "thbc_uthb": [50_000_000] * 5, "debt_uthb": [0] * 5})
    noon = {"P1": (4_000, 0), "H1": (0, 700), "X1": (0, 600), "H2": (0, 900), "S2": (0, 0)}
    night = {"P1": (0, 0), "H1": (0, 900), "X1": (0, 900), "H2": (0, 900), "S2": (0, 0)}
    energy = [noon, noon, night, night, night, night, noon]
    return Rehearsal(
        case=whole,
        network=network(),
        rules=Rules(),
        mechanism="zonal",
        net_energy={EPOCH + place: rows(EPOCH + place, each) for place, each in enumerate(energy)},
        mandates=dict.fromkeys(range(EPOCH, EPOCH + 8), mandates),
        balances=balances,
        accounts=MarketAccounts(supplier_thbc_uthb=100_000_000, grid_operator_thbc_uthb=100_000_000),
    )


def test_an_outage_serves_first_the_first_keeps_the_laws_and_settles_on_return(whole: GridCase) -> None:
    found = rehearse(rehearsal(whole), range(EPOCH + 1, EPOCH + 6))
    assert [each.islanded for each in found] == [True] * 5 + [False]
    assert [each.laws_open for each in found] == [()] * 6
    sunny, *dark, back = found
    assert sunny.shed_wh == 0
    assert sunny.charged_wh > 0
    assert sunny.bought_back_wh == 0  # nobody upstream takes it
    assert dark[0].discharged_wh > 0
    assert sum(each.shed_wh for each in dark) > 0
    for each in dark:
        assert each.served_first_wh in {each.wished_first_wh, each.served_wh}
    assert back.shed_wh == 0
    assert back.bought_back_wh > 0
    assert "every law closes to 0 in every epoch, also in the epoch after the return" in words_of(found)


def test_a_rehearsal_gives_the_same_again(whole: GridCase) -> None:
    epochs = range(EPOCH + 1, EPOCH + 4)
    assert rehearse(rehearsal(whole), epochs) == rehearse(rehearsal(whole), epochs)

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from gridtokenx_pipelines.market.base58 import decode_wallet
from gridtokenx_pipelines.simulation.grids import DEFAULT_GRID
from gridtokenx_pipelines.simulation.keys import DemoKeys, address
from gridtokenx_pipelines.simulation.neighbourhood import (
    CONSUMER,
    POOR_DEPOSIT_UTHB,
    PROSUMER,
    Neighbourhood,
    is_base_load,
)
from gridtokenx_pipelines.units import PRICE_TICK_UTHB_PER_KWH, UTHB_PER_THB


def test_base_loads_are_told_from_chargers_and_heat_pumps():
    profiles = ["H0-A", "G6-A", "L2-A", "HLS_A_11.0", "APLS_B_11.0", "Air_Parallel_2", "Soil_Alternative_2"]
    assert [is_base_load(profile) for profile in profiles] == [True] * 3 + [False] * 4


def test_the_default_grid_has_these_people(neighbourhood_of: Callable[..., Neighbourhood]):
    neighbourhood = neighbourhood_of(DEFAULT_GRID)
    assert len(neighbourhood.households) == 111
    assert Counter(home.user_type for home in neighbourhood.households) == {CONSUMER: 92, PROSUMER: 19}
    assert Counter(meter.meter_type for meter in neighbourhood.meters) == {"Grid": 123, "Hybrid": 12, "Solar": 7}
    assert [meter.meter_id for meter in neighbourhood.meters] == [f"MEA-{number:03d}" for number in range(1, 143)]
    assert {home.zone_id for home in neighbourhood.households} == {1, 2}


@pytest.mark.parametrize("code", ["1-LV-rural1--2-sw", "1-LV-semiurb5--0-sw"])
def test_every_profile_of_a_grid_is_behind_exactly_one_meter(neighbourhood_of: Callable[..., Neighbourhood], code: str):
    neighbourhood = neighbourhood_of(code)
    grid, meters = neighbourhood.grid, neighbourhood.meters
    assert sorted(i for m in meters for i in m.load_columns) == list(range(len(grid.load_bus)))
    assert sorted(i for m in meters for i in m.pv_columns) == list(range(len(grid.pv_bus)))
    assert sorted(i for m in meters for i in m.storage_columns) == list(range(len(grid.storage_bus)))
    for home in neighbourhood.households:
        assert {(meter.wallet, meter.zone_id) for meter in home.meters} == {(home.wallet, home.zone_id)}
        produces = any(meter.meter_type != "Grid" for meter in home.meters)
        assert home.user_type == (PROSUMER if produces else CONSUMER)


def test_a_wallet_with_a_heat_pump_or_a_battery_has_several_meters(neighbourhood_of: Callable[..., Neighbourhood]):
    neighbourhood = neighbourhood_of()
    several = [home for home in neighbourhood.households if len(home.meters) > 1]
    assert len(several) > 1
    assert {meter.meter_type for home in several for meter in home.meters[1:]} == {"Grid", "Solar"}


def test_no_power_of_the_year_is_above_a_meters_rating(neighbourhood_of: Callable[..., Neighbourhood]):
    neighbourhood = neighbourhood_of()
    grid = neighbourhood.grid
    for meter in neighbourhood.meters:
        consumed = grid.load_milliwatt[:, list(meter.load_columns)].sum(axis=1)
        produced = grid.pv_milliwatt[:, list(meter.pv_columns)].sum(axis=1)
        produced = produced + grid.storage_milliwatt[:, list(meter.storage_columns)].sum(axis=1)
        assert max(int(consumed.max()), int(produced.max())) < meter.rating_w * 1_000


def test_mandates_lie_on_the_tick_between_feed_in_and_retail(neighbourhood_of: Callable[..., Neighbourhood]):
    homes = neighbourhood_of(DEFAULT_GRID).households
    mandates = [(home, home.mandate) for home in homes if home.mandate is not None]
    assert 90 < len(mandates) < len(homes)
    for home, mandate in mandates:
        assert 2_600_000 <= mandate.buy_max_uthb_per_kwh <= 4_100_000
        assert mandate.buy_max_uthb_per_kwh % PRICE_TICK_UTHB_PER_KWH == 0
        assert mandate.max_wh >= 500
        if home.user_type == PROSUMER:
            assert 2_200_000 <= mandate.sell_min_uthb_per_kwh <= 3_400_000
            assert mandate.sell_min_uthb_per_kwh % PRICE_TICK_UTHB_PER_KWH == 0
        else:
            assert (mandate.sell_min_uthb_per_kwh, mandate.buy_back) == (0, False)
    assert [home.deposit_uthb for home in homes].count(POOR_DEPOSIT_UTHB) == 1
    assert all(home.deposit_uthb >= 500 * UTHB_PER_THB for home in homes if home.deposit_uthb != POOR_DEPOSIT_UTHB)


def test_keys_come_from_the_seed_role_and_name_alone(neighbourhood_of: Callable[..., Neighbourhood]):
    one, again, other = neighbourhood_of(seed=1), neighbourhood_of(seed=1), neighbourhood_of(seed=2)
    assert one.households == again.households
    assert {home.wallet for home in one.households}.isdisjoint(home.wallet for home in other.households)
    for home in one.households:
        assert home.wallet == address(DemoKeys(1).wallet(home.name))
        assert decode_wallet(home.wallet) == bytes(one.keys.wallet(home.name).verify_key)
    keys = DemoKeys(1)
    everyone = [*keys.oracles(), *keys.bridge(), keys.guardian(), keys.gateway(), keys.payer(), keys.meter("MEA-001")]
    assert len({bytes(key) for key in everyone}) == 10
    # sha256("gridtokenx/demo/1/gateway/gateway"), written out: a change would orphan every demo folder
    assert bytes(keys.gateway()).hex() == "6e2048a37e280412fa8ed8cf4859d6f9057ce1a034ed8edf603c889c0c495c42"

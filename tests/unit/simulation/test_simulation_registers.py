from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx_pipelines.epochs import EPOCH_US, epoch_of_key, start_us
from gridtokenx_pipelines.simulation.grids import UWH_PER_MILLIWATT_ROW, profile_row
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.simulation.registers import Registers

START = epoch_of_key("2026-06-14T17:00Z")


def test_registers_move_by_the_profiles_energy_and_lose_less_than_a_watt_hour(
    neighbourhood_of: Callable[..., Neighbourhood],
):
    neighbourhood = neighbourhood_of()
    registers, grid = Registers(neighbourhood, START, 96), neighbourhood.grid
    rows = [profile_row(START + index) for index in range(96)]
    assert rows == list(range(rows[0], rows[0] + 96))
    for place, meter in enumerate(neighbourhood.meters):
        production_wh, consumption_wh = registers.at(place, start_us(START + 96))
        consumed_uwh = int(grid.load_milliwatt[rows][:, list(meter.load_columns)].sum()) * UWH_PER_MILLIWATT_ROW
        produced = grid.pv_milliwatt[rows][:, list(meter.pv_columns)].sum()
        produced += grid.storage_milliwatt[rows][:, list(meter.storage_columns)].sum()
        assert production_wh - meter.baseline_production_wh == int(produced) * UWH_PER_MILLIWATT_ROW // 10**6
        assert consumption_wh - meter.baseline_consumption_wh == consumed_uwh // 10**6
        assert registers.at(place, start_us(START)) == (meter.baseline_production_wh, meter.baseline_consumption_wh)


def test_net_energy_of_epochs_adds_up_to_the_run(neighbourhood_of: Callable[..., Neighbourhood]):
    neighbourhood = neighbourhood_of()
    registers = Registers(neighbourhood, START, 96)
    for place, meter in enumerate(neighbourhood.meters):
        production_wh, consumption_wh = registers.at(place, start_us(START + 96))
        moved = production_wh - consumption_wh - meter.baseline_production_wh + meter.baseline_consumption_wh
        assert sum(registers.net_wh(place, START + index) for index in range(96)) == moved


@given(instants=st.lists(st.integers(0, 8 * EPOCH_US), min_size=2, max_size=2).map(sorted), place=st.integers(0, 32))
def test_registers_never_run_back(neighbourhood_of: Callable[..., Neighbourhood], instants: list[int], place: int):
    registers = Registers(neighbourhood_of(), START + 40, 8)
    earlier, later = (registers.at(place, start_us(START + 40) + instant) for instant in instants)
    assert earlier[0] <= later[0]
    assert earlier[1] <= later[1]


def test_an_instant_outside_the_run_is_refused(neighbourhood_of: Callable[..., Neighbourhood]):
    registers = Registers(neighbourhood_of(), START, 2)
    with pytest.raises(ValueError, match="must lie in the 2 epochs from"):
        registers.at(0, start_us(START + 2) + 1)
    with pytest.raises(ValueError, match="must lie in the 2 epochs from"):
        registers.at(0, start_us(START) - 1)
    with pytest.raises(ValueError, match="epochs was 0, must be at least 1"):
        Registers(neighbourhood_of(), START, 0)

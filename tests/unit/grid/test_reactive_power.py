"""What assuming a power factor costs: limits' state against an AC flow with the published reactive power."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.case import TAN_PHI, GridCase, MeterPlace, case_of, load, save
from gridtokenx_pipelines.grid.power_flow import FlowResult
from gridtokenx_pipelines.grid.states import flow
from gridtokenx_pipelines.simulation.grids import simbench_network
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood, build_neighbourhood
from gridtokenx_pipelines.simulation.network_case import case_of_neighbourhood
from tests.unit.grid.small import case as small_case
from tests.unit.grid.small import pandapower_net

simbench = pytest.importorskip("simbench")

GRID = "1-LV-urban6--2-sw"
ROWS = slice(None, None, 1_097)  # 33 quarter hours through the year, at every time of day


@pytest.fixture(scope="module")
def home(pytestconfig: pytest.Config) -> Neighbourhood:
    return build_neighbourhood(GRID, 1, 2, cache_dir=Path(pytestconfig.cache.mkdir("simbench")))


@pytest.fixture(scope="module")
def made(home: Neighbourhood) -> GridCase:
    return case_of_neighbourhood(home)


class Published(NamedTuple):
    """(steps, meters): W and var by column of the case."""

    produced_w: NDArray[np.float64]
    consumed_w: NDArray[np.float64]
    reactive_var: NDArray[np.float64]


@pytest.fixture(scope="module")
def published(home: Neighbourhood, made: GridCase) -> Published:
    net = simbench_network(GRID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        powers = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    columns = made.columns()

    def by_meter(table: str, power: str, field: str) -> NDArray[np.float64]:
        values = powers[table, power].to_numpy()[ROWS] * 10**6
        found = np.zeros((len(values), len(columns)))
        for each in home.households:
            for meter in each.meters:
                found[:, columns[meter.meter_id]] += values[:, list(getattr(meter, field))].sum(axis=1)
        return found

    return Published(
        produced_w=by_meter("sgen", "p_mw", "pv_columns") - by_meter("storage", "p_mw", "storage_columns"),
        consumed_w=by_meter("load", "p_mw", "load_columns"),
        reactive_var=by_meter("load", "q_mvar", "load_columns"),
    )


class Errors(NamedTuple):
    """Against the true reactive power: voltages in p.u., loadings in percentage points, largest and mean square."""

    most_pu: float
    rms_pu: float
    most_percent: float
    rms_percent: float


def errors(made: GridCase, published: Published, tan_phi: float | NDArray[np.float64]) -> Errors:
    p = (published.consumed_w - published.produced_w) / 10**6
    true = made.network.solve(p, published.reactive_var / 10**6)
    assumed: FlowResult = made.network.solve(p, published.consumed_w * tan_phi / 10**6)
    volts = np.abs(true.vm_pu - assumed.vm_pu)
    loads = np.concatenate(
        [
            np.abs(getattr(true, name) - getattr(assumed, name))
            for name in ("line_loading_percent", "trafo_loading_percent")
        ],
        axis=1,
    )
    return Errors(
        float(np.nanmax(volts)),
        float(np.sqrt(np.nanmean(volts**2))),
        float(np.nanmax(loads)),
        float(np.sqrt(np.nanmean(loads**2))),
    )


def test_each_meters_own_power_factor_is_nearer_to_the_truth_than_one_for_all(
    made: GridCase, published: Published
) -> None:
    one_for_all, own = errors(made, published, TAN_PHI), errors(made, published, made.meter_tan_phi)
    assert (own.rms_pu < one_for_all.rms_pu) and (own.rms_percent < one_for_all.rms_percent)
    # docs/decisions/0009: 0.0007 and 0.0031 p.u., 2.4 percentage points (one factor for all: 0.0011, 0.0026, 2.7)
    assert own.rms_pu < 0.0008
    assert own.most_pu < 0.0035
    assert own.most_percent < 3.0


def test_a_meters_power_factor_is_that_of_its_published_profile(home: Neighbourhood, made: GridCase) -> None:
    columns = made.columns()
    units = [meter for each in home.households for meter in each.meters]
    loads = [made.meter_tan_phi[columns[meter.meter_id]] for meter in units if meter.load_columns]
    others = [made.meter_tan_phi[columns[meter.meter_id]] for meter in units if not meter.load_columns]
    assert 0 <= min(loads) < 0.1 < np.median(loads) < 0.15 < max(loads) < 1
    assert set(others) == {TAN_PHI}


def test_limits_states_use_each_meters_own_power_factor() -> None:
    places = [
        MeterPlace(meter_id=name, bus=3, zone_id=1, rating_w=9_000, produces=False, tan_phi=tan)
        for name, tan in (("A", 0.0), ("B", 0.5))
    ]
    at = case_of(pandapower_net(), places, {2: 1, 3: 1, 4: 2, 5: 2})
    drawn = [flow(at, np.zeros(2), np.array(powers)) for powers in ([8_000.0, 0.0], [0.0, 8_000.0])]
    assert [round(float(each.slack_mvar[0]) * 1_000) for each in drawn] == pytest.approx([0, 4], abs=8)
    assert drawn[1].vm_pu[0].min() < drawn[0].vm_pu[0].min()


def test_a_case_of_the_format_before_is_read_with_one_power_factor_for_all(tmp_path: Path) -> None:
    path = tmp_path / "grid.npz"
    save(small_case(), path)
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "meter_tan_phi"}
    np.savez(path, **{**arrays, "format": np.int64(2)})
    assert load(path).meter_tan_phi.tolist() == [TAN_PHI] * len(small_case().meter_id)


def test_a_simbench_transformers_tap_works_as_in_the_published_results(
    made: GridCase, make_flat: Callable[[], float]
) -> None:
    # tap −1 of 2.5 % on the high-voltage side lifts the busbar by 1 / 0.975; pandapower 3 alone would leave it at 1
    assert make_flat() == pytest.approx(1 / 0.975, abs=0.003)


@pytest.fixture
def make_flat(made: GridCase) -> Callable[[], float]:
    def busbar() -> float:
        nothing = np.zeros(len(made.meter_id))
        return float(flow(made, nothing, nothing).vm_pu[0].max() / simbench_network(GRID).ext_grid.vm_pu.iloc[0])

    return busbar

"""Grids for the tests of the simulation, extracted once and kept in pytest's own cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood, build_neighbourhood

SMALL_GRID = "1-LV-rural1--2-sw"


@pytest.fixture(scope="session")
def grid_cache(pytestconfig: pytest.Config) -> Path:
    return Path(pytestconfig.cache.mkdir("simbench"))


@pytest.fixture(scope="session")
def neighbourhood_of(grid_cache: Path) -> Callable[..., Neighbourhood]:
    def build(grid: str = SMALL_GRID, seed: int = 1, zones: int = 2) -> Neighbourhood:
        return build_neighbourhood(grid, seed, zones, cache_dir=grid_cache)

    return build

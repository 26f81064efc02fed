"""Simulators on a street of 40 houses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gridtokenx_pipelines.simulation.fleet.engine import Simulator
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario
from tests.unit.simulation.fleet.fleet_world import START


@pytest.fixture
def street() -> Callable[..., Simulator]:
    def make(**options: Any) -> Simulator:
        return Simulator(
            Scenario(**{"network": "street", "fleet": "templates", "start": START, "partitions": 2} | options)
        )

    return make

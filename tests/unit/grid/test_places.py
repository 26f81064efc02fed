"""Places to draw at: the network's own, and an upstream bus that was given a house's place goes beyond its busbar."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gridtokenx_pipelines.grid.places import places_of
from tests.unit.grid.small import pandapower_net

pytest.importorskip("pandapower")


def test_an_upstream_bus_on_a_feeders_place_is_drawn_beyond_the_busbar() -> None:
    net = pandapower_net()
    given = [(3.0, 4.0), (0.0, 0.0), (2.0, 2.0), (3.0, 4.0), (-2.0, 2.0), (-3.0, 4.0)]
    net.bus["geo"] = [json.dumps({"type": "Point", "coordinates": point}) for point in given]
    found = places_of(net, net.bus.index.tolist())
    assert found[1:].tolist() == [list(point) for point in given[1:]]
    assert found[0].tolist() == pytest.approx([-0.08846, -0.47178], abs=1e-5)
    assert np.linalg.norm(found[0] - found[1:], axis=1).min() > 0.1


def test_places_that_do_not_collide_stay_as_given() -> None:
    net = pandapower_net()
    given = [[0.0, -1.0], [0.0, 0.0], [2.0, 2.0], [3.0, 4.0], [-2.0, 2.0], [-3.0, 4.0]]
    net.bus["geo"] = [json.dumps({"type": "Point", "coordinates": point}) for point in given]
    assert places_of(net, net.bus.index.tolist()).tolist() == given

"""Where to draw a bus: the network's own coordinates, else a tree laid out from the slack.

Belongs here: coordinates for maps. Does not belong here: drawing (map.py). Nothing electrical depends on them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pandapower.auxiliary import pandapowerNet

UPSTREAM_SHARE = 0.08  # of the network's extent


def places_of(net: pandapowerNet, buses: list[int]) -> NDArray[np.float64]:
    """(buses, 2): x and y of each bus. Coordinates are used where every bus has its own pair, else the tree."""
    given = [_given(value) for value in net.bus["geo"].tolist()] if "geo" in net.bus.columns else []
    if given and all(point is not None for point in given) and len(set(given)) > len(given) // 2:
        return _apart(net, buses, np.array(given, np.float64))
    return _tree(net, buses)


def _apart(net: pandapowerNet, buses: list[int], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """An upstream bus that was given a house's place goes beyond its busbar, away from the middle of the network.

    SimBench puts the medium-voltage bus of some grids on a bus of a feeder: the transformer would be drawn across it.
    """
    place = {bus: index for index, bus in enumerate(buses)}
    middle, span = points.mean(axis=0), np.ptp(points, axis=0).max()
    for high, low in net.trafo[["hv_bus", "lv_bus"]].itertuples(index=False, name=None):
        if high not in place or low not in place:
            continue
        others = np.delete(points, place[high], axis=0)
        if not (others == points[place[high]]).all(axis=1).any():
            continue
        away = points[place[low]] - middle
        length = float(np.linalg.norm(away))
        direction = away / length if length else np.array([0.0, 1.0])
        points[place[high]] = points[place[low]] + direction * span * UPSTREAM_SHARE
    return points


def _given(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, str):
        return None
    try:
        point = json.loads(value)["coordinates"]
        return float(point[0]), float(point[1])
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _tree(net: pandapowerNet, buses: list[int]) -> NDArray[np.float64]:
    """Depth to the right, branches below each other: every leaf gets its own row, a bus the mean of its branches'."""
    neighbours: dict[int, list[int]] = defaultdict(list)
    pairs = [*net.line[["from_bus", "to_bus"]].itertuples(index=False, name=None)]
    pairs += [*net.trafo[["hv_bus", "lv_bus"]].itertuples(index=False, name=None)]
    pairs += [*net.switch.loc[(net.switch.et == "b") & net.switch.closed, ["bus", "element"]].itertuples(False, None)]
    for one, other in pairs:
        neighbours[one].append(other)
        neighbours[other].append(one)
    x: dict[int, float] = {}
    y: dict[int, float] = {}
    rows = 0
    for root in [*net.ext_grid.bus.tolist(), *buses]:
        if root in x:
            continue
        x[root] = 0.0
        order, children = [root], defaultdict(list)
        for bus in order:
            for other in sorted(neighbours[bus]):
                if other not in x:
                    x[other] = x[bus] + 1
                    children[bus].append(other)
                    order.append(other)
        for bus in _leaves(root, children):
            y[bus] = float(rows)
            rows += 1
        for bus in reversed(order):
            if children[bus]:
                y[bus] = sum(y[child] for child in children[bus]) / len(children[bus])
    return np.array([(x[bus], y[bus]) for bus in buses], np.float64)


def _leaves(root: int, children: dict[int, list[int]]) -> list[int]:
    """Leaves in depth-first order, so that branches don't cross."""
    found, stack = [], [root]
    while stack:
        bus = stack.pop()
        if children[bus]:
            stack.extend(reversed(children[bus]))
        else:
            found.append(bus)
    return found

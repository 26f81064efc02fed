"""The network on one page: voltages, loadings, meters by surplus, zones outlined (Plotly, without any network access).

Belongs here: what is drawn and in which colour. Does not belong here: power flow (states.py), choosing the epoch.
Meters are green with a surplus, red with a deficit, yellow where balanced (at most BALANCED_WH either way).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.grid.admittance import ABSENT
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.power_flow import FlowResult
from gridtokenx_pipelines.grid.states import Bounds, State, flow_of, violations

BALANCED_WH: Final = 5
SURPLUS, DEFICIT, BALANCED = "#2e9e4f", "#d1382c", "#e8b007"
ZONE_COLOURS = ("#4a78b5", "#b5744a", "#7a4ab5", "#4ab59b", "#b54a7e", "#8a8f2f", "#4a9bb5", "#757575")
LOADINGS = (
    (50, "#7fb069", "to 50 %"),
    (80, "#e6b422", "to 80 %"),
    (100, "#e8772e", "to 100 %"),
    (math.inf, "#c1121f", "over 100 %"),
)
RING = 0.32  # how far from its bus a meter is drawn, of the shortest distance between buses


class MapData(msgspec.Struct, frozen=True, kw_only=True):
    """A case in a state, solved."""

    case: GridCase
    state: State
    flow: FlowResult


def map_data(case: GridCase, state: State) -> MapData:
    """Solve a state for its map."""
    return MapData(case=case, state=state, flow=flow_of(case, state))


def draw(data: MapData, title: str, path: Path) -> Path:
    """Write the page, whole or not at all; it carries Plotly inside and loads nothing."""
    import plotly.graph_objects as go  # noqa: PLC0415 - half a second

    case = data.case
    figure = go.Figure()
    for trace in (*_zones(go, case), *_lines(go, data), *_trafos(go, data), _buses(go, data), *_meters(go, data)):
        figure.add_trace(trace)
    broken = violations(case, data.flow, 0, Bounds())
    words = "no violation" if not broken else f"{len(broken)} violations: {broken[0].words()}"
    figure.update_layout(
        title={"text": f"{title}<br><sub>{words}</sub>"},
        template="plotly_white",
        xaxis={"visible": False},
        yaxis={"visible": False, "scaleanchor": "x"} if _degrees(case) else {"visible": False},
        legend={"groupclick": "togglegroup"},
        margin={"l": 20, "r": 20, "t": 80, "b": 20},
        hovermode="closest",
    )
    page = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def colour_of(net_wh: int) -> str:
    """Green for a surplus, red for a deficit, yellow where balanced."""
    if abs(net_wh) <= BALANCED_WH:
        return BALANCED
    return SURPLUS if net_wh > 0 else DEFICIT


def _degrees(case: GridCase) -> bool:
    return bool((case.bus_xy != np.round(case.bus_xy)).any() and np.ptp(case.bus_xy[:, 0]) < 5)


def _zones(go: Any, case: GridCase) -> list[Any]:
    traces = []
    reach, shown = _reach(case), set()
    for zone, buses in _parts(case):
        outline = _hull(case.bus_xy[buses], reach)
        colour = ZONE_COLOURS[(zone - 1) % len(ZONE_COLOURS)]
        first = zone not in shown
        shown.add(zone)
        traces.append(
            go.Scatter(
                x=outline[:, 0],
                y=outline[:, 1],
                mode="lines",
                fill="toself",
                fillcolor=_faint(colour),
                line={"color": colour, "width": 1.5, "dash": "dot"},
                name=f"zone {zone}",
                legendgroup=f"zone {zone}",
                showlegend=first,
                hoverinfo="name",
            )
        )
    return traces


def _parts(case: GridCase) -> list[tuple[int, list[int]]]:
    """(zone, rows of buses) of each part of a zone that hangs together by lines without the transformers' buses.

    Outlining whole zones would cover what lies between their feeders, which belongs to another.
    """
    row = {bus: place for place, bus in enumerate(case.matrices.bus_ids.tolist())}
    joints = {row[int(bus)] for bus in case.trafo_ends.reshape(-1)}
    part = list(range(len(row)))

    def find(place: int) -> int:
        while part[place] != place:
            place = part[place]
        return place

    for one, other in case.line_ends.tolist():
        ends = row[one], row[other]
        if case.bus_zone[ends[0]] == case.bus_zone[ends[1]] and not joints & set(ends):
            part[find(ends[1])] = find(ends[0])
    found: dict[tuple[int, int], list[int]] = {}
    for place in range(len(row)):
        if case.bus_zone[place] and place not in joints:
            found.setdefault((int(case.bus_zone[place]), find(place)), []).append(place)
    return [(zone, found[zone, root]) for zone, root in sorted(found)]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.08)"


def _reach(case: GridCase) -> float:
    """The shortest distance between two buses that lie apart."""
    points = case.bus_xy
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    return float(apart[apart > 0].min(initial=math.inf)) if (apart > 0).any() else 1.0


def _hull(points: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Convex outline of the points, each widened to a small octagon first; closed."""
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    ring = np.column_stack([np.cos(angles), np.sin(angles)]) * reach * 0.6
    around = sorted({(float(x), float(y)) for point in points for x, y in point + ring})

    def half(ordered: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for x, y in ordered:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    chain = half(around) + half(around[::-1])
    return np.array([*chain, chain[0]])


def _ends(case: GridCase, ends: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    place = {bus: row for row, bus in enumerate(case.matrices.bus_ids.tolist())}
    rows = np.array([[place[int(one)], place[int(other)]] for one, other in ends], np.int64).reshape(-1, 2)
    return case.bus_xy[rows[:, 0]], case.bus_xy[rows[:, 1]]


def _lines(go: Any, data: MapData) -> list[Any]:
    case, flow = data.case, data.flow
    one, other = _ends(case, case.line_ends)
    live = case.matrices.lines.row != ABSENT
    loading = np.nan_to_num(flow.line_loading_percent[0])
    traces, low = [], -1.0
    for high, colour, words in LOADINGS:
        mine = np.flatnonzero(live & (loading > low) & (loading <= high))
        low = high
        x = [value for line in mine for value in (one[line, 0], other[line, 0], None)]
        y = [value for line in mine for value in (one[line, 1], other[line, 1], None)]
        traces.append(
            go.Scatter(
                x=x, y=y, mode="lines", line={"color": colour, "width": 3}, name=f"lines {words}", hoverinfo="skip"
            )
        )
    middle = (one + other) / 2
    texts = [
        f"{name}<br>loaded {load:.1f} %, {power * 1_000:.2f} kW, lost {lost * 10**6:.0f} W"
        for name, load, power, lost in zip(
            case.line_name.tolist(), loading, flow.line_mw[0], flow.line_loss_mw[0], strict=True
        )
    ]
    traces.append(
        go.Scatter(
            x=middle[live, 0],
            y=middle[live, 1],
            mode="markers",
            marker={"size": 9, "opacity": 0},
            text=np.array(texts)[live],
            hoverinfo="text",
            showlegend=False,
        )
    )
    return traces


def _trafos(go: Any, data: MapData) -> list[Any]:
    case = data.case
    one, other = _ends(case, case.trafo_ends)
    middle = (one + other) / 2
    texts = [
        f"{name}<br>loaded {load:.1f} %"
        for name, load in zip(case.trafo_name.tolist(), data.flow.trafo_loading_percent[0], strict=True)
    ]
    x = [value for row in range(len(one)) for value in (one[row, 0], other[row, 0], None)]
    y = [value for row in range(len(one)) for value in (one[row, 1], other[row, 1], None)]
    grey = "#444b54"
    return [
        go.Scatter(
            x=x, y=y, mode="lines", line={"color": grey, "width": 2, "dash": "dash"}, showlegend=False, hoverinfo="skip"
        ),
        go.Scatter(
            x=middle[:, 0],
            y=middle[:, 1],
            mode="markers",
            marker={"symbol": "diamond", "size": 13, "color": grey},
            text=texts,
            hoverinfo="text",
            name="transformers",
        ),
    ]


def _buses(go: Any, data: MapData) -> Any:
    case, voltages = data.case, data.flow.vm_pu[0]
    return go.Scatter(
        x=case.bus_xy[:, 0],
        y=case.bus_xy[:, 1],
        mode="markers",
        marker={
            "size": 9,
            "color": voltages,
            "colorscale": "RdYlBu",
            "cmin": Bounds().v_min_pu,
            "cmax": Bounds().v_max_pu,
            "colorbar": {"title": {"text": "voltage p.u."}, "thickness": 12, "len": 0.5, "y": 0.22},
            "line": {"color": "#333", "width": 0.7},
        },
        text=[
            f"{name}<br>{'out of service' if math.isnan(value) else f'{value:.4f} p.u.'}"
            for name, value in zip(case.bus_name.tolist(), voltages.tolist(), strict=True)
        ],
        hoverinfo="text",
        name="buses",
    )


def _meters(go: Any, data: MapData) -> list[Any]:
    case, state = data.case, data.state
    net = (state.produced_wh - state.consumed_wh).tolist()
    points = _around(case)
    traces = []
    for colour, words in ((SURPLUS, "surplus"), (DEFICIT, "deficit"), (BALANCED, "balanced")):
        mine = [meter for meter, wh in enumerate(net) if colour_of(wh) == colour]
        traces.append(
            go.Scatter(
                x=points[mine, 0],
                y=points[mine, 1],
                mode="markers",
                marker={"size": 6, "color": colour, "symbol": "square"},
                text=[f"{case.meter_id[meter]}<br>net {net[meter]} Wh" for meter in mine],
                hoverinfo="text",
                name=f"meters, {words}",
            )
        )
    return traces


def _around(case: GridCase) -> NDArray[np.float64]:
    """Places of meters: on a ring around their bus, in the order of their ids."""
    place = {bus: row for row, bus in enumerate(case.matrices.bus_ids.tolist())}
    rows = np.array([place[int(bus)] for bus in case.meter_bus], np.int64)
    counts = np.bincount(rows, minlength=len(place))
    seen = np.zeros(len(place), np.int64)
    points = np.zeros((len(rows), 2))
    radius = _reach(case) * RING
    for meter, row in enumerate(rows.tolist()):
        angle = 2 * math.pi * seen[row] / counts[row] + math.pi / 4
        seen[row] += 1
        points[meter] = case.bus_xy[row] + radius * np.array([math.cos(angle), math.sin(angle)])
    return points

"""The grid operator's report: generation, load, exchange, losses, violations by zone and day, and where it is tight.

Belongs here: the report as data, from net energy, flows and AC power flow. Does not belong here: pages (grid_cli,
assets), limits of links (network.py). Energies are Wh; the physics is rounded once, at the end.

- `exchange_wh` of a zone is what it sent out (above 0) or drew over its border: its meters' net.
- Losses of a line count to the zone of its far end; those of transformers and the busbar are zone 0, "shared".
- `to_curtail_wh`: feed-in that would have to go for no bus to exceed 1.10 p.u., cut at all producers of the zones where
  one does, alike. What inverters cut by themselves is not metered as energy and can't be in here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np
import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.admittance import ABSENT
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.power_flow import FlowResult
from gridtokenx_pipelines.grid.states import (
    W_PER_WH,
    Bounds,
    State,
    element_at,
    flow,
    margins,
    state_of,
    violations,
)
from gridtokenx_pipelines.market.rules import Link
from gridtokenx_pipelines.units import WH_PER_KWH

SHARED = 0
WORST_HOURS = 10
WH_PER_MW_EPOCH = 10**6 / W_PER_WH
CURTAIL_STEPS = 20

ZONE_DAY = {
    "day": pl.String,
    "zone_id": pl.Int64,
    "generation_wh": pl.Int64,
    "load_wh": pl.Int64,
    "exchange_wh": pl.Int64,
    "loss_wh": pl.Int64,
    "violations": pl.Int64,
    "to_curtail_wh": pl.Int64,
    "lowest_pu": pl.Float64,
    "highest_pu": pl.Float64,
    "line_percent": pl.Float64,
}


class GridReport(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of the report; `unsolved` are epochs without a power flow, which count in no physics.

    zone_days: ZONE_DAY. worst: epoch, margin, what. links: link_id, day, sent, delivered, lost, wheeling, rent.
    totals: day, upstream_wh (drawn from it), unmetered_wh (in islands, what no meter accounts for: 0 but for rounding
    unless readings and declaration contradict each other), loss_wh, trafo_percent.
    """

    zone_days: pl.DataFrame
    totals: pl.DataFrame
    worst: pl.DataFrame
    links: pl.DataFrame
    unsolved: tuple[int, ...]
    unplaced: tuple[str, ...]


class _Day(msgspec.Struct, frozen=True, kw_only=True):
    zones: list[dict[str, object]]
    total: dict[str, object]


def grid_report(  # noqa: PLR0917 - three frames, the network and when it was whole
    case: GridCase,
    energy: Mapping[int, pl.DataFrame],
    flows: pl.DataFrame,
    prices: pl.DataFrame,
    links: Sequence[Link],
    islands: Collection[int] = (),
) -> GridReport:
    """The report on epochs with net energy.

    `energy`: latest rows by epoch. `flows`: epoch, link_id, from_zone, to_zone, sent_wh, delivered_wh, wheeling_uthb.
    `prices`: epoch, zone_id, price_uthb_per_kwh. `islands`: epochs without the upstream grid, which draw nothing
    from it: their power flow is the island's, with the forming storage at the slack.
    """
    epochs = sorted(energy)
    states = [
        state_of(
            case,
            {
                meter: (made, used)
                for meter, made, used in energy[epoch].select("meter_id", "production_wh", "consumption_wh").iter_rows()
            },
        )
        for epoch in epochs
    ]
    result = _flows(case, epochs, states, islands)
    days: dict[str, list[int]] = {}
    for place, epoch in enumerate(epochs):
        days.setdefault(day_of(epoch), []).append(place)
    dark = frozenset(place for place, epoch in enumerate(epochs) if epoch in islands)
    reports = [_day(case, states, result, day, (places, dark)) for day, places in sorted(days.items())]
    return GridReport(
        zone_days=pl.DataFrame([row for each in reports for row in each.zones], schema=ZONE_DAY, orient="row"),
        totals=pl.DataFrame([each.total for each in reports]),
        worst=_worst(case, result, epochs),
        links=rents(flows, prices, links),
        unsolved=tuple(epoch for epoch, solved in zip(epochs, result.converged.tolist(), strict=True) if not solved),
        unplaced=tuple(sorted({meter for state in states for meter in state.unplaced})),
    )


def _flows(case: GridCase, epochs: Sequence[int], states: Sequence[State], islands: Collection[int]) -> FlowResult:
    produced, consumed = (
        np.array([getattr(state, name) for state in states], np.float64).reshape(len(states), -1) * W_PER_WH
        for name in ("produced_wh", "consumed_wh")
    )
    inside = np.isin(epochs, list(islands))
    if not inside.any():
        return flow(case, produced, consumed)
    parts = [(~inside, case), (inside, case.island[0])]
    solved = [(where, flow(at, produced[where], consumed[where])) for where, at in parts if where.any()]
    found: dict[str, np.ndarray] = {}
    for each in dataclasses.fields(FlowResult):
        first = getattr(solved[0][1], each.name)
        found[each.name] = np.empty((len(epochs), *first.shape[1:]), first.dtype)
        for where, result in solved:
            found[each.name][where] = getattr(result, each.name)
    return FlowResult(**found)


def day_of(epoch: int) -> str:
    """The UTC day of an epoch."""
    return key_of(epoch)[:10]


def _zone_of_branches(case: GridCase) -> np.ndarray:
    """Zone that each line's losses count to: that of its far end, in no zone of its own if that is the busbar's."""
    zone = dict(zip(case.matrices.bus_ids.tolist(), case.bus_zone.tolist(), strict=True))
    return np.array([zone.get(int(ends[1]), SHARED) or zone.get(int(ends[0]), SHARED) for ends in case.line_ends])


def _day(
    case: GridCase, states: Sequence[State], result: FlowResult, day: str, when: tuple[list[int], frozenset[int]]
) -> _Day:
    """`when`: places of the day's epochs, and those of all epochs that are an island's."""
    places, dark = when
    solved = [place for place in places if result.converged[place]]
    line_zone = _zone_of_branches(case)
    bounds = Bounds()
    zones = []
    for zone in [SHARED, *sorted(set(case.meter_zone.tolist()))]:
        inside = case.meter_zone == zone
        made = sum(int(states[place].produced_wh[inside].sum()) for place in places)
        used = sum(int(states[place].consumed_wh[inside].sum()) for place in places)
        lines, buses = line_zone == zone, (case.bus_zone == zone) & (case.matrices.bus_place != ABSENT)
        lost = np.nansum(result.line_loss_mw[solved][:, lines])
        if zone == SHARED:
            lost += np.nansum(result.trafo_loss_mw[solved])
        voltages = result.vm_pu[solved][:, buses]
        voltages = voltages[:, ~np.isnan(voltages).all(axis=0)]  # buses that an island leaves dark all day
        loadings = np.nan_to_num(result.line_loading_percent[solved][:, lines])
        broken = int(((voltages < bounds.v_min_pu) | (voltages > bounds.v_max_pu)).sum())
        broken += int((loadings > bounds.loading_percent).sum())
        if zone == SHARED:
            broken += int((result.trafo_loading_percent[solved] > bounds.loading_percent).sum())
        zones.append(
            {
                "day": day,
                "zone_id": zone,
                "generation_wh": made,
                "load_wh": used,
                "exchange_wh": made - used,
                "loss_wh": round(float(lost) * WH_PER_MW_EPOCH),
                "violations": broken,
                "to_curtail_wh": 0
                if not voltages.size
                else sum(
                    _to_curtail(case, states[place], zone)
                    for place, row in zip(solved, voltages, strict=True)
                    if np.nanmax(row) > bounds.v_max_pu
                ),
                "lowest_pu": float(np.nanmin(voltages)) if voltages.size else None,
                "highest_pu": float(np.nanmax(voltages)) if voltages.size else None,
                "line_percent": float(loadings.max()) if loadings.size else None,
            }
        )
    total = {
        "day": day,
        "epochs": len(places),
        "unsolved": len(places) - len(solved),
        "generation_wh": sum(int(states[place].produced_wh.sum()) for place in places),
        "load_wh": sum(int(states[place].consumed_wh.sum()) for place in places),
        "upstream_wh": _slack_wh(result, [place for place in solved if place not in dark]),
        "unmetered_wh": _slack_wh(result, [place for place in solved if place in dark]),
        "loss_wh": round(float(result.loss_mw[solved].sum()) * WH_PER_MW_EPOCH),
        "trafo_percent": float(np.nan_to_num(result.trafo_loading_percent[solved]).max(initial=0)),
    }
    return _Day(zones=zones, total=total)


def _slack_wh(result: FlowResult, places: list[int]) -> int:
    return round(float(result.slack_mw[places].sum()) * WH_PER_MW_EPOCH)


def _to_curtail(case: GridCase, state: State, zone: int) -> int:
    """Wh that the zone's producers would have to cut so that none of its buses is above the upper bound."""
    inside, buses = case.meter_zone == zone, case.bus_zone == zone
    shares = np.linspace(1.0, 0.0, CURTAIL_STEPS + 1)
    produced = state.produced_wh * np.where(inside, shares[:, None], 1.0) * W_PER_WH
    consumed = np.tile(state.consumed_wh * float(W_PER_WH), (len(shares), 1))
    highest = np.nanmax(flow(case, produced, consumed).vm_pu[:, buses], axis=1)
    kept = shares[np.argmax(highest <= Bounds().v_max_pu)] if (highest <= Bounds().v_max_pu).any() else 0.0
    return round(float(state.produced_wh[inside].sum()) * (1 - float(kept)))


def _worst(case: GridCase, result: FlowResult, epochs: Sequence[int]) -> pl.DataFrame:
    """The epochs nearest to a bound, nearest first, and the element that is."""
    found_margins = _free_margins(case, result)
    margin = found_margins.min(axis=1)
    rows = []
    for place in np.argsort(margin, kind="stable")[:WORST_HOURS].tolist():
        found = violations(case, result, place, Bounds())
        rows.append(
            {
                "epoch": key_of(epochs[place]),
                "margin_percent": None if not np.isfinite(margin[place]) else round(float(margin[place]) * 100, 2),
                "violations": len(found),
                "what": found[0].words() if found else _nearest(case, result, place, found_margins),
            }
        )
    kinds = {"epoch": pl.String, "margin_percent": pl.Float64, "violations": pl.Int64, "what": pl.String}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def _free_margins(case: GridCase, result: FlowResult) -> np.ndarray:
    """Margins without the buses whose voltage the upstream grid holds: they are always as near as they are."""
    found = margins(result, Bounds())
    held = np.flatnonzero(np.isin(case.matrices.bus_place, case.matrices.system.ref))
    found[:, np.concatenate([held, held + result.vm_pu.shape[1]])] = np.inf
    found[~result.converged] = -np.inf
    return found


def _nearest(case: GridCase, result: FlowResult, place: int, found_margins: np.ndarray) -> str:
    column = int(found_margins[place].argmin())
    return element_at(case, result, place, column, Bounds()).words().split(", must be")[0]


def rents(flows: pl.DataFrame, prices: pl.DataFrame, links: Sequence[Link]) -> pl.DataFrame:
    """Congestion rent by link and day: what the energy earns beyond what it costs and the wheeling, exact to a µTHB.

    What rounding leaves between buyers and sellers belongs to no link and is not in here.
    """
    priced = prices.select("epoch", "zone_id", "price_uthb_per_kwh")
    names = {"from": "from_zone", "to": "to_zone"}
    for end, column in names.items():
        renamed = priced.rename({"zone_id": column, "price_uthb_per_kwh": f"price_{end}"})
        flows = flows.join(renamed, on=["epoch", column], how="left")
    earned = pl.col("delivered_wh") * pl.col("price_to").fill_null(0)
    cost = pl.col("sent_wh") * pl.col("price_from").fill_null(0)
    found = flows.with_columns(
        day=pl.Series([day_of(epoch) for epoch in flows["epoch"].to_list()], dtype=pl.String),
        rent_uthb=(earned - cost) // WH_PER_KWH - pl.col("wheeling_uthb"),
    )
    known = pl.DataFrame(
        {"link_id": [link.link_id for link in links], "link": [f"{link.from_zone}–{link.to_zone}" for link in links]},
        schema={"link_id": pl.Int64, "link": pl.String},
    )
    sums = ("sent_wh", "delivered_wh", "wheeling_uthb", "rent_uthb")
    grouped = found.group_by("day", "link_id").agg(*[pl.col(name).sum() for name in sums])
    return grouped.join(known, on="link_id", how="left").select("day", "link_id", "link", *sums).sort("day", "link_id")

"""The operator's report, hosting capacity and map on a small network, against plain sums and the AC flow itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.hosting import hosting_capacity
from gridtokenx_pipelines.grid.map import BALANCED, DEFICIT, SURPLUS, colour_of, draw, map_data
from gridtokenx_pipelines.grid.states import Bounds, flow, flow_of, worst
from gridtokenx_pipelines.settlement_service.grid_pages import as_document, write
from gridtokenx_pipelines.settlement_service.grid_report import GridReport, grid_report, rents
from tests.unit.grid.small import case, network, state

FIRST = epoch_of_key("2026-06-15T23:45Z")  # and the next epoch lies in the next day


@pytest.fixture(scope="module")
def small() -> GridCase:
    return case()


def rows(**net_wh: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "meter_id": list(net_wh),
            "production_wh": [max(wh, 0) for wh in net_wh.values()],
            "consumption_wh": [max(-wh, 0) for wh in net_wh.values()],
        }
    )


FLOWS = pl.DataFrame(
    {
        "epoch": [FIRST, FIRST + 1],
        "link_id": [1, 1],
        "from_zone": [1, 2],
        "to_zone": [2, 1],
        "sent_wh": [1_000, 500],
        "delivered_wh": [990, 495],
        "wheeling_uthb": [20_000, 10_000],
    }
)
PRICES = pl.DataFrame(
    {
        "epoch": [FIRST, FIRST, FIRST + 1, FIRST + 1],
        "zone_id": [1, 2, 1, 2],
        "price_uthb_per_kwh": [3_000_000, 3_500_000, 3_100_000, None],
    }
)
TIGHT = {"P1": 2_000, "C1": -50_000, "P2": 0, "C2": -1_000}
CALM = {"P1": 2_000, "C1": -500, "P2": 0, "C2": -1_000}


def report(small: GridCase) -> GridReport:
    energy = {FIRST: rows(**TIGHT), FIRST + 1: rows(**CALM, X9=7)}
    return grid_report(small, energy, FLOWS, PRICES, network().links)


def test_energy_by_zone_and_day_adds_up_and_closes_with_losses_and_upstream(small: GridCase) -> None:
    found = report(small)
    energy = found.zone_days.select("day", "zone_id", "generation_wh", "load_wh", "exchange_wh").rows()
    assert energy == [
        ("2026-06-15", 0, 0, 0, 0),
        ("2026-06-15", 1, 2_000, 50_000, -48_000),
        ("2026-06-15", 2, 0, 1_000, -1_000),
        ("2026-06-16", 0, 0, 0, 0),
        ("2026-06-16", 1, 2_000, 500, 1_500),
        ("2026-06-16", 2, 0, 1_000, -1_000),
    ]
    for day in found.totals.iter_rows(named=True):
        assert abs(day["upstream_wh"] + day["generation_wh"] - day["load_wh"] - day["loss_wh"]) <= 1
        by_zone = found.zone_days.filter(pl.col("day") == day["day"])["loss_wh"].sum()
        assert abs(by_zone - day["loss_wh"]) <= 3
    assert found.unplaced == ("X9",)
    assert found.unsolved == ()


def test_violations_are_counted_where_they_are_and_the_worst_hour_comes_first(small: GridCase) -> None:
    found = report(small)
    counts = dict(found.zone_days.select(pl.concat_str("day", pl.lit("/"), "zone_id"), "violations").iter_rows())
    assert counts["2026-06-15/1"] > 0
    assert counts["2026-06-16/1"] == counts["2026-06-16/2"] == 0
    assert found.worst["epoch"].to_list() == ["2026-06-15T23:45Z", "2026-06-16T00:00Z"]
    assert "tail 1" in found.worst["what"][0] or "far 1" in found.worst["what"][0]
    assert found.worst["violations"].to_list()[1] == 0


def test_congestion_rent_by_link_is_what_the_energy_earned_beyond_cost_and_wheeling() -> None:
    found = rents(FLOWS, PRICES, network().links)
    assert found.select("day", "link", "sent_wh", "rent_uthb").rows() == [
        # 0.99 kWh × 3.50 − 1 kWh × 3.00 − 0.02
        ("2026-06-15", "1–2", 1_000, 445_000),
        ("2026-06-16", "1–2", 500, 1_524_500),
    ]


def test_feed_in_above_the_voltage_bound_is_reported_as_energy_to_curtail(small: GridCase) -> None:
    energy = {FIRST: rows(P1=45_000, C1=0, P2=0, C2=0)}
    high = case()
    high.matrices.system.start[high.matrices.system.ref] *= 1.08
    found = grid_report(high, energy, FLOWS.clear(), PRICES.clear(), network().links)
    zone = found.zone_days.row(1, named=True)
    assert zone["highest_pu"] > 1.10
    assert 0 < zone["to_curtail_wh"] <= 45_000
    kept = 45_000 - zone["to_curtail_wh"]
    assert np.nanmax(flow_of(high, state(high, P1=kept)).vm_pu[0][high.bus_zone == 1]) <= 1.10


def test_hosting_capacity_is_feasible_and_a_percent_more_is_not(small: GridCase) -> None:
    states = [state(small, **CALM), state(small, C1=-3_000, C2=-3_000)]
    found = hosting_capacity(small, states)
    assert [each.zone_id for each in found] == [1, 2]
    for each in found:
        inside = small.meter_zone == each.zone_id
        share = np.where(inside, small.meter_rating_w, 0) / small.meter_rating_w[inside].sum()
        made, used = (np.array([getattr(one, name) for one in states]) * 4.0 for name in ("produced_wh", "consumed_wh"))
        assert (worst(flow(small, made + share * each.production_w, used), Bounds()) >= -1e-6).all()
        assert worst(flow(small, made + share * (each.production_w + 3_000), used), Bounds()).min() < 0
        assert (worst(flow(small, made, used + share * each.load_w), Bounds()) >= -1e-6).all()
        assert worst(flow(small, made, used + share * (each.load_w + 3_000)), Bounds()).min() < 0


def test_meters_are_green_red_or_yellow() -> None:
    assert [colour_of(wh) for wh in (6, 5, 0, -5, -6)] == [SURPLUS, BALANCED, BALANCED, BALANCED, DEFICIT]


def test_the_map_names_every_element_outlines_zones_and_loads_nothing(small: GridCase, tmp_path: Path) -> None:
    page = draw(map_data(small, state(small, **TIGHT)), "an epoch", tmp_path / "map.html").read_text()
    for name in (*small.bus_name, *small.line_name, *small.trafo_name, *small.meter_id):
        assert str(name) in page
    assert "zone 1" in page
    assert "zone 2" in page
    assert "violations: " in page
    outside = page.split("</script>")  # Plotly's own text may name addresses; no tag may load one
    assert not re.search(
        r"<(script|link|img)[^>]+(src|href)=", "".join(part.rsplit("<script", 1)[0] for part in outside)
    )


def test_the_report_is_written_as_json_and_html(small: GridCase, tmp_path: Path) -> None:
    found = report(small)
    hosting = hosting_capacity(small, [state(small, **CALM)])
    document, page = write(tmp_path, "Grid report", found, hosting)
    assert json.loads(document.read_text()) == json.loads(json.dumps(as_document(found, hosting)))
    assert "2026-06-15T23:45Z" in page.read_text()
    assert "http" not in page.read_text()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gridtokenx_pipelines.market.rules import Link
from gridtokenx_pipelines.simulation.grids import Grid, load_grid
from gridtokenx_pipelines.simulation.zones import zones_of


def grid_of(lines: list[tuple[int, int]], loads: dict[int, int]) -> Grid:
    """A made grid with busbar 0, cables of 0.2 kA and 0.01 Ω, and flat loads in mW."""
    nothing = np.zeros((4, 0), np.int32)
    return Grid(
        code="made",
        root_bus=0,
        lines=np.array(lines),
        line_resistance_ohm=np.full(len(lines), 0.01),
        line_max_ka=np.full(len(lines), 0.2),
        load_bus=tuple(loads),
        load_profile=("H0-A",) * len(loads),
        load_milliwatt=np.array([list(loads.values())] * 4, np.int32),
        pv_bus=(),
        pv_profile=(),
        pv_milliwatt=nothing,
        storage_bus=(),
        storage_profile=(),
        storage_milliwatt=nothing,
    )


def test_feeders_are_grouped_by_load_and_linked_over_the_busbar():
    zone_map = zones_of(grid_of([(0, 1), (1, 2), (0, 3), (0, 4)], {1: 50, 2: 20, 3: 60, 4: 5}), 2)
    assert zone_map.zone_of_bus == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}
    # zone 1 has one head cable: √3 · 400 V · 200 A · ¼ h; loss at 100 A: √3 · 100 A · 0.01 Ω ÷ 400 V on either side
    assert zone_map.network.links == (
        Link(
            link_id=1,
            from_zone=1,
            to_zone=2,
            capacity_forward_wh=34_641,
            capacity_backward_wh=34_641,
            link_wheeling_uthb_per_kwh=100_000,
            loss_ppm=8_661,
        ),
    )


def test_a_single_feeder_is_cut_in_the_middle_of_its_longest_path():
    zone_map = zones_of(grid_of([(0, 1), (1, 2), (2, 3), (3, 4), (1, 5)], dict.fromkeys((1, 2, 3, 4, 5), 10)), 2)
    assert zone_map.zone_of_bus == {0: 1, 1: 1, 2: 1, 5: 1, 3: 2, 4: 2}
    (link,) = zone_map.network.links
    assert (link.from_zone, link.to_zone, link.capacity_forward_wh, link.loss_ppm) == (1, 2, 34_641, 4_331)


@pytest.mark.parametrize(
    ("zones", "message"),
    [(0, "zones was 0, must be 1 to 63"), (64, "zones was 64"), (3, "zones was 3, this grid can be cut into 2")],
)
def test_an_impossible_number_of_zones_is_refused(zones: int, message: str):
    with pytest.raises(ValueError, match=message):
        zones_of(grid_of([(0, 1), (1, 2)], {1: 10, 2: 10}), zones)


@pytest.mark.parametrize("code", ["1-LV-rural1--2-sw", "1-LV-semiurb5--0-sw"])
@pytest.mark.parametrize("zones", [1, 2, 3, 8])
def test_zones_of_real_grids_are_whole_balanced_and_linked(grid_cache: Path, code: str, zones: int):
    grid = load_grid(code, grid_cache)
    zone_map = zones_of(grid, zones)
    network = zone_map.network
    assert [zone.zone_id for zone in network.zones] == list(range(1, zones + 1))
    assert {zone_map.zone_of_bus[bus] for bus in grid.load_bus} == set(range(1, zones + 1))
    assert set(grid.load_bus + grid.pv_bus + grid.storage_bus) <= set(zone_map.zone_of_bus)
    assert [link.link_id for link in network.links] == list(range(1, len(network.links) + 1))
    assert all(link.from_zone < link.to_zone for link in network.links)
    assert all(1 <= link.capacity_forward_wh == link.capacity_backward_wh < 1_000_000 for link in network.links)
    assert all(0 < link.loss_ppm < 50_000 for link in network.links)
    reached = {1}
    for _ in network.links:
        reached |= {
            zone
            for link in network.links
            for zone in (link.from_zone, link.to_zone)
            if reached & {link.from_zone, link.to_zone}
        }
    assert reached == set(range(1, zones + 1))
    if zones == 2:
        weights = dict.fromkeys((1, 2), 0)
        for bus, power in zip(grid.load_bus, grid.load_milliwatt.sum(axis=0, dtype="int64"), strict=True):
            weights[zone_map.zone_of_bus[bus]] += int(power)
        assert max(weights.values()) < 1.5 * min(weights.values())

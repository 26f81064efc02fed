"""Limits stored and cleared under on a real database: computed once, repaired or halted where cables are too thin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.grid.case import GridCase, MeterPlace, case_of
from gridtokenx_pipelines.partitions import epochs_of_day
from gridtokenx_pipelines.settlement_service import clearing, grid_day, network
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import energy
from gridtokenx_pipelines.store import grid as store
from gridtokenx_pipelines.store.proof import ledger_laws
from gridtokenx_pipelines.units import kwh
from tests.assets.market_day import FIRST, HOUSEHOLDS, frame, meter_id, net_rows, seed
from tests.unit.grid.small import pandapower_net

RANGE = [FIRST, FIRST + 1]


def case(*, derate: float = 1.0, lines: str = "") -> GridCase:
    """The small network with the six households: producers near, consumers far, a zone a feeder."""
    net = pandapower_net()
    net.line.loc[net.line["name"].str.startswith(lines), "max_i_ka"] *= derate
    places = [
        MeterPlace(
            meter_id=meter_id(index),
            bus=2 * zone + (0 if produced else 1),
            zone_id=zone,
            rating_w=10_000,
            produces=produced > 0,
        )
        for index, (zone, produced, *_) in enumerate(HOUSEHOLDS)
    ]
    return case_of(net, places, {2: 1, 3: 1, 4: 2, 5: 2})


@pytest.fixture
def on_grid(services: Services) -> Iterator[Services]:
    seed(services.engine, 2)
    yield replace(services, grid=case())


def rows(services: Services, sql: str) -> list[tuple[Any, ...]]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


LIMITS = (
    "SELECT epoch, capacity_forward_wh, capacity_backward_wh, loss_ppm, cleared_forward_wh, cleared_backward_wh "
    "FROM grid_limits ORDER BY epoch, link_id"
)


def laws_close(services: Services) -> bool:
    with services.engine.connect() as connection:
        return not any(law.difference for law in ledger_laws(connection))


def test_an_epoch_is_cleared_over_its_own_limits_which_stay_as_they_were(on_grid: Services) -> None:
    reports = network.compute(on_grid, RANGE)
    assert [(report.facts["source"], report.changed) for report in reports] == [("power flow", True)] * 2
    assert not failed(network.inspect_epochs(on_grid, RANGE))
    stored = rows(on_grid, LIMITS)
    assert [row[1:3] == row[4:6] for row in stored] == [True, True]
    outcome = clearing.clear_epochs(on_grid, RANGE)
    assert not failed([*outcome.book_verdicts, *outcome.result_verdicts])
    flows = rows(on_grid, "SELECT epoch, sent_wh, lost_wh FROM flows WHERE sent_wh > 0")
    for epoch, sent, lost in flows:
        ppm = {row[0]: row[3] for row in stored}[epoch]
        assert lost == sent - sent * (1_000_000 - ppm) // 1_000_000
    # again, on a network with other cables: nothing that was cleared moves, its checks still pass
    weaker = replace(on_grid, grid=case(derate=0.7))
    assert [report.changed for report in network.compute(weaker, RANGE)] == [False] * 2
    assert rows(on_grid, LIMITS) == stored
    again = clearing.clear_epochs(weaker, RANGE)
    assert not failed([*again.book_verdicts, *again.result_verdicts])
    assert laws_close(on_grid)


def test_an_epoch_without_its_limits_is_refused_with_the_remedy(on_grid: Services) -> None:
    with pytest.raises(EpochNotReady, match="2026-03-02T05:00Z, must have its grid limits; materialise grid_limits"):
        clearing.clear_epochs(on_grid, RANGE)


def test_without_a_case_the_network_files_capacities_hold_and_say_so(services: Services) -> None:
    seed(services.engine, 1)
    (report,) = network.compute(services, [FIRST])
    assert report.facts["source"] == "given"
    assert not failed(network.inspect_epochs(services, [FIRST]))
    assert rows(services, LIMITS) == [(FIRST, 5_000, 5_000, 20_000, 5_000, 5_000)]
    outcome = clearing.clear_epochs(services, [FIRST])
    (feasible,) = [each for each in outcome.result_verdicts if each.check == "feasible_in_ac_power_flow"]
    assert feasible.detail == "not checked: there is no grid case"


def test_capacities_follow_the_state_of_the_epoch_before(on_grid: Services) -> None:
    thin = replace(on_grid, grid=case(derate=0.02), network=_wide(on_grid))
    network.compute(thin, RANGE)
    found = rows(
        on_grid, "SELECT epoch, state_epoch, capacity_forward_wh FROM grid_limits JOIN grid_states USING (epoch)"
    )
    assert [(epoch, before) for epoch, before, _ in found] == [(FIRST, FIRST - 1), (FIRST + 1, FIRST)]
    assert found[0][2] != found[1][2]  # nobody was metered before the first epoch


def test_an_estimate_that_arrives_later_changes_no_limits(on_grid: Services) -> None:
    wide = replace(on_grid, network=_wide(on_grid))
    network.compute(wide, RANGE)
    before = rows(on_grid, LIMITS)
    late = [
        {**row, "revision": 1, "estimated": True, "late": True, "readings": 0, "booked_epoch": FIRST + 1}
        for row in net_rows(1)
        if row["meter_id"] == meter_id(1)
    ]
    late[0] |= {
        "production_end_wh": late[0]["production_end_wh"] + 300,
        "production_wh": late[0]["production_wh"] + 300,
    }
    late[0]["net_wh"] += 300
    with on_grid.engine.begin() as connection:
        energy.save_net_energy(connection, frame(late))
    network.compute(wide, RANGE)
    assert rows(on_grid, LIMITS) == before


def test_a_clearing_that_the_cables_cannot_carry_is_repaired_and_what_it_was_cleared_over_is_stored(
    on_grid: Services,
) -> None:
    network.compute(on_grid, [FIRST])
    (before,) = rows(on_grid, LIMITS)
    # the head of zone 1's feeder turns out to carry next to nothing after the limits were computed
    weak = replace(on_grid, grid=case(derate=0.008, lines="head 1"))
    outcome = clearing.clear_epochs(weak, [FIRST])
    assert not failed([*outcome.book_verdicts, *outcome.result_verdicts])
    ((state,),) = rows(on_grid, "SELECT repairs FROM grid_states")
    repairs = msgspec.json.decode(state, type=list[str])
    assert repairs[0].startswith("cleared again: line head 1 loaded")
    (after,) = rows(on_grid, LIMITS)
    assert after[:4] == before[:4]
    assert after[4] < before[4]
    ((sent,),) = rows(on_grid, "SELECT sent_wh FROM flows")
    assert 0 < sent <= after[4]
    (feasible,) = [each for each in outcome.result_verdicts if each.check == "feasible_in_ac_power_flow"]
    assert "line head 1 loaded" in feasible.detail
    assert rows(on_grid, "SELECT count(*) FROM audit_logs WHERE what = 'epoch_repaired'") == [(1,)]
    assert laws_close(on_grid)


def test_an_epoch_that_no_capacity_repairs_is_halted_and_settles_without_trades(on_grid: Services) -> None:
    network.compute(on_grid, [FIRST])
    weak = replace(on_grid, grid=case(derate=0.0001))
    outcome = clearing.clear_epochs(weak, [FIRST])
    assert not failed([*outcome.book_verdicts, *outcome.result_verdicts])
    assert rows(on_grid, "SELECT status, halted, volume_wh FROM market_epochs") == [("halted", True, 0)]
    assert rows(on_grid, "SELECT count(*) FROM fills") == [(0,)]
    ((words,),) = rows(on_grid, "SELECT repairs FROM grid_states")
    assert msgspec.json.decode(words, type=list[str])[-1].startswith("halted: line ")
    # domain §6: surplus is credited, deficits burn what is held and the rest is billed, nothing is bought back
    made = sum(max(row["net_wh"], 0) for row in net_rows(1))
    assert rows(on_grid, "SELECT sum(minted_wh), sum(bought_back_wh), sum(traded_wh) FROM settlements") == [
        (made, 0, 0)
    ]
    assert laws_close(on_grid)


def test_a_state_without_a_power_flow_blocks_before_a_book_is_made(on_grid: Services) -> None:
    with on_grid.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE net_energy SET consumption_wh = 9000000, net_wh = production_wh - 9000000, "
                "consumption_end_wh = consumption_start_wh + 9000000 WHERE meter_id = :meter AND epoch = :epoch"
            ),
            {"meter": meter_id(4), "epoch": FIRST},
        )
    network.compute(on_grid, RANGE)
    (bad,) = failed(network.inspect_epochs(on_grid, RANGE))
    assert (bad.check, bad.epoch) == ("power_flow_converged", FIRST + 1)
    with on_grid.engine.connect() as connection:
        found = store.limits_between(connection, FIRST + 1, FIRST + 1)
    assert found.select("capacity_forward_wh", "capacity_backward_wh").rows() == [(0, 0)]


def test_the_days_report_and_map_are_written_and_linked(on_grid: Services) -> None:
    network.compute(on_grid, RANGE)
    clearing.clear_epochs(on_grid, RANGE)
    (report,) = grid_day.write_days(on_grid, [("2026-03-02", epochs_of_day("2026-03-02"))])
    energy = [sum(row[name] for row in net_rows(2)) for name in ("production_wh", "consumption_wh")]
    assert [report.facts["generation_kwh"], report.facts["load_kwh"]] == [kwh(each) for each in energy]
    assert report.facts["violations"] == 0
    pages = [Path(unquote(urlsplit(str(report.facts[name])).path)) for name in ("report_json", "report_html", "map")]
    assert [page.name for page in pages] == ["report.json", "report.html", "map.html"]
    assert json.loads(pages[0].read_text())["days"][0]["epochs"] == 2
    assert "Grid report 2026-03-02" in pages[1].read_text()
    assert meter_id(0) in pages[2].read_text()
    (empty,) = grid_day.write_days(on_grid, [("2026-03-01", epochs_of_day("2026-03-01"))])
    assert empty.facts["note"] == "nothing was metered"


def _wide(services: Services) -> Any:
    links = tuple(
        msgspec.structs.replace(link, capacity_forward_wh=1_000_000, capacity_backward_wh=1_000_000)
        for link in services.network.links
    )
    return msgspec.structs.replace(services.network, links=links)

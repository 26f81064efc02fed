"""Island mode of a running market: declared, cleared by its own rules, settled on the chain, ended, audited ok.

Two epochs on the upstream grid, two without it, two after its return. In between the registers show what the island's
own dispatch makes of the same households: storage gives, a second-class load is shed. One reading comes late across a
boundary inside the island, so that its resettlement is booked after the return.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from gridtokenx_pipelines import operations
from gridtokenx_pipelines.audit.findings import DIFFERS, OK
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.epochs import key_of, start_us
from gridtokenx_pipelines.grid.case import GridCase, MeterPlace, case_of, save
from gridtokenx_pipelines.grid.island import dispatch, first_stored
from gridtokenx_pipelines.grid.states import state_of
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import (
    chain_proof,
    clearing,
    energy,
    grid_day,
    instructions,
    network,
    receipts,
    resettlement,
    statements,
)
from gridtokenx_pipelines.settlement_service.audits.service import audit_range
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.island import Declared, IslandRefused, declare
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.store import energy as energy_store
from gridtokenx_pipelines.store import island as store
from gridtokenx_pipelines.store.clearing import priced_history, resumptions
from gridtokenx_pipelines.store.proof import ledger_laws
from tests.assets.audited_market import SECOND, play, settings_of
from tests.assets.market_chain import bring_up, settings
from tests.assets.market_day import FIRST, HOUSEHOLDS, frame, meter_id, net_rows, seed
from tests.unit.grid.small import pandapower_net

BEFORE, DURING, AFTER = [FIRST, FIRST + 1], [FIRST + 2, FIRST + 3], [FIRST + 4, FIRST + 5]
EPOCHS = [*BEFORE, *DURING, *AFTER]
STORING, WAITING = 3, 4  # the household whose battery forms the island, the one that is served last
STREET_WH = 200
NOW = datetime(2026, 3, 2, 5, tzinfo=UTC)
SUN = {FIRST + 2: 120, FIRST + 3: 40}  # % of the usual production, 200 otherwise


def case(*, storage: bool = True) -> GridCase:
    places = [
        MeterPlace(
            meter_id=meter_id(index),
            bus=2 * zone + (0 if produced else 1),
            zone_id=zone,
            rating_w=10_000,
            produces=produced > 0,
            storage_wh=3_000 if storage and index == STORING else 0,
            storage_w=4_000 if storage and index == STORING else 0,
            priority=2 if index == WAITING else 1,
        )
        for index, (zone, produced, *_) in enumerate(HOUSEHOLDS)
    ]
    return case_of(pandapower_net(), places, {2: 1, 3: 1, 4: 2, 5: 2})


def metered() -> dict[tuple[int, int], tuple[int, int]]:
    """Wh produced and consumed by household and epoch, the island's by its dispatch."""
    whole = case()
    stored = first_stored(whole)
    found = {}
    for epoch in EPOCHS:
        wished = {
            # household 1 covers itself, so that what is left unsold is household 0's, who consents to buy-back
            meter_id(index): (150 if index == 1 else produced * SUN.get(epoch, 200) // 100, consumed)
            for index, (_, produced, consumed, *_) in enumerate(HOUSEHOLDS)
        }
        if epoch in DURING:
            done, flow = dispatch(whole.island[0], state_of(whole, wished), stored)
            assert flow.converged.all()
            stored = done.stored_wh
            shown = zip(whole.meter_id, done.produced_wh.tolist(), done.consumed_wh.tolist(), strict=True)
            wished = {str(meter): (made, used) for meter, made, used in shown}
            # street lighting without a meter: so that somebody has surplus that no household needs
            made, used = wished[meter_id(0)]
            wished[meter_id(0)] = (made + STREET_WH, used)
        found |= {(index, epoch): wished[meter_id(index)] for index in range(len(HOUSEHOLDS))}
    return found


def registers_of(energy_wh: dict[tuple[int, int], tuple[int, int]]) -> Callable[[int, int], tuple[int, int]]:
    def registers(index: int, time_us: int) -> tuple[int, int]:
        """Evenly through each epoch; an epoch's last reading comes 30 s before its end and shows all of it."""
        place, since = divmod(time_us - start_us(FIRST) + 30 * SECOND, 900 * SECOND)
        whole = [energy_wh[index, epoch] for epoch in EPOCHS[:place]]
        part = energy_wh[index, EPOCHS[place]] if place < len(EPOCHS) else (0, 0)
        return tuple(  # type: ignore[return-value]
            base + sum(each[way] for each in whole) + part[way] * since // (900 * SECOND)
            for way, base in ((0, 1_000), (1, 2_000))
        )

    return registers


def settle(services: Services, epochs: list[int]) -> None:
    """The spine over these epochs."""
    energy.collect(services, epochs)
    network.compute(services, epochs)
    assert not failed(network.inspect_epochs(services, epochs))
    outcome = clearing.clear_epochs(services, epochs)
    assert not failed([*outcome.book_verdicts, *outcome.result_verdicts])
    instructions.plan_epochs(services, epochs)
    receipts.settle_epochs(services, epochs)
    assert not failed(receipts.inspect_epochs(services, epochs))
    statements.write(services, epochs)


@pytest.fixture(scope="module")
def market(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The whole life: before, declared lost, during, declared back, after, the late reading resettled."""
    folder = tmp_path_factory.mktemp("island")
    with LocalnetProcess(folder / "localnet", slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        with open_services(settings(folder / "data", new_database(), localnet.url)) as opened:
            services = replace(opened, grid=case())
            play(services, len(EPOCHS), registers_of(metered()), late=(STORING, 2))
            settle(services, BEFORE)
            lost = declare(services.engine, services.grid, store.LOST, epoch=None, who="operator", why="storm", at=NOW)
            assert lost == Declared(epoch=DURING[0], what="lost", new=True, forming=meter_id(STORING))
            settle(services, DURING)
            back = declare(services.engine, services.grid, store.RETURNED, epoch=None, who="operator", why="", at=NOW)
            assert back == Declared(epoch=AFTER[0], what="returned", new=True)
            settle(services, AFTER)
            resettlement.resettle_epochs(services, EPOCHS)
            yield services


def rows(services: Services, sql: str) -> list[tuple[Any, ...]]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_registers_show_the_storage_giving_and_only_the_second_class_shed(market: Services) -> None:
    usual = {index: consumed for index, (_, _, consumed, *_) in enumerate(HOUSEHOLDS)}
    found = rows(market, "SELECT epoch, meter_id, consumption_wh FROM net_energy WHERE revision = 0 AND NOT missing")
    short = {
        (epoch, index)
        for epoch, meter, used in found
        for index in usual
        if meter == meter_id(index) and used < usual[index] - 31
    }
    assert short == {(FIRST + 3, WAITING)}
    assert metered()[STORING, FIRST + 3][0] > HOUSEHOLDS[STORING][1] * 40 // 100  # the battery gives


def test_limits_come_from_the_island_while_it_lasts_and_from_the_grid_before_and_after(market: Services) -> None:
    found = rows(market, "SELECT epoch, source, case_fingerprint FROM grid_states ORDER BY epoch")
    whole, island = case().fingerprint, case().island[0].fingerprint
    assert [(epoch, source) for epoch, source, _ in found] == [
        (epoch, "island: power flow" if epoch in DURING else "power flow") for epoch in EPOCHS
    ]
    assert [mark for *_, mark in found] == [island if epoch in DURING else whole for epoch in EPOCHS]


def test_the_market_clears_within_the_island_and_nobody_buys_back_there(market: Services) -> None:
    found = rows(
        market,
        "SELECT epoch, sum(abs(traded_wh)) > 0, sum(bought_back_wh) FROM settlements "
        "WHERE run = 0 GROUP BY epoch ORDER BY epoch",
    )
    assert [epoch for epoch, traded, _ in found if traded] == EPOCHS
    assert [bought > 0 for _, _, bought in found] == [epoch not in DURING for epoch in EPOCHS]
    unsold = rows(
        market,
        "SELECT epoch, max(s.minted_wh + least(s.traded_wh, 0)) FROM settlements s JOIN mandates m USING (wallet) "
        "WHERE run = 0 AND m.buy_back AND minted_wh > 0 GROUP BY epoch",
    )
    # surplus of who consents: the flag is what kept the supplier out, not a market that sold everything
    assert dict(unsold)[DURING[0]] > 0


def test_every_law_is_0_in_the_database_and_on_the_chain_and_both_are_equal(market: Services) -> None:
    with market.engine.connect() as connection:
        assert [law for law in ledger_laws(connection) if law.difference] == []
        proof = chain_proof.compare(market, connection)
    assert (proof.traders.rows(), proof.others.rows()) == ([], [])
    assert [law for law in proof.laws if law.difference] == []


def test_the_late_reading_of_the_island_is_resettled_after_the_return(market: Services) -> None:
    assert rows(market, "SELECT boundary_epoch, status FROM corrections") != []
    assert rows(market, "SELECT count(*) FROM corrections WHERE booked_seq IS NULL") == [(0,)]
    assert rows(market, "SELECT count(*) FROM runs WHERE status <> 'finalised'") == [(0,)]


def test_statements_of_the_island_are_there_and_nothing_is_paid_for_buy_back(market: Services) -> None:
    report = statements.write(market, DURING)
    assert [each.epoch for each in report] == DURING
    frame = pl.concat([market.parquet.read("epoch_statement", epoch, "participants") for epoch in DURING])
    assert frame.height == 2 * len(HOUSEHOLDS)
    assert frame["buy_back_uthb"].sum() == 0


def test_the_circuit_breaker_knows_no_price_of_another_state_of_the_network(market: Services) -> None:
    with market.engine.connect() as connection:
        known = {epoch: len(priced_history(connection, 1, epoch, 4)) for epoch in EPOCHS}
        assert resumptions(connection) == (DURING[0], AFTER[0])
    assert known == {epoch: place % 2 for place, epoch in enumerate(EPOCHS)}


def test_an_audit_of_the_whole_span_recomputes_the_same_and_says_ok(market: Services) -> None:
    outcome = audit_range(market, EPOCHS[0], EPOCHS[-1])
    assert [f"{each.what}: {each.detail}" for verdict in outcome.verdicts for each in verdict.findings] == []
    assert [each.verdict for each in outcome.verdicts] == [OK] * len(EPOCHS)
    inside = audit_range(market, DURING[1], AFTER[0])
    assert [each.verdict for each in inside.verdicts] == [OK, OK]


def test_the_grid_operators_report_says_that_nothing_came_from_upstream_while_it_lasted(market: Services) -> None:
    with market.engine.connect() as connection:
        total = {
            epoch: grid_day.report_between(connection, case(), market.network, epoch, epoch).totals.row(0, named=True)
            for epoch in EPOCHS
        }
    assert [epoch for epoch in EPOCHS if total[epoch]["upstream_wh"] == 0] == DURING
    for epoch, row in total.items():
        balance = row["upstream_wh"] + row["unmetered_wh"] + row["generation_wh"] - row["load_wh"] - row["loss_wh"]
        assert abs(balance) <= 2
        # the street lighting takes what no meter accounts for; the dispatch rounds losses up to a Wh
        assert abs(row["unmetered_wh"] + (STREET_WH if epoch in DURING else 0)) <= (2 if epoch in DURING else 0)


def test_an_audit_finds_an_island_that_was_never_declared_in_the_log(market: Services) -> None:
    _move_return(market, AFTER[0], AFTER[1])
    try:
        outcome = audit_range(market, EPOCHS[0], EPOCHS[-1])
    finally:
        _move_return(market, AFTER[1], AFTER[0])
    (bad,) = [each for each in outcome.verdicts if each.epoch == AFTER[0]]
    assert bad.verdict == DIFFERS
    words = [each.detail for each in bad.findings if each.what == "island_events"]
    assert any("differ from the audit log" in each for each in words)
    assert any("declared an island" in each for each in words)


def _move_return(services: Services, was: int, now: int) -> None:
    """What only a superuser can: the table itself refuses changes."""
    with services.engine.begin() as connection:
        connection.execute(text("ALTER TABLE island_events DISABLE TRIGGER ALL"))
        connection.execute(text("UPDATE island_events SET epoch = :now WHERE epoch = :was"), {"now": now, "was": was})
        connection.execute(text("ALTER TABLE island_events ENABLE TRIGGER ALL"))


@pytest.mark.parametrize(
    ("what", "epoch", "words"),
    [
        ("lost", AFTER[1], "must be 2026-03-02T06:30Z or later: what is cleared stays"),
        ("returned", AFTER[1] + 1, "the upstream grid is back already since 2026-03-02T06:00Z"),
        ("lost", AFTER[1] + 10_000, "must be at most 7 days after"),
        ("gone", AFTER[1] + 1, "must be one of lost, returned"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused_by_name(
    market: Services, what: str, epoch: int, words: str
) -> None:
    with pytest.raises(IslandRefused, match=words):
        declare(market.engine, market.grid, what, epoch=epoch, who="operator", why="", at=NOW)


def test_the_job_of_the_operator_declares_and_refuses(market: Services, tmp_path: Path) -> None:
    folder = market.parquet.root.parent
    save(case(), folder / "grid.npz")
    resources = {"settlement": Settlement(environment=settings_of(market, folder).as_env())}

    def run(upstream: str, epoch: str = "") -> dg.ExecuteInProcessResult:
        config = operations.Declaration(upstream=upstream, epoch=epoch, who="ann", why="rehearsal")
        return operations.declare_island.execute_in_process(
            run_config=dg.RunConfig(ops={"declare_upstream": config}), resources=resources, raise_on_error=False
        )

    after = key_of(AFTER[1] + 1)
    assert not run("returned").success
    assert run("lost").success
    assert run("lost", after).success  # twice is once
    assert run("returned", key_of(AFTER[1] + 2)).success
    assert not run("lost", "tomorrow").success
    found = rows(market, "SELECT epoch, what, who, why FROM island_events ORDER BY epoch")
    assert found[2:] == [(AFTER[1] + 1, "lost", "ann", "rehearsal"), (AFTER[1] + 2, "returned", "ann", "rehearsal")]


def test_the_command_shows_plans_and_refuses(market: Services) -> None:
    folder = market.parquet.root.parent
    save(case(), folder / "grid.npz")
    place = ["--data-dir", str(folder), "--database-url", market.engine.url.render_as_string(hide_password=False)]

    def grid(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["grid", "island", *arguments, *place])

    shown = json.loads(grid("show", "--json").output)
    assert [(each["epoch"], each["what"]) for each in shown["declared"]][:2] == [
        (key_of(DURING[0]), "lost"),
        (key_of(AFTER[0]), "returned"),
    ]
    assert grid("show").exit_code == 0
    plan = grid("plan", "--epoch", key_of(BEFORE[0]), "--stored", "0", "--json")
    found = json.loads(plan.output)
    assert (plan.exit_code, found["forming"], found["violations"]) == (0, meter_id(STORING), [])
    stored = {each["meter_id"]: each["charge_wh"] for each in found["set_points"]}
    assert stored[meter_id(STORING)] > 0  # the sun shone and the storage was said to be empty
    assert "had been declared already" in grid("lost", "--from", key_of(DURING[0])).output
    refused = grid("lost", "--from", key_of(BEFORE[0]))
    assert (refused.exit_code, "what is cleared stays" in refused.output) == (1, True)


def test_a_network_without_storage_cannot_be_declared_an_island(services: Services) -> None:
    seed(services.engine, 1)
    with pytest.raises(IslandRefused, match="had no storage, must have one to form an island"):
        declare(services.engine, case(storage=False), "lost", epoch=FIRST, who="operator", why="", at=NOW)
    assert rows(services, "SELECT count(*) FROM island_events") == [(0,)]


def test_limits_computed_before_the_declaration_are_computed_again_when_the_epoch_clears(services: Services) -> None:
    seed(services.engine, 1)
    on_grid = replace(services, grid=case())
    network.compute(on_grid, [FIRST])
    said = [declare(services.engine, case(), "lost", epoch=FIRST, who="operator", why="", at=NOW).new for _ in range(2)]
    assert said == [True, False]
    assert rows(services, "SELECT source FROM grid_states") == [("power flow",)]
    assert not failed(clearing.clear_epochs(on_grid, [FIRST]).result_verdicts)
    assert rows(services, "SELECT source FROM grid_states") == [("island: power flow",)]
    assert rows(services, "SELECT who, detail->>'what' FROM audit_logs WHERE what = 'island_declared'") == [
        ("operator", "lost")
    ]


def test_an_island_whose_state_has_no_power_flow_does_not_clear(services: Services) -> None:
    wild = net_rows(1)
    wild[4] |= {"epoch": FIRST - 1, "booked_epoch": FIRST - 1, "consumption_wh": 9_000_000, "net_wh": -9_000_000}
    seed(services.engine, 1)
    with services.engine.begin() as connection:
        energy_store.save_net_energy(connection, frame([wild[4]]))
    on_grid = replace(services, grid=case())
    network.compute(services, [FIRST])
    declare(services.engine, case(), "lost", epoch=FIRST, who="operator", why="", at=NOW)
    with pytest.raises(EpochNotReady, match="after the declaration: power_flow_converged"):
        clearing.clear_epochs(on_grid, [FIRST])

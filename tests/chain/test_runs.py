"""Whole settlement runs on the local chain, compared with the ledger to the last Wh and µTHB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import Engine, text

from gridtokenx_pipelines.chain import state
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.outbox import Outbox
from gridtokenx_pipelines.chain.runs import settle_run, settle_runs
from gridtokenx_pipelines.chain.setup import Setup
from gridtokenx_pipelines.market.orders import Side
from gridtokenx_pipelines.store.postgres import engine as make_engine
from tests.chain.settled_world import FIRST_EPOCH, KEYS, RULES, RUN_KEYS, THB, SmallMarket


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ChainClient]:
    with LocalnetProcess(tmp_path / "chain", slot_ms=50) as process, ChainClient(process.url) as connected:
        yield connected


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = make_engine(postgres_url)
    yield made
    made.dispose()


@pytest.fixture
def market(client: ChainClient) -> SmallMarket:
    made = SmallMarket(client)
    made.bring_up()
    return made


def chain_equals_ledger(client: ChainClient, market: SmallMarket) -> None:
    traders = state.read_traders(client).select("owner", "grid_wh", "thbc_uthb", "debt_uthb")
    assert traders.rows() == market.balances.sort("owner").select(traders.columns).rows()
    on_chain = state.read_market(client)
    accounts = {name: on_chain[name] for name in market.accounts.__struct_fields__}
    assert accounts == {name: getattr(market.accounts, name) for name in accounts}
    supplies = state.read_supplies(client)
    assert supplies.grid_supply_wh == supplies.grid_vault_wh == traders["grid_wh"].sum() + accounts["supplier_grid_wh"]
    assert supplies.thbc_vault_uthb == supplies.thbc_supply_uthb


def test_set_up_is_complete_and_the_second_time_there_is_nothing_to_do(client: ChainClient) -> None:
    market = SmallMarket(client, homes=4)
    first, second = market.bring_up(), market.bring_up()
    assert first.initialised == ("governance", "energy-token", "registry", "trading")
    assert (first.users, first.meters, first.deposits, first.mandates) == (4, 4, 4, 4)
    assert (second.initialised, second.users, second.meters, second.deposits, second.mandates) == ((), 0, 0, 0, 0)
    assert second.transactions == 0
    chain_equals_ledger(client, market)
    meters = state.read_meters(client)
    assert meters["meter_id"].to_list() == [f"MEA-{number:03}" for number in range(4)]
    assert meters.select("status", "rating_w", "first_epoch", "baseline_production_wh").unique().rows() == [
        (1, 60_000, FIRST_EPOCH, 1_000)
    ]
    mandates = state.read_mandates(client)
    assert mandates.select("sell_min_uthb_per_kwh", "buy_max_uthb_per_kwh", "max_wh", "buy_back").unique().rows() == [
        (2_000_000, 8_000_000, 1_000_000, True)
    ]


def test_a_deposit_is_made_once_whatever_set_up_is_asked(client: ChainClient, market: SmallMarket) -> None:
    setup = Setup(client, KEYS)
    assert setup.deposit(market.users) == 0
    assert state.read_traders(client)["thbc_uthb"].to_list() == [1_000 * THB] * 3


def test_an_epoch_settles_end_to_end_and_the_chain_equals_the_ledger(
    client: ChainClient, engine: Engine, market: SmallMarket
) -> None:
    orders = [
        market.order(0, Side.SELL, 400, 2_500_000, FIRST_EPOCH),
        market.order(1, Side.BUY, 400, 5_000_000, FIRST_EPOCH),
    ]
    energies = [(500, 0), (0, 450), (100, 300)]
    plan = market.initial(FIRST_EPOCH, energies, trade=(0, 1, 400), orders=orders)
    outbox = Outbox(engine, client)
    receipts = settle_run(client, outbox, plan, RUN_KEYS, market.lookup)
    steps = sorted((receipt.step, receipt.idx, receipt.status) for receipt in receipts)
    assert steps == [
        ("commit", 0, "ok"),
        ("finalize", 0, "ok"),
        ("meter", 0, "ok"),
        ("prepare", 0, "ok"),
        ("record", 2, "ok"),
        ("record", 3, "ok"),
        ("settle", 1, "ok"),
    ]
    assert all(receipt.fee_lamports >= 5_000 and receipt.compute_units > 0 for receipt in receipts)
    chain_equals_ledger(client, market)
    epoch = state.read_epochs(client, [FIRST_EPOCH])[FIRST_EPOCH]
    assert (epoch["run"], epoch["status"], epoch["seq"]) == (0, 2, 1)
    roots = state.read_roots(client, [(FIRST_EPOCH, 0, 0), (FIRST_EPOCH, 1, 0)])
    assert roots == {(FIRST_EPOCH, 0, 0): plan.metering_root, (FIRST_EPOCH, 1, 0): plan.root}


def test_settling_again_sends_nothing_and_gives_the_same_receipts(
    client: ChainClient, engine: Engine, market: SmallMarket
) -> None:
    plan = market.initial(FIRST_EPOCH, [(500, 0), (0, 450), (100, 300)], trade=(0, 1, 400))
    outbox = Outbox(engine, client)
    receipts = settle_run(client, outbox, plan, RUN_KEYS, market.lookup)
    count = client.call("getTransactionCount")
    assert settle_run(client, outbox, plan, RUN_KEYS, market.lookup) == receipts
    assert client.call("getTransactionCount") == count


def test_a_run_that_another_has_settled_counts_as_settled(
    client: ChainClient, engine: Engine, market: SmallMarket, new_database
) -> None:
    plan = market.initial(FIRST_EPOCH, [(500, 0), (0, 450), (100, 300)])
    other = make_engine(new_database())
    settle_run(client, Outbox(other, client), plan, RUN_KEYS, market.lookup)
    other.dispose()
    assert settle_run(client, Outbox(engine, client), plan, RUN_KEYS, market.lookup) == []
    chain_equals_ledger(client, market)


def test_consecutive_epochs_settle_pipelined_as_they_do_one_by_one(
    client: ChainClient, engine: Engine, market: SmallMarket
) -> None:
    plans = [
        market.initial(FIRST_EPOCH + n, [(500 + n, 0), (0, 450), (100, 300 + n)], trade=(0, 1, 400)) for n in range(6)
    ]
    receipts = settle_runs(client, Outbox(engine, client), plans, RUN_KEYS, market.lookup)
    assert [len(each) for each in receipts] == [5] * 6
    chain_equals_ledger(client, market)
    with engine.connect() as connection:
        counted = connection.execute(text("SELECT count(*), count(distinct signature) FROM blockchain_transactions"))
        assert counted.one() == (30, 30)
        assert connection.execute(text("SELECT DISTINCT status FROM outbox")).all() == [("confirmed",)]


def test_a_missing_meter_catches_up_by_a_late_run(client: ChainClient, engine: Engine, market: SmallMarket) -> None:
    outbox = Outbox(engine, client)
    first = market.initial(FIRST_EPOCH, [(500, 0), (0, 450), (0, 0)], missing=[2])
    second = market.initial(FIRST_EPOCH + 1, [(500, 0), (0, 450), (0, 0)], missing=[2])
    caught_up = pl.DataFrame(
        {
            "meter_id": market.meters[2].meter_id,
            "wallet": str(market.wallets[2].pubkey),
            "zone_id": 1,
            "epoch": [FIRST_EPOCH, FIRST_EPOCH + 1],
            "revision": 1,
            "production_wh": [100, 700],
            "consumption_wh": [400, 200],
            "net_wh": [-300, 500],
            "missing": False,
            "booked_epoch": FIRST_EPOCH + 1,
        }
    )
    late = market.late(caught_up, FIRST_EPOCH + 1, 1)
    third = market.initial(FIRST_EPOCH + 2, [(500, 0), (0, 450), (300, 0)])
    settle_runs(client, outbox, [first, second, late, third], RUN_KEYS, market.lookup)
    chain_equals_ledger(client, market)
    meter = state.read_meters(client, [market.meters[2].meter_id]).row(0, named=True)
    assert (meter["minted_wh"], meter["deficit_wh"], meter["last_epoch"]) == (800, 300, FIRST_EPOCH + 2)


def test_a_plan_whose_root_is_not_the_attested_one_is_refused_before_anything_is_sent(
    client: ChainClient, engine: Engine, market: SmallMarket
) -> None:
    plan = market.initial(FIRST_EPOCH, [(500, 0), (0, 450), (100, 300)])
    market.seq = 0
    other = market.initial(FIRST_EPOCH, [(501, 0), (0, 450), (100, 300)])
    outbox = Outbox(engine, client)
    settle_run(client, outbox, plan, RUN_KEYS, market.lookup)
    with pytest.raises(ChainError, match="has the final root"):
        settle_run(client, outbox, other, RUN_KEYS, market.lookup)


def test_plans_out_of_order_are_refused(client: ChainClient, engine: Engine, market: SmallMarket) -> None:
    first = market.initial(FIRST_EPOCH, [(500, 0), (0, 450), (100, 300)])
    second = market.initial(FIRST_EPOCH + 1, [(500, 0), (0, 450), (100, 300)])
    with pytest.raises(ValueError, match="must ascend"):
        settle_runs(client, Outbox(engine, client), [second, first], RUN_KEYS, market.lookup)


def test_rules_reach_the_epoch_account(client: ChainClient, engine: Engine, market: SmallMarket) -> None:
    plan = market.initial(FIRST_EPOCH, [(500, 0), (0, 450), (100, 300)])
    settle_run(client, Outbox(engine, client), plan, RUN_KEYS, market.lookup)
    epoch = state.read_epochs(client, [FIRST_EPOCH])[FIRST_EPOCH]
    assert (epoch["fee_bp"], epoch["tariff"]) == (RULES.fee_bp, RULES.tariff_uthb_per_kwh(FIRST_EPOCH))


@pytest.mark.validator
def test_a_real_validator_settles_the_same_run_to_the_same_balances(
    validator_client: ChainClient, engine: Engine
) -> None:
    market = SmallMarket(validator_client)
    market.bring_up()
    outbox = Outbox(engine, validator_client)
    orders = [
        market.order(0, Side.SELL, 400, 2_500_000, FIRST_EPOCH),
        market.order(1, Side.BUY, 400, 5_000_000, FIRST_EPOCH),
    ]
    plans = [
        market.initial(FIRST_EPOCH, [(500, 0), (0, 450), (100, 300)], trade=(0, 1, 400), orders=orders),
        market.initial(FIRST_EPOCH + 1, [(500, 0), (0, 450), (100, 300)], trade=(0, 1, 400)),
    ]
    receipts = settle_runs(validator_client, outbox, plans, RUN_KEYS, market.lookup)
    assert [len(each) for each in receipts] == [7, 5]
    chain_equals_ledger(validator_client, market)
    assert settle_runs(validator_client, outbox, plans, RUN_KEYS, market.lookup) == receipts

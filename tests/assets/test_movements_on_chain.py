"""Whatever moves money on the chain outside of runs reaches the ledger once, and chain and ledger stay equal."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from sqlalchemy import text

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.participants import MarketFunding
from gridtokenx_pipelines.chain.setup import Setup
from gridtokenx_pipelines.settlement_service import clearing, instructions, movements, receipts
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import proof
from tests.assets.households import TRADING, Household
from tests.assets.market_chain import chain_keys, signer
from tests.assets.market_day import FIRST, meter_id, net_rows, seed, wallet
from tests.assets.test_settlement_on_chain import settle


def problems(services: Services, epochs: list[int]) -> list[str]:
    """Everything that does not close: the checks on receipts and the laws from the database."""
    found = [f"{one.check}: {one.failing}" for one in failed(receipts.inspect_epochs(services, epochs))]
    with services.engine.connect() as connection:
        return found + [f"{law.law}: {law.difference}" for law in proof.ledger_laws(connection) if law.difference]


def with_surplus(epochs: int) -> list[dict[str, Any]]:
    """The first epoch's sun shines on household 1 so much that it keeps GRID (its mandate sells nothing back)."""
    rows = net_rows(epochs)
    for row in rows:
        if (row["meter_id"], row["epoch"]) == (meter_id(1), FIRST):
            row |= {"production_wh": 2_000, "net_wh": 2_000 - row["consumption_wh"]}
    return rows


def cash_of(services: Services, index: int) -> int:
    with services.engine.connect() as connection:
        sql = text("SELECT thbc_uthb - debt_uthb FROM balances WHERE owner = :w")
        return int(connection.execute(sql, {"w": wallet(index)}).scalar_one())


def test_money_that_comes_and_goes_between_epochs_is_booked_once_and_the_laws_stay_zero(live: Services) -> None:
    seed(live.engine, 3, with_surplus(3))
    household = Household(live, 1)
    assert settle(live, [FIRST]) == []
    before = cash_of(live, 1)
    household.act("request_withdrawal", thbc=5_000_000, grid=100)
    household.withdraw()
    household.act("deposit", {"source": household.thbc}, amount=2_000_000)
    household.act("deposit_grid", {"source": household.grid}, amount=40)
    bring_funds(live, 7_000_000)
    assert problems(live, [FIRST]) == []
    assert cash_of(live, 1) == before - 3_000_000
    assert movements.follow(live).booked == {}
    assert settle(live, [FIRST + 1, FIRST + 2]) == []
    assert problems(live, [FIRST + 1, FIRST + 2]) == []
    with live.engine.connect() as connection:
        rows = connection.execute(text("SELECT kind, grid_wh, cash_uthb FROM chain_movements ORDER BY event_seq"))
        assert rows.all() == [("withdrawal", -100, -5_000_000), ("grid_deposit", 40, 0)]


def bring_funds(services: Services, amount: int) -> None:
    """The supplier's account funded in the middle of things, from a funder's own THBC."""
    funding = MarketFunding(
        funder=signer("funder"), supplier_uthb=amount, grid_operator_uthb=amount, reference="second"
    )
    Setup(services.client, chain_keys()).fund_market(funding)


def with_deficits(epochs: int) -> list[dict[str, Any]]:
    """Household 1 has a surplus in the first epoch, and lives on what it kept in those after it."""
    rows = with_surplus(epochs)
    for row in rows:
        if row["meter_id"] == meter_id(1) and row["epoch"] > FIRST:
            row |= {"production_wh": 0, "consumption_wh": 400, "net_wh": -400}
    return rows


@pytest.mark.parametrize("number", [1, 2, 3])
def test_whatever_a_household_moves_while_runs_are_booked_and_not_sent_every_law_holds_at_each_moment(
    live: Services, number: int
) -> None:
    """A run burns what is held when the chain applies it: GRID that leaves or comes in between is burned or billed."""
    draw = random.Random(number)  # noqa: S311 - which moves, in which order
    seed(live.engine, 5, with_deficits(5))
    household = Household(live, 1)
    assert settle(live, [FIRST]) == []
    open_epochs: list[int] = []
    for epoch in range(FIRST + 1, FIRST + 4):
        outcome = clearing.clear_epochs(live, [epoch])
        assert failed([*outcome.book_verdicts, *outcome.result_verdicts]) == []
        instructions.plan_epochs(live, [epoch])
        open_epochs.append(epoch)
        roots = rows_of(live, "SELECT seq, root FROM runs ORDER BY seq")
        live.client.forget_blockhash()  # else the second withdrawal would be the first one's bytes again
        held = chain_grid(live, household)
        taken = draw.randrange(held + 1) if draw.random() < 0.8 else held
        household.act("request_withdrawal", thbc=1_000 + draw.choice([0, 1_000_000]), grid=taken)
        household.withdraw()
        if taken and draw.random() < 0.6:
            household.act("deposit_grid", {"source": household.grid}, amount=draw.randrange(1, taken + 1))
        if draw.random() < 0.4:
            household.act("deposit", {"source": household.thbc}, amount=1_000)
        wait_final(live)
        movements.follow(live)
        assert laws(live) == []
        assert rows_of(live, "SELECT seq, root FROM runs ORDER BY seq") == roots
        if draw.random() < 0.5:
            receipts.settle_epochs(live, open_epochs)
            assert problems(live, open_epochs) == []
            open_epochs = []
    last = [*open_epochs, FIRST + 4]
    assert settle(live, last) == []
    assert problems(live, last) == []
    # some run was booked again, with another residual
    assert rows_of(live, "SELECT count(*) > 0 FROM ledger_entries WHERE reverses IS NOT NULL") == [(True,)]


def chain_grid(services: Services, household: Household) -> int:
    account = services.client.account(household.trader)
    assert account is not None
    return int(TRADING.decode("Trader", account.data)["grid_wh"])


def rows_of(services: Services, sql: str) -> list[tuple[Any, ...]]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def laws(services: Services) -> list[str]:
    with services.engine.connect() as connection:
        return [f"{law.law}: {law.difference}" for law in proof.ledger_laws(connection) if law.difference]


def test_what_is_asked_back_covers_no_later_order(live: Services) -> None:
    seed(live.engine, 2)
    assert settle(live, [FIRST]) == []
    household = Household(live, 4)
    household.act("request_withdrawal", thbc=10**12, grid=0)
    movements.follow(live)
    assert settle(live, [FIRST + 1]) == []
    with live.engine.connect() as connection:
        sql = text("SELECT count(*) FROM fills WHERE epoch = :e AND wallet = :w")
        bought = connection.execute(sql, {"e": FIRST + 1, "w": wallet(4)}).scalar_one()
    assert bought == 0
    household.withdraw()
    assert problems(live, [FIRST + 1]) == []
    assert cash_of(live, 4) == 0


def test_an_order_placed_on_chain_stands_in_the_book_as_its_slot_leaves_it(live: Services) -> None:
    seed(live.engine, 2)
    assert settle(live, [FIRST]) == []
    buyer, other = Household(live, 5), Household(live, 4)
    # the mandate of household 5 buys at 3.60 THB at most; by hand it asks for more, twice at one price
    for energy in (120, 80):
        buyer.act("create_order", epoch=FIRST + 1, side=0, limit=5_000_000, energy_wh=energy)
    other.act("create_order", epoch=FIRST + 1, side=0, limit=6_000_000, energy_wh=50)
    other.act("cancel_order", slot=other.slot())
    wait_final(live)
    movements.follow(live)
    assert settle(live, [FIRST + 1]) == []
    with live.engine.connect() as connection:
        rows = connection.execute(text("SELECT nonce, energy_wh, status FROM orders ORDER BY nonce")).all()
    assert rows == [(1_001, 120, "cancelled"), (1_002, 200, "filled"), (1_003, 50, "cancelled")]
    assert problems(live, [FIRST + 1]) == []


def test_matches_on_chain_are_booked_and_a_continuous_epoch_has_no_auction(live: Services) -> None:
    seed(live.engine, 3)
    assert settle(live, [FIRST]) == []
    authority = live.authority
    switch = TRADING.instruction("set_continuous", {"authority": authority.pubkey}, on=1, wheeling=100_000)
    live.client.send_and_confirm([switch], live.relayer, [authority])
    movements.follow(live)
    assert settle(live, [FIRST + 1]) == []
    seller, buyer = Household(live, 1), Household(live, 2)
    seller.act("create_order", epoch=FIRST + 2, side=1, limit=3_000_000, energy_wh=200)
    buyer.act("create_order", epoch=FIRST + 2, side=0, limit=4_000_000, energy_wh=150)
    both = {"buyer": buyer.trader, "seller": seller.trader}
    match = TRADING.instruction("match_order", both, buy_slot=buyer.slot(), sell_slot=seller.slot())
    live.client.send_and_confirm([match], live.relayer)
    wait_final(live)
    assert movements.follow(live).booked == {"OrderPlaced": 2, "EnergyTraded": 1}
    assert problems(live, [FIRST + 1]) == []
    assert settle(live, [FIRST + 2]) == []
    assert problems(live, [FIRST + 2]) == []
    with live.engine.connect() as connection:
        fills = connection.execute(text("SELECT count(*) FROM fills WHERE epoch > :e"), {"e": FIRST}).scalar_one()
        price = connection.execute(text("SELECT DISTINCT price_uthb_per_kwh FROM chain_movements")).scalar_one()
    assert (fills, price) == (0, 3_030_304)


def test_a_strangers_transfer_into_the_vault_is_counted_apart(live: Services) -> None:
    seed(live.engine, 1)
    assert settle(live, [FIRST]) == []
    household = Household(live, 0)
    household.act("request_withdrawal", thbc=3_000_000, grid=0)
    household.withdraw()
    gift = transfer_checked(household.thbc, addresses.thbc_mint(), addresses.thbc_vault(), household.key.pubkey, 77)
    live.client.send_and_confirm([gift], live.relayer, [household.key])
    assert problems(live, [FIRST]) == []
    assert receipts.proof_of(live).excess_uthb == 77


def transfer_checked(source: Pubkey, mint: Pubkey, to: Pubkey, owner: Pubkey, amount: int) -> Instruction:
    metas = [
        AccountMeta(source, False, True),
        AccountMeta(mint, False, False),
        AccountMeta(to, False, True),
        AccountMeta(owner, True, False),
    ]
    data = bytes([12]) + amount.to_bytes(8, "little") + bytes([6])
    return Instruction(addresses.well_known()["token_program"], data, metas)


def wait_final(services: Services) -> None:
    slot = services.client.slot()
    while services.client.slot("finalized") < slot:
        time.sleep(0.05)

"""Each check on planned runs passes on a plan as it is made and fails on one that was changed."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.market.frames import TRADED, ZONES
from gridtokenx_pipelines.market.orders import Order, encode_order
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.batches import RunPlan, SignedOrder, plan_run
from gridtokenx_pipelines.settlement.frames import BALANCES, MarketAccounts
from gridtokenx_pipelines.settlement.ledger import book_initial
from gridtokenx_pipelines.settlement_service.inspections import instructions
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed

EPOCH = 1_966_080
ORDER_ID = bytes(range(16))
NET = pl.DataFrame(
    {
        "meter_id": ["MEA-001", "MEA-002"],
        "wallet": ["seller", "buyer"],
        "zone_id": [1, 1],
        "epoch": [EPOCH, EPOCH],
        "revision": [0, 0],
        "booked_epoch": [EPOCH, EPOCH],
        "production_wh": [1_500, 0],
        "consumption_wh": [100, 900],
        "net_wh": [1_400, -900],
        "missing": [False, False],
    }
)
FILLED = {"seller": -900, "buyer": 900}
ORDERS = [ORDER_ID]


@cache
def plan() -> RunPlan:
    traded = pl.DataFrame(
        [
            ("seller", 1, -900, 0, 0, 0, 2_700_000, 27_000, 2_673_000),
            ("buyer", 1, 900, 2_790_000, 2_700_000, 90_000, 0, 0, 0),
        ],
        schema=dict(TRADED),
        orient="row",
    )
    booking = book_initial(
        seq=1,
        epoch=EPOCH,
        net_energy=NET,
        traded=traded,
        buy_back=pl.DataFrame(schema={"wallet": pl.String, "buy_back": pl.Boolean}),
        balances=pl.DataFrame([("buyer", 0, 9_000_000, 0), ("seller", 0, 0, 0)], schema=BALANCES, orient="row"),
        accounts=MarketAccounts(),
        rules=Rules(),
        zones=pl.DataFrame([(1, 3_000_000, 100_000, 900, 900)], schema=dict(ZONES), orient="row"),
    )
    order = Order(
        network_id=3,
        market=bytes(32),
        order_id=ORDER_ID,
        meter_hash=bytes(32),
        side=1,
        energy_wh=900,
        limit_uthb_per_kwh=2_970_000,
        epoch=EPOCH,
        nonce=0,
        placed_at_us=1,
    )
    return plan_run(
        booking,
        network_id=3,
        meter_address={"MEA-001": b"\1" * 32, "MEA-002": b"\2" * 32},
        trader_address={"seller": b"\3" * 32, "buyer": b"\4" * 32},
        program_ids={"registry": b"\5" * 32, "trading": b"\6" * 32},
        orders=[SignedOrder(wallet="seller", message=encode_order(order), signature=bytes(64))],
    )


def failures(given: RunPlan, **frames: Any) -> list[str]:
    known: dict[str, Any] = {"net_energy": NET, "traded": FILLED, "orders": ORDERS} | frames
    found = instructions.inspect(EPOCH, [given], **known)
    assert [one.check for one in found] == list(instructions.CHECKS)
    return [one.check for one in failed(found)]


def changed(**changes: Any) -> RunPlan:
    return msgspec.structs.replace(plan(), **changes)


def test_a_plan_as_it_is_made_passes() -> None:
    assert failures(plan()) == []


def test_one_wh_more_for_a_meter_fails_the_energy_sum_and_nothing_else() -> None:
    (batch,) = plan().registry
    forged = msgspec.structs.replace(batch, entries=struct.pack("<4I", 1_501, 100, 0, 900))
    assert failures(changed(registry=(forged,))) == [instructions.ENERGY]


def test_a_wallet_in_two_batches_fails() -> None:
    (batch,) = plan().trading
    assert instructions.FILLS in failures(changed(trading=(batch, batch)))


def test_a_fill_without_an_entry_fails() -> None:
    other = {"seller": -900, "buyer": 850, "third": 50}
    assert failures(plan(), traded=other) == [instructions.FILLS]


def test_a_filled_order_that_is_not_recorded_fails() -> None:
    assert failures(changed(orders=())) == [instructions.FILLS]


def test_a_recorded_order_that_was_not_filled_fails() -> None:
    assert failures(plan(), orders=[]) == [instructions.FILLS]


def test_a_batch_that_does_not_fit_a_transaction_fails() -> None:
    (batch,) = plan().trading
    deep = msgspec.structs.replace(batch, proof=(bytes(32),) * 27)
    assert instructions.FIT in failures(changed(trading=(deep,)))


def test_a_batch_whose_count_is_not_its_entries_fails() -> None:
    (batch,) = plan().trading
    assert failures(changed(trading=(msgspec.structs.replace(batch, n=3),))) == [instructions.FIT]


def test_a_leaf_under_another_root_fails() -> None:
    assert failures(changed(root=bytes(32))) == [instructions.PROVEN]

"""A range of epochs to the local chain and back: settled once, proven equal, resettled by the difference."""

from __future__ import annotations

import polars as pl
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.market.orders import Order, encode_order, meter_hash, order_id_of, sign
from gridtokenx_pipelines.settlement_service import clearing, instructions, progress, receipts, resettlement
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.inspections import receipts as inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import energy, orders
from tests.assets.market_day import FIRST, key_of_household, meter_id, net_rows, seed, wallet

EPOCHS = list(range(FIRST, FIRST + 3))


def settle(services: Services, epochs: list[int]) -> list[str]:
    """Stages 2 to 4; the failed checks' details."""
    outcome = clearing.clear_epochs(services, epochs)
    instructions.plan_epochs(services, epochs)
    receipts.settle_epochs(services, epochs)
    found = [*outcome.book_verdicts, *outcome.result_verdicts, *instructions.inspect_epochs(services, epochs)]
    found += receipts.inspect_epochs(services, epochs)
    return [f"{one.check}: {one.detail} {one.failing}" for one in failed(found)]


def test_a_range_is_settled_once_proven_equal_and_resettled_by_the_difference(live: Services) -> None:
    missing = ((1, 1),)
    rows = net_rows(3, missing=missing)
    whole = [row for row in net_rows(3) if row["meter_id"] == meter_id(1) and row["epoch"] == FIRST + 1]
    late = [row | {"revision": 1, "estimated": True, "late": True, "booked_epoch": FIRST + 1} for row in whole]
    seed(live.engine, 3, [*rows, *late])
    assert progress.complete_unsettled_epochs(live, limit=10) == EPOCHS

    assert settle(live, EPOCHS) == []
    assert progress.complete_unsettled_epochs(live, limit=10) == []
    with live.engine.connect() as connection:
        sent = connection.execute(text("SELECT count(*) FROM blockchain_transactions")).scalar_one()
        statuses = connection.execute(text("SELECT DISTINCT status FROM runs")).fetchall()
    assert [tuple(row) for row in statuses] == [("finalised",)]

    again = receipts.settle_epochs(live, EPOCHS)
    assert [report.changed for report in again] == [False] * 3
    assert all(report.facts["transactions"] for report in again)
    with live.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM blockchain_transactions")).scalar_one() == sent

    # 40 Wh more were produced before the boundary, so 40 less after it, by a seller in both: recorded, nothing moves;
    # a consumer's register moves Wh between two deficits: recorded too
    _correct(live, meter=0, production=40)
    assert progress.epochs_with_corrections(live) == {FIRST + 1: 1}
    (report,) = resettlement.resettle_epochs(live, [FIRST + 1])
    assert report.facts["corrections_recorded"] == 1
    assert report.facts["runs"] == 0
    assert progress.epochs_with_corrections(live) == {}

    # household 3 produced 500 and consumed 450 in the first epoch, 485 and 459 in the second: moving 30 Wh turns the
    # second into a deficit of 4 Wh, so x = 4 is minted and burned at once
    _correct(live, meter=3, production=30)
    (report,) = resettlement.resettle_epochs(live, [FIRST + 1])
    assert (report.facts["corrections_booked"], report.facts["runs"], report.changed) == (1, 1, True)
    assert [f"{one.check}: {one.failing}" for one in failed(receipts.inspect_epochs(live, EPOCHS))] == []
    (report,) = resettlement.resettle_epochs(live, [FIRST + 1])
    assert report.changed is False


def test_a_balance_moved_behind_the_ledgers_back_fails_the_proof(live: Services) -> None:
    seed(live.engine, 1)
    assert settle(live, [FIRST]) == []
    with live.engine.begin() as connection:
        connection.execute(
            text("UPDATE settlements SET thbc_after_uthb = thbc_after_uthb + 1 WHERE wallet = :w"), {"w": wallet(0)}
        )
        connection.execute(
            text("UPDATE settlements SET residual_wh = residual_wh + 1 WHERE wallet = :w"), {"w": wallet(1)}
        )
        connection.execute(text("UPDATE outbox SET status = 'sent' WHERE step = 'settle'"))
    found = {one.check: one for one in failed(receipts.inspect_epochs(live, [FIRST]))}
    assert set(found) == set(inspection.CHECKS)
    equal = found[inspection.EQUAL].failing
    assert equal is not None
    assert equal.select("of", "what", pl.col("ledger") - pl.col("chain")).rows() == [(wallet(0), "thbc_uthb", 1)]
    confirmed = found[inspection.CONFIRMED].failing
    assert confirmed is not None
    assert confirmed["outbox"].to_list() == ["sent"]
    sums = found[inspection.SUMS].failing
    assert sums is not None
    assert sums["law"].to_list() == ["ledger: burned − (deficit − residual)"]


def test_an_epoch_that_is_not_settled_is_not_resettled(live: Services) -> None:
    seed(live.engine, 1)
    with pytest.raises(EpochNotReady, match="must be settled before it is resettled"):
        resettlement.resettle_epochs(live, [FIRST])


def test_a_signed_order_is_recorded_on_chain_and_settles_beyond_the_mandate(live: Services) -> None:
    seed(live.engine, 2)
    # household 5's mandate buys at 3.60 THB at most; by hand it asks for 200 Wh at 5.00 in the second epoch
    order = Order(
        network_id=3,
        market=bytes(addresses.market()),
        order_id=order_id_of(start_us(FIRST), b"0123456789"),
        meter_hash=meter_hash(meter_id(5)),
        side=0,
        energy_wh=200,
        limit_uthb_per_kwh=5_000_000,
        epoch=FIRST + 1,
        nonce=0,
        placed_at_us=start_us(FIRST),
    )
    message = encode_order(order)
    row = {
        "order_id": order.order_id,
        "wallet": wallet(5),
        "zone_id": 2,
        "meter_id": meter_id(5),
        "side": 0,
        "energy_wh": 200,
        "limit_uthb_per_kwh": 5_000_000,
        "epoch": FIRST + 1,
        "nonce": 0,
        "placed_at_us": order.placed_at_us,
        "is_mandate": False,
        "market": order.market,
        "message": message,
        "signature": sign(message, key_of_household(5)),
        "broker_us": order.placed_at_us,
        "status": "pending",
    }
    with live.engine.begin() as connection:
        orders.save_orders(connection, pl.DataFrame([row]))
    assert settle(live, EPOCHS[:2]) == []
    with live.engine.connect() as connection:
        filled = connection.execute(text("SELECT status FROM orders")).scalar_one()
        recorded = connection.execute(text("SELECT count(*) FROM outbox WHERE step = 'record'")).scalar_one()
    assert (filled, recorded) == ("filled", 1)


def _correct(services: Services, *, meter: int, production: int) -> None:
    row = {
        "meter_id": meter_id(meter),
        "wallet": wallet(meter),
        "boundary_epoch": FIRST + 1,
        "revision": 1,
        "production_delta_wh": production,
        "consumption_delta_wh": 0,
        "seq": 14,
        "timestamp_us": 1,
    }
    with services.engine.begin() as connection:
        energy.save_corrections(connection, pl.DataFrame([row], schema=energy.CORRECTIONS, orient="row"))

"""An epoch cleared pay as bid, from its book to the finalised run on chain, by the project's own clearing and plan."""

from __future__ import annotations

import polars as pl
import pytest
from sqlalchemy import Engine

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.outbox import Outbox
from gridtokenx_pipelines.chain.runs import settle_run
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.book import build_book
from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.orders import Side, decode_order
from gridtokenx_pipelines.market.rules import Network, Zone
from gridtokenx_pipelines.settlement.batches import RunPlan, SignedOrder, plan_run
from gridtokenx_pipelines.settlement.frames import LedgerError
from gridtokenx_pipelines.settlement.ledger import book_initial
from gridtokenx_pipelines.settlement.pay_as_bid import (
    BY_MANDATE,
    ORDER_VALUES,
    SELLS,
    entries_of,
    groups_of,
    order_values,
)
from tests.chain.settled_world import FIRST_EPOCH, RULES, RUN_KEYS, SmallMarket
from tests.chain.test_runs import chain_equals_ledger, client, engine, market  # noqa: F401 - fixtures

NETWORK = Network(zones=(Zone(zone_id=1, zone_wheeling_uthb_per_kwh=100_001),))
NET = (700, -450, -300)  # Wh of the three households


def rows(market: SmallMarket) -> pl.DataFrame:  # noqa: F811
    found = [
        {
            "meter_id": meter.meter_id,
            "wallet": str(meter.owner.pubkey),
            "zone_id": 1,
            "epoch": FIRST_EPOCH,
            "revision": 0,
            "production_wh": max(net, 0),
            "consumption_wh": max(-net, 0),
            "net_wh": net,
            "missing": False,
            "booked_epoch": FIRST_EPOCH,
        }
        for meter, net in zip(market.meters, NET, strict=True)
    ]
    return pl.DataFrame(found)


def cleared(market: SmallMarket, signed: list[SignedOrder]) -> tuple[ClearingResult, dict[bytes, int]]:  # noqa: F811
    """The book of mandates (2.00 to 8.00) and signed orders, cleared pay as bid, with the orders' limits."""
    placed = []
    for nonce, each in enumerate(signed):
        terms = decode_order(each.message)
        placed.append(
            {
                "order_id": terms.order_id,
                "wallet": each.wallet,
                "zone_id": 1,
                "meter_id": next(m.meter_id for m in market.meters if str(m.owner.pubkey) == each.wallet),
                "side": int(terms.side),
                "energy_wh": terms.energy_wh,
                "limit_uthb_per_kwh": terms.limit_uthb_per_kwh,
                "epoch": FIRST_EPOCH,
                "nonce": nonce,
                "placed_at_us": nonce + 1,
                "certificate_id": None,
                "is_mandate": False,
                "broker_us": nonce + 1,
            }
        )
    mandates = [
        {
            "wallet": str(wallet.pubkey),
            "effective_epoch": FIRST_EPOCH - 1,
            "end_epoch": None,
            "sell_min_uthb_per_kwh": 2_000_000,
            "buy_max_uthb_per_kwh": 8_000_000,
            "max_wh": 1_000_000,
            "buy_back": False,
            "set_at_us": 100 + number,
        }
        for number, wallet in enumerate(market.wallets)
    ]
    orders = frames.frame(frames.ORDERS, placed)
    standing = frames.frame(frames.MANDATES, mandates)
    book = build_book(orders, standing, rows(market), market.balances, RULES, NETWORK, FIRST_EPOCH)
    result = clear(book.frame, NETWORK, RULES, "pay_as_bid")
    return result, {each["order_id"]: each["limit_uthb_per_kwh"] for each in placed}


def planned(market: SmallMarket, signed: list[SignedOrder]) -> tuple[RunPlan, ClearingResult]:  # noqa: F811
    result, limits = cleared(market, signed)
    booking = book_initial(
        seq=1,
        epoch=FIRST_EPOCH,
        net_energy=rows(market),
        traded=result.traded,
        buy_back=pl.DataFrame({"wallet": [str(w.pubkey) for w in market.wallets], "buy_back": False}),
        balances=market.balances,
        accounts=market.accounts,
        rules=RULES,
        zones=result.zones,
        rent_uthb=result.rent_uthb,
    )
    market.seq, market.balances, market.accounts = booking.seq, booking.balances, booking.accounts
    plan = plan_run(
        booking,
        network_id=addresses.LOCALNET,
        meter_address={m.meter_id: bytes(addresses.address_of_meter(m.meter_id)) for m in market.meters},
        trader_address={str(w.pubkey): bytes(addresses.address_of_trader(w.pubkey)) for w in market.wallets},
        program_ids={name: bytes(addresses.program_id(name)) for name in ("registry", "trading")},
        orders=signed,
        order_values=order_values(result.fills, result.matches, limits),
    )
    return plan, result


def test_an_epoch_cleared_pay_as_bid_settles_and_the_chain_equals_the_ledger(
    client: ChainClient,  # noqa: F811
    engine: Engine,  # noqa: F811
    market: SmallMarket,  # noqa: F811
) -> None:
    signed = [
        market.order(0, Side.SELL, 333, 3_330_000, FIRST_EPOCH),
        market.order(1, Side.BUY, 217, 5_010_000, FIRST_EPOCH),
    ]
    plan, result = planned(market, signed)
    # several prices, and so no price of the zone
    assert result.matches["price_uthb_per_kwh"].n_unique() > 1
    assert [batch.instruction for batch in plan.trading] == ["settle_pay_as_bid_batch"]
    receipts = settle_run(client, Outbox(engine, client), plan, RUN_KEYS, market.lookup)
    assert {receipt.status for receipt in receipts} == {"ok"}
    assert [receipt.step for receipt in receipts].count("record") == 2
    chain_equals_ledger(client, market)


def test_entries_name_slots_by_limit_and_side_and_batches_keep_within_their_room() -> None:
    values = pl.DataFrame(
        [("a", 3_000_000, b"1", 5, 15), ("a", BY_MANDATE, b"2", 6, 18), ("b", SELLS | 2_000_000, b"3", 11, 33)],
        schema=ORDER_VALUES,
        orient="row",
    )
    wallets = pl.DataFrame({"wallet": ["a", "b", "c"], "net_wh": [-20, 30, -1]})
    entries = entries_of(wallets, values)
    assert [entry.hex() for entry in entries] == [
        "ecffffff02c0c62d00050000000f00000000000000000000800600000012000000" + "00000000",
        "1e0000000180841e400b0000002100000000000000",
        "ffffffff00",
    ]
    assert groups_of(entries, 50, 65) == [(0, 2), (2, 3)]
    assert groups_of(entries, 1, 66) == [(0, 1), (1, 2), (2, 3)]
    assert groups_of([], 50, 66) == []
    with pytest.raises(LedgerError, match="an entry of 38 bytes must fit 37"):
        groups_of(entries, 50, 37)
    with pytest.raises(LedgerError, match="wallet b has fills and no entry"):
        entries_of(wallets.filter(pl.col("wallet") != "b"), values)


def test_a_fill_that_its_matches_do_not_make_up_is_refused() -> None:
    fill = {
        "order_id": b"1",
        "wallet": "a",
        "zone_id": 1,
        "side": 0,
        "filled_wh": 5,
        "price_uthb_per_kwh": 3_000_000,
        "is_mandate": True,
    }
    fills, none = frames.frame(frames.FILLS, [fill]), frames.frame(frames.MATCHES)
    with pytest.raises(LedgerError, match="was filled 5 Wh, its matches say None"):
        order_values(fills, none, {})

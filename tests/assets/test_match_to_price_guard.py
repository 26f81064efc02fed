"""A match on the local chain, through the indexer and the topic `trades`, to the price guard's `market-events`."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import Any

from bytewax.testing import run_main

from gridtokenx_pipelines.messaging.kafka import PartitionReader, Sender, partitions_of
from gridtokenx_pipelines.messaging.mock_broker import MockBroker
from gridtokenx_pipelines.settlement_service import movements
from gridtokenx_pipelines.settlement_service.events import EventPublisher
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store.market_events import open_halts
from streaming.price_guard import Guarded, build_flow, write_kafka, write_postgres
from streaming.source import KafkaBatches
from tests.assets.households import TRADING, Household
from tests.assets.market_day import FIRST, seed
from tests.assets.test_market_events import told
from tests.assets.test_movements_on_chain import wait_final
from tests.assets.test_settlement_on_chain import settle


def match(services: Services, seller: Household, buyer: Household) -> None:
    both = {"buyer": buyer.trader, "seller": seller.trader}
    slots = {"buy_slot": buyer.slot(), "sell_slot": seller.slot()}
    services.client.forget_blockhash()  # else a second match of these slots would be the first one's bytes again
    services.client.send_and_confirm([TRADING.instruction("match_order", both, **slots)], services.relayer)


def guard(services: Services, brokers: str) -> None:
    """The price guard from the beginning to where `trades` ends now."""
    partitions = partitions_of(brokers, "trades")
    ends = {each: PartitionReader(brokers, "trades", each).bounds(10)[1] for each in range(partitions)}
    stop, seen = threading.Event(), dict.fromkeys(ends, 0)

    def end(batches: list[Guarded]) -> None:
        seen.update({batch.partition: sum(batch.counts.values()) for batch in batches})
        if seen == ends:
            stop.set()

    sinks: dict[str, Any] = {
        "postgres": partial(write_postgres, services.engine),
        "kafka": partial(write_kafka, Sender(brokers), partitions_of(brokers, "market-events")),
        "end": end,
    }
    run_main(build_flow(KafkaBatches(brokers, "trades", partitions, stop), sinks))


def test_a_match_and_the_chain_s_own_halt_reach_the_price_guard_and_the_market_s_events(live: Services) -> None:
    seed(live.engine, 3)
    assert settle(live, [FIRST]) == []
    authority = live.authority
    switch = TRADING.instruction("set_continuous", {"authority": authority.pubkey}, on=1, wheeling=100_000)
    live.client.send_and_confirm([switch], live.relayer, [authority])
    movements.follow(live)
    assert settle(live, [FIRST + 1]) == []
    seller, buyer = Household(live, 1), Household(live, 2)
    seller.act("create_order", epoch=FIRST + 2, side=1, limit=3_000_000, energy_wh=100)
    buyer.act("create_order", epoch=FIRST + 2, side=0, limit=5_000_000, energy_wh=150)
    match(live, seller, buyer)
    wait_final(live)
    broker = MockBroker()
    publishing = replace(live, events=EventPublisher(broker.bootstrap_servers))
    assert movements.follow(publishing).booked["EnergyTraded"] == 1
    seller.act("create_order", epoch=FIRST + 3, side=1, limit=4_000_000, energy_wh=50)
    match(live, seller, buyer)  # more than a tenth above the price a moment ago: the chain halts instead
    wait_final(live)
    assert movements.follow(publishing).booked == {"OrderPlaced": 1}
    publishing.publish()
    # the first epoch was an auction's: its trades stand there too, and the guard passes over them
    trades = [each for each in told(broker.bootstrap_servers, "trades") if each[1].startswith("chain/")]
    assert [kind for kind, _, _ in trades] == ["energy_trade", "halted"]
    traded = trades[0][2]
    assert (traded["energy_wh"], traded["venue"]) == (100, "continuous")
    guard(publishing, broker.bootstrap_servers)
    events = told(broker.bootstrap_servers, "market-events")
    halts = [document for kind, _, document in events if kind == "market_halted"]
    assert [(each["venue"], each["price_uthb_per_kwh"]) for each in halts] == [
        ("continuous", trades[1][2]["price_uthb_per_kwh"])
    ]
    with live.engine.connect() as connection:
        assert [halt.partition for halt in open_halts(connection)] == [0]

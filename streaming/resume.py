"""An operator lets a halted continuous market go on.

Belongs here: the word to the guard, the tables and the audit log. Does not belong here: the chain's own resumption
(`resume_market` of the trading program, signed by its authority).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec

from gridtokenx_pipelines.market.price_guard import CONTINUOUS, Resumption
from gridtokenx_pipelines.messaging.connection import Brokers
from gridtokenx_pipelines.messaging.kafka import Sender, wait_for_broker
from gridtokenx_pipelines.messaging.topics import TRADES
from gridtokenx_pipelines.store import audit
from gridtokenx_pipelines.store.market_events import OpenHalt, end_halts, open_halts
from gridtokenx_pipelines.store.postgres import engine


def resume_market(database_url: str, brokers: Brokers, who: str) -> list[OpenHalt]:
    """End all halts in force; returns them. The guard learns it from the log of trades, in its order."""
    now_us = time.time_ns() // 1_000
    database = engine(database_url, pool_size=1)
    try:
        with database.begin() as connection:
            halts = open_halts(connection)
            if not halts:
                return []
            wait_for_broker(brokers)
            sender = Sender(brokers)
            for partition in sorted({halt.partition for halt in halts}):
                word = msgspec.json.encode(Resumption(who=who, timestamp_us=now_us))
                sender.send(
                    TRADES.name, word, key=CONTINUOUS.encode(), headers=[("kind", b"resume")], partition=partition
                )
                newest = max(halt.offset for halt in halts if halt.partition == partition)
                end_halts(connection, partition, newest + 1, now_us, who)
            audit.append(
                connection,
                at=datetime.now(UTC),
                who=who,
                what="market_resumed",
                detail={"halts": [msgspec.structs.asdict(halt) for halt in halts]},
            )
            sender.flush()
        return halts
    finally:
        database.dispose()

"""One peer's clearing of one book, run by the interpreter of an environment that has the peers installed.

Belongs here: the shortest honest way to hand a book to each package and read back what it traded. Does not belong here:
the project's own mechanisms. Called by clearing.py as `python clearing_peers.py PEER ORDERS`; prints one JSON line.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version

from clearing_books import Columns, draw
from memory import peak_mebibytes, restart_peak

START = datetime(2026, 1, 1)  # noqa: DTZ001 - the peers take naive times
Work = tuple[Callable[[], object], Callable[[object], int]]  # what is timed, and the Wh it traded


def assume(columns: Columns) -> Work:
    """ASSUME's pay-as-clear: fills of every order, ties by chance."""
    from assume.common.market_objects import MarketConfig, MarketProduct  # noqa: PLC0415 - only this peer's
    from assume.markets.clearing_algorithms.simple import PayAsClearRole  # noqa: PLC0415
    from dateutil import rrule  # noqa: PLC0415

    logging.disable(logging.CRITICAL)
    random.seed(1)
    end = START + timedelta(hours=1)
    config = MarketConfig(
        market_id="bench",
        opening_hours=rrule.rrule(rrule.HOURLY, dtstart=START, until=end),
        opening_duration=timedelta(hours=1),
        market_mechanism="pay_as_clear",
        market_products=[MarketProduct(timedelta(hours=1), 1, timedelta(0))],
    )
    role = PayAsClearRole(config)
    orders = [
        {
            "start_time": START,
            "end_time": end,
            "only_hours": None,
            "agent_addr": number,
            "bid_id": number,
            "price": limit / 1e6,
            "volume": float(wh if side else -wh),
        }
        for number, (side, limit, wh) in enumerate(zip(*(column.tolist() for column in columns[:3]), strict=True))
    ]
    return lambda: role.clear(orders, [(START, end, None)]), _accepted


def _accepted(result: object) -> int:
    accepted = result[0]  # type: ignore[index] # the peer's own tuple
    return round(-sum(order["accepted_volume"] for order in accepted if order["volume"] < 0))


def order_matching(columns: Columns) -> Work:
    """order-matching: a continuous book, placed and matched in one call; its log, a line of all ids, is off."""
    from loguru import logger  # noqa: PLC0415 - only this peer's
    from order_matching.enums import Side  # noqa: PLC0415
    from order_matching.matching_engine import MatchingEngine  # noqa: PLC0415
    from order_matching.order import LimitOrder  # noqa: PLC0415
    from order_matching.orders import Orders  # noqa: PLC0415

    logger.remove()
    engine = MatchingEngine(seed=1)
    rows = zip(*(column.tolist() for column in columns[:4]), strict=True)
    orders = [
        LimitOrder(
            side=Side.SELL if side else Side.BUY,
            price=limit / 1e6,
            size=wh,
            timestamp=START + timedelta(microseconds=time_us),
            order_id=str(number),
            trader_id=str(number),
            price_number_of_digits=2,
        )
        for number, (side, limit, wh, time_us) in enumerate(rows)
    ]

    def run() -> object:
        engine.place(orders=Orders(orders))
        return engine.match(timestamp=START + timedelta(hours=2))

    return run, lambda result: round(sum(trade.size for trade in result.trades))  # type: ignore[attr-defined]


def pymarket(columns: Columns) -> Work:
    """pymarket's multi-unit double auction (MUDA): truthful, so it trades less than the largest volume by design."""
    import numpy as np  # noqa: PLC0415
    import pymarket as pm  # noqa: PLC0415 - only this peer's

    market = pm.Market()
    for number, (side, limit, wh) in enumerate(zip(*(column.tolist() for column in columns[:3]), strict=True)):
        market.accept_bid(wh, limit / 1e6, number, not side, 0)

    def run() -> object:
        transactions, _ = market.run("muda", r=np.random.RandomState(1))
        return transactions.get_df()

    return run, lambda result: round(result.quantity.sum() / 2)  # type: ignore[attr-defined]


PEERS = {"assume-framework": assume, "order-matching": order_matching, "pymarket": pymarket}


def main() -> None:
    """Measure one peer on one size; `error` says in a word why there is no figure."""
    name, orders = sys.argv[1], int(sys.argv[2])
    try:
        found = {"version": version(name)}
        work, volume = PEERS[name](draw(orders))
        before = restart_peak()
        started = time.perf_counter()
        result = work()
        found["seconds"] = time.perf_counter() - started
        found["mebibytes"] = peak_mebibytes() - before
        found["volume_wh"] = volume(result)
    except PackageNotFoundError:
        found = {"error": "not installed"}
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"[:200]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

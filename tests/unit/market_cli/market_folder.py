"""A data folder with a few cleared epochs, as settlement leaves it, for the commands that look at one.

Belongs here: writing the folder with the project's own stores. Does not belong here: expectations.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.book import Book
from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.settlement_service.frozen import Freezer
from gridtokenx_pipelines.store.clearing import ClearingFrames, EpochRow, write_clearing
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import engine
from tests.unit.market.books import BUY, EPOCH, SELL, THB, book_of, link, network, order_row

NET = network(100_000, 0, links=(link(1, (1, 2), 300),))
RULES = Rules(fee_bp=100)
ROWS = [
    order_row(1, BUY, 1_000, 4 * THB, zone_id=2),
    order_row(2, BUY, 500, 3_100_000, zone_id=1),
    order_row(3, SELL, 600, 2 * THB, zone_id=1),
    order_row(4, SELL, 600, 2_970_000, zone_id=1),
    order_row(5, BUY, 200, 3_900_000, zone_id=2),
    order_row(6, SELL, 100, 2_970_000, zone_id=1),
    order_row(7, BUY, 900, 2_500_000, zone_id=1),
]
DROPPED = order_row(8, SELL, 100, 3 * THB) | {"reason_code": 41, "reason": "not_covered"}


def write_folder(
    path: Path, *, mechanism: str = "zonal", epochs: int = 2, net: Network = NET, rows=ROWS
) -> ClearingResult:
    """Freeze the same book and result in consecutive epochs from EPOCH on; returns the result."""
    book = book_of(rows, net, RULES.fee_bp)
    result = clear(book, net, RULES, mechanism)
    store = ParquetStore(path / "frames")
    rejected = frames.frame(frames.BOOK_REJECTED, [DROPPED])
    balances = frames.frame({"owner": frames.ORDERS["wallet"]})
    for epoch in range(EPOCH, EPOCH + epochs):
        with Freezer(store) as freezer:
            freezer.book(epoch, Book(book, rejected), balances)
            freezer.result(epoch, result)
    (path / "rules.json").write_bytes(msgspec.json.encode(RULES))
    (path / "zones.json").write_bytes(msgspec.json.encode(net))
    (path / "demo-state.json").write_bytes(msgspec.json.encode({"mechanism": mechanism}))
    return result


def commit(url: str, result: ClearingResult, *, halted: bool = False) -> None:
    """Write EPOCH's clearing into a database."""
    made = engine(url)
    with made.begin() as connection:
        write_clearing(
            connection,
            EpochRow(epoch=EPOCH, status="halted" if halted else "cleared", mechanism=result.mechanism),
            ClearingFrames(
                fills=result.fills, order_matches=result.matches, zone_results=result.zones, flows=result.flows
            ),
        )
    made.dispose()

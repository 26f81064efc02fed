"""Books and results as Parquet: what an epoch was cleared from and came to, for audits and for looking again.

Belongs here: names and shapes of those files. Does not belong here: deciding when to write them.
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.market.book import Book
from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.store.clearing import ClearingFrames, EpochRow
from gridtokenx_pipelines.store.parquet import ParquetStore

BOOK, RESULT = "order_book", "clearing_results"


def freeze_book(parquet: ParquetStore, epoch: int, book: Book, balances: pl.DataFrame) -> pl.DataFrame:
    """Write book, rejected orders and the balances the book counted with; returns the book as it reads back."""
    parquet.write(BOOK, epoch, "balances", balances)
    parquet.write(BOOK, epoch, "rejected", book.rejected)
    parquet.write(BOOK, epoch, "book", book.frame)
    return parquet.read(BOOK, epoch, "book")


def book_of(parquet: ParquetStore, epoch: int) -> tuple[Book, pl.DataFrame]:
    """The frozen book and the balances it counted with. Raises FileNotFoundError naming what to materialise."""
    book = Book(parquet.read(BOOK, epoch, "book"), parquet.read(BOOK, epoch, "rejected"))
    return book, parquet.read(BOOK, epoch, "balances")


def freeze_result(parquet: ParquetStore, epoch: int, result: ClearingResult) -> None:
    """Write the frames of a result; fills, matches, zones and flows also go to Postgres when it is committed."""
    for name in ("fills", "matches", "zones", "flows", "traded"):
        parquet.write(RESULT, epoch, name, getattr(result, name))


def result_of(parquet: ParquetStore, epoch: int, row: EpochRow, committed: ClearingFrames) -> ClearingResult:
    """The result as it was committed; only the charges per wallet come from the frozen frame."""
    return ClearingResult(
        mechanism=row.mechanism or "",
        fills=committed.fills,
        matches=committed.order_matches,
        zones=committed.zone_results,
        flows=committed.flows,
        traded=parquet.read(RESULT, epoch, "traded"),
        lost_wh=row.lost_wh or 0,
        link_wheeling_uthb=row.link_wheeling_uthb or 0,
        rent_uthb=row.rent_uthb or 0,
        welfare_uthb=row.welfare_uthb or 0,
        volume_wh=row.volume_wh or 0,
        halted=row.halted,
    )

"""Books and results as Parquet: what an epoch was cleared from and came to, for audits and for looking again.

Belongs here: names and shapes of those files. Does not belong here: deciding when to write them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

import polars as pl

from gridtokenx_pipelines.market.book import Book
from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.store.clearing import ClearingFrames, EpochRow
from gridtokenx_pipelines.store.parquet import ParquetStore

BOOK, RESULT = "order_book", "clearing_results"
WRITERS: Final = 4


class Freezer:
    """Writes frames while the next epoch is computed: a file waits for the disk, not for this process.

    Use it as a context manager. What `wait` has returned for is on disk; leaving without it waits as well.
    """

    def __init__(self, parquet: ParquetStore) -> None:
        self._parquet = parquet
        self._pool = ThreadPoolExecutor(WRITERS, "freezer")
        self._writes: list[Future[Path]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def book(self, epoch: int, book: Book, balances: pl.DataFrame) -> Callable[[], pl.DataFrame]:
        """Write book, rejected orders and the balances the book counted with; gives the book as it reads back."""
        written = self._write(BOOK, epoch, "book", book.frame)
        self._write(BOOK, epoch, "balances", balances)
        self._write(BOOK, epoch, "rejected", book.rejected)

        def stored() -> pl.DataFrame:
            written.result()
            return self._parquet.read(BOOK, epoch, "book")

        return stored

    def result(self, epoch: int, result: ClearingResult) -> None:
        """Write the frames of a result; fills, matches, zones and flows also go to Postgres when it is committed."""
        for name in ("fills", "matches", "zones", "flows", "traded"):
            self._write(RESULT, epoch, name, getattr(result, name))

    def wait(self) -> None:
        """Return when everything handed over is on disk. Raises what the first write that failed raised."""
        for write in self._writes:
            write.result()
        self._writes.clear()

    def _write(self, asset: str, epoch: int, name: str, frame: pl.DataFrame) -> Future[Path]:
        write = self._pool.submit(self._parquet.write, asset, epoch, name, frame)
        self._writes.append(write)
        return write


def book_of(parquet: ParquetStore, epoch: int) -> tuple[Book, pl.DataFrame]:
    """The frozen book and the balances it counted with. Raises FileNotFoundError naming what to materialise."""
    book = Book(parquet.read(BOOK, epoch, "book"), parquet.read(BOOK, epoch, "rejected"))
    return book, parquet.read(BOOK, epoch, "balances")


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

"""A data folder as the grid commands need it: rules, zones, grid case, database.

Belongs here: opening and reading. Does not belong here: computing. The folder's database is started for the while, or
reached where a demo or the UI runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import EPOCHS_PER_DAY, epoch_of_key, key_of
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.market_cli.folder import MarketFolder
from gridtokenx_pipelines.settlement_service.services import read_case
from gridtokenx_pipelines.store.postgres import engine


class GridFolder:
    """A folder with cleared epochs and a grid case. Raises ConfigError for one that lacks either."""

    def __init__(self, data_dir: Path, database_url: str | None, case_path: Path | None = None) -> None:
        self.market = MarketFolder(data_dir)
        path = case_path or self.market.data_dir / "grid.npz"
        case = read_case(path)
        if case is None:
            raise ConfigError(
                "--data-dir", str(data_dir), "a folder with a grid case (grid.npz)", "run `gridtokenx grid prepare`"
            )
        self.case: GridCase = case
        self._url = database_url

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to the folder's database."""
        with self.market.database(self._url) as url:
            made = engine(url, pool_size=1)
            try:
                with made.connect() as connection:
                    yield connection
            finally:
                made.dispose()

    def span(self, day: str | None, epoch: str | None) -> tuple[int, int]:
        """First and last epoch asked for: a day (UTC), an epoch, or all that are cleared. Raises ConfigError."""
        try:
            if epoch is not None:
                one = int(epoch) if epoch.isdecimal() else epoch_of_key(epoch)
                return one, one
            if day is not None:
                first = epoch_of_key(f"{day}T00:00Z")
                return first, first + EPOCHS_PER_DAY - 1
        except ValueError as error:
            raise ConfigError(
                "--day" if epoch is None else "--epoch", day or epoch, "a UTC time", str(error)
            ) from error
        there = self.market.epochs()
        return there[0], there[-1]


def words_of_span(first: int, last: int) -> str:
    """For people."""
    return key_of(first) if first == last else f"{key_of(first)} to {key_of(last)}"

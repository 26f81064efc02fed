"""What a data folder keeps of cleared epochs: frozen books and results, rules, zones, and its database.

Belongs here: finding and reading them, never writing. Does not belong here: what is said or drawn about them. The
frames can be read while a demo or the UI has the folder; its database is then reached through the running server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import EPOCH_SECONDS, EPOCHS_PER_DAY, epoch_of_key, key_of
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.rule_book import RuleBook
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.market_cli.numbers import epoch_number
from gridtokenx_pipelines.settlement_service.frozen import BOOK, RESULT
from gridtokenx_pipelines.settlement_service.services import read_data
from gridtokenx_pipelines.stack import Stack, StackError
from gridtokenx_pipelines.store.parquet import ParquetStore

FOLDER = re.compile(r"epoch=(\d{8}T\d{4}Z)$")
SCHEMAS = {
    "book": (BOOK, frames.BOOK),
    "rejected": (BOOK, frames.BOOK_REJECTED),
    "fills": (RESULT, frames.FILLS),
    "matches": (RESULT, frames.MATCHES),
    "zones": (RESULT, frames.ZONES),
    "flows": (RESULT, frames.FLOWS),
    "traded": (RESULT, frames.TRADED),
}
NET_ENERGY = ("net_energy", "rows")
STATE_FILE = "demo-state.json"


class NotCleared(LookupError):
    """An epoch or a day without a cleared book; the message says what there is."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Books and results of epochs, each frame as in contract.md with a column epoch."""

    book: pl.DataFrame
    rejected: pl.DataFrame
    fills: pl.DataFrame
    matches: pl.DataFrame
    zones: pl.DataFrame
    flows: pl.DataFrame
    traded: pl.DataFrame


class MarketFolder:
    """A data folder, for reading. Raises ConfigError for one without rules, zones or frames."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        if not (self.data_dir / "frames" / RESULT).is_dir():
            raise ConfigError(
                "--data-dir", str(data_dir), "a folder with cleared epochs", "run `gridtokenx demo`, or name another"
            )
        self.rules = read_data(self.data_dir / "rules.json", RuleBook, "--data-dir")
        self.network = read_data(self.data_dir / "zones.json", Network, "--data-dir")
        self.parquet = ParquetStore(self.data_dir / "frames")

    @property
    def mechanism(self) -> str:
        """What a demo was played with, where the database isn't asked."""
        state = self.data_dir / STATE_FILE
        return str(json.loads(state.read_text()).get("mechanism", "zonal")) if state.is_file() else "zonal"

    def epochs(self) -> list[int]:
        """All epochs with a frozen result, ascending."""
        found = (FOLDER.search(path.name) for path in (self.parquet.root / RESULT).glob("date=*/epoch=*"))
        starts = [datetime.strptime(match[1], "%Y%m%dT%H%MZ").replace(tzinfo=UTC) for match in found if match]
        return sorted(int(start.timestamp()) // EPOCH_SECONDS for start in starts)

    def chosen(self, words: str | None) -> list[int]:
        """Cleared epochs of an epoch's key or number, of a day (UTC), or all. Raises NotCleared, ValueError."""
        there = self.epochs()
        if words is None:
            wanted = there
        elif re.fullmatch(r"\d{4}-\d\d-\d\d", words):
            first = epoch_of_key(f"{words}T00:00Z")
            wanted = [epoch for epoch in there if first <= epoch < first + EPOCHS_PER_DAY]
        else:
            number = epoch_number(words)
            wanted = [epoch for epoch in there if epoch == number]
        if not wanted:
            span = f"has {len(there)} from {key_of(there[0])} to {key_of(there[-1])}" if there else "has none"
            raise NotCleared(f"{words or 'epochs'}: nothing cleared there; {self.data_dir} {span}")
        return wanted

    def history(self, epochs: Sequence[int]) -> History:
        """Frames of these epochs, in their order."""
        return History(**{name: self._frame(name, epochs) for name in SCHEMAS})

    def meters(self, epochs: Sequence[int]) -> dict[int, int]:
        """How many meters took part in each epoch; epochs whose net energy isn't there are left out."""
        there = (epoch for epoch in epochs if self.parquet.exists(NET_ENERGY[0], epoch, NET_ENERGY[1]))
        counted = {epoch: self.parquet.read(NET_ENERGY[0], epoch, NET_ENERGY[1]) for epoch in there}
        return {
            epoch: rows.filter((pl.col("epoch") == epoch) & ~pl.col("missing"))["meter_id"].n_unique()
            for epoch, rows in counted.items()
        }

    def _frame(self, name: str, epochs: Sequence[int]) -> pl.DataFrame:
        asset, schema = SCHEMAS[name]
        return pl.concat(
            frames.conform(self.parquet.read(asset, epoch, name), schema, name).with_columns(
                epoch=pl.lit(epoch, pl.Int64)
            )
            for epoch in epochs
        )

    @contextmanager
    def database(self, url: str | None = None) -> Iterator[str]:
        """URL of the folder's database, started for the while if nobody runs it. Raises StackError."""
        if url:
            yield url
            return
        try:
            with Stack(self.data_dir) as stack:
                yield stack.postgres()
        except StackError:
            if (running := self._running()) is None:
                raise
            yield running

    def _running(self) -> str | None:
        try:
            lines = (self.data_dir / "pg" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None
        # line 4 is the port and line 5 the folder of its socket
        return f"postgresql+psycopg2://postgres:@/postgres?host={lines[4]}&port={lines[3]}" if len(lines) > 4 else None

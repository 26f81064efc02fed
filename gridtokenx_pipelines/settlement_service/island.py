"""Island mode of a running market: declaring that the upstream grid is lost or back, and what an epoch runs under.

Belongs here: the rules of a declaration, and the case and flags that the stages read. Does not belong here: SQL
(store/island.py), the island's power flow and dispatch (grid/island.py), rehearsals (outage.py).

An island's market has its own rules (docs/decisions/0010): links carry what a power flow without upstream finds, its
feasibility is judged there too, nobody buys back (there is no upstream to take it), and the circuit breaker knows only
prices of the same state of the network: those before the loss, or before the return, are forgotten.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
import polars as pl
from sqlalchemy import Connection, Engine

from gridtokenx_pipelines.epochs import EPOCHS_PER_DAY, key_of
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.store import audit, ledger
from gridtokenx_pipelines.store import island as store
from gridtokenx_pipelines.store.epochs import first_epoch, last_cleared_epoch

WORDS: Final = {store.LOST: "the upstream grid is lost", store.RETURNED: "the upstream grid is back"}
MOST_AHEAD: Final = 7 * EPOCHS_PER_DAY  # as far as orders may name an epoch (domain §2)
# what `grid_states.source` of an island's epoch begins with: sealed with the epoch, so an audit can hold it against
# the declarations
ISLAND: Final = "island: "


class IslandRefused(ValueError):
    """A declaration that doesn't follow from those before or touches a cleared epoch: value, bound, remedy."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a declaration came to; `new` False: said before. `forming`: the storage that holds the island."""

    epoch: int
    what: str
    new: bool
    forming: str | None = None

    def words(self) -> str:
        """For the operator."""
        said = "" if self.new else " (had been declared already)"
        held = f"; {self.forming} forms the voltage" if self.forming else ""
        return f"{WORDS[self.what]} from {key_of(self.epoch)} on{said}{held}"


def declare(
    engine: Engine, case: GridCase | None, what: str, *, epoch: int | None, who: str, why: str, at: datetime
) -> Declared:
    """Declare `lost` or `returned` from an epoch on; None: from the first that has not cleared. Twice is once.

    Raises IslandRefused, also for a network that can't form an island.
    """
    if what not in WORDS:
        raise IslandRefused(f"declaration was {what!r}, must be one of {', '.join(WORDS)}")
    if not who.strip():
        raise IslandRefused("who was empty, must name who declares it; the audit log keeps it")
    forming = _forming(case) if what == store.LOST else None
    with engine.begin() as connection:
        # an epoch must not clear under one rule while another is declared for it
        ledger.lock_ledger(connection)
        following = _following(connection)
        chosen = following if epoch is None else epoch
        events = store.events(connection)
        same = events.filter((pl.col("epoch") == chosen) & (pl.col("what") == what))
        if same.height:
            return Declared(epoch=chosen, what=what, new=False, forming=forming)
        _require_fit(events, what, chosen, following)
        store.add(connection, epoch=chosen, what=what, who=who, why=why, at=at)
        detail = {"epoch": chosen, "what": what, "why": why}
        audit.append(connection, at=at, who=who, what=store.AUDITED_AS, detail=detail)
    return Declared(epoch=chosen, what=what, new=True, forming=forming)


def _following(connection: Connection) -> int:
    last = last_cleared_epoch(connection)
    return last + 1 if last >= 0 else first_epoch(connection) or 0


def _forming(case: GridCase | None) -> str | None:
    if case is None:
        return None
    try:
        return case.island[1]
    except NetworkError as error:
        raise IslandRefused(f"the network can't run as an island: {error}") from error


def _require_fit(events: pl.DataFrame, what: str, epoch: int, following: int) -> None:
    if epoch < following:
        raise IslandRefused(
            f"epoch was {key_of(epoch)}, must be {key_of(following)} or later: what is cleared stays; "
            "name an epoch that has not cleared"
        )
    if epoch > following + MOST_AHEAD:
        raise IslandRefused(
            f"epoch was {key_of(epoch)}, must be at most 7 days after {key_of(following)}; declare it nearer the time"
        )
    later = events.filter(pl.col("epoch") >= epoch)
    if later.height:
        known, said = later.row(0)[:2]
        raise IslandRefused(
            f"epoch was {key_of(epoch)}, must be after {key_of(known)} ({said}): declarations go forward in time; "
            "name a later epoch"
        )
    before = events.row(-1, named=True)["what"] if events.height else store.RETURNED
    if before == what:
        raise IslandRefused(
            f"declaration was {what!r}, but {WORDS[what]} already"
            + (f" since {key_of(int(events['epoch'][-1]))}" if events.height else "")
            + f"; declare {store.RETURNED if what == store.LOST else store.LOST!r} when that happens"
        )


def case_at(case: GridCase | None, *, islanded: bool) -> GridCase | None:
    """The case that an epoch's power flows run on. Raises IslandWithoutSlackError where it can't form an island."""
    if case is None or not islanded:
        return case
    return case.island[0]


def source_at(source: str, *, islanded: bool) -> str:
    """Where an epoch's limits came from, as `grid_states.source` keeps it."""
    return ISLAND + source if islanded else source


def without_buy_back(buy_back: pl.DataFrame, *, islanded: bool) -> pl.DataFrame:
    """Consents to buy-back (wallet, buy_back), all off in an island."""
    return buy_back.with_columns(buy_back=pl.lit(False)) if islanded else buy_back

"""What epochs are cleared from, read once for all epochs of a transaction.

Belongs here: gathering orders, mandates, energy, limits and earlier prices, and carrying what one epoch leaves to the
next. Does not belong here: clearing (clearing.py), SQL (store/). All reads are under the ledger's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market.prices import PRICED_EPOCHS
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.settlement_service import movements
from gridtokenx_pipelines.settlement_service.network import follow_declarations, networks_of
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import clearing as store
from gridtokenx_pipelines.store import island, ledger, ranges
from gridtokenx_pipelines.store.movements import read_up_to, takes_from_cover


class EpochInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What one epoch is cleared and booked from; `state` is the ledger's after the run before it.

    `rows`: its net energy on time; `late`: what is booked right after it. `orders` and `mandates` are empty where it
    has no auction; `in_force` are the mandates all the same. `history`: earlier prices by zone, latest last.
    """

    epoch: int
    state: ledger.State
    rows: pl.DataFrame
    late: pl.DataFrame
    cover: pl.DataFrame
    orders: pl.DataFrame
    mandates: pl.DataFrame
    in_force: pl.DataFrame
    network: Network
    history: Mapping[int, Sequence[int]]
    islanded: bool


class Inputs(msgspec.Struct, kw_only=True):
    """The inputs of several epochs; `of` gives one epoch's, `follow` what its result means for those after it."""

    connection: Connection
    on_time: Mapping[int, pl.DataFrame]
    late: Mapping[int, pl.DataFrame]
    orders: Mapping[int, pl.DataFrame]
    mandates: Mapping[int, pl.DataFrame]
    networks: Mapping[int, Network]
    history: dict[int, list[int]]
    resumptions: frozenset[int]
    islands: frozenset[int]
    continuous: range
    covered_by_balances: bool

    def of(self, epoch: int, state: ledger.State) -> EpochInputs:
        """One epoch's inputs, from the state after the run before it."""
        placed, in_force = self.orders[epoch], self.mandates[epoch]
        mandates = in_force
        if epoch in self.continuous:
            # orders on chain are matched one by one there: the epoch has no auction, and only settles its energy
            placed, mandates = placed.clear(), mandates.clear()
        if epoch in self.resumptions:
            self.history = {zone: [] for zone in self.history}
        return EpochInputs(
            epoch=epoch,
            state=state,
            rows=self.on_time[epoch],
            late=self.late[epoch],
            cover=state.balances
            if self.covered_by_balances
            else movements.cover(self.connection, state.balances, epoch),
            orders=placed,
            mandates=mandates,
            in_force=in_force,
            network=self.networks[epoch],
            history={zone: tuple(prices) for zone, prices in self.history.items()},
            islanded=epoch in self.islands,
        )

    def follow(self, epoch: int, result: ClearingResult) -> None:
        """Take the prices of an epoch that cleared; a halted one has none that count."""
        if result.halted:
            return
        for zone, price in result.zones.select("zone_id", "price_uthb_per_kwh").iter_rows():
            if price is not None and zone in self.history:
                self.history[zone] = [*self.history[zone], price][-PRICED_EPOCHS:]


def gather(services: Services, connection: Connection, epochs: Sequence[int]) -> Inputs:
    """Read what these epochs are cleared from. Raises EpochNotReady for one whose grid limits are not there."""
    follow_declarations(services, connection, epochs)
    zones = [zone.zone_id for zone in services.network.zones]
    reached = read_up_to(connection)
    return Inputs(
        connection=connection,
        on_time=ranges.on_time(connection, epochs),
        late=ranges.late_rows(connection, epochs),
        orders=ranges.live_orders(connection, epochs),
        mandates=ranges.mandates_as_of(connection, epochs),
        networks=networks_of(services, connection, epochs),
        history={zone: store.priced_history(connection, zone, epochs[0], PRICED_EPOCHS)[::-1] for zone in zones},
        resumptions=frozenset(store.resumptions(connection)),
        islands=island.islanded(island.events(connection), epochs),
        continuous=range(reached.continuous_from, reached.continuous_end),
        covered_by_balances=not takes_from_cover(connection, epochs[0]),
    )

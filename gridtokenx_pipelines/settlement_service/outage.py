"""Island mode rehearsed: a range of epochs as if the upstream grid had been lost, on what was really metered.

Belongs here: dispatch, market and books of the island epoch by epoch, and of the first epoch after its return, in
memory. Does not belong here: the dispatch itself (grid/island.py), showing it (grid_cli/). Nothing is written.

The island's own rules: links carry what an AC flow of the island finds; nobody buys back (there is no upstream to take
it), so unsold surplus stays its owner's GRID; a served deficit that nobody sold for is residual as ever. Mandates
stand; orders by hand were placed for another epoch's state and are left out. On return the next epoch is settled under
the usual rules from the balances that the island left.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.island import Dispatch, dispatch, first_stored, island_case
from gridtokenx_pipelines.grid.limits import EpochLimits, apply, grid_limits
from gridtokenx_pipelines.grid.power_flow import FlowResult
from gridtokenx_pipelines.grid.states import Bounds, State, violations
from gridtokenx_pipelines.market.book import build_book
from gridtokenx_pipelines.market.frames import ORDERS
from gridtokenx_pipelines.market.frames import frame as empty
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.settlement.frames import MarketAccounts
from gridtokenx_pipelines.settlement.laws import laws_of_booking
from gridtokenx_pipelines.settlement.ledger import book_initial
from gridtokenx_pipelines.settlement_service.feasible import Market, clear_feasibly


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a rehearsal starts from: frames as in contract.md, `mandates` of store.participants by epoch."""

    case: GridCase
    network: Network
    rules: Rules
    mechanism: str
    net_energy: dict[int, pl.DataFrame]
    mandates: dict[int, pl.DataFrame]
    balances: pl.DataFrame
    accounts: MarketAccounts


class IslandEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch of the rehearsal; `islanded` False: the first after the return. Wh, µTHB; `laws_open`: laws not at 0."""

    epoch: int
    islanded: bool
    wished_wh: int
    served_wh: int
    served_first_wh: int
    wished_first_wh: int
    shed_wh: int
    produced_wh: int
    curtailed_wh: int
    charged_wh: int
    discharged_wh: int
    stored_wh: int
    loss_wh: int
    lowest_pu: float | None
    highest_pu: float | None
    violations: tuple[str, ...]
    prices_uthb_per_kwh: dict[int, int | None]
    traded_wh: int
    residual_wh: int
    bought_back_wh: int
    halted: bool
    repairs: tuple[str, ...]
    laws_open: tuple[str, ...]


def rehearse(given: Rehearsal, epochs: Sequence[int]) -> list[IslandEpoch]:
    """The outage over these epochs, in order, and the epoch after them where its net energy is there.

    Raises IslandWithoutSlackError for a network that can't form an island.
    """
    island, _former = island_case(given.case)
    stored, balances, accounts = first_stored(given.case), given.balances, given.accounts
    # the limits of the first island epoch come from the last state with the upstream grid, as always from before
    before = _state(given.case, given.net_energy.get(epochs[0] - 1))
    found = []
    for place, epoch in enumerate([*epochs, epochs[-1] + 1]):
        rows = given.net_energy.get(epoch)
        if rows is None:
            break
        islanded = place < len(epochs)
        at = island if islanded else given.case
        wished = _state(given.case, rows)
        if islanded:
            done, flow = dispatch(at, wished, stored)
            rows = _as_metered(given.case, rows, done)
            stored = done.stored_wh
        else:
            done, flow = None, None
        limits = grid_limits(at, given.network, before)
        state = (balances, accounts)
        booked, row = _settle(given, at=at, epoch=epoch, rows=rows, state=state, limits=limits, islanded=islanded)
        found.append(_epoch(given.case, epoch, wished, done=done, flow=flow, row=row))
        balances, accounts = booked
        before = _state(given.case, rows)
    return found


def _state(case: GridCase, rows: pl.DataFrame | None) -> State:
    columns = case.columns()
    produced, consumed = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.int64)
    if rows is not None:
        present = rows.filter(~pl.col("missing")).select("meter_id", "production_wh", "consumption_wh")
        for meter, made, used in present.iter_rows():
            if meter in columns:
                produced[columns[meter]], consumed[columns[meter]] = made, used
    return State(produced_wh=produced, consumed_wh=consumed)


def _as_metered(case: GridCase, rows: pl.DataFrame, done: Dispatch) -> pl.DataFrame:
    """The epoch's rows with what the registers would have shown in the island; meters without a place stay dark."""
    shown = pl.DataFrame(
        {
            "meter_id": case.meter_id.tolist(),
            "island_production_wh": done.produced_wh,
            "island_consumption_wh": done.consumed_wh,
        }
    )
    made, used = (pl.col(f"island_{name}_wh").fill_null(0) for name in ("production", "consumption"))
    return (
        rows.join(shown, on="meter_id", how="left")
        .with_columns(production_wh=made, consumption_wh=used, net_wh=made - used)
        .select(rows.columns)
    )


class _Settled(msgspec.Struct, frozen=True, kw_only=True):
    prices: dict[int, int | None]
    traded_wh: int
    residual_wh: int
    bought_back_wh: int
    halted: bool
    repairs: tuple[str, ...]
    laws_open: tuple[str, ...]


def _settle(
    given: Rehearsal,
    *,
    at: GridCase,
    epoch: int,
    rows: pl.DataFrame,
    state: tuple[pl.DataFrame, MarketAccounts],
    limits: EpochLimits,
    islanded: bool,
) -> tuple[tuple[pl.DataFrame, MarketAccounts], _Settled]:
    balances, accounts = state
    rules = given.rules.at(epoch)
    network = apply(given.rules.network_at(epoch, given.network), {link.link_id: link for link in limits.links})
    mandates = given.mandates[epoch]
    book = build_book(empty(ORDERS), mandates, rows, balances, rules, network, epoch)
    market = Market(rules=rules, mechanism=given.mechanism, history={})
    cleared = clear_feasibly(at, book.frame, rows, network, market)
    result = cleared.result
    buy_back = mandates.select("wallet", "buy_back")
    if islanded:
        buy_back = buy_back.with_columns(buy_back=pl.lit(False))
    booking = book_initial(
        seq=1,
        epoch=epoch,
        net_energy=rows,
        traded=result.traded,
        buy_back=buy_back,
        balances=balances,
        accounts=accounts,
        rules=rules,
        zones=result.zones,
        lost_wh=result.lost_wh,
        link_wheeling_uthb=result.link_wheeling_uthb,
        rent_uthb=result.rent_uthb,
        halted=result.halted,
    )
    laws = laws_of_booking(balances, accounts, booking)
    return (booking.balances, booking.accounts), _Settled(
        prices=dict(result.zones.select("zone_id", "price_uthb_per_kwh").iter_rows()),
        traded_wh=result.volume_wh,
        residual_wh=int(booking.wallet_entries["residual_wh"].sum()),
        bought_back_wh=int(booking.wallet_entries["bought_back_wh"].sum()),
        halted=result.halted,
        repairs=cleared.repairs,
        laws_open=tuple(law.law for law in laws if law.difference),
    )


def _epoch(
    case: GridCase, epoch: int, wished: State, *, done: Dispatch | None, flow: FlowResult | None, row: _Settled
) -> IslandEpoch:
    first = case.meter_priority == case.meter_priority.min(initial=1)
    served = wished.consumed_wh if done is None else done.served_wh
    nothing = np.zeros_like(served)
    broken = [] if flow is None else violations(case, flow, 0, Bounds())
    return IslandEpoch(
        epoch=epoch,
        islanded=done is not None,
        wished_wh=int(wished.consumed_wh.sum()),
        served_wh=int(served.sum()),
        served_first_wh=int(served[first].sum()),
        wished_first_wh=int(wished.consumed_wh[first].sum()),
        shed_wh=int((wished.consumed_wh - served).sum()),
        produced_wh=int((wished.produced_wh if done is None else wished.produced_wh - done.curtailed_wh).sum()),
        curtailed_wh=int((nothing if done is None else done.curtailed_wh).sum()),
        charged_wh=int((nothing if done is None else done.charged_wh).sum()),
        discharged_wh=int((nothing if done is None else done.discharged_wh).sum()),
        stored_wh=int((nothing if done is None else done.stored_wh).sum()),
        loss_wh=0 if done is None else done.loss_wh,
        lowest_pu=None if flow is None or not flow.converged[0] else float(np.nanmin(flow.vm_pu)),
        highest_pu=None if flow is None or not flow.converged[0] else float(np.nanmax(flow.vm_pu)),
        violations=tuple(each.words() for each in broken),
        prices_uthb_per_kwh=row.prices,
        traded_wh=row.traded_wh,
        residual_wh=row.residual_wh,
        bought_back_wh=row.bought_back_wh,
        halted=row.halted,
        repairs=row.repairs,
        laws_open=row.laws_open,
    )


def words_of(found: Sequence[IslandEpoch]) -> str:
    """What the rehearsal came to, in two sentences."""
    island = [each for each in found if each.islanded]
    opened = [f"{key_of(each.epoch)}: {', '.join(each.laws_open)}" for each in found if each.laws_open]
    shed, wished = sum(each.shed_wh for each in island), sum(each.wished_wh for each in island)
    first = sum(each.wished_first_wh - each.served_first_wh for each in island)
    laws = "every law closes to 0 in every epoch" if not opened else "laws open: " + "; ".join(opened)
    return (
        f"{len(island)} epochs as an island: {wished - shed} of {wished} Wh served, first class short of {first} Wh; "
        f"{laws}{'' if found[-1].islanded else ', also in the epoch after the return'}."
    )

"""Clearing that the network can carry: clear, check by AC power flow, cut the capacity that repairs it, clear again.

Belongs here: the loop and its bound. Does not belong here: power flow (grid/feasibility.py), committing (clearing.py).
After `MOST_REPAIRS` repairs, or where no capacity of a link helps, the epoch is halted (domain §6: no trades, no
buy-back; surplus is credited, deficits burn what is held, the rest is residual).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import polars as pl

from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.feasibility import Flow, MeterNet, Schedule, check, repair, schedule_of
from gridtokenx_pipelines.market.clearing import ClearingResult, clear, halted_result
from gridtokenx_pipelines.market.rules import Network, Rules

MOST_REPAIRS: Final = 3


class Feasible(msgspec.Struct, frozen=True, kw_only=True):
    """A result that the network can carry, or a halted one; `network` is what it was cleared over in the end.

    `repairs`: a line for each violation that was repaired or halted the epoch. `checked` False: there is no grid case.
    """

    result: ClearingResult
    network: Network
    repairs: tuple[str, ...] = ()
    checked: bool = True


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What a book is cleared under: rules, mechanism, earlier prices per zone."""

    rules: Rules
    mechanism: str
    history: Mapping[int, Sequence[int]]


def clear_feasibly(
    case: GridCase | None, book: pl.DataFrame, net_energy: pl.DataFrame, network: Network, market: Market
) -> Feasible:
    """Clear over the network, again over a smaller one where the AC flow of the result breaks a bound.

    `net_energy`: the epoch's rows (meter_id, wallet, net_wh). Raises what `market.clearing.clear` raises.
    """
    found = _clear(book, network, market)
    if case is None:
        return Feasible(result=found, network=network, checked=False)
    meters = _meters(net_energy)
    repairs: list[str] = []
    for attempt in range(MOST_REPAIRS + 1):
        if found.halted or not found.volume_wh:
            return Feasible(result=found, network=network, repairs=tuple(repairs))
        schedule = _schedule(case, found, meters)
        broken = check(case, schedule)
        if not broken:
            return Feasible(result=found, network=network, repairs=tuple(repairs))
        words = broken[0].words() + (f" and {len(broken) - 1} more" if len(broken) > 1 else "")
        cut = repair(case, schedule, _flows(found)) if attempt < MOST_REPAIRS else None
        if cut is None:
            why = f"after {MOST_REPAIRS} repairs" if attempt == MOST_REPAIRS else "and no link's capacity repairs it"
            reason = f"infeasible: {words}, {why}"
            repairs.append(f"halted: {words}, {why}")
            halted = halted_result(book, network, market.rules, reason, market.mechanism)
            return Feasible(result=halted, network=network, repairs=tuple(repairs))
        limits = ", ".join(f"link {link} to {sent} Wh" for link, sent in sorted(cut.items()))
        repairs.append(f"cleared again: {words}; {limits}")
        network = _cut(network, found, cut)
        found = _clear(book, network, market)
    raise AssertionError("the loop returns on its last attempt")


def broken_by(case: GridCase | None, result: ClearingResult, net_energy: pl.DataFrame) -> tuple[str, ...]:
    """Bounds that a committed result breaks in an AC flow, in words; none without a case."""
    if case is None or not result.volume_wh:
        return ()
    return tuple(each.words() for each in check(case, _schedule(case, result, _meters(net_energy))))


def _meters(net_energy: pl.DataFrame) -> list[MeterNet]:
    present = net_energy.filter(~pl.col("missing")).select("meter_id", "wallet", "net_wh").sort("meter_id")
    return [MeterNet(meter_id=meter, wallet=wallet, net_wh=net) for meter, wallet, net in present.iter_rows()]


def _schedule(case: GridCase, result: ClearingResult, meters: Sequence[MeterNet]) -> Schedule:
    return schedule_of(case, dict(result.traded.select("wallet", "traded_wh").iter_rows()), meters)


def _clear(book: pl.DataFrame, network: Network, market: Market) -> ClearingResult:
    return clear(book, network, market.rules, market.mechanism, history=market.history)


def _flows(result: ClearingResult) -> list[Flow]:
    columns = ("link_id", "from_zone", "to_zone", "sent_wh", "delivered_wh")
    return [Flow(**row) for row in result.flows.select(columns).iter_rows(named=True)]


def _cut(network: Network, result: ClearingResult, cut: Mapping[int, int]) -> Network:
    """Lower the capacity of the cut links in the direction that they sent in."""
    source = dict(result.flows.select("link_id", "from_zone").iter_rows())
    links = []
    for link in network.links:
        if link.link_id not in cut:
            links.append(link)
        elif source[link.link_id] == link.from_zone:
            links.append(msgspec.structs.replace(link, capacity_forward_wh=cut[link.link_id]))
        else:
            links.append(msgspec.structs.replace(link, capacity_backward_wh=cut[link.link_id]))
    return msgspec.structs.replace(network, links=tuple(links))

"""Clearings of a range again: each book through the market's mechanism, with the prices that went before it.

Belongs here: the loop over epochs, roots of book and result, and handing a range out to processes. Does not belong
here: mechanisms (market/). The circuit breaker looks at the prices of the epochs before, so epochs that would halt are
settled in order; all others don't depend on one another.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import msgspec
import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.clearing import ClearingResult, clear, halted_result
from gridtokenx_pipelines.market.prices import PRICED_EPOCHS, halt_check
from gridtokenx_pipelines.market.roots import book_rows, merkle_root, result_rows
from gridtokenx_pipelines.market.rules import Network, Rules

# below this a process costs more than it clears
EPOCHS_WORTH_A_PROCESS = 192


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What books are cleared under."""

    rules: Rules
    network: Network
    mechanism: str


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch's clearing and the roots of its book and result; `error`: it could not be cleared, and why."""

    epoch: int
    book_root: bytes
    result_root: bytes
    result: ClearingResult | None
    error: str = ""


def clear_books(
    books: Mapping[int, pl.DataFrame],
    markets: Mapping[int, Market],
    history: Mapping[int, Sequence[int]],
    *,
    halted: Mapping[int, str],
    resumed: Sequence[int] = (),
    processes: int | None = None,
) -> dict[int, Cleared]:
    """Clear every epoch's book under its own market; `history`: each zone's last priced epochs before, latest last.

    `halted`: epochs that the power flow halted, with its words; `resumed`: from where the breaker forgets prices.
    `processes`: how many may share a long range (none given: one for each core).
    """
    jobs = [(epoch, books[epoch], markets[epoch], halted.get(epoch, "")) for epoch in sorted(books)]
    workers = min(processes or os.cpu_count() or 1, len(jobs) // EPOCHS_WORTH_A_PROCESS)
    if workers < 2:
        cleared = _clear_part(jobs)
    else:
        # spawned, not forked: Dagster's and the chain client's threads hold locks that a fork would keep for ever
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            done = pool.map(_clear_part, [jobs[number::workers] for number in range(workers)])
            cleared = [each for part in done for each in part]
    return _halted(sorted(cleared, key=lambda each: each.epoch), books, markets, history, resumed)


def _clear_part(jobs: Sequence[tuple[int, pl.DataFrame, Market, str]]) -> list[Cleared]:
    return [_cleared(*job) for job in jobs]


def _cleared(epoch: int, book: pl.DataFrame, market: Market, halted: str = "") -> Cleared:
    network_id = market.rules.network_id
    book_root = merkle_root(book_rows(book, network_id, epoch))
    try:
        if halted:
            result = halted_result(book, market.network, market.rules, halted, market.mechanism)
        else:
            result = clear(book, market.network, market.rules, market.mechanism)
    except (ValueError, RuntimeError) as error:
        return Cleared(epoch=epoch, book_root=book_root, result_root=b"", result=None, error=str(error))
    root = merkle_root(result_rows(result, network_id, epoch))
    return Cleared(epoch=epoch, book_root=book_root, result_root=root, result=result)


def _halted(
    cleared: Sequence[Cleared],
    books: Mapping[int, pl.DataFrame],
    markets: Mapping[int, Market],
    history: Mapping[int, Sequence[int]],
    resumed: Sequence[int],
) -> dict[int, Cleared]:
    """The circuit breaker over the range in order: a tripped epoch has no trades, and no price that counts."""
    prices = {zone: list(earlier) for zone, earlier in history.items()}
    final: dict[int, Cleared] = {}
    last = cleared[0].epoch if cleared else 0
    for each in cleared:
        final[each.epoch] = each
        if any(last < epoch <= each.epoch for epoch in resumed):
            prices = {}
        last = each.epoch
        if each.result is None or each.result.halted:
            continue
        market = markets[each.epoch]
        now = dict(each.result.zones.select("zone_id", "price_uthb_per_kwh").iter_rows())
        tripped = halt_check(now, prices, market.rules.halt_bound_bp)
        if tripped:
            final[each.epoch] = _cleared(each.epoch, books[each.epoch], market, next(iter(tripped.values())))
            continue
        for zone, price in now.items():
            if price is not None:
                prices[zone] = [*prices.get(zone, ()), price][-PRICED_EPOCHS:]
    return final


def stacked(cleared: Mapping[int, Cleared], name: str, schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """One frame of all epochs' results with the epoch in front: `fills`, `matches`, `zones`, `flows` or `traded`."""
    parts: list[pl.DataFrame] = [
        getattr(each.result, name).select(pl.lit(epoch, pl.Int64).alias("epoch"), *schema)
        for epoch, each in cleared.items()
        if each.result is not None
    ]
    empty = frames.frame({"epoch": pl.Int64, **schema})
    return pl.concat([empty, *parts])

"""A range recomputed from its inputs, stage by stage: net energy → books → clearings → ledger → roots.

Belongs here: the order of the stages, and what ties them (balances that cover orders). Does not belong here: a stage's
own rules (the files beside this one), I/O. Every epoch's book is first made with the balances it is said to have
counted on, so that all epochs go side by side; the ledger then says which balances they were, and epochs that counted
on others are made again, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import polars as pl

from gridtokenx_pipelines.audit import books, clearings, entries
from gridtokenx_pipelines.audit.clearings import Cleared, Market
from gridtokenx_pipelines.audit.entries import Ledger, RunOf, Start, Totals
from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.market.frames import BOOK, FILLS, FLOWS, MATCHES, TRADED, ZONES
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.resettlement import Shift

COVER = {"epoch": pl.Int64, "wallet": pl.String, "grid_wh": pl.Int64, "thbc_uthb": pl.Int64}
MOST_PASSES = 8


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """All inputs of a range. `market` by epoch: the rules, network and mechanism in force then; `covers` (COVER) a
    first guess; `history` each zone's priced epochs before the range, `resumed` from where the breaker forgets them;
    `voided` epochs whose rows are booked late, with the epoch that their `booked_epoch` names;
    `islands` epochs without the upstream grid, where nobody buys back;
    `shifts` and `starts` as entries.Inputs; `rules_before` those of the epoch before the first, whose refunds a
    resettlement of the first may pay."""

    epochs: tuple[int, ...]
    net_energy: pl.DataFrame
    orders: pl.DataFrame
    mandates: pl.DataFrame
    deposits: pl.DataFrame
    movements: pl.DataFrame
    asked_back: frozenset[str]
    continuous: frozenset[int]
    halted: Mapping[int, str]
    covers: pl.DataFrame
    history: Mapping[int, Sequence[int]]
    market: Mapping[int, Market]
    runs: tuple[RunOf, ...]
    shifts: Mapping[int, tuple[Shift, ...]]
    starts: Mapping[int, Start]
    processes: int | None = None
    resumed: tuple[int, ...] = ()
    rules_before: Mapping[int, Rules] = {}
    islands: frozenset[int] = frozenset()
    voided: frozenset[int] = frozenset()


class Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from the inputs, frames with a column `epoch`."""

    net_energy: pl.DataFrame
    books: pl.DataFrame
    rejected: pl.DataFrame
    covers: pl.DataFrame
    cleared: Mapping[int, Cleared]
    fills: pl.DataFrame
    matches: pl.DataFrame
    zones: pl.DataFrame
    flows: pl.DataFrame
    traded: pl.DataFrame
    ledger: Ledger
    passes: int
    findings: tuple[Finding, ...]


def recompute(given: Given) -> Recomputed:
    """All stages of the range. What can't be recomputed is a finding of its epoch; the rest goes on."""
    initial = {run.epoch: run.seq for run in given.runs if run.run == 0}
    epochs = [epoch for epoch in given.epochs if epoch in initial]
    covers = given.covers
    frames: dict[int, pl.DataFrame] = {}
    rejected = pl.DataFrame()
    cleared: dict[int, Cleared] = {}
    stale, ledger, passes = set(epochs), None, 0
    while True:
        passes += 1
        made, refused = _books(given, sorted(stale), covers)
        frames |= made
        rejected = _replaced(rejected, refused, stale)
        # the circuit breaker reads the prices before, so an epoch made again may change those that follow it
        cleared = _clear(given, epochs, frames, cleared, stale) if stale else {}
        ledger = _ledger(given, cleared)
        now = _covers(ledger, given, initial)
        stale = _changed(covers, now)
        if not stale or passes == MOST_PASSES:
            break
        covers = pl.concat(
            [covers.filter(~pl.col("epoch").is_in(list(stale))), now.filter(pl.col("epoch").is_in(list(stale)))]
        )
    errors = [
        Finding(epoch=each.epoch, stage="clearing", what="clearing", detail=f"can't be cleared again: {each.error}")
        for each in cleared.values()
        if each.error
    ]
    book = [frame.with_columns(pl.lit(epoch, pl.Int64).alias("epoch")) for epoch, frame in frames.items()]
    return Recomputed(
        net_energy=given.net_energy,
        books=pl.concat(book) if book else pl.DataFrame(schema=dict(BOOK)),
        rejected=rejected,
        covers=now,
        cleared=cleared,
        fills=clearings.stacked(cleared, "fills", FILLS),
        matches=clearings.stacked(cleared, "matches", MATCHES),
        zones=clearings.stacked(cleared, "zones", ZONES),
        flows=clearings.stacked(cleared, "flows", FLOWS),
        traded=clearings.stacked(cleared, "traded", TRADED),
        ledger=ledger,
        passes=passes,
        findings=(*errors, *ledger.findings),
    )


def _replaced(before: pl.DataFrame, now: pl.DataFrame, epochs: set[int]) -> pl.DataFrame:
    if before.is_empty():
        return now
    return pl.concat([before.filter(~pl.col("epoch").is_in(list(epochs))), now])


def _alike(given: Given, epochs: Sequence[int]) -> list[tuple[Market, list[int]]]:
    """Epochs by what their books depend on: rules and zones. Capacities of links matter to the clearing alone."""
    found: dict[bytes, tuple[Market, list[int]]] = {}
    for epoch in epochs:
        market = given.market[epoch]
        mark = msgspec.json.encode((market.rules, market.network.zones))
        found.setdefault(mark, (market, []))[1].append(epoch)
    return list(found.values())


def _books(given: Given, epochs: Sequence[int], covers: pl.DataFrame) -> tuple[dict[int, pl.DataFrame], pl.DataFrame]:
    made: dict[int, pl.DataFrame] = {}
    refused = [pl.DataFrame(schema=dict(books.REJECTED))]
    for market, part in _alike(given, epochs):
        mine = pl.col("epoch").is_in(part)
        # orders on chain are matched one by one in a continuous epoch: there is no book
        auctions = mine & ~pl.col("epoch").is_in(list(given.continuous))
        book, rejected = books.build_books(
            given.orders.filter(auctions),
            given.mandates,
            given.net_energy.filter(auctions),
            covers.filter(mine),
            market.rules,
            market.network,
        )
        by_epoch = book.partition_by("epoch", as_dict=True, include_key=True)
        made |= {epoch: by_epoch.get((epoch,), book.clear()) for epoch in part}
        refused.append(rejected)
    return made, pl.concat(refused)


def _clear(
    given: Given,
    epochs: Sequence[int],
    frames: Mapping[int, pl.DataFrame],
    cleared: Mapping[int, Cleared],
    stale: set[int],
) -> dict[int, Cleared]:
    history = {zone: list(prices) for zone, prices in given.history.items()}
    kept = {epoch: cleared[epoch] for epoch in epochs if epoch < min(stale)}
    _remember(history, kept, given.resumed, min(stale))
    again = {epoch: frames[epoch] for epoch in epochs if epoch >= min(stale)}
    return kept | clearings.clear_books(
        again, given.market, history, halted=given.halted, resumed=given.resumed, processes=given.processes
    )


def _remember(
    history: dict[int, list[int]], cleared: Mapping[int, Cleared], resumed: Sequence[int], until: int
) -> None:
    """Add the prices of the epochs before `until`; where the market was resumed on the way, those before are gone."""
    last = min([*cleared, until])
    for epoch in [*sorted(cleared), until]:
        if any(last < each <= epoch for each in resumed):
            history.clear()
        last = epoch
        result = cleared[epoch].result if epoch in cleared else None
        if result is None or result.halted:
            continue
        for zone, price in result.zones.select("zone_id", "price_uthb_per_kwh").iter_rows():
            if price is not None:
                history.setdefault(zone, []).append(price)


def _ledger(given: Given, cleared: Mapping[int, Cleared]) -> Ledger:
    results = {epoch: each.result for epoch, each in cleared.items() if each.result is not None}
    totals = {
        epoch: Totals(
            halted=result.halted,
            lost_wh=result.lost_wh,
            link_wheeling_uthb=result.link_wheeling_uthb,
            rent_uthb=result.rent_uthb,
            zones=tuple(
                (zone, 0 if result.halted or price is None else price, wheeling)
                for zone, price, wheeling in result.zones.sort("zone_id")
                .select("zone_id", "price_uthb_per_kwh", "zone_wheeling_uthb_per_kwh")
                .iter_rows()
            ),
        )
        for epoch, result in results.items()
    }
    nets = given.net_energy.filter((pl.col("revision") == 0) & ~pl.col("missing")).select("epoch", "wallet").unique()
    buy_back = books.mandates_in_force(given.mandates, nets).select(
        "epoch", "wallet", pl.col("buy_back") & ~pl.col("epoch").is_in(list(given.islands))
    )
    return entries.rebuild(
        given.runs,
        entries.Inputs(
            net_energy=given.net_energy,
            traded=clearings.stacked(cleared, "traded", TRADED),
            totals=totals,
            buy_back=buy_back,
            deposits=given.deposits,
            movements=given.movements,
            shifts=given.shifts,
            starts=given.starts,
            rules={**given.rules_before, **{epoch: market.rules for epoch, market in given.market.items()}},
            voided=given.voided,
        ),
    )


def _covers(ledger: Ledger, given: Given, initial: Mapping[int, int]) -> pl.DataFrame:
    """Balances that cover an epoch's orders: before its run 0, without what came in only to count later (domain §4).

    What a requested withdrawal took out of cover is not kept once it is paid: of wallets that asked something back, the
    smaller cover that the book is said to have counted with stands.
    """
    parts = [pl.DataFrame(schema=COVER)]
    deposits = given.deposits.filter(~pl.col("owner").is_in(["supplier", "platform", "grid_operator"]))
    late = pl.concat(
        [
            deposits.select(
                "owner",
                "epoch",
                "after_seq",
                pl.lit(0, pl.Int64).alias("grid"),
                (pl.col("amount_uthb") - pl.col("debt_repaid_uthb")).alias("cash"),
            ),
            given.movements.select(
                "owner",
                "epoch",
                "after_seq",
                pl.col("grid_wh").clip(lower_bound=0).alias("grid"),
                pl.col("cash_uthb").clip(lower_bound=0).alias("cash"),
            ),
        ]
    )
    for epoch, balances in ledger.before.items():
        cover = balances.select(
            pl.lit(epoch, pl.Int64).alias("epoch"), pl.col("owner").alias("wallet"), "grid_wh", "thbc_uthb"
        )
        later = late.filter((pl.col("epoch") > epoch) & (pl.col("after_seq") < initial[epoch]))
        if later.height:
            sums = later.group_by(pl.col("owner").alias("wallet")).agg(pl.col("grid", "cash").sum())
            cover = (
                cover.join(sums, on="wallet", how="left")
                .with_columns(
                    (pl.col("grid_wh") - pl.col("grid").fill_null(0)).clip(lower_bound=0),
                    (pl.col("thbc_uthb") - pl.col("cash").fill_null(0)).clip(lower_bound=0),
                )
                .drop("grid", "cash")
            )
        parts.append(cover)
    return _less_asked(pl.concat(parts), given)


def _less_asked(covers: pl.DataFrame, given: Given) -> pl.DataFrame:
    if not given.asked_back:
        return covers
    asked = pl.col("wallet").is_in(list(given.asked_back))
    return covers.join(
        given.covers.filter(asked), on=["epoch", "wallet"], how="left", suffix="_said", maintain_order="left"
    ).select(
        "epoch",
        "wallet",
        pl.min_horizontal("grid_wh", "grid_wh_said"),
        pl.min_horizontal("thbc_uthb", "thbc_uthb_said"),
    )


def _changed(used: pl.DataFrame, now: pl.DataFrame) -> set[int]:
    """Epochs whose recomputed cover is not the one their book was made with (a wallet without a row holds nothing)."""
    both = now.join(used, on=["epoch", "wallet"], how="full", coalesce=True, suffix="_used").with_columns(
        pl.col("grid_wh", "thbc_uthb", "grid_wh_used", "thbc_uthb_used").fill_null(0)
    )
    other = both.filter(
        (pl.col("grid_wh") != pl.col("grid_wh_used")) | (pl.col("thbc_uthb") != pl.col("thbc_uthb_used"))
    )
    return set(other["epoch"].unique()) & set(now["epoch"].unique())

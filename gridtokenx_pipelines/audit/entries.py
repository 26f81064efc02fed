"""The ledger of a range again: every run's entries from net energy and trades, in the order of seq.

Belongs here: which runs follow from the inputs and what each moves. Does not belong here: an initial run's arithmetic
(state.py); catch-up and resettlement runs are rare and go through settlement/ledger.py. Where the runs of a range are
not next to each other in seq, the balances before each stretch are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import polars as pl

from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.audit.state import Ints, Rates, State, Trades
from gridtokenx_pipelines.epochs import is_on_peak
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import (
    CLEARING,
    LATE,
    LEDGER_ROWS,
    METER_ENTRIES,
    TRADED,
    TRADED_AMOUNTS,
    WALLET_ENTRIES,
    Booking,
    Header,
    LedgerError,
    MarketAccounts,
)
from gridtokenx_pipelines.settlement.ledger import book_late, book_resettlement
from gridtokenx_pipelines.settlement.resettlement import Shift

NET = pl.col("net_wh")
MOVED = ("owner", "grid_wh", "cash_uthb", "fee_uthb", "zone_wheeling_uthb")


class RunOf(msgspec.Struct, frozen=True, kw_only=True):
    """A run that the database says was booked."""

    seq: int
    epoch: int
    run: int
    kind: int


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Balances and accounts before a stretch of runs."""

    balances: pl.DataFrame
    accounts: MarketAccounts


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What an epoch's clearing leaves to the header of its run 0."""

    halted: bool
    lost_wh: int
    link_wheeling_uthb: int
    rent_uthb: int
    zones: tuple[tuple[int, int, int], ...]


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What runs are recomputed from. `net_energy` all revisions, recomputed; `traded` with epoch; `buy_back` (epoch,
    wallet, buy_back) of the mandates in force; `deposits` and `movements` (store/movements.py) as
    stored, in the order they were booked; `shifts` by seq of
    a resettlement run; `starts` by the first seq of each stretch."""

    net_energy: pl.DataFrame
    traded: pl.DataFrame
    totals: Mapping[int, Totals]
    buy_back: pl.DataFrame
    deposits: pl.DataFrame
    movements: pl.DataFrame
    shifts: Mapping[int, tuple[Shift, ...]]
    starts: Mapping[int, Start]
    rules: Mapping[int, Rules]
    voided: frozenset[int] = frozenset()


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The runs as they follow from the inputs; `bookings` by seq, `before` the balances each run 0 found (by epoch)."""

    bookings: Mapping[int, Booking]
    before: Mapping[int, pl.DataFrame]
    repaid: Mapping[str, int]
    findings: tuple[Finding, ...]

    def wallet_entries(self) -> pl.DataFrame:
        """All runs' wallet entries."""
        return pl.concat([WALLET_ENTRIES.to_frame(), *(each.wallet_entries for each in self.bookings.values())])

    def meter_entries(self) -> pl.DataFrame:
        """All runs' meter entries."""
        return pl.concat([METER_ENTRIES.to_frame(), *(each.meter_entries for each in self.bookings.values())])


def rebuild(runs: Sequence[RunOf], given: Inputs) -> Ledger:
    """Every run's booking; a run that can't be booked from the inputs is a finding, and its stretch ends there."""
    ordered = sorted(runs, key=lambda each: each.seq)
    columns = _Columns(given)
    deposits = {
        seq: part.rows(named=True) for (seq,), part in given.deposits.group_by("after_seq", maintain_order=True)
    }
    moved = {seq: part.rows(named=True) for (seq,), part in given.movements.group_by("after_seq", maintain_order=True)}
    known = set(columns.wallets)
    bookings: dict[int, Booking] = {}
    before: dict[int, pl.DataFrame] = {}
    repaid: dict[str, int] = {}
    found: list[Finding] = []
    state: State | None = None
    for run in ordered:
        if run.seq in given.starts:
            start = given.starts[run.seq]
            extra = [owner for owner in start.balances["owner"] if owner not in known]
            state = State([*columns.wallets, *extra], start.balances, start.accounts)
        if state is None:
            continue
        if run.kind == CLEARING:
            before[run.epoch] = state.frame()
        try:
            booking = _book(run, state, columns, given)
        except (LedgerError, ValueError, KeyError) as error:
            found.append(
                Finding(
                    epoch=run.epoch, stage="ledger", what=f"run {run.run}", detail=f"can't be booked again: {error}"
                )
            )
            state = None
            continue
        bookings[run.seq] = booking
        for each in deposits.get(run.seq, ()):
            repaid[each["reference"]] = state.deposit(each["owner"], each["amount_uthb"])
        for each in moved.get(run.seq, ()):
            state.move(*(each[name] for name in MOVED))
    return Ledger(bookings=bookings, before=before, repaid=repaid, findings=tuple(found))


def stretches(runs: Sequence[RunOf]) -> list[int]:
    """First seq of every stretch of runs that follow one another without a gap."""
    seqs = sorted(each.seq for each in runs)
    return [seq for place, seq in enumerate(seqs) if place == 0 or seq != seqs[place - 1] + 1]


class _Columns:
    """The initial runs' inputs of all epochs as arrays, epoch after epoch."""

    def __init__(self, given: Inputs) -> None:
        self.net_energy = given.net_energy
        rows = given.net_energy.filter((pl.col("revision") == 0) & ~pl.col("missing"))
        self.meters = rows.select(
            "epoch",
            "meter_id",
            "wallet",
            pl.col("epoch").alias("last_epoch"),
            pl.col("production_wh").alias("production_delta_wh"),
            pl.col("consumption_wh").alias("consumption_delta_wh"),
            NET.clip(lower_bound=0).alias("surplus_wh"),
            (-NET).clip(lower_bound=0).alias("deficit_wh"),
            pl.lit(0, pl.Int64).alias("x_wh"),
            "zone_id",
        ).sort("epoch", "meter_id")
        wallets = self.meters.group_by("epoch", "wallet").agg(
            pl.col("zone_id").min(), pl.col("surplus_wh").sum().alias("minted_wh"), pl.col("deficit_wh").sum()
        )
        self.entries = (
            wallets.join(given.traded.drop("zone_id"), on=["epoch", "wallet"], how="full", coalesce=True)
            .join(given.buy_back, on=["epoch", "wallet"], how="left")
            .with_columns(
                pl.col("minted_wh", "deficit_wh", *TRADED_AMOUNTS).fill_null(0), pl.col("buy_back").fill_null(False)
            )
            .sort("epoch", "wallet")
        )
        late = set(given.net_energy["wallet"].unique())
        owners = set(given.deposits["owner"].unique()) - {"supplier", "platform", "grid_operator"}
        owners |= set(given.movements["owner"].unique())
        self.wallets = sorted(late | owners | set(self.entries["wallet"].unique()))
        self.at = {epoch: (start, length) for epoch, start, length in _bounds(self.entries)}
        self.meters_at = {epoch: (start, length) for epoch, start, length in _bounds(self.meters)}


def _bounds(frame: pl.DataFrame) -> list[tuple[int, int, int]]:
    counted = frame.group_by("epoch", maintain_order=True).len()
    starts = counted["len"].cum_sum() - counted["len"]
    return list(zip(counted["epoch"].to_list(), starts.to_list(), counted["len"].to_list(), strict=True))


def _book(run: RunOf, state: State, columns: _Columns, given: Inputs) -> Booking:
    if run.kind == CLEARING:
        return _initial(run, state, columns, given)
    place = {"seq": run.seq, "epoch": run.epoch, "run": run.run, "balances": state.frame(), "accounts": state.accounts}
    if run.kind == LATE:
        rates, void = given.rules[run.epoch], given.voided
        booking = book_late(net_energy=columns.net_energy, rules=rates, voided=void, **place)  # type: ignore[arg-type]
    else:
        rules = {each: given.rules.get(each, given.rules[run.epoch]) for each in (run.epoch - 1, run.epoch)}
        booking = book_resettlement(shifts=given.shifts.get(run.seq, ()), rules=rules, **place)  # type: ignore[arg-type]
    state.take(booking.balances)
    state.accounts = booking.accounts
    return booking


def _initial(run: RunOf, state: State, columns: _Columns, given: Inputs) -> Booking:
    totals, rules = given.totals[run.epoch], given.rules[run.epoch]
    start, length = columns.at.get(run.epoch, (0, 0))
    rows = columns.entries.slice(start, length)
    who = np.array([state.place[wallet] for wallet in rows["wallet"]], np.int64)
    trades = Trades(
        who,
        rows["minted_wh"].to_numpy(),
        rows["deficit_wh"].to_numpy(),
        rows["traded_wh"].to_numpy(),
        rows["cost_uthb"].to_numpy(),
        rows["proceeds_uthb"].to_numpy(),
        rows["buy_back"].to_numpy(),
    )
    rates = Rates(rules.tariff_uthb_per_kwh(run.epoch), rules.feed_in_uthb_per_kwh, is_on_peak(run.epoch))
    amounts = state.settle(trades, rates, halted=totals.halted)
    header = Header(
        halted=totals.halted,
        # where nothing was bought back the flag changes nothing on the chain, and plans leave it out
        buy_back=bool(amounts["bought_back_wh"].any()),
        lost_wh=totals.lost_wh,
        link_wheeling_uthb=totals.link_wheeling_uthb,
        rent_uthb=totals.rent_uthb,
        zones=totals.zones,
    )
    key = [pl.lit(getattr(run, name), pl.Int64).alias(name) for name in ("seq", "epoch", "run", "kind")]
    none = pl.lit(None, pl.Int64)
    wallet_entries = rows.with_columns(
        *key,
        *(pl.Series(name, values) for name, values in amounts.items()),
        none.alias("refund_epoch"),
        none.alias("surplus_epoch"),
    ).select(WALLET_ENTRIES.names())
    first, count = columns.meters_at.get(run.epoch, (0, 0))
    meter_entries = columns.meters.slice(first, count).with_columns(*key).select(METER_ENTRIES.names())
    _move_accounts(state, rows, amounts, header)
    return Booking(
        seq=run.seq,
        epoch=run.epoch,
        run=run.run,
        kind=CLEARING,
        header=header,
        wallet_entries=wallet_entries,
        meter_entries=meter_entries,
        balances=pl.DataFrame(),
        accounts=state.accounts,
        ledger_rows=LEDGER_ROWS.to_frame(),  # of all runs at once: postings.py
    )


def _move_accounts(state: State, rows: pl.DataFrame, amounts: Mapping[str, Ints], header: Header) -> None:
    total = {name: int(values.sum()) for name, values in amounts.items()}
    state.add_to_accounts(
        supplier_grid_wh=total["bought_back_wh"],
        supplier_thbc_uthb=total["paid_to_supplier_uthb"] + total["debt_repaid_uthb"] - total["buy_back_uthb"],
        platform_thbc_uthb=int(rows["fee_uthb"].sum()),
        grid_operator_thbc_uthb=int(rows["zone_wheeling_uthb"].sum()) + header.link_wheeling_uthb + header.rent_uthb,
    )


def no_traded() -> pl.DataFrame:
    """The traded frame of a range without trades."""
    return pl.DataFrame(schema={"epoch": pl.Int64, **TRADED})

"""Balances in motion: everybody's GRID, THBC and debt as arrays, and one initial run's arithmetic on them.

Belongs here: the order of domain §6 (credit, trades, burn, bill, buy-back) on integers, an epoch in some thirty array
operations. Does not belong here: which runs follow one another (entries.py). It is written apart from
settlement/ledger.py, so that a fault there shows as a difference here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from gridtokenx_pipelines.settlement.frames import BALANCES, MarketAccounts

Ints = npt.NDArray[np.int64]


class Rates(NamedTuple):
    """An epoch's tariff and feed-in price (µTHB/kWh), and whether its tariff is the on-peak one."""

    tariff: int
    feed_in: int
    on_peak: bool


class Trades(NamedTuple):
    """What an initial run is computed from, one element a wallet: Wh and µTHB."""

    who: Ints
    minted_wh: Ints
    deficit_wh: Ints
    traded_wh: Ints
    cost_uthb: Ints
    proceeds_uthb: Ints
    buys_back: npt.NDArray[np.bool_]


class State:
    """Balances of all wallets and the market's accounts after some run."""

    def __init__(self, wallets: list[str], balances: pl.DataFrame, accounts: MarketAccounts) -> None:
        self.wallets = wallets
        self.place = {wallet: index for index, wallet in enumerate(wallets)}
        self.grid, self.thbc, self.debt = (np.zeros(len(wallets), np.int64) for _ in range(3))
        self.accounts = accounts
        self.take(balances)

    def take(self, balances: pl.DataFrame) -> None:
        """Set the balances of the wallets in the frame."""
        for owner, grid, thbc, debt in balances.select(BALANCES.names()).iter_rows():
            index = self.place[owner]
            self.grid[index], self.thbc[index], self.debt[index] = grid, thbc, debt

    def frame(self) -> pl.DataFrame:
        """As settlement takes balances."""
        columns = (self.wallets, self.grid, self.thbc, self.debt)
        return pl.DataFrame(dict(zip(BALANCES.names(), columns, strict=True)), schema=BALANCES).sort("owner")

    def deposit(self, owner: str, amount_uthb: int) -> int:
        """Money from outside to a wallet, debt first, or to a market account; what it repaid."""
        if owner in ("supplier", "platform", "grid_operator"):
            self.add_to_accounts(**{f"{owner}_thbc_uthb": amount_uthb})
            return 0
        index = self.place[owner]
        repaid = min(int(self.debt[index]), amount_uthb)
        self.thbc[index] += amount_uthb - repaid
        self.debt[index] -= repaid
        self.add_to_accounts(supplier_thbc_uthb=repaid)
        return repaid

    def move(self, owner: str, grid_wh: int, cash_uthb: int, fee_uthb: int, zone_wheeling_uthb: int) -> None:
        """What an event on the chain moved outside of runs: cash less debt is one number, as every credit pays debt."""
        index = self.place[owner]
        net = int(self.thbc[index]) - int(self.debt[index]) + cash_uthb
        repaid = int(self.debt[index]) - max(-net, 0)
        self.grid[index] += grid_wh
        self.thbc[index], self.debt[index] = max(net, 0), max(-net, 0)
        self.add_to_accounts(
            supplier_thbc_uthb=repaid, platform_thbc_uthb=fee_uthb, grid_operator_thbc_uthb=zone_wheeling_uthb
        )

    def add_to_accounts(self, **changes: int) -> None:
        """Change the market's accounts."""
        now = {name: getattr(self.accounts, name) for name in MarketAccounts.__struct_fields__}
        self.accounts = MarketAccounts(**{name: now[name] + changes.get(name, 0) for name in now})

    def settle(self, trades: Trades, rates: Rates, *, halted: bool) -> dict[str, Ints]:
        """Run 0: moves the balances, returns the entry's amounts by column.

        Raises ValueError naming the first wallet that sells or pays more than it has.
        """
        who = trades.who
        grid, thbc, debt = self.grid[who], self.thbc[who], self.debt[who]
        debt_before, repaid = debt.copy(), np.zeros(len(who), np.int64)
        net = trades.minted_wh - trades.deficit_wh
        sold = np.maximum(-trades.traded_wh, 0)
        surplus = np.maximum(net, 0)
        back = np.where(trades.buys_back & (not halted), np.maximum(surplus - sold, 0), 0)
        back_uthb = back * rates.feed_in // 1_000
        buys_back = not halted and int(back_uthb.sum()) <= self.accounts.supplier_thbc_uthb
        if not buys_back:
            back, back_uthb = np.zeros_like(back), np.zeros_like(back)
        grid = grid + surplus
        self._covered(who, (trades.cost_uthb, thbc), (sold, grid))
        grid, thbc = grid + trades.traded_wh, thbc - trades.cost_uthb
        thbc, debt, repaid = _credit(thbc, debt, repaid, trades.proceeds_uthb)
        deficit = np.maximum(-net, 0)
        burned = np.minimum(deficit, grid)
        residual, grid = deficit - burned, grid - burned
        billed = -(-(residual * rates.tariff) // 1_000)
        paid = np.minimum(thbc, billed)
        thbc, debt = thbc - paid, debt + billed - paid
        thbc, debt, repaid = _credit(thbc, debt, repaid, back_uthb)
        grid = grid - back
        self.grid[who], self.thbc[who], self.debt[who] = grid, thbc, debt
        nothing = np.zeros(len(who), np.int64)
        peak, off = (1, 0) if rates.on_peak else (0, 1)
        return {
            "net_wh": net,
            "traded_wh": trades.traded_wh,
            "minted_wh": trades.minted_wh,
            "deficit_wh": trades.deficit_wh,
            "deficit_on_peak_wh": trades.deficit_wh * peak,
            "deficit_off_peak_wh": trades.deficit_wh * off,
            "burned_wh": trades.deficit_wh - residual,
            "residual_wh": residual,
            "residual_on_peak_wh": residual * peak,
            "residual_off_peak_wh": residual * off,
            "billed_uthb": billed,
            "paid_to_supplier_uthb": paid,
            "debt_delta_uthb": debt - debt_before,
            "debt_repaid_uthb": repaid,
            "bought_back_wh": back,
            "buy_back_uthb": back_uthb,
            **dict.fromkeys(
                ("refund_wh", "refund_uthb", "taken_back_wh", "returned_wh", "returned_uthb", "rebilled_wh"), nothing
            ),
            "grid_after_wh": grid,
            "thbc_after_uthb": thbc,
            "debt_after_uthb": debt,
        }

    def _covered(self, who: Ints, *pairs: tuple[Ints, Ints]) -> None:
        for needed, held in pairs:
            short = np.flatnonzero(needed > held)
            if len(short):
                first = short[0]
                raise ValueError(
                    f"wallet {self.wallets[who[first]]} trades {needed[first]} and holds {held[first]}; its order was "
                    "not cut to its cover"
                )


def _credit(thbc: Ints, debt: Ints, repaid: Ints, amount: Ints) -> tuple[Ints, Ints, Ints]:
    now = np.minimum(debt, amount)
    return thbc + amount - now, debt - now, repaid + now

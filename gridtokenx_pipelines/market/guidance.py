"""Prices that guide and settle nothing: both reference price rules beside the tariffs in force (domain §5, §6).

Belongs here: applying the rules of prices.py and rules.py to books. Does not belong here: the rules, clearing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from gridtokenx_pipelines.epochs import is_on_peak
from gridtokenx_pipelines.market.prices import display_price, reference_price
from gridtokenx_pipelines.market.rules import Rules

BUY = 0


def guiding_prices(
    book: pl.DataFrame, epochs: Sequence[int], meters: Mapping[int, int], rules: Rules
) -> list[dict[str, int | bool]]:
    """One row per epoch: demand and supply of its book in Wh, the two reference prices, tariff and feed-in (µTHB/kWh).

    `book`: frames.BOOK, of which covered bids are demand and covered offers supply; `meters`: how many took part.
    """
    sums = {
        (epoch, side): int(wh)
        for epoch, side, wh in book.group_by("epoch", "side").agg(pl.col("covered_wh").sum()).iter_rows()
    }
    rows: list[dict[str, int | bool]] = []
    for epoch in epochs:
        in_force = rules.at(epoch)
        demand, supply = sums.get((epoch, BUY), 0), sums.get((epoch, 1 - BUY), 0)
        rows.append(
            {
                "epoch": epoch,
                "demand_wh": demand,
                "supply_wh": supply,
                "reference_uthb_per_kwh": reference_price(demand, supply, in_force),
                "display_uthb_per_kwh": display_price(demand, meters.get(epoch, 0)),
                "on_peak": is_on_peak(epoch),
                "tariff_uthb_per_kwh": in_force.tariff_uthb_per_kwh(epoch),
                "feed_in_uthb_per_kwh": in_force.feed_in_uthb_per_kwh,
            }
        )
    return rows

"""Checks on one epoch's clearing before it is committed: balances, limits, price, and an independent recomputation.

Belongs here: judgements on a result, made without the code that cleared. Does not belong here: clearing.
The recomputation proves the optimum by its certificate (no order and no link could gain) instead of clearing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.settlement_service.inspections.order_book import BUY, SELL, wheeling_frame
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, verdict
from gridtokenx_pipelines.units import (
    BASIS_POINTS,
    PARTS_PER_MILLION,
    WH_PER_KWH,
    ceil_div,
    value_ceil_uthb,
    value_floor_uthb,
)

if TYPE_CHECKING:
    from gridtokenx_pipelines.market.clearing import ClearingResult

ENERGY = "energy_balances_to_the_wh"
MONEY = "money_balances_to_the_uthb"
LIMIT = "nobody_worse_than_the_limit"
PRICE = "price_in_band_or_halted"
RECOMPUTED = "equals_independent_recomputation"
FEASIBLE = "feasible_in_ac_power_flow"
CHECKS = (ENERGY, MONEY, LIMIT, PRICE, RECOMPUTED, FEASIBLE)
# charges are recomputed one by one in Python; a sample keeps a large epoch within its seconds
SAMPLE_WALLETS = 200
ONE_PRICE_A_ZONE = ("uniform", "zonal")
CHARGES = ("cost_uthb", "energy_cost_uthb", "zone_wheeling_uthb", "value_uthb", "fee_uthb", "proceeds_uthb")


def inspect(book: pl.DataFrame, result: ClearingResult, *, epoch: int, rules: Rules, network: Network) -> list[Verdict]:
    """All checks on the result of clearing this book but `feasible`, which needs the network's state."""
    return [
        _energy(result, epoch),
        _money(result, epoch),
        _limit(book, result, epoch, network),
        _price(result, epoch, rules),
        _recomputed(book, result, epoch, rules, network),
    ]


def feasible(epoch: int, broken: Sequence[str], repairs: Sequence[str], *, checked: bool) -> Verdict:
    """Whether the network carries what was cleared: `broken` names lines and buses, `repairs` what had to be cut."""
    failing = pl.DataFrame({"broken": list(broken)}, schema={"broken": pl.String})
    if not checked:
        held = "not checked: there is no grid case"
    elif repairs:
        held = f"feasible after {len(repairs)} × a cleared state that was not: {'; '.join(repairs)}"
    else:
        held = "voltages and loadings of the cleared state are within their bounds"
    return verdict(FEASIBLE, epoch, failing, held, "a bound that the cleared state breaks; was the grid case changed?")


def _unequal(rows: list[tuple[str, int, int]]) -> pl.DataFrame:
    """Rows of (what, left, right) that differ."""
    frame = pl.DataFrame(rows, schema={"what": pl.String, "left": pl.Int64, "right": pl.Int64}, orient="row")
    return frame.filter(pl.col("left") != pl.col("right")).with_columns(difference=pl.col("left") - pl.col("right"))


def _energy(result: ClearingResult, epoch: int) -> Verdict:
    sent = dict(result.flows.group_by("from_zone").agg(pl.sum("sent_wh")).iter_rows())
    delivered = dict(result.flows.group_by("to_zone").agg(pl.sum("delivered_wh")).iter_rows())
    filled = {
        (zone, side): wh
        for zone, side, wh in result.fills.group_by("zone_id", "side").agg(pl.sum("filled_wh")).iter_rows()
    }
    rows = [
        ("Σ traded = −lost", int(result.traded["traded_wh"].sum()), -result.lost_wh),
        ("lost = Σ sent − Σ delivered", result.lost_wh, sum(sent.values()) - sum(delivered.values())),
        ("volume = Σ bought", result.volume_wh, int(result.zones["bought_wh"].sum())),
        ("Σ matches = Σ bought", int(result.matches["energy_wh"].sum()), int(result.zones["bought_wh"].sum())),
    ]
    for zone, bought, sold in result.zones.select("zone_id", "bought_wh", "sold_wh").iter_rows():
        balance = sold + delivered.get(zone, 0) - sent.get(zone, 0)
        # the other mechanisms see all zones as one area, and only its sum balances
        rows += [(f"zone {zone}: bought = sold + in − out", bought, balance)] * (result.mechanism == "zonal")
        rows += [
            (f"zone {zone}: bought = its buyers' fills", bought, filled.get((zone, BUY), 0)),
            (f"zone {zone}: sold = its sellers' fills", sold, filled.get((zone, SELL), 0)),
        ]
    held = f"{result.volume_wh} Wh bought, {result.lost_wh} Wh lost, every zone balances"
    return verdict(ENERGY, epoch, _unequal(rows), held, "an energy balance that doesn't close")


def _money(result: ClearingResult, epoch: int) -> Verdict:
    sums = {name: int(result.traded[name].sum()) for name in CHARGES}
    link_wheeling = int(result.flows["wheeling_uthb"].sum())
    rows = [
        (
            "costs = proceeds + fees + zone wheeling + link wheeling + rent",
            sums["cost_uthb"],
            sums["proceeds_uthb"]
            + sums["fee_uthb"]
            + sums["zone_wheeling_uthb"]
            + result.link_wheeling_uthb
            + result.rent_uthb,
        ),
        (
            "cost = energy cost + zone wheeling",
            sums["cost_uthb"],
            sums["energy_cost_uthb"] + sums["zone_wheeling_uthb"],
        ),
        ("value = proceeds + fees", sums["value_uthb"], sums["proceeds_uthb"] + sums["fee_uthb"]),
        ("link wheeling = Σ over links", result.link_wheeling_uthb, link_wheeling),
    ]
    held = f"buyers pay {sums['cost_uthb']} µTHB, rent and rounding {result.rent_uthb} µTHB"
    return verdict(MONEY, epoch, _unequal(rows), held, "money that doesn't close")


def _limit(book: pl.DataFrame, result: ClearingResult, epoch: int, network: Network) -> Verdict:
    orders = book.select("order_id", "covered_wh", "limit_uthb_per_kwh", "net_limit_uthb_per_kwh")
    fills = result.fills.join(orders, on="order_id", how="left").join(wheeling_frame(network), on="zone_id", how="left")
    price = pl.col("price_uthb_per_kwh")
    all_in = price + pl.col("wheeling_uthb_per_kwh")
    faults = {
        "not in the book": pl.col("covered_wh").is_null(),
        "filled beyond its cover": pl.col("filled_wh") > pl.col("covered_wh"),
        "buyer pays more than the limit": (pl.col("side") == BUY) & (all_in > pl.col("limit_uthb_per_kwh")),
        "seller receives less than the limit": (pl.col("side") == SELL) & (price < pl.col("net_limit_uthb_per_kwh")),
    }
    failing = (
        fills.with_columns(fault=pl.coalesce([pl.when(rule).then(pl.lit(name)) for name, rule in faults.items()]))
        .filter(pl.col("fault").is_not_null())
        .select("order_id", "wallet", "side", "filled_wh", "covered_wh", "limit_uthb_per_kwh", price, "fault")
    )
    # what a wallet finally pays or receives, after the one rounding, against all its limits together
    asked = fills.group_by("wallet", "side").agg(bound=(pl.col("filled_wh") * pl.col("limit_uthb_per_kwh")).sum())
    paid = asked.join(result.traded, on="wallet", how="left").filter(
        ((pl.col("side") == BUY) & (pl.col("cost_uthb") * WH_PER_KWH > pl.col("bound") + WH_PER_KWH - 1))
        | ((pl.col("side") == SELL) & (pl.col("proceeds_uthb") * WH_PER_KWH < pl.col("bound")))
    )
    worse = paid.select(
        pl.lit(None, pl.Binary).alias("order_id"),
        "wallet",
        "side",
        pl.col("traded_wh").abs().alias("filled_wh"),
        pl.lit(None, pl.Int64).alias("covered_wh"),
        pl.lit(None, pl.Int64).alias("limit_uthb_per_kwh"),
        pl.lit(None, pl.Int64).alias("price_uthb_per_kwh"),
        fault=pl.lit("the wallet's limits together are broken after charges"),
    )
    held = f"{fills.height} fills within their limits, charges included"
    return verdict(LIMIT, epoch, pl.concat([failing, worse]), held, "a fill outside its limit")


def _price(result: ClearingResult, epoch: int, rules: Rules) -> Verdict:
    if result.halted:
        traded = result.fills.select("order_id", "wallet", "filled_wh")
        return verdict(PRICE, epoch, traded, "halted, without a trade", "a trade in a halted epoch")
    trading = (pl.col("bought_wh") > 0) | (pl.col("sold_wh") > 0)
    price = pl.col("price_uthb_per_kwh")
    inside = price.is_between(rules.price_min_uthb_per_kwh, rules.price_max_uthb_per_kwh)
    failing = result.zones.filter(trading & ~inside.fill_null(False))
    prices = ", ".join(
        f"zone {zone}: {'–' if p is None else p}" for zone, p in result.zones.select("zone_id", price).rows()
    )
    return verdict(PRICE, epoch, failing, f"µTHB/kWh {prices}", "a trading zone whose price lies outside the band")


def _recomputed(book: pl.DataFrame, result: ClearingResult, epoch: int, rules: Rules, network: Network) -> Verdict:
    if result.mechanism not in ONE_PRICE_A_ZONE:
        # these match pair by pair in the order of arrival: there is no optimum to prove, and charges are per order
        return verdict(RECOMPUTED, epoch, _unequal([]), f"not for {result.mechanism}: see the other checks", "")
    failing = pl.concat([_recharged(result, rules, network), _optimal(book, result, network)])
    held = f"charges of {min(result.traded.height, SAMPLE_WALLETS)} wallets, optimum of {book.height} orders"
    return verdict(RECOMPUTED, epoch, failing, held, "a value that an independent computation finds otherwise")


def _recharged(result: ClearingResult, rules: Rules, network: Network) -> pl.DataFrame:
    """Charges of the first wallets, from their fills, in plain integers."""
    wheeling = {zone.zone_id: zone.zone_wheeling_uthb_per_kwh for zone in network.zones}
    price = dict(result.zones.select("zone_id", "price_uthb_per_kwh").iter_rows())
    rows: list[tuple[str, int, int]] = []
    for row in result.traded.sort("wallet").head(SAMPLE_WALLETS).iter_rows(named=True):
        bought, sold, at = max(row["traded_wh"], 0), max(-row["traded_wh"], 0), price[row["zone_id"]] or 0
        cost, energy = value_ceil_uthb(bought, at + wheeling[row["zone_id"]]), value_floor_uthb(bought, at)
        value = value_floor_uthb(sold, at)
        fee = value * rules.fee_bp // BASIS_POINTS
        expected = dict(zip(CHARGES, (cost, energy, cost - energy, value, fee, value - fee), strict=True))
        rows += [(f"{row['wallet']} {name}", row[name], expected[name]) for name in CHARGES]
    return _unequal(rows)


def _optimal(book: pl.DataFrame, result: ClearingResult, network: Network) -> pl.DataFrame:
    """Orders and links that could still gain at these prices: none at the optimum, to a Wh a zone and a µTHB a hop."""
    hops = max(len(network.zones) - 1, 0)
    filled = result.fills.select("order_id", "filled_wh")
    orders = (
        book.select("order_id", "zone_id", "side", "covered_wh", "net_limit_uthb_per_kwh")
        .join(filled, on="order_id", how="left")
        .join(result.zones.select("zone_id", pl.col("price_uthb_per_kwh").alias("price")), on="zone_id")
        .filter(pl.col("price").is_not_null())
        .with_columns(pl.col("filled_wh").fill_null(0))
    )
    gain = pl.col("net_limit_uthb_per_kwh") - pl.col("price")
    gain = pl.when(pl.col("side") == BUY).then(gain).otherwise(-gain)
    unfilled = pl.col("covered_wh") - pl.col("filled_wh")
    left = orders.filter((gain > hops) & (unfilled > len(network.zones)))
    rows = [
        ("order " + key.hex()[:16] + " could gain, unfilled Wh", wh, 0)
        for key, wh in left.select("order_id", unfilled).rows()
    ]
    return pl.concat([_unequal(rows), _unequal(_idle_links(result, network, hops))])


def _idle_links(result: ClearingResult, network: Network, hops: int) -> list[tuple[str, int, int]]:
    price = dict(result.zones.select("zone_id", "price_uthb_per_kwh").iter_rows())
    flows = {row["link_id"]: row for row in result.flows.iter_rows(named=True)}
    rows: list[tuple[str, int, int]] = []
    for link in network.links:
        directions = (
            (link.from_zone, link.to_zone, link.capacity_forward_wh),
            (link.to_zone, link.from_zone, link.capacity_backward_wh),
        )
        for source, target, capacity in directions:
            flow = flows.get(link.link_id)
            sent = flow["sent_wh"] if flow is not None and flow["from_zone"] == source else 0
            if sent > capacity:
                rows.append((f"link {link.link_id} sent beyond its capacity", sent, capacity))
            if price[source] is None or price[target] is None:
                continue
            parity = ceil_div(
                (price[source] + link.link_wheeling_uthb_per_kwh) * PARTS_PER_MILLION, PARTS_PER_MILLION - link.loss_ppm
            )
            if sent < capacity and price[target] > parity + hops + 1:
                rows.append(
                    (f"link {link.link_id} to zone {target} could gain, price and parity", price[target], parity)
                )
            if sent > 0 and price[target] < parity - hops - 1:
                rows.append((f"link {link.link_id} to zone {target} loses, price and parity", price[target], parity))
    return rows

"""The sections of the report: what is shown of a run, in which words.

Belongs here: choice of plots and tables. Does not belong here: deriving frames (data.py), drawing (svg.py, page.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.report import page
from gridtokenx_pipelines.report.data import ReportData, balance_by_epoch, household_day, savings
from gridtokenx_pipelines.report.svg import SERIES_COLOURS, Series, local_time, plot
from gridtokenx_pipelines.units import UTHB_PER_THB, WH_PER_KWH, kwh, thb

MOST_ROWS = 672  # a week of epochs
BLUE, ORANGE, GREEN, YELLOW, VIOLET, GREY = 1, 2, 3, 4, 5, 8


def _scaled(column: pl.Series, unit: int) -> list[float | None]:
    return [None if value is None else value / unit for value in column.to_list()]


def _kwh(frame: pl.DataFrame, column: str) -> list[float | None]:
    return _scaled(frame[column], WH_PER_KWH)


def _baht(amount_uthb: int) -> str:
    """µTHB for people: two places, rounded half up; the exact amounts are in the tables of the store."""
    satang = (amount_uthb + 5_000) // 10_000
    return f"{'-' if satang < 0 else ''}{abs(satang) // 100:,}.{abs(satang) % 100:02d}"


def overview(data: ReportData) -> str:
    """Title and the numbers to remember."""
    result, saved = data.result, savings(data.wallet_entries, data.rules)
    first, last = local_time(data.epochs[0]), local_time(data.epochs[-1] + 1)
    energy, proof = result["energy_wh"], result["ledger_proof"]
    differing = sum(row["difference"] != 0 for row in proof)
    rejected = sum(result["readings"]["rejected"].values())
    bought_wh = int(data.zones["bought_wh"].sum())
    return (
        f"<h1>A neighbourhood's {'day' if len(data.epochs) == 96 else 'energy'}, settled</h1>"
        f'<p class="soft">Grid {result["grid"]}, {len(data.epochs)} epochs from {first.day} {first:%B %Y %H:%M} to '
        f"{last.day} {last:%B %H:%M} (Bangkok time), seed {result['seed']}.</p>"
        + page.tiles(
            [
                (f"{result['epochs_settled']}", "epochs settled on chain", ""),
                (f"{kwh(energy['traded'])}", "kWh traded between neighbours", ""),
                (_mean_price(data, bought_wh), "THB/kWh, mean price by volume", ""),
                (
                    _baht(saved.total_uthb),
                    "THB better off than without trading",
                    "good" if saved.total_uthb > 0 else "",
                ),
                (f"{result['readings']['accepted']:,}", f"readings accepted, {rejected:,} refused", ""),
                (
                    f"{len(proof) - differing}/{len(proof)}",
                    "checks of the ledger proof close to 0, chain and database alike",
                    "bad" if differing else "good",
                ),
            ]
        )
    )


def _mean_price(data: ReportData, bought_wh: int) -> str:
    if not bought_wh:
        return "–"
    priced = data.zones.drop_nulls("price_uthb_per_kwh")
    return _baht(int((priced["price_uthb_per_kwh"] * priced["bought_wh"]).sum()) // bought_wh)


def market(data: ReportData) -> str:
    """Price and volume by zone over the day."""
    epochs = data.epochs
    by_zone = {
        zone: pl.DataFrame({"epoch": epochs}, schema={"epoch": pl.Int64}).join(
            data.zones.filter(pl.col("zone_id") == zone), on="epoch", how="left"
        )
        for zone in data.zone_ids
    }
    colours = {zone: index % SERIES_COLOURS + 1 for index, zone in enumerate(data.zone_ids)}
    tariff = [data.rules.tariff_uthb_per_kwh(epoch) / UTHB_PER_THB for epoch in epochs]
    feed_in = [data.rules.at(epoch).feed_in_uthb_per_kwh / UTHB_PER_THB for epoch in epochs]
    prices = [
        Series(name=f"Zone {z}", values=_scaled(f["price_uthb_per_kwh"], UTHB_PER_THB), colour=colours[z])
        for z, f in by_zone.items()
    ]
    prices += [
        Series(name="Retail tariff", values=tariff, colour=GREY, style="dashed"),
        Series(name="Feed-in tariff", values=feed_in, colour=VIOLET, style="dashed"),
    ]
    volumes = [
        Series(name=f"Zone {z}", values=_kwh(f, "bought_wh"), colour=colours[z], style="bar")
        for z, f in by_zone.items()
    ]
    return page.heading(
        "The market", "Each quarter hour is one auction; zones are coupled by their cables."
    ) + page.cards(
        [
            page.figure(
                "Price by zone",
                "Both sides gain while price and wheeling lie below the retail tariff and the price less fee above "
                "feed-in; off-peak the tariff is low, and limits may allow trades above it. Gaps: nothing was traded.",
                prices,
                plot(epochs, prices, label="Clearing price by zone over the day", unit="THB/kWh", from_zero=False),
            ),
            page.figure(
                "Energy bought by zone",
                "kWh delivered to the zone's buyers in each quarter hour.",
                volumes,
                plot(epochs, volumes, label="Energy bought by zone over the day", unit="kWh"),
            ),
        ]
    )


def energy(data: ReportData) -> str:
    """Produced, consumed, traded and residual."""
    balance = balance_by_epoch(data)
    sources = [
        Series(name="Own production", values=_kwh(balance, "own_wh"), colour=YELLOW, style="area"),
        Series(name="GRID burned", values=_kwh(balance, "burned_wh"), colour=GREEN, style="area"),
        Series(name="Supplier (residual)", values=_kwh(balance, "residual_wh"), colour=GREY, style="area"),
    ]
    flows = [
        Series(name="Produced", values=_kwh(balance, "produced_wh"), colour=YELLOW),
        Series(name="Surplus minted", values=_kwh(balance, "minted_wh"), colour=ORANGE),
        Series(name="Traded", values=_kwh(balance, "traded_wh"), colour=GREEN),
        Series(name="Consumed", values=_kwh(balance, "consumed_wh"), colour=BLUE),
    ]
    return page.heading("Energy balance") + page.cards(
        [
            page.figure(
                "Where consumption came from",
                "kWh per quarter hour: used where produced, covered by GRID bought or held, billed by the supplier.",
                sources,
                plot(data.epochs, sources, label="Sources of consumption over the day", unit="kWh"),
            ),
            page.figure(
                "Produced, traded, consumed",
                "kWh per quarter hour of all meters together.",
                flows,
                plot(data.epochs, flows, label="Energy produced, traded and consumed over the day", unit="kWh"),
            ),
        ]
    )


def household(data: ReportData) -> str:
    """One household's day: registers, net and trades, money, statement."""
    name, wallet = data.household
    day = household_day(data)
    epochs = data.epochs
    registers = [
        Series(name="Production", values=_kwh(day, "production_wh"), colour=YELLOW),
        Series(name="Consumption", values=_kwh(day, "consumption_wh"), colour=BLUE),
    ]
    trades = [
        Series(name="Net energy", values=_kwh(day, "net_wh"), colour=BLUE),
        Series(name="Bought +, sold −", values=_kwh(day, "traded_wh"), colour=GREEN, style="bar"),
    ]
    money = [Series(name="THBC", values=_scaled(day["thbc_after_uthb"], UTHB_PER_THB), colour=VIOLET)]
    mine = data.wallet_entries.filter(pl.col("wallet") == wallet)
    bought_wh = int(mine["traded_wh"].clip(lower_bound=0).sum())
    sold_wh = -int(mine["traded_wh"].clip(upper_bound=0).sum())
    saved = savings(mine, data.rules)
    statement = [
        ("Bought from neighbours", kwh(bought_wh), thb(-int(mine["cost_uthb"].sum()))),
        ("Sold to neighbours, after fees", kwh(sold_wh), thb(int(mine["proceeds_uthb"].sum()))),
        ("Billed by the supplier", kwh(int(mine["residual_wh"].sum())), thb(-int(mine["billed_uthb"].sum()))),
        ("Surplus sold to the supplier", kwh(int(mine["bought_back_wh"].sum())), thb(int(mine["buy_back_uthb"].sum()))),
        ("Refunded by resettlement", "", thb(int(mine["refund_uthb"].sum()))),
        ("Better off than without trading", "", thb(saved.total_uthb)),
    ]
    return page.heading(f"One household's day: {name}", f"Wallet {wallet[:8]}…{wallet[-6:]}.") + page.cards(
        [
            page.figure(
                "Registers",
                "kWh counted since the start by all meters of the household.",
                registers,
                plot(epochs, registers, label="Registers of the household", unit="kWh"),
            ),
            page.figure(
                "Net energy and trades",
                "kWh per quarter hour; above zero is surplus (line) or bought (bars).",
                trades,
                plot(epochs, trades, label="Net energy and trades of the household", unit="kWh"),
            ),
            page.figure(
                "Balance",
                "THBC in the trading account after each settlement.",
                money,
                plot(epochs, money, label="THBC balance of the household", unit="THB", from_zero=False),
            ),
            page.table(["Statement", "kWh", "THB"], statement, "Statement", "As settled on chain, charges included."),
        ]
    )


def settlement(data: ReportData) -> str:
    """One row per epoch."""
    balance = balance_by_epoch(data)
    chain = data.transactions.group_by("epoch").agg(transactions=pl.len(), compute_units=pl.sum("compute_units"))
    rows = balance.join(chain, on="epoch", how="left").fill_null(0).sort("epoch")
    prices = {
        (epoch, zone): price
        for epoch, zone, price in data.zones.select("epoch", "zone_id", "price_uthb_per_kwh").iter_rows()
    }
    roots: Mapping[str, Any] = data.result.get("roots", {})
    shown = rows.tail(MOST_ROWS)
    body = [
        (
            f"{local_time(row['epoch']):%d %b %H:%M}",
            *(_price(prices.get((row["epoch"], zone))) for zone in data.zone_ids),
            *(kwh(row[column]) for column in ("minted_wh", "traded_wh", "burned_wh", "residual_wh")),
            f"{row['transactions']:,}",
            f"{row['compute_units']:,}",
            _short(roots.get(key_of(row["epoch"]), roots.get(str(row["epoch"]), ""))),
        )
        for row in shown.to_dicts()
    ]
    head = ["Epoch", *(f"Zone {zone}" for zone in data.zone_ids), "Minted", "Traded", "Burned", "Residual",
            "Transactions", "Compute units", "Root"]  # fmt: skip
    says = "Prices in THB/kWh, energy in kWh; resettlements and late entries included."
    if rows.height > MOST_ROWS:
        says += f" The last {MOST_ROWS} of {rows.height} epochs."
    return page.heading("Settlement", "Every epoch, as finalised on chain.") + page.table(head, body, says=says)


def _price(price_uthb_per_kwh: int | None) -> str:
    return "–" if price_uthb_per_kwh is None else thb(price_uthb_per_kwh)


def _short(root: object) -> str:
    text = str(root or "")
    return text if len(text) <= 14 else f"{text[:8]}…{text[-4:]}"


def proof(data: ReportData) -> str:
    """The ledger proof, and what became of the telemetry."""
    laws = [
        (str(row["law"]), f"{row['left']:,}", f"{row['right']:,}", f"{row['difference']:,}")
        for row in data.result["ledger_proof"]
    ]
    readings: Mapping[str, Any] = data.result["readings"]
    fates: list[tuple[str, str]] = [("sent", f"{readings['sent']:,}"), ("accepted", f"{readings['accepted']:,}")]
    fates += [(f"refused: {reason.replace('_', ' ')}", f"{n:,}") for reason, n in sorted(readings["rejected"].items())]
    fates.append(("late, led to a correction", f"{readings['corrections']:,}"))
    seconds = [(stage.replace("_", " "), f"{value:,.1f}") for stage, value in data.result.get("seconds", {}).items()]
    return (
        page.heading("Ledger proof", "Each law from the chain and from the database on its own; Wh and µTHB, whole.")
        + page.table(["Law", "Left", "Right", "Difference"], laws)
        + page.heading("Telemetry and time")
        + page.cards([page.table(["Readings", ""], fates), page.table(["Stage", "Seconds"], seconds)])
    )


def all_sections(data: ReportData) -> Sequence[str]:
    """The report from top to bottom."""
    return [
        overview(data),
        market(data),
        energy(data),
        household(data),
        settlement(data),
        proof(data),
        "<footer>Energy in kWh (1 GRID), money in THB (THBC). Times are Bangkok local time.</footer>",
    ]

"""A settled stretch of a real neighbourhood, computed by the real domain, for the tests of the report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key, key_of, start_us
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.book import build_book
from gridtokenx_pipelines.market.clearing import clear
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import RegistryView, decode_record
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState
from gridtokenx_pipelines.metering.window import step as window_step
from gridtokenx_pipelines.report.data import ReportData, busiest_household
from gridtokenx_pipelines.settlement.frames import BALANCES, Booking, MarketAccounts
from gridtokenx_pipelines.settlement.laws import Law, laws_of_booking
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late
from gridtokenx_pipelines.simulation.day import day_events, registry_messages
from gridtokenx_pipelines.simulation.messages import READINGS_TOPIC, total
from gridtokenx_pipelines.simulation.neighbourhood import (
    GRID_OPERATOR_FUNDS_UTHB,
    SUPPLIER_FUNDS_UTHB,
    Neighbourhood,
    build_neighbourhood,
)


def mandates_of(neighbourhood: Neighbourhood, start_epoch: int) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "wallet": home.wallet,
                "effective_epoch": start_epoch,
                "end_epoch": None,
                "sell_min_uthb_per_kwh": home.mandate.sell_min_uthb_per_kwh,
                "buy_max_uthb_per_kwh": home.mandate.buy_max_uthb_per_kwh,
                "max_wh": home.mandate.max_wh,
                "buy_back": home.mandate.buy_back,
                "set_at_us": start_us(start_epoch) - 1_000_000,
            }
            for home in neighbourhood.households
            if home.mandate is not None
        ],
        schema=frames.MANDATES,
    )


def closed(balances: pl.DataFrame, accounts: MarketAccounts, booking: Booking) -> tuple[Law, ...]:
    laws = laws_of_booking(balances, accounts, booking)
    assert [law for law in laws if law.difference] == []
    return laws


def play(cache: Path, grid: str, start_key: str, epochs: int, seed: int = 1) -> ReportData:
    """Meter, clear and book a stretch by mandates alone; what the chain would add is left out of the result."""
    neighbourhood, rules, start = build_neighbourhood(grid, seed, cache_dir=cache), Rules(), epoch_of_key(start_key)
    view = RegistryView(decode_record(event.value) for event in registry_messages(neighbourhood, start))
    shards = {partition: ShardState(partition, 2) for partition in range(2)}
    verifier, offsets, manifests = Verifier(neighbourhood.network_id), Counter[int](), []
    counts: Counter[tuple[str, str]] = Counter()
    rows: list[pl.DataFrame] = []
    corrections = 0
    for chunk in day_events(neighbourhood, start, epochs, market=bytes(32), partitions=2):
        manifests.append(chunk.manifest)
        for partition, shard in shards.items():
            raws = []
            for event in chunk.events:
                if event.topic == READINGS_TOPIC and event.partition == partition:
                    raws.append(
                        Raw(offsets[partition], event.timestamp_ms * 1_000, event.value, event.headers, event.key)
                    )
                    offsets[partition] += 1
            outputs: Outputs
            shards[partition], outputs = window_step(shard, verifier.messages(raws), view)
            rows.append(outputs.net_energy())
            corrections += len(outputs.correction_rows)
            counts += outputs.counts
    verifier.close()
    net_energy = pl.concat(rows)
    mandates = mandates_of(neighbourhood, start)
    balances = pl.DataFrame(
        [
            {"owner": home.wallet, "grid_wh": 0, "thbc_uthb": home.deposit_uthb, "debt_uthb": 0}
            for home in neighbourhood.households
        ],
        schema=BALANCES,
    )
    accounts = MarketAccounts(supplier_thbc_uthb=SUPPLIER_FUNDS_UTHB, grid_operator_thbc_uthb=GRID_OPERATOR_FUNDS_UTHB)
    zones: list[pl.DataFrame] = []
    bookings: list[Booking] = []
    for epoch in range(start, start + epochs):
        energy = net_energy.filter((pl.col("epoch") == epoch) & (pl.col("revision") == 0))
        orders = pl.DataFrame(schema=frames.ORDERS)
        book = build_book(orders, mandates, energy, balances, rules, neighbourhood.network, epoch)
        cleared = clear(book.frame, neighbourhood.network, rules)
        zones.append(cleared.zones.with_columns(pl.lit(epoch, pl.Int64).alias("epoch")))
        booking = book_initial(
            seq=len(bookings) + 1,
            epoch=epoch,
            net_energy=energy,
            traded=cleared.traded,
            buy_back=mandates.select("wallet", "buy_back"),
            balances=balances,
            accounts=accounts,
            rules=rules,
            zones=cleared.zones,
            lost_wh=cleared.lost_wh,
            link_wheeling_uthb=cleared.link_wheeling_uthb,
            rent_uthb=cleared.rent_uthb,
        )
        laws = closed(balances, accounts, booking)
        balances, accounts = booking.balances, booking.accounts
        bookings.append(booking)
        if net_energy.filter((pl.col("booked_epoch") == epoch) & (pl.col("revision") > 0)).height:
            late = book_late(
                seq=len(bookings) + 1,
                epoch=epoch,
                run=1,
                net_energy=net_energy,
                balances=balances,
                accounts=accounts,
                rules=rules,
            )
            laws = closed(balances, accounts, late)
            balances, accounts = late.balances, late.accounts
            bookings.append(late)
    wallet_entries = pl.concat([booking.wallet_entries for booking in bookings])
    zone_results = pl.concat(zones)
    metered = net_energy.filter(~pl.col("missing"))
    prices: dict[str, Any] = {}
    for zone in sorted(zone_results["zone_id"].unique().to_list()):
        column = zone_results.filter(pl.col("zone_id") == zone)["price_uthb_per_kwh"].drop_nulls()
        prices[str(zone)] = {
            "min": column.min(),
            "max": column.max(),
            "mean": None if column.is_empty() else int(column.sum()) // len(column),
        }
    manifest = total(manifests)
    return ReportData(
        result={
            "seed": seed,
            "grid": grid,
            "epochs_settled": epochs,
            "readings": {
                "sent": manifest.sent,
                "accepted": counts["accepted", ""] + counts["accepted", "late"],
                "rejected": {reason: n for (status, reason), n in counts.items() if status == "rejected"},
                "corrections": corrections,
            },
            "energy_wh": {
                "produced": int(metered["production_wh"].sum()),
                "consumed": int(metered["consumption_wh"].sum()),
                "traded": int(wallet_entries["traded_wh"].clip(lower_bound=0).sum()),
                "minted": int(wallet_entries["minted_wh"].sum()),
                "burned": int(wallet_entries["burned_wh"].sum()),
                "residual": int(wallet_entries["residual_wh"].sum()),
            },
            "price_uthb_per_kwh": prices,
            "chain": {"transactions": 0, "compute_units": 0, "compute_units_per_trader": 0.0},
            "roots": {key_of(epoch): f"{epoch:064x}" for epoch in range(start, start + epochs)},
            "seconds": {"metering": 1.25, "settlement": 20.5},
            "ledger_proof": [
                {"law": law.law, "left": law.left, "right": law.right, "difference": law.difference} for law in laws
            ],
        },
        zones=zone_results,
        net_energy=net_energy,
        wallet_entries=wallet_entries,
        transactions=pl.DataFrame(schema={"epoch": pl.Int64, "compute_units": pl.Int64}),
        household=busiest_household(wallet_entries, {home.wallet: home.name for home in neighbourhood.households}),
    )


@pytest.fixture(scope="session")
def morning(pytestconfig: pytest.Config) -> ReportData:
    """Twelve epochs of a small grid on a June morning."""
    return play(Path(pytestconfig.cache.mkdir("simbench")), "1-LV-rural1--2-sw", "2026-06-14T23:00Z", 12)

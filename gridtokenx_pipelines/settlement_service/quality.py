"""Contracts and statistics of the epochs that were computed, as verdicts.

Belongs here: loading what the quality rules look at. Does not belong here: the rules (quality/), the blocking rules
between tables (inspections/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.quality import catalogue, statistics
from gridtokenx_pipelines.quality.contract import Contract
from gridtokenx_pipelines.quality.contracts import BY_ASSET
from gridtokenx_pipelines.quality.violations import holds, violations
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, verdicts
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import quality as store
from gridtokenx_pipelines.store.epochs import net_energy_between
from gridtokenx_pipelines.store.parquet import EPOCH
from gridtokenx_pipelines.store.transformer import exchange_between

# what the statistics judge by: the same time of the day before (meters: many rows), of the week before (prices: few)
METER_EPOCHS: Final = statistics.DAY + statistics.SAME_TIME_EPOCHS
MARKET_EPOCHS: Final = 7 * statistics.DAY + statistics.SAME_TIME_EPOCHS


def inspect_contracts(services: Services, asset: str, epochs: Sequence[int]) -> list[Verdict]:
    """One verdict per epoch on all tables of the asset: shape, types, ranges, key."""
    broken: dict[int, list[tuple[str, pl.DataFrame]]] = {}
    rows = dict.fromkeys(epochs, 0)
    for contract in BY_ASSET[asset]:
        heights = _heights_if_sound(services, contract, epochs)
        for epoch in epochs:
            if heights is not None:
                rows[epoch] += heights.get(epoch, 0)
                continue
            # a missing file is the asset's own failure to explain, not a broken contract
            frame = services.parquet.read(asset, epoch, contract.frame)
            rows[epoch] += frame.height
            broken.setdefault(epoch, []).extend((each.words, each.failing) for each in violations(contract, frame))
    return [_verdict(epoch, broken.get(epoch, []), rows[epoch], BY_ASSET[asset]) for epoch in epochs]


def _heights_if_sound(services: Services, contract: Contract, epochs: Sequence[int]) -> dict[int, int] | None:
    """Rows of each epoch's table (absent: none) where all keep the contract; None where each must be looked at."""
    try:
        whole = services.parquet.read_many(contract.asset, epochs, contract.frame)
    except pl.exceptions.PolarsError:
        return None
    heights = {int(epoch): int(count) for epoch, count in whole.group_by(EPOCH).len().iter_rows()}
    if len(heights) < len(set(epochs)) and not contract.may_be_empty:
        return None
    return heights if holds(contract, whole, EPOCH) else None


def _verdict(epoch: int, broken: list[tuple[str, pl.DataFrame]], rows: int, contracts: Sequence[Contract]) -> Verdict:
    if broken:
        words, failing = broken[0]
        more = f", and {len(broken) - 1} more rules" if len(broken) > 1 else ""
        return Verdict(check=catalogue.CONTRACT, epoch=epoch, passed=False, detail=words + more, failing=failing)
    tables = ", ".join(contract.name for contract in contracts)
    return Verdict(check=catalogue.CONTRACT, epoch=epoch, passed=True, detail=f"{rows} rows of {tables} as declared")


def inspect_metering(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The statistical warnings on net energy, per epoch."""
    with services.engine.connect() as connection:
        rows = net_energy_between(connection, epochs[0] - METER_EPOCHS, epochs[-1])
        latest = store.latest_voltages(connection)
        counts = store.telemetry_counts(connection)
        exchange = exchange_between(connection, epochs[0], epochs[-1])
    on_time = rows.filter(pl.col("revision") == 0)
    newest = rows.sort("revision").unique(["meter_id", "epoch"], keep="last", maintain_order=True)
    last = epochs[-1]
    return [
        *_warnings(
            catalogue.SILENT,
            epochs,
            lambda epoch: statistics.silent_meters(_window(on_time, epoch, METER_EPOCHS), epoch),
            f"no meter missing for {statistics.SILENT_EPOCHS} epochs",
            "meters that went silent; look at their gateway, and at the dead letters for refused readings",
        ),
        *_warnings(
            catalogue.FROZEN,
            epochs,
            lambda epoch: statistics.frozen_meters(_window(on_time, epoch, METER_EPOCHS), epoch),
            "every meter that reports also moves",
            "meters whose registers stand still although they report; have them inspected",
        ),
        *_warnings(
            catalogue.NETWORK_BALANCE,
            epochs,
            lambda epoch: statistics.network_balance(newest, exchange, epoch),
            "the transformers' meters agree with the sum of all others, or were not read",
            "energy that came or went past the meters; look for one that is bridged or wrongly assigned",
        ),
        *_warnings(
            catalogue.JUMP,
            epochs,
            lambda epoch: statistics.sudden_changes(_window(on_time, epoch, METER_EPOCHS), epoch),
            "no meter far from its usual at this time",
            "meters far from their usual at this time; compare with the weather and the neighbours",
        ),
        *_warnings(
            catalogue.ESTIMATED,
            epochs,
            lambda epoch: statistics.estimated_share(newest, epoch),
            f"at most {statistics.ESTIMATED_SHARE_MAX:.0%} estimated",
            "an epoch with many estimated rows; look for a gateway that was offline",
        ),
        # the view and the counts are of now, so they are held against the newest epoch of the range alone
        *_warnings(
            catalogue.VOLTAGE,
            epochs,
            lambda epoch: statistics.voltage_outliers(latest if epoch == last else latest.clear(), epoch),
            "all last voltages within 207 … 253 V",
            "meters outside ±10 % of 230 V; tell the grid operator",
        ),
        *_warnings(
            catalogue.REJECTED,
            epochs,
            lambda epoch: statistics.rejection_rates(counts if epoch == last else counts.clear(), epoch),
            f"no reason refuses more than {statistics.REJECTED_SHARE_MAX:.0%} of the readings",
            "reasons that refuse many readings; browse the dead letters by that reason",
        ),
    ]


def inspect_market(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The statistical warnings on prices and volumes, per epoch."""
    with services.engine.connect() as connection:
        zones = store.zone_prices(connection, epochs[0] - MARKET_EPOCHS, epochs[-1])
    return [
        *_warnings(
            catalogue.PRICE_HISTORY,
            epochs,
            lambda epoch: statistics.price_outliers(_window(zones, epoch, MARKET_EPOCHS), epoch),
            "prices as usual at this time",
            "zones with an unusual price; `gridtokenx market plot` shows the curves",
        ),
        *_warnings(
            catalogue.VOLUME_HISTORY,
            epochs,
            lambda epoch: statistics.volume_outliers(_window(zones, epoch, MARKET_EPOCHS), epoch),
            "volume as usual at this time",
            "an unusual volume; `gridtokenx market stats` shows who traded",
        ),
        *_warnings(
            catalogue.ABOVE_TARIFF,
            epochs,
            lambda epoch: statistics.bought_above_tariff(zones, epoch, services.rules.tariff_uthb_per_kwh(epoch)),
            "nobody bought dearer than the supplier sells",
            "zones whose buyers paid more than the tariff; their limits allow it, a lower mandate would not",
        ),
    ]


def _window(rows: pl.DataFrame, epoch: int, epochs: int) -> pl.DataFrame:
    return rows.filter(pl.col("epoch").is_between(epoch - epochs, epoch))


def _warnings(
    check: str, epochs: Sequence[int], look: Callable[[int], pl.DataFrame], held: str, broken: str
) -> list[Verdict]:
    found = []
    for epoch in epochs:
        rows = look(epoch)
        found += verdicts(check, [epoch], rows, lambda at: f"{held} ({key_of(at)})", broken)
    return found

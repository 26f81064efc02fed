"""Chain and ledger side by side: what differs between them, and the laws from the chain alone.

Belongs here: reading both and subtracting. Does not belong here: judging (inspections/receipts.py), repairing.
"""

from __future__ import annotations

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain.state import read_market, read_meters, read_supplies, read_traders
from gridtokenx_pipelines.settlement.laws import Law, laws_from_sums, sums_from_chain
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store.settled import balances_as_finalised, meters_as_finalised

TRADER_AMOUNTS = ("grid_wh", "thbc_uthb", "debt_uthb")
METER_AMOUNTS = ("production_wh", "consumption_wh", "minted_wh", "deficit_wh")
MARKET_AMOUNTS = ("supplier_grid_wh", "supplier_thbc_uthb", "platform_thbc_uthb", "grid_operator_thbc_uthb")


class ChainProof(msgspec.Struct, frozen=True, kw_only=True):
    """`traders` (last_epoch, owner, what, ledger, chain) and `others` (of, what, ledger, chain) hold what differs.

    `excess_wh` and `excess_uthb` lie in the vaults and in nobody's balance: strangers' own transfers.
    """

    traders: pl.DataFrame
    others: pl.DataFrame
    compared_traders: int
    compared_meters: int
    laws: tuple[Law, ...]
    excess_wh: int = 0
    excess_uthb: int = 0


def compare(services: Services, connection: Connection) -> ChainProof:
    """Balances of traders and meters as the chain has them against the ledger's after its last finalised run.

    The market's own accounts are compared where no booked run is open: later runs have moved the ledger's on.
    """
    traders, meters = read_traders(services.client), read_meters(services.client)
    market, supplies = read_market(services.client), read_supplies(services.client)
    expected = balances_as_finalised(connection)
    booked = meters_as_finalised(connection)
    others = _differences(booked, meters, "meter_id", METER_AMOUNTS).rename({"meter_id": "of"}).drop("last_epoch")
    if not ledger.open_runs(connection):
        accounts = ledger.market_accounts(connection)
        rows = [("market", name, getattr(accounts, name), market[name]) for name in MARKET_AMOUNTS]
        frame = pl.DataFrame(rows, schema=others.schema, orient="row")
        others = pl.concat([others, frame.filter(pl.col("ledger") != pl.col("chain"))])
    sums = sums_from_chain(
        market=market,
        traders={name: int(traders[name].sum()) for name in TRADER_AMOUNTS},
        meters={name: int(meters[name].sum()) for name in METER_AMOUNTS} | {"not_closing": _not_closing(meters)},
        vaults={"grid_wh": supplies.grid_vault_wh, "thbc_uthb": supplies.thbc_vault_uthb},
    )
    return ChainProof(
        traders=_differences(expected, traders, "owner", TRADER_AMOUNTS),
        others=others,
        compared_traders=expected.height,
        compared_meters=booked.height,
        laws=laws_from_sums(sums),
        excess_wh=sums.grid_excess_wh,
        excess_uthb=sums.thbc_excess_uthb,
    )


def _not_closing(meters: pl.DataFrame) -> int:
    wrong = pl.col("minted_wh") - pl.col("deficit_wh") - pl.col("production_wh") + pl.col("consumption_wh")
    return meters.filter(wrong != 0).height


def _differences(booked: pl.DataFrame, chain: pl.DataFrame, key: str, amounts: tuple[str, ...]) -> pl.DataFrame:
    """Rows (last_epoch, key, what, ledger, chain) where the two are not equal; a row absent on one side counts as 0."""
    both = booked.join(chain.select(key, *amounts), on=key, how="full", coalesce=True, suffix="_chain")
    parts = [
        both.select(
            "last_epoch",
            key,
            pl.lit(name).alias("what"),
            pl.col(name).fill_null(0).alias("ledger"),
            pl.col(f"{name}_chain").fill_null(0).alias("chain"),
        )
        for name in amounts
    ]
    return pl.concat(parts).filter(pl.col("ledger") != pl.col("chain")).sort(key, "what")

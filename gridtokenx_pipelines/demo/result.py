"""What a demo came to: the document of `demo.json` and the report's frames, read from the database and the chain.

Belongs here: queries over what is settled. Does not belong here: settling, printing (report/), expectations: nothing
here is taken from what the simulation meant to send, except the number of records sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain.state import read_roots
from gridtokenx_pipelines.demo.options import DemoOptions
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.report.data import ReportData, busiest_household
from gridtokenx_pipelines.settlement.laws import Law
from gridtokenx_pipelines.settlement_service import chain_proof
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.store import ledger
from gridtokenx_pipelines.store.postgres import read_frame
from gridtokenx_pipelines.store.proof import ledger_laws

CLEARING = 1
BATCH_STEP = "settle"


class ProofError(RuntimeError):
    """Chain and database don't say the same of something that both record."""


def result_of(services: Services, options: DemoOptions, *, sent: int, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The demo's result as one document; raises ProofError if a root on the chain is not the database's."""
    first, last = options.start_epoch, options.last_epoch
    with services.engine.connect() as connection:
        entries = ledger.wallet_entries(connection, first, last)
        meters = ledger.meter_entries(connection, first, last)
        roots = _roots(services, connection, first, last)
        return {
            "seed": options.seed,
            "grid": options.grid,
            "start": key_of(first),
            "epochs_settled": _settled(connection, first, last),
            "readings": _readings(connection, sent),
            "energy_wh": _energy(connection, entries, meters, (first, last)),
            "price_uthb_per_kwh": _prices(connection, first, last),
            "chain": _chain(connection, entries),
            "roots": roots,
            "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
            "ledger_proof": _proof(services, connection),
        }


def report_data(services: Services, options: DemoOptions, neighbourhood: Neighbourhood, result: Any) -> ReportData:
    """The frames that the HTML report draws."""
    first, last = options.start_epoch, options.last_epoch
    names = {home.wallet: home.name for home in neighbourhood.households}
    with services.engine.connect() as connection:
        entries = ledger.wallet_entries(connection, first, last)
        return ReportData(
            result=result,
            zones=_between(connection, "zone_results", first, last),
            net_energy=_between(connection, "net_energy", first, last),
            wallet_entries=entries,
            transactions=_between(connection, "blockchain_transactions", first, last),
            household=busiest_household(entries, names),
            rules=services.rules,
        )


def closes(result: Mapping[str, Any]) -> bool:
    """Whether every law of the proof closes to 0."""
    return all(row["difference"] == 0 for row in result["ledger_proof"])


def _between(connection: Connection, table: str, first: int, last: int) -> pl.DataFrame:
    return read_frame(
        connection,
        f"SELECT * FROM {table} WHERE epoch BETWEEN :first AND :last ORDER BY epoch",  # noqa: S608 - our own names
        {"first": first, "last": last},
    )


def _one(connection: Connection, sql: str, values: dict[str, object] | None = None) -> int:
    return int(read_frame(connection, sql, values or {}).item())


def _settled(connection: Connection, first: int, last: int) -> int:
    return _one(
        connection,
        "SELECT count(*) FROM market_epochs WHERE status = 'settled' AND epoch BETWEEN :first AND :last",
        {"first": first, "last": last},
    )


def _readings(connection: Connection, sent: int) -> dict[str, Any]:
    counts = read_frame(
        connection,
        "SELECT status, reason, sum(records)::bigint AS records FROM stream_counts "
        "WHERE flow = 'telemetry' AND reason <> 'tick' GROUP BY status, reason ORDER BY status, reason",
    ).rows()
    rejected = read_frame(
        connection,
        "SELECT reason, count(*) AS records FROM dead_letters WHERE topic = 'meter-readings' GROUP BY reason "
        "ORDER BY reason",
    ).rows()
    by_status: dict[str, int] = {}
    for status, _reason, records in counts:
        by_status[status] = by_status.get(status, 0) + records
    return {
        "sent": sent,
        "accepted": by_status.get("accepted", 0),
        "duplicates": by_status.get("duplicate", 0),
        "rejected": dict(rejected),
        "corrections": _one(connection, "SELECT count(*) FROM corrections"),
    }


def _energy(
    connection: Connection, entries: pl.DataFrame, meters: pl.DataFrame, epochs: tuple[int, int]
) -> dict[str, int]:
    lost = _one(
        connection,
        "SELECT coalesce(sum(lost_wh), 0)::bigint FROM market_epochs WHERE epoch BETWEEN :first AND :last",
        {"first": epochs[0], "last": epochs[1]},
    )
    return {
        "produced": int(meters["production_delta_wh"].sum()),
        "consumed": int(meters["consumption_delta_wh"].sum()),
        "traded": int(entries["traded_wh"].clip(lower_bound=0).sum()),
        "minted": int(meters["surplus_wh"].sum()),
        "burned": int(entries["burned_wh"].sum()) + lost,
        "residual": int(entries["residual_wh"].sum()),
    }


def _prices(connection: Connection, first: int, last: int) -> dict[str, dict[str, int | None]]:
    zones = _between(connection, "zone_results", first, last)
    found: dict[str, dict[str, int | None]] = {}
    for (zone_id,), rows in sorted(zones.group_by("zone_id"), key=lambda group: group[0]):
        prices = rows["price_uthb_per_kwh"].drop_nulls().to_list()
        found[str(zone_id)] = {
            "min": min(prices, default=None),
            "max": max(prices, default=None),
            "mean": sum(prices) // len(prices) if prices else None,
        }
    return found


def _chain(connection: Connection, entries: pl.DataFrame) -> dict[str, int | float]:
    transactions = read_frame(
        connection,
        "SELECT count(*) AS transactions, coalesce(sum(compute_units), 0)::bigint AS compute_units, "
        "coalesce(sum(compute_units) FILTER (WHERE step = :step AND kind = :kind), 0)::bigint AS trading_units "
        "FROM blockchain_transactions",
        {"step": BATCH_STEP, "kind": CLEARING},
    ).row(0, named=True)
    traders = entries.filter(pl.col("kind") == CLEARING).height
    return {
        "transactions": transactions["transactions"],
        "compute_units": transactions["compute_units"],
        "compute_units_per_trader": round(transactions["trading_units"] / max(traders, 1), 1),
    }


def _roots(services: Services, connection: Connection, first: int, last: int) -> dict[str, str]:
    """Clearing roots by epoch, as the chain has them final; they must be the planned ones."""
    planned = read_frame(
        connection,
        "SELECT epoch, kind, run, root FROM runs WHERE epoch BETWEEN :first AND :last ORDER BY seq",
        {"first": first, "last": last},
    ).rows()
    final = read_roots(services.client, [(epoch, kind, run) for epoch, kind, run, _ in planned])
    for epoch, kind, run, root in planned:
        if final.get((epoch, kind, run)) != bytes(root):
            raise ProofError(f"run {run} of epoch {key_of(epoch)} has root {bytes(root).hex()}, the chain has another")
    return {key_of(epoch): bytes(root).hex() for epoch, kind, _, root in planned if kind == CLEARING}


def _proof(services: Services, connection: Connection) -> list[dict[str, Any]]:
    """Every law from the chain and from the database, and what differs between the two account by account."""
    chain = chain_proof.compare(services, connection)
    rows = [_row("chain", law) for law in chain.laws] + [_row("database", law) for law in ledger_laws(connection)]
    rows.append(_row("chain = database", Law("trading accounts that differ", chain.traders.height, 0)))
    rows.append(_row("chain = database", Law("meters and market accounts that differ", chain.others.height, 0)))
    return rows


def _row(source: str, law: Law) -> dict[str, Any]:
    return {"law": f"{source}: {law.law}", "left": law.left, "right": law.right, "difference": law.difference}

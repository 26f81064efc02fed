"""What the settlement side looks like from outside: numbers for Prometheus, each one statement.

Belongs here: names, labels, SQL. Does not belong here: serving them (exporter/). Every statement is a read, bounded in
time; labels are few and known (no wallet, no meter: a series per household would drown
the monitoring).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, text

STATEMENT_TIMEOUT_MS: Final = 5_000


class Number(msgspec.Struct, frozen=True):
    """One metric: rows of (labels …, value)."""

    name: str
    says: str
    sql: str
    labels: tuple[str, ...] = ()
    counter: bool = False


NUMBERS: Final = (
    Number(
        "gridtokenx_epochs",
        "Epochs by status.",
        "SELECT status, count(*) FROM market_epochs GROUP BY status",
        ("status",),
    ),
    Number(
        "gridtokenx_last_settled_epoch_end_timestamp_seconds",
        "End of the newest settled epoch.",
        "SELECT (max(epoch) + 1) * 900 FROM market_epochs WHERE status = 'settled'",
    ),
    Number(
        "gridtokenx_last_complete_epoch_end_timestamp_seconds",
        "End of the newest epoch that every flow has closed.",
        "SELECT (min(closed_epoch) + 1) * 900 FROM stream_progress",
    ),
    Number(
        "gridtokenx_settlement_seconds",
        "From clearing to the last receipt, of the newest settled epoch.",
        "SELECT extract(epoch FROM settled_at - cleared_at) FROM market_epochs WHERE settled_at IS NOT NULL "
        "ORDER BY epoch DESC LIMIT 1",
    ),
    Number(
        "gridtokenx_transactions",
        "Settlement transactions by what became of them, from the chain's own answers.",
        "SELECT status, count(*) FROM blockchain_transactions GROUP BY status",
        ("status",),
        counter=True,
    ),
    Number(
        "gridtokenx_transaction_failures",
        "Sends in the outbox that the chain refused, for good.",
        "SELECT count(*) FROM outbox WHERE status = 'failed'",
        counter=True,
    ),
    Number(
        "gridtokenx_compute_units",
        "Compute units of all settlement transactions.",
        "SELECT coalesce(sum(compute_units), 0) FROM blockchain_transactions",
        counter=True,
    ),
    Number(
        "gridtokenx_fees_lamports",
        "Fees of all settlement transactions.",
        "SELECT coalesce(sum(fee_lamports), 0) FROM blockchain_transactions",
        counter=True,
    ),
    Number(
        "gridtokenx_outbox_open",
        "Transactions stored or sent and not confirmed yet.",
        "SELECT count(*) FROM outbox WHERE status IN ('stored', 'sent')",
    ),
    Number(
        "gridtokenx_open_runs",
        "Runs that are booked and not finalised on the chain.",
        "SELECT count(*) FROM runs WHERE status NOT IN ('finalised', 'voided')",
    ),
    Number(
        "gridtokenx_corrections_waiting",
        "Corrections that wait for a resettlement.",
        "SELECT count(*) FROM corrections WHERE booked_seq IS NULL",
    ),
    Number(
        "gridtokenx_dead_letters",
        "Refused records by topic and reason.",
        "SELECT topic, reason, count(*) FROM dead_letters GROUP BY topic, reason",
        ("topic", "reason"),
        counter=True,
    ),
    Number(
        "gridtokenx_zone_price_uthb_per_kwh",
        "Price of each zone in the newest epoch that has one.",
        "SELECT DISTINCT ON (zone_id) zone_id, price_uthb_per_kwh FROM zone_results "
        "WHERE price_uthb_per_kwh IS NOT NULL ORDER BY zone_id, epoch DESC",
        ("zone",),
    ),
    Number(
        "gridtokenx_traded_wh",
        "Energy traded in all cleared epochs.",
        "SELECT coalesce(sum(volume_wh), 0) FROM market_epochs",
        counter=True,
    ),
    Number(
        "gridtokenx_fills",
        "Fills of the newest cleared epoch.",
        "SELECT count(*) FROM fills WHERE epoch = (SELECT max(epoch) FROM market_epochs)",
    ),
    Number(
        "gridtokenx_debt_uthb",
        "Debt of all households to the supplier.",
        "SELECT coalesce(sum(debt_uthb), 0) FROM balances",
    ),
    Number(
        "gridtokenx_balance_thbc_uthb",
        "THBC of households and market accounts.",
        "SELECT 'households', coalesce(sum(thbc_uthb), 0) FROM balances UNION ALL "
        "SELECT account, thbc_uthb FROM market_accounts",
        ("account",),
    ),
    Number(
        "gridtokenx_missing_meters",
        "Meters without a register at a boundary of the newest cleared epoch.",
        "SELECT count(*) FROM net_energy WHERE revision = 0 AND missing "
        "AND epoch = (SELECT max(epoch) FROM market_epochs)",
    ),
    Number(
        "gridtokenx_estimated_rows",
        "Estimated rows of the last 96 cleared epochs.",
        "SELECT count(*) FROM net_energy WHERE estimated AND epoch > (SELECT max(epoch) - 96 FROM market_epochs)",
    ),
    Number(
        "gridtokenx_database_connections",
        "Connections to this database by state.",
        "SELECT coalesce(state, 'other'), count(*) FROM pg_stat_activity WHERE datname = current_database() GROUP BY 1",
        ("state",),
    ),
    Number(
        "gridtokenx_database_connections_max",
        "Connections that the server allows.",
        "SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint",
    ),
    Number(
        "gridtokenx_database_bytes",
        "Size of the database.",
        "SELECT pg_database_size(current_database())",
    ),
)
# these lie in Dagster's own schema, which is there only once Dagster ran
DAGSTER_NUMBERS: Final = (
    Number(
        "gridtokenx_dagster_runs",
        "Runs of the last day by job and status.",
        "SELECT pipeline_name, status, count(*) FROM dagster.runs "
        "WHERE create_timestamp > (now() AT TIME ZONE 'utc') - INTERVAL '1 day' GROUP BY 1, 2",
        ("job", "status"),
    ),
    Number(
        "gridtokenx_asset_checks",
        "Executions of asset checks of the last day by asset, check and result.",
        "SELECT trim(both '[\"]' FROM asset_key), check_name, execution_status, count(*) "
        "FROM dagster.asset_check_executions "
        "WHERE create_timestamp > (now() AT TIME ZONE 'utc') - INTERVAL '1 day' AND execution_status <> 'PLANNED' "
        "GROUP BY 1, 2, 3",
        ("asset", "check", "result"),
    ),
)


def read_numbers(connection: Connection) -> list[tuple[Number, Sequence[tuple[tuple[str, ...], float]]]]:
    """All numbers with their (label values, value) rows; a null value (nothing settled yet) gives no row."""
    # a scrape must never be what holds the database up
    connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    numbers = [*NUMBERS]
    if connection.execute(text("SELECT to_regclass('dagster.asset_check_executions')")).scalar() is not None:
        numbers += DAGSTER_NUMBERS
    found = []
    for number in numbers:
        rows = connection.execute(text(number.sql)).all()
        found.append((number, [(tuple(map(str, row[:-1])), float(row[-1])) for row in rows if row[-1] is not None]))
    return found

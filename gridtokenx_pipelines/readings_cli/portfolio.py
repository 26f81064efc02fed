"""`gridtokenx portfolio WALLET`: what a household holds, has ordered, measured and settled.

Belongs here: words for people, and JSON. Does not belong here: SQL (store/portfolio.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.base58 import decode_wallet
from gridtokenx_pipelines.readings_cli.database import database_of
from gridtokenx_pipelines.store.portfolio import Portfolio, portfolio_of
from gridtokenx_pipelines.units import kwh, thb


def run_portfolio(wallet: str, history: int, data_dir: Path, database_url: str | None, *, as_json: bool) -> int:
    """Print it; 1 for a wallet nobody knows, 2 for one that is no address."""
    try:
        decode_wallet(wallet)
    except ValueError as error:
        click.echo(f"portfolio: {error}", err=True)
        return 2
    with database_of(data_dir, database_url) as database, database.connect() as connection:
        found = portfolio_of(connection, wallet, history)
    if found is None:
        click.echo(f"portfolio: no participant has the wallet {wallet}; check the address", err=True)
        return 1
    click.echo(msgspec.json.encode(_document(found)).decode() if as_json else "\n".join(_words(found)))
    return 0


def _document(found: Portfolio) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    for row in (*plain["open_orders"], *plain["history"]):
        row["epoch"] = key_of(row["epoch"])
    for meter in plain["meters"]:
        if meter["timestamp_us"] is not None:
            meter["timestamp"] = _time(meter["timestamp_us"])
    return plain


def _words(found: Portfolio) -> list[str]:
    held, made = found.balances, found.production
    who = f"{found.user_type or 'participant'}, zone {found.zone_id}, {found.status}"
    lines = [
        f"{found.wallet}  {who}",
        f"balances    {kwh(held['grid_wh'])} GRID (kWh), {thb(held['thbc_uthb'])} THBC, "
        f"{thb(held['debt_uthb'])} THB owed",
        f"production  {kwh(made['production_wh'])} kWh produced, {kwh(made['consumption_wh'])} kWh consumed in "
        f"{made['epochs']} epochs, net {kwh(made['net_wh'])} kWh; missing {made['missing']}",
    ]
    for meter in found.meters:
        latest = "no reading yet"
        if meter["timestamp_us"] is not None:
            registers = f"{kwh(meter['production_wh'])} and {kwh(meter['consumption_wh'])} kWh"
            latest = f"{registers} at {_time(meter['timestamp_us'])}"
        lines.append(f"meter       {meter['meter_id']} {meter['meter_type']}, {meter['rating_w']} W: {latest}")
    lines.append(f"open orders {len(found.open_orders)}")
    lines += [
        f"  {key_of(order['epoch'])}  {order['side']:<4} {kwh(order['energy_wh'])} kWh at most/least "
        f"{thb(order['limit_uthb_per_kwh'])} THB/kWh  {order['order_id']}"
        for order in found.open_orders
    ]
    lines.append(f"history     the newest {len(found.history)} bookings")
    lines += [
        f"  {key_of(row['epoch'])} run {row['run']}  net {kwh(row['net_wh'])}, traded {kwh(row['traded_wh'])} kWh; "
        f"paid {thb(row['cost_uthb'])}, earned {thb(row['proceeds_uthb'])}, billed {thb(row['billed_uthb'])}, "
        f"bought back {thb(row['buy_back_uthb'])} THB  ({row['status']})"
        for row in found.history
    ]
    return lines


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""The commands of `gridtokenx chain` that look: `show` and `rebuild`.

Belongs here: options, exit codes (0 done, 1 refused, absent or different, 2 usage). Does not belong here: actions
(admin.py), layouts, what the history says (chain/rebuild).
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click
import msgspec
from rich.console import Console

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.rebuild.compare import Difference, rebuild
from gridtokenx_pipelines.chain.rebuild.history import HistoryGap
from gridtokenx_pipelines.chain_cli.actions import ask, rpc_option
from gridtokenx_pipelines.chain_cli.admin import admin
from gridtokenx_pipelines.chain_cli.places import FORMS, UnknownPlace, identify, locate
from gridtokenx_pipelines.chain_cli.show import plain, table

SHOWN_DIFFERENCES = 20


@click.group(context_settings={"help_option_names": ["-h", "--help"]})  # the same alone and under `gridtokenx`
def chain() -> None:
    """Inspect the chain's accounts and administer the programs."""


@chain.command(epilog=f"ACCOUNT: {FORMS}.")
@click.argument("account")
@rpc_option
@click.option("--json", "as_json", is_flag=True, help="Print raw integers as JSON.")
def show(account: str, rpc_url: str, as_json: bool) -> None:
    """Show an account in readable form."""
    try:
        address = locate(account)
    except UnknownPlace as error:
        raise click.UsageError(str(error)) from error
    with ChainClient(rpc_url) as client:
        found = ask(lambda: client.account(address))
    if found is None:
        click.echo(f"{account}: there is no account at {address}", err=True)
        sys.exit(1)
    known = identify(found)
    head = {"address": str(address), "owner": str(found.owner), "lamports": found.lamports, "bytes": len(found.data)}
    if known is None:
        _print(as_json, "account", head | {"data": found.data[:256].hex()})
        return
    program, type_name, fields = known
    _print(as_json, f"{program} {type_name}", head | plain(fields))


@chain.command("rebuild")
@rpc_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document, nothing else.")
def rebuild_command(rpc_url: str, as_json: bool) -> None:
    """Rebuild every balance from the chain's history and compare it with the accounts; exit code 1 on a difference.

    Reads all transactions of the programs from their first one on: what batches, deposits, withdrawals, matches and
    bills did to every household, meter, certificate and market account is computed again from them.
    """
    with ChainClient(rpc_url) as client:
        try:
            found = ask(lambda: rebuild(client))
        except HistoryGap as gap:
            click.echo(f"rebuild: {gap}", err=True)
            sys.exit(1)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo(
            f"{found.transactions:,} transactions with {found.calls:,} calls and {found.events:,} events explain "
            f"{found.values:,} values of {found.traders:,} traders, {found.meters:,} meters, "
            f"{found.certificates:,} certificates and the market"
        )
        for each in found.differences[:SHOWN_DIFFERENCES]:
            click.echo(_difference(each), err=True)
        click.echo(f"{len(found.differences)} differences")
    sys.exit(1 if found.differences else 0)


def _difference(each: Difference) -> str:
    return f"{each.account} {each.field}: the history gives {each.rebuilt}, the account says {each.chain}"


chain.add_command(admin)


def _print(as_json: bool, title: str, fields: dict[str, Any]) -> None:
    if as_json:
        click.echo(json.dumps({"type": title, **fields}, indent=2))
    else:
        Console().print(table(title, fields))

"""The commands of `gridtokenx chain`.

Belongs here: options, simulate-first, exit codes (0 done, 1 refused or absent, 2 usage). Does not belong here: building
instructions (chain/idl.py) or layouts. An action is simulated and shown; only `--send` sends it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError, transaction_error
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.participants import params_of
from gridtokenx_pipelines.chain.signer import FileSigner, SignerError
from gridtokenx_pipelines.chain.transactions import sign
from gridtokenx_pipelines.chain_cli.places import FORMS, UnknownPlace, epoch_number, identify, locate
from gridtokenx_pipelines.chain_cli.show import plain, table
from gridtokenx_pipelines.market.rules import Rules

DEFAULT_RPC_URL = "http://127.0.0.1:8899"
# as the pause flags number them
PROGRAMS = {"governance": 0, "registry": 1, "energy-token": 2, "trading": 3, "oracle": 4}

rpc_option = click.option(
    "--rpc-url",
    default=lambda: os.environ.get("SOLANA_RPC_URL", DEFAULT_RPC_URL),
    help=f"JSON-RPC address (SOLANA_RPC_URL, else {DEFAULT_RPC_URL}).",
)
key_option = click.option(
    "--key", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Key file of who acts and pays."
)
send_option = click.option("--send", is_flag=True, help="Send it; without this it is only simulated.")


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
        found = _ask(lambda: client.account(address))
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


@chain.group()
def admin() -> None:
    """Governance's actions; simulated unless `--send` is given."""


@admin.command()
@click.argument("program", type=click.Choice(list(PROGRAMS)))
@key_option
@rpc_option
@send_option
def pause(program: str, key: Path, rpc_url: str, send: bool) -> None:
    """Pause a program (guardian or authority); it ends by itself after seven days."""
    _govern("pause", "guardian_or_authority", key, rpc_url, send, program=PROGRAMS[program])


@admin.command()
@click.argument("program", type=click.Choice(list(PROGRAMS)))
@key_option
@rpc_option
@send_option
def unpause(program: str, key: Path, rpc_url: str, send: bool) -> None:
    """End a pause (authority)."""
    _govern("unpause", "authority", key, rpc_url, send, program=PROGRAMS[program])


@admin.command("set-params")
@click.argument("rules", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--from-epoch", required=True, help="First epoch they act in: a number or key.")
@key_option
@rpc_option
@send_option
def set_params(rules: Path, from_epoch: str, key: Path, rpc_url: str, send: bool) -> None:
    """Set the next parameters from a rules file (authority)."""
    try:
        given, epoch = msgspec.json.decode(rules.read_bytes(), type=Rules), epoch_number(from_epoch)
    except (msgspec.DecodeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    _govern("set_params", "authority", key, rpc_url, send, params=params_of(given, epoch))


@admin.command("set-oracles")
@click.argument("oracles", nargs=-1, required=True)
@click.option("--threshold", required=True, type=click.IntRange(1, 16))
@key_option
@rpc_option
@send_option
def set_oracles(oracles: tuple[str, ...], threshold: int, key: Path, rpc_url: str, send: bool) -> None:
    """Replace the oracle set by these public keys (authority); 2 × threshold must exceed their number."""
    try:
        keys = [Pubkey.from_string(oracle) for oracle in oracles]
    except ValueError as error:
        raise click.UsageError(f"an oracle was no base58 public key: {error}") from error
    _govern("set_oracles", "authority", key, rpc_url, send, threshold=threshold, oracles=keys)


def _govern(name: str, role: str, key: Path, rpc_url: str, send: bool, **args: Any) -> None:
    try:
        signer = FileSigner(key)
    except SignerError as error:
        raise click.UsageError(str(error)) from error
    accounts = {role: signer.pubkey, "governance": addresses.governance()}
    instruction = Program.load("governance").instruction(name, accounts, **args)
    with ChainClient(rpc_url) as client:
        _ask(lambda: _act(client, signer, instruction, send))


def _act(client: ChainClient, signer: FileSigner, instruction: Instruction, send: bool) -> None:
    transaction = sign([instruction], signer, (), client.blockhash().value)
    outcome = client.simulate(transaction)
    if outcome["err"] is not None:
        raise transaction_error(outcome["err"], tuple(outcome["logs"] or ()), str(transaction.signatures[0]))
    click.echo(f"simulated: would succeed with {outcome.get('unitsConsumed', 0):,} compute units")
    if not send:
        click.echo("nothing was sent; add --send to do it")
        return
    click.echo(f"confirmed: {client.deliver([bytes(transaction)])[0]}")


def _ask(work: Any) -> Any:
    try:
        return work()
    except ChainError as error:
        click.echo(f"chain: {error}", err=True)
        sys.exit(1)


def _print(as_json: bool, title: str, fields: dict[str, Any]) -> None:
    if as_json:
        click.echo(json.dumps({"type": title, **fields}, indent=2))
    else:
        Console().print(table(title, fields))

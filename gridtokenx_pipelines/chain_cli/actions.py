"""Acting on the chain from the command line: simulated first, sent only with `--send`.

Belongs here: the options every action shares, dry run, errors to exit codes (1 refused or unreachable, 2 usage).
Does not belong here: the actions themselves (admin.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError, transaction_error
from gridtokenx_pipelines.chain.signer import FileSigner, SignerError
from gridtokenx_pipelines.chain.transactions import sign

DEFAULT_RPC_URL = "http://127.0.0.1:8899"
T = TypeVar("T")
Build = Callable[[Pubkey], Instruction]

rpc_option = click.option(
    "--rpc-url",
    default=lambda: os.environ.get("SOLANA_RPC_URL", DEFAULT_RPC_URL),
    help=f"JSON-RPC address (SOLANA_RPC_URL, else {DEFAULT_RPC_URL}).",
)
_key_option = click.option(
    "--key", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Key file of who acts and pays."
)
_send_option = click.option("--send", is_flag=True, help="Send it; without this it is only simulated.")


def action(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every action: --key, --rpc-url, --send."""
    return _key_option(rpc_option(_send_option(command)))


class PublicKey(click.ParamType[Pubkey]):
    """A base58 public key."""

    name = "pubkey"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Pubkey:
        """The key; a usage error for other text."""
        try:
            return value if isinstance(value, Pubkey) else Pubkey.from_string(value)
        except ValueError:
            self.fail(f"{value!r} is no base58 public key", param, ctx)


def act(build: Build, key: Path, rpc_url: str, send: bool, others: Sequence[Path] = ()) -> None:
    """Builds the instruction for the key's owner, simulates it, and sends it if asked to; `others` sign too."""
    try:
        signer, beside = FileSigner(key), tuple(FileSigner(other) for other in others)
    except SignerError as error:
        raise click.UsageError(str(error)) from error
    instruction = build(signer.pubkey)
    with ChainClient(rpc_url) as client:
        ask(lambda: _act(client, signer, beside, instruction, send))


def _act(
    client: ChainClient, signer: FileSigner, beside: tuple[FileSigner, ...], instruction: Instruction, send: bool
) -> None:
    transaction = sign([instruction], signer, beside, client.blockhash().value)
    outcome = client.simulate(transaction)
    if outcome["err"] is not None:
        raise transaction_error(outcome["err"], tuple(outcome["logs"] or ()), str(transaction.signatures[0]))
    click.echo(f"simulated: would succeed with {outcome.get('unitsConsumed', 0):,} compute units")
    if not send:
        click.echo("nothing was sent; add --send to do it")
        return
    click.echo(f"confirmed: {client.deliver([bytes(transaction)])[0]}")


def ask(work: Callable[[], T]) -> T:
    """The answer, or exit code 1 with what the chain said."""
    try:
        return work()
    except ChainError as error:
        click.echo(f"chain: {error}", err=True)
        sys.exit(1)

"""`gridtokenx statement`: a household's account of a period, or the operator's.

Belongs here: options and exit codes (0 done, 1 unknown wallet or a balance that doesn't add up, 2 usage). Does not
belong here: the statement (settlement_service/periods.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gridtokenx_pipelines.audit_cli.commands import EPOCH
from gridtokenx_pipelines.audit_cli.surroundings import data_dir_option, services_of
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.settlement_service import periods, statement_files

OPERATOR = "operator"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("wallet")
@click.option("--from", "first", required=True, type=EPOCH, help="First epoch, such as 2026-06-15T02:00Z.")
@click.option("--to", "last", required=True, type=EPOCH, help="Last epoch, included.")
@click.option(
    "--output", default=Path(), show_default=True, type=click.Path(path_type=Path, file_okay=False), help="Folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document, write no files.")
@data_dir_option
def statement(wallet: str, first: int, last: int, output: Path, as_json: bool, data_dir: Path) -> None:  # noqa: PLR0917
    """Statement of a WALLET (or `operator`) for a period, as HTML, CSV and JSON."""
    if last < first:
        raise click.UsageError("--to must not lie before --from")
    try:
        with services_of(data_dir) as services:
            if wallet == OPERATOR:
                made = periods.of_operator(services, first, last)
            else:
                made = periods.of_wallet(services, wallet, first, last)
            paths = [] if as_json else statement_files.write(made, output, services.client.rpc_url)
    except (periods.UnknownParticipant, ValueError, ChainError) as error:
        click.echo(f"statement: {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(statement_files.as_json(made), nl=False)
    for path in paths:
        click.echo(str(path))
    sys.exit(0 if made.get("proof", {}).get("equal", True) else 1)

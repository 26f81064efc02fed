"""The commands of `gridtokenx audit`.

Belongs here: options, words, exit codes: 0 everything holds, 1 something differs or doesn't hold, 2 usage or
configuration, 3 nothing differs, but not every epoch of the range is settled whole. Does not belong here: the work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gridtokenx_pipelines.audit import dossier, proofs
from gridtokenx_pipelines.audit.dossier import DossierError
from gridtokenx_pipelines.audit.findings import DIFFERS, OK
from gridtokenx_pipelines.audit.proofs import ProofError
from gridtokenx_pipelines.audit_cli.surroundings import data_dir_option, services_of
from gridtokenx_pipelines.audit_cli.verify import Check, verify_dossier, verify_trade
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.epochs import epoch_of_key, key_of
from gridtokenx_pipelines.settlement_service.audits import files, trades
from gridtokenx_pipelines.settlement_service.audits.service import AuditRefused, Outcome, audit_range

HOLDS, DOES_NOT_HOLD, NOT_WHOLE = 0, 1, 3
MOST_SHOWN = 40


class EpochParam(click.ParamType):
    """An epoch by key or number."""

    name = "epoch"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises BadParameter with the form."""
        if isinstance(value, int):
            return value
        words = str(value)
        try:
            return int(words) if words.isdigit() else epoch_of_key(words)
        except ValueError as error:
            self.fail(str(error), param, ctx)


EPOCH = EpochParam()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def audit() -> None:
    """Recompute what was settled from the archive, prove it, and verify such proofs."""


@audit.command()
@click.option("--from", "first", required=True, type=EPOCH, help="First epoch, such as 2026-06-15T02:00Z.")
@click.option("--to", "last", required=True, type=EPOCH, help="Last epoch, included.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The dossier's JSON; a page beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print verdicts and findings as JSON, nothing else.")
@data_dir_option
def run(first: int, last: int, output: Path | None, as_json: bool, data_dir: Path) -> None:
    """Audit a range of epochs; writes a signed dossier (JSON and HTML), and nothing to chain or database."""
    console = Console(stderr=True)
    try:
        with services_of(data_dir) as services:
            outcome = audit_range(services, first, last, progress=None if as_json else _say(console))
            written = files.write(services, outcome, datetime.now(UTC), output)
    except AuditRefused as error:
        raise click.UsageError(str(error)) from error
    except ChainError as error:
        click.echo(f"chain: {error}", err=True)
        sys.exit(DOES_NOT_HOLD)
    if as_json:
        click.echo(json.dumps(_as_json(outcome, written)))
    else:
        _show(outcome, written)
    sys.exit(exit_code(outcome))


def _say(console: Console) -> Any:
    return lambda stage: console.print(f"[dim]{stage} …[/dim]")


def exit_code(outcome: Outcome) -> int:
    """0 all ok, 1 something differs, 3 not everything is settled."""
    if outcome.counts[DIFFERS] or outcome.present:
        return DOES_NOT_HOLD
    return HOLDS if outcome.counts[OK] == len(outcome.verdicts) else NOT_WHOLE


def _as_json(outcome: Outcome, written: tuple[Path, Path]) -> dict[str, Any]:
    return {
        "counts": outcome.counts,
        "present": list(outcome.present),
        "seconds": dict(outcome.seconds),
        "signatures_verified": outcome.gathered.replay.signatures,
        "dossier": str(written[0]),
        "page": str(written[1]),
        "epochs": [
            {
                "epoch": key_of(each.epoch),
                "verdict": each.verdict,
                "since": each.since,
                "differences": each.differences,
                "detail": each.detail,
                "findings": [{"stage": f.stage, "what": f.what, "detail": f.detail, "by": f.by} for f in each.findings],
            }
            for each in outcome.verdicts
        ],
    }


def _show(outcome: Outcome, written: tuple[Path, Path]) -> None:
    console = Console()
    totals = Table("verdict", "epochs")
    for word, count in outcome.counts.items():
        totals.add_row(word, f"{count:,}")
    console.print(totals)
    for fault in outcome.present:
        console.print(f"[red]{fault}[/red]")
    other = [each for each in outcome.verdicts if each.verdict != OK]
    if other:
        table = Table("epoch", "verdict", "since", "differences", "detail")
        for each in other[:MOST_SHOWN]:
            table.add_row(key_of(each.epoch), each.verdict, each.since or "–", f"{each.differences:,}", each.detail)
        console.print(table)
        if len(other) > MOST_SHOWN:
            console.print(f"… and {len(other) - MOST_SHOWN} more, all in the dossier")
    spent = sum(outcome.seconds.values())
    console.print(
        f"{outcome.gathered.replay.signatures:,} signatures verified, {len(outcome.plans):,} runs recomputed, "
        f"{outcome.chain.compared_accounts:,} accounts and {outcome.chain.receipts.height:,} receipts compared, "
        f"{spent:.1f} s"
    )
    console.print(f"dossier: {written[0]}\npage:    {written[1]}", soft_wrap=True)


@audit.command()
@click.argument("document", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--rpc", required=True, help="JSON-RPC address of any node of the dossier's chain.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON, nothing else.")
def verify(document: Path, rpc: str, as_json: bool) -> None:
    """Check a dossier or a trade's proof with a chain node alone; edits are named."""
    content = document.read_bytes()
    try:
        with ChainClient(rpc) as client:
            checks = _checks(content, client)
    except (DossierError, ProofError) as error:
        checks = [Check("form", False, str(error))]
    except ChainError as error:
        click.echo(f"chain: {error}", err=True)
        sys.exit(DOES_NOT_HOLD)
    if as_json:
        click.echo(json.dumps([{"what": each.what, "holds": each.holds, "detail": each.detail} for each in checks]))
    else:
        _show_checks(checks)
    sys.exit(HOLDS if all(each.holds for each in checks) else DOES_NOT_HOLD)


def _checks(content: bytes, client: ChainClient) -> list[Check]:
    try:
        loaded = json.loads(content)
    except ValueError:
        loaded = None
    if isinstance(loaded, dict) and loaded.get("format") == proofs.FORMAT:
        return verify_trade(loaded, client)
    return verify_dossier(dossier.read(content), client)


def _show_checks(checks: Sequence[Check]) -> None:
    table = Table("check", "", "found")
    for each in checks:
        table.add_row(each.what, "[green]holds[/green]" if each.holds else "[red]FAILS[/red]", each.detail)
    Console().print(table)


@audit.command()
@click.argument("trade")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the proof there, not to stdout.")
@data_dir_option
def prove(trade: str, output: Path | None, data_dir: Path) -> None:
    """Prove one trade: TRADE is EPOCH/MATCH, such as 2026-06-15T02:00Z/12; gives leaf, proof and root."""
    try:
        with services_of(data_dir) as services:
            document = trades.prove(services, trade)
    except ProofError as error:
        click.echo(f"proof: {error}", err=True)
        sys.exit(DOES_NOT_HOLD)
    words = json.dumps(document, indent=2)
    if output is None:
        click.echo(words)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(words + "\n")
        click.echo(f"proof: {output}")

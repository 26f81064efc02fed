"""The reference pages say what the code says: programs, errors, refusals, settings, command line, checks, links.

Blocks between `<!-- begin … -->` and `<!-- end -->` are rendered from the code; `UPDATE_REFERENCE=1 pytest
tests/unit/test_reference.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest

from gridtokenx_pipelines.chain.addresses import PROGRAM_NAMES
from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.config import KAFKA_SECURITY, WATCHING, Settings
from gridtokenx_pipelines.market import frames as market
from gridtokenx_pipelines.market.orders import OrderReject
from gridtokenx_pipelines.messaging.topics import CLUSTER, DAY_MS, FOR_EVER, TOPICS
from gridtokenx_pipelines.metering import outputs
from gridtokenx_pipelines.metering.readings import RejectReason
from gridtokenx_pipelines.quality.catalogue import CONTRACT, MARKET_WARNINGS, METERING_WARNINGS
from gridtokenx_pipelines.quality.contract import Contract
from gridtokenx_pipelines.quality.contracts import DAILY_CONTRACTS, EPOCH_CONTRACTS
from gridtokenx_pipelines.settlement import frames as settlement
from gridtokenx_pipelines.settlement_service.inspections import (
    clearing,
    grid_limits,
    instructions,
    net_energy,
    order_book,
    receipts,
)

ROOT = Path(__file__).resolve().parents[2]
DOCS, REFERENCE = ROOT / "docs", ROOT / "docs" / "reference"
BLOCK = re.compile(r"(<!-- begin (?P<name>[^>]+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)
MARKET_FRAMES = ("ORDERS", "BOOK", "FILLS", "MATCHES", "ZONES", "FLOWS", "TRADED")
CHECKS = {
    "net_energy": (*net_energy.CHECKS, CONTRACT),
    "grid_limits": grid_limits.CHECKS,
    "order_book": (*order_book.CHECKS, CONTRACT),
    "clearing_results": (*clearing.CHECKS, CONTRACT),
    "mint_instructions": instructions.CHECKS,
    "settlement_receipts": receipts.CHECKS,
    "epoch_statement": (CONTRACT,),
    "warnings": (*METERING_WARNINGS, *MARKET_WARNINGS),
}


def _idl(program: str) -> dict[str, Any]:
    return json.loads((ROOT / "programs" / "idl" / f"{program}.json").read_text())


def _type(spec: Any) -> str:
    match spec:
        case str():
            return spec
        case {"defined": {"name": name}}:
            return str(name)
        case {"vec": inner}:
            return f"vec<{_type(inner)}>"
        case {"array": [inner, length]}:
            return f"[{_type(inner)}; {length}]"
    raise AssertionError(f"type was {spec}, teach _type how to write it")


def _account(account: dict[str, Any]) -> str:
    flags = "s" * account.get("signer", False) + "w" * account.get("writable", False)
    return f"{account['name']} {flags}".strip()


def _instructions(program: str) -> str:
    lines = []
    for each in _idl(program)["instructions"]:
        arguments = ", ".join(f"{one['name']} {_type(one['type'])}" for one in each["args"])
        accounts = [_account(one) for one in each["accounts"]]
        if "remaining_accounts" in each:
            accounts.append(f"then {each['remaining_accounts']}")
        lines.append(f"- `{each['name']}({arguments})`: {', '.join(accounts)}. {' '.join(each['docs'])}")
    return "\n".join(lines)


def _fields(fields: list[dict[str, Any]]) -> list[str]:
    return [
        f"| {one['offset']} | `{one['name']}` | {_type(one['type'])} | {' '.join(one.get('docs', []))} |"
        for one in fields
        if not one["name"].startswith("_pad")
    ]


def _accounts(program: str) -> str:
    lines: list[str] = []
    for each in _idl(program)["types"]:
        if "size" in each:
            lines += [f"### {each['name']}, {each['size']} bytes", "", " ".join(each["docs"]), ""]
            lines += ["| offset | field | type | |", "|---|---|---|---|", *_fields(each["type"]["fields"]), ""]
    return "\n".join(lines).rstrip()


def _events(program: str) -> str:
    idl = _idl(program)
    types = {each["name"]: each for each in idl["types"]}
    lines = []
    for event in (types[each["name"]] for each in idl["events"]):
        fields = ", ".join(f"{one['name']} {_type(one['type'])}" for one in event["type"]["fields"])
        lines.append(f"- `{event['name']}` {{{fields}}}. {' '.join(event['docs'])}")
    return "\n".join(lines)


def _errors() -> str:
    tables = {program: _idl(program)["errors"] for program in PROGRAM_NAMES}
    assert all(errors == tables["trading"] for errors in tables.values()), "one table serves all programs"
    rows = [f"| {one['code']} | `{one['name']}` | {one['msg']} |" for one in tables["trading"]]
    return "\n".join(["| code | name | meaning |", "|---|---|---|", *rows])


def _help(command: click.Command, words: tuple[str, ...]) -> list[str]:
    context = click.Context(command, info_name=" ".join(words), terminal_width=100, max_content_width=100)
    context.help_option_names = ["-h", "--help"]
    lines = [f"## `{' '.join(words)}`", "", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            lines += _help(sub, (*words, name))
    return lines


def _topics() -> str:
    rows = []
    for each in TOPICS:
        kept = "for ever" if each.retention_ms == FOR_EVER else f"{each.retention_ms // DAY_MS} days"
        rows.append(f"| `{each.name}` | {each.partitions} | {each.keyed_by} | {kept} | {each.max_message_bytes:,} |")
    return "\n".join(["| topic | partitions | key | kept | largest message, bytes |", "|---|---|---|---|---|", *rows])


def _rights() -> str:
    def named(topics: tuple[str, ...]) -> str:
        return ", ".join(f"`{topic}`" for topic in topics)

    rows = [f"| `{each.name}` | {named(each.read)} | {named(each.write)} |" for each in CLUSTER.principal]
    return "\n".join(["| principal | reads | writes |", "|---|---|---|", *rows])


def _frames() -> str:
    schemas = {
        "net_energy": outputs.NET_ENERGY_SCHEMA,
        "corrections": outputs.CORRECTION_SCHEMA,
        **{name.lower(): getattr(market, name) for name in MARKET_FRAMES},
        "wallet_entries": settlement.WALLET_ENTRIES,
        "meter_entries": settlement.METER_ENTRIES,
        "balances": settlement.BALANCES,
    }
    lines = []
    for name, schema in schemas.items():
        # Int64 is what almost every column is; the others say what they are
        columns = [column if kind == pl.Int64 else f"{column} ({kind})" for column, kind in schema.items()]
        lines.append(f"- **{name}**: {', '.join(columns)}")
    return "\n".join(lines)


def _contract(contract: Contract) -> list[str]:
    lines = [
        f"### `{contract.name}`",
        f"{contract.meaning} Asset `{contract.asset}`, file `{contract.frame}`; key {', '.join(contract.key)}; owner "
        f"{contract.owner}; fresh {contract.fresh_minutes} minutes after the end of its partition.",
        "",
        "| column | type | unit | range | null | meaning |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{each.name}` | {each.kind.__name__} | {each.unit} | {each.bounds} | {'yes' if each.nullable else 'no'} "
        f"| {each.meaning} |"
        for each in contract.columns
    ]
    return [*lines, ""]


def _contracts() -> str:
    return "\n".join(line for each in (*EPOCH_CONTRACTS, *DAILY_CONTRACTS) for line in _contract(each)).rstrip()


BLOCKS = {
    "contracts": (REFERENCE / "contracts.md", _contracts, ()),
    "frames": (REFERENCE / "contract.md", _frames, ()),
    **{f"instructions {program}": (REFERENCE / "abi.md", _instructions, (program,)) for program in PROGRAM_NAMES},
    **{f"accounts {program}": (REFERENCE / "accounts.md", _accounts, (program,)) for program in PROGRAM_NAMES},
    **{f"events {program}": (REFERENCE / "accounts.md", _events, (program,)) for program in PROGRAM_NAMES},
    "errors": (REFERENCE / "errors.md", _errors, ()),
    "topics": (REFERENCE / "topics.md", _topics, ()),
    "rights": (REFERENCE / "topics.md", _rights, ()),
    "help": (REFERENCE / "cli.md", lambda: "\n".join(_help(cli, ("gridtokenx",))).rstrip(), ()),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_rendered_block_is_what_the_code_says(name: str) -> None:
    path, render, arguments = BLOCKS[name]
    page, expected = path.read_text(), render(*arguments) + "\n"
    found = {match["name"]: match["body"] for match in BLOCK.finditer(page)}
    assert name in found, f"{path.name} has no block {name!r}"
    if os.environ.get("UPDATE_REFERENCE"):
        path.write_text(
            BLOCK.sub(lambda match: match[1] + expected + match[4] if match["name"] == name else match[0], page)
        )
        return
    assert found[name] == expected, f"{path.name}: run UPDATE_REFERENCE=1 pytest tests/unit/test_reference.py"


def _rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    section = page.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize(("heading", "reasons"), [("Readings", RejectReason), ("Orders and cancels", OrderReject)])
def test_every_reason_for_refusing_is_explained_under_its_number(heading: str, reasons: Any) -> None:
    rows = _rows((REFERENCE / "reject-reasons.md").read_text(), heading)
    assert [(row[0], row[1]) for row in rows] == [(str(each.value), f"`{each.name.lower()}`") for each in reasons]


def test_every_environment_name_of_the_settings_is_explained_and_no_other() -> None:
    env = {"DATABASE_URL": "postgresql://h/d", "KAFKA_BOOTSTRAP_SERVERS": "h:1", "SOLANA_RPC_URL": "http://h"}
    env |= {name: __file__ for name in KAFKA_SECURITY}
    env |= {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"}
    rows = _rows((REFERENCE / "configuration.md").read_text(), "Environment")
    assert {row[0].strip("`") for row in rows} == {*Settings.from_env(env).as_env(), *WATCHING}


def test_every_table_of_the_migrations_is_explained() -> None:
    sources = (ROOT / "gridtokenx_pipelines" / "store" / "migrations" / "versions").glob("*.py")
    made = {name for source in sources for name in re.findall(r"CREATE TABLE (\w+)", source.read_text())}
    rows = re.findall(r"^\| `(\w+)` \|", (REFERENCE / "tables.md").read_text(), re.MULTILINE)
    assert set(rows) == made


@pytest.mark.parametrize("asset", CHECKS)
def test_every_blocking_check_has_its_runbook(asset: str) -> None:
    page = (DOCS / "how-to" / "checks" / f"{asset}.md").read_text()
    assert re.findall(r"^## `(\w+)`", page, re.MULTILINE) == list(CHECKS[asset])


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "programs" / "README.md"]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_documentation_builds_as_a_site_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert (tmp_path / "site" / "index.html").is_file()

"""Statements as files: JSON for machines, CSV for spreadsheets, a page for people.

Belongs here: the three forms. Does not belong here: what is in a statement (periods.py). The page needs no other file.
"""

from __future__ import annotations

import csv
import io
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from gridtokenx_pipelines.units import kwh, thb

EXPLORER = "https://explorer.solana.com/tx/"
STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#16181d;--soft:#5b6068;--hair:#e3e4e0}
@media (prefers-color-scheme:dark){:root{--page:#121417;--card:#1b1e22;--ink:#eceef0;--soft:#a3a8af;--hair:#2d3137}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 16px 56px}h1{font-size:1.6rem;margin:0 0 4px}
h2{font-size:1.15rem;margin:32px 0 6px}p{margin:0 0 12px;max-width:72ch}.soft{color:var(--soft)}
.scroll{overflow:auto;max-height:70vh;background:var(--card);border:1px solid var(--hair);border-radius:12px}
table{border-collapse:collapse;width:100%;font-size:.84rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--hair);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{position:sticky;top:0;background:var(--card);color:var(--soft)}
@media print{.scroll{max-height:none;overflow:visible}}
"""


def write(statement: Mapping[str, Any], folder: Path, rpc_url: str) -> list[Path]:
    """Write the three files; their paths. Links lead to the transactions on the chain behind `rpc_url`."""
    who = statement.get("wallet", "operator")
    stem = f"statement-{who}-{_short(statement['from'])}-{_short(statement['to'])}"
    folder.mkdir(parents=True, exist_ok=True)
    contents = {".json": as_json(statement), ".csv": as_csv(statement), ".html": as_page(statement, rpc_url)}
    paths = []
    for ending, content in contents.items():
        path = folder / f"{stem}{ending}"
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, path)
        paths.append(path)
    return paths


def _short(key: str) -> str:
    return key.replace("-", "").replace(":", "")


def as_json(statement: Mapping[str, Any]) -> str:
    """One JSON document; energies in Wh, money in µTHB."""
    return msgspec.json.format(msgspec.json.encode(statement)).decode() + "\n"


def as_csv(statement: Mapping[str, Any]) -> str:
    """A row per line of the statement (a day's, for the operator), units in the column names."""
    rows = statement["lines"] if statement["statement"] == "participant" else statement["days"]
    out = io.StringIO()
    if rows:
        head = list(rows[0])
        head = ["key", *[name for name in head if name != "key"]] if "key" in head else head
        writer = csv.DictWriter(out, head, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def as_page(statement: Mapping[str, Any], rpc_url: str) -> str:
    """The page."""
    body = _participant(statement, rpc_url) if statement["statement"] == "participant" else _operator(statement)
    title = f"Statement {statement['from']} to {statement['to']}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{''.join(body)}"
        "</main></body></html>\n"
    )


def _amount(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name.endswith("_wh"):
        return kwh(value)
    if "_uthb" in name:
        return thb(value)
    return str(value)


def _words(name: str) -> str:
    unit = " kWh" if name.endswith("_wh") else " THB/kWh" if name.endswith("_per_kwh") else ""
    unit = " THB" if name.endswith("_uthb") else unit
    stem = name.removesuffix("_uthb_per_kwh").removesuffix("_uthb").removesuffix("_wh")
    return stem.replace("_", " ") + unit


def _sums(values: Mapping[str, Any]) -> str:
    return _table(("of", "amount"), [(_words(name), _amount(name, value)) for name, value in values.items()])


def _participant(statement: Mapping[str, Any], rpc_url: str) -> list[str]:
    proof = statement["proof"]
    words = "equal" if proof["equal"] else "DIFFERENT: ask the operator for an audit"
    lines = [
        [
            each["key"],
            f"{each['kind']} {each['run']}",
            *(_amount(name, each[name]) for name in SHOWN),
            _link(each["transaction"], rpc_url),
        ]
        for each in statement["lines"]
    ]
    balances = [
        (each["what"], each["of"], kwh(each["grid_wh"]), thb(each["net_uthb"])) for each in statement["balance"]
    ]
    return [
        f'<p class="soft">Wallet <code>{escape(statement["wallet"])}</code>, {escape(statement["type"])} in zone '
        f"{statement['zone']}</p>",
        "<h2>Balance</h2>",
        _table(
            ("", "GRID kWh", "THB, cash less debt"),
            [
                (name, kwh(statement[name]["grid_wh"]), thb(statement[name]["net_uthb"]))
                for name in ("opening", "closing")
            ],
        ),
        f"<p>Today's running balance, the ledger's and the chain's are {words}.</p>",
        "<h2>Totals</h2>",
        _sums(statement["totals"]),
        "<p>VAT is included in fee, wheeling and bill, each rounded down by itself. What you paid or earned between "
        "neighbours kept to your own limits; it may be more or less than the tariffs.</p>",
        "<h2>Energy by meter</h2>",
        _rows(statement["energy"]),
        "<h2>Epochs and runs</h2>",
        _table(("epoch", "run", *map(_words, SHOWN), "transaction"), lines, raw_last=True),
        "<h2>Trades</h2>",
        _rows(statement["trades"]),
        "<h2>Deposits, withdrawals, matches on chain</h2>",
        _rows(statement["deposits"]),
        "<h2>Certificates held</h2>",
        _rows(statement["certificates"]),
        "<h2>Certified energy bought and sold</h2>",
        _rows(statement["certificates_passed"]),
        "<h2>Void runs: promised, taken back, settled late</h2>",
        _rows(statement["voided"]),
        "<h2>Running balance</h2>",
        _table(("what", "of", "GRID kWh", "THB"), balances),
    ]


SHOWN = (
    "net_wh",
    "bought_wh",
    "sold_wh",
    "residual_wh",
    "energy_cost_uthb",
    "zone_wheeling_uthb",
    "proceeds_uthb",
    "fee_uthb",
    "billed_uthb",
    "buy_back_uthb",
    "refund_uthb",
)


def _operator(statement: Mapping[str, Any]) -> list[str]:
    return [
        f'<p class="soft">{statement["epochs"]} epochs, {statement["runs"]} runs</p>',
        "<h2>Totals</h2>",
        _sums(statement["totals"]),
        "<h2>Accounts of the market, today</h2>",
        _sums(statement["accounts"]),
        "<h2>Days</h2>",
        _rows(statement["days"]),
    ]


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    names = list(rows[0])
    return _table(tuple(map(_words, names)), [[_amount(name, row[name]) for name in names] for row in rows])


def _link(signature: str | None, rpc_url: str) -> str:
    if signature is None:
        return "–"
    return (
        f'<a href="{EXPLORER}{escape(signature)}?cluster=custom&amp;customUrl={escape(rpc_url)}">'
        f"{escape(signature[:12])}…</a>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, raw_last: bool = False) -> str:
    def cells(row: Sequence[str]) -> str:
        texts = [escape(str(value)) for value in row]
        if raw_last:
            texts[-1] = row[-1]
        return "".join(f"<td>{text}</td>" for text in texts)

    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'

"""A dossier as a page for people: what was found, epoch by epoch, with roots and hashes to hold against the chain.

Belongs here: HTML of a signed dossier; it needs no other file, no network and no script. Does not belong here: anything
that the JSON doesn't say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

from gridtokenx_pipelines.audit.dossier import canonical
from gridtokenx_pipelines.audit.findings import DIFFERS, OK, VERDICTS

STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#16181d;--soft:#5b6068;--hair:#e3e4e0;--good:#0b7a4b;
--bad:#c0392b;--wait:#9a6a00}
@media (prefers-color-scheme:dark){:root{--page:#121417;--card:#1b1e22;--ink:#eceef0;--soft:#a3a8af;--hair:#2d3137;
--good:#3fce8e;--bad:#ff7b6b;--wait:#eda100}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 16px 56px}h1{font-size:1.6rem;margin:0 0 4px}
h2{font-size:1.15rem;margin:36px 0 6px}p{margin:0 0 12px;max-width:72ch}.soft{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:18px 0}
.tile{background:var(--card);border:1px solid var(--hair);border-radius:12px;padding:12px 14px}
.tile b{display:block;font-size:1.35rem}.good{color:var(--good)}.bad{color:var(--bad)}.wait{color:var(--wait)}
.scroll{overflow:auto;max-height:70vh;background:var(--card);border:1px solid var(--hair);border-radius:12px}
table{border-collapse:collapse;width:100%;font-size:.84rem}th,td{padding:4px 8px;text-align:left;vertical-align:top;
border-bottom:1px solid var(--hair)}th{position:sticky;top:0;background:var(--card);color:var(--soft)}
code{font-size:.78rem;overflow-wrap:anywhere}
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    span = document["range"]
    title = f"Audit {span['first']} to {span['last']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{span["epochs"]} epochs, made {escape(document["made_at"])} by operator '
        f"<code>{escape(document['operator'])}</code>. Check it with nothing but a chain node: "
        "<code>gridtokenx audit verify DOSSIER.json --rpc URL</code></p>",
        _tiles(document["counts"]),
        *_present(document["present"]),
        _differing(document["epochs"]),
        _epochs(document["epochs"]),
        _versions(document),
        _inputs(document["inputs"]),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _kind(verdict: str) -> str:
    return "good" if verdict == OK else "bad" if verdict == DIFFERS else "wait"


def _tiles(counts: Mapping[str, int]) -> str:
    shown = "".join(
        f'<div class="tile"><b class="{_kind(word)}">{counts[word]:,}</b><span class="soft">{word}</span></div>'
        for word in VERDICTS
    )
    return f'<div class="tiles">{shown}</div>'


def _present(faults: Sequence[str]) -> list[str]:
    if not faults:
        return []
    return ["<h2>Of no single epoch</h2>", _table(("fault",), ([each] for each in faults))]


def _differing(epochs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (each["key"], found["stage"], found["what"], found["detail"]) for each in epochs for found in each["findings"]
    ]
    more = sum(max(each["differences"] - len(each["findings"]), 0) for each in epochs)
    if not rows:
        return "<h2>Differences</h2><p>None: every value, root and balance equals its recomputation.</p>"
    note = f"<p>{more:,} more of the same epochs are counted, not listed.</p>" if more else ""
    return "<h2>Differences</h2>" + note + _table(("epoch", "stage", "what", "how"), rows)


def _epochs(epochs: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for each in epochs:
        runs = " ".join(f"run {run['run']}: {run['root'][:16]}…" for run in each["runs"])
        rows.append(
            (each["key"], each["verdict"], each["since"] or "–", str(each["differences"]), each["detail"], runs)
        )
    head = ("epoch", "verdict", "since", "differences", "in words", "roots")
    return "<h2>Epochs</h2>" + _table(head, rows)


def _versions(document: Mapping[str, Any]) -> str:
    rows = [
        ("network", f"{document['network']['id']}, genesis {document['network']['genesis']}"),
        ("code", f"{document['code']['version']}, fingerprint {document['code']['fingerprint']}"),
        *(("rules", mark) for mark in document["rules"]),
        *((f"program {name}", address) for name, address in document["programs"].items()),
        ("sha256 of all digests", sha256(canonical(document["digests"])).hexdigest()),
        ("signature", document["signature"]),
    ]
    return "<h2>Versions and signature</h2>" + _table(("of", "value"), rows)


def _inputs(inputs: Mapping[str, str]) -> str:
    return "<h2>Inputs</h2>" + _table(("input", "sha256"), sorted(inputs.items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table></div>'


def _cell(value: str) -> str:
    if value in VERDICTS:
        return f'<td class="{_kind(value)}">{escape(value)}</td>'
    is_code = len(value) >= 32 and " " not in value
    return f"<td><code>{escape(value)}</code></td>" if is_code else f"<td>{escape(value)}</td>"

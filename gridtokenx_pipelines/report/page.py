"""The frame of the report: style sheet, cards, tiles, tables.

Belongs here: HTML that knows nothing of energy. Does not belong here: what the cards say (sections.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from gridtokenx_pipelines.report.svg import Series

STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#16181d;--soft:#5b6068;--hair:#e3e4e0;--axis:#a9adb3;
--good:#0b7a4b;--bad:#c0392b;--s1:#2a78d6;--s2:#eb6834;--s3:#1baf7a;--s4:#eda100;--s5:#4a3aa7;--s6:#e87ba4;
--s7:#008300;--s8:#8a8f98}
@media (prefers-color-scheme:dark){:root{--page:#121417;--card:#1b1e22;--ink:#eceef0;--soft:#a3a8af;--hair:#2d3137;
--axis:#5d636b;--good:#3fce8e;--bad:#ff7b6b;--s1:#4b93ea;--s2:#e9794c;--s3:#25b583;--s4:#d19a1a;--s5:#9085e9;
--s6:#dd7ba0;--s7:#4aa84a;--s8:#8d939c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 16px 56px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:40px 0 4px}
p{margin:0 0 12px;max-width:68ch}.soft{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 8px}
.tile,.card{background:var(--card);border:1px solid var(--hair);border-radius:12px}
.tile{padding:12px 14px}.tile b{display:block;font-size:1.4rem;line-height:1.25;font-weight:650}
.tile span{color:var(--soft);font-size:.85rem}.good{color:var(--good)}.bad{color:var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:14px;margin-top:10px}
.card{margin:0;padding:14px 14px 10px;min-width:0}
.card h3{font-size:1rem;margin:0}.card .soft{font-size:.875rem;margin:0 0 6px}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:.85rem;color:var(--soft);margin:4px 0 6px}
.legend i{display:inline-block;width:14px;height:10px;border-radius:2px;margin-right:6px;background:var(--c)}
.legend i.line,.legend i.dashed{height:0;border-top:3px solid var(--c);background:none;border-radius:0;
vertical-align:middle}.legend i.dashed{border-top-style:dashed;border-top-width:2px}
svg{display:block;width:100%;height:auto}svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .grid{stroke:var(--hair)}svg .axis,svg .tick{stroke:var(--axis)}
svg .line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
svg .dashed{stroke-width:1.5;stroke-dasharray:5 4}svg .area{fill:var(--c);fill-opacity:.85}svg .bar{fill:var(--c)}
svg .hit{fill:transparent}svg .hit:hover{fill:var(--ink);fill-opacity:.08}
.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}.s4{--c:var(--s4)}.s5{--c:var(--s5)}.s6{--c:var(--s6)}
.s7{--c:var(--s7)}.s8{--c:var(--s8)}
.scroll{overflow:auto;max-height:70vh}
table{border-collapse:collapse;width:100%;font-size:.84rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--hair);white-space:nowrap}
th{color:var(--soft);font-weight:550;background:var(--card);position:sticky;top:0}
th:first-child,td:first-child,.text{text-align:left}td code{font-size:.8rem}
td.wrap{white-space:normal;text-align:left;min-width:15em}
footer{margin-top:40px;color:var(--soft);font-size:.85rem}
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page that needs no other file."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """Big numbers: (value, what it is, class of the value)."""
    shown = (f'<div class="tile"><b class="{kind}">{escape(value)}</b><span>{escape(what)}</span></div>'
             for value, what, kind in entries)  # fmt: skip
    return f'<div class="tiles">{"".join(shown)}</div>'


def cards(contents: Iterable[str]) -> str:
    """Cards side by side where there is room."""
    return f'<div class="cards">{"".join(contents)}</div>'


def figure(title: str, says: str, series: Sequence[Series], svg: str) -> str:
    """A plot with its title, a line on how to read it, and a legend where there is more than one series."""
    keys = "".join(f'<span><i class="s{each.colour} {each.style}"></i>{escape(each.name)}</span>' for each in series)
    legend = f'<div class="legend">{keys}</div>' if len(series) > 1 else ""
    return f'<figure class="card"><h3>{escape(title)}</h3><p class="soft">{escape(says)}</p>{legend}{svg}</figure>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", says: str = "") -> str:
    """A card with a table; the first column is text. Cells are plain text, long ones wrap where they may."""
    cells = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    line = f'<p class="soft">{escape(says)}</p>' if says else ""
    return (
        f'<div class="card">{heading}{line}<div class="scroll"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{cells}</tbody></table></div></div>"
    )


def _cell(value: str) -> str:
    kind = ' class="wrap"' if len(value) > 40 else ""
    return f"<td{kind}>{escape(value)}</td>"


def heading(title: str, says: str = "") -> str:
    """A section's heading with a line under it."""
    return f"<h2>{escape(title)}</h2>" + (f'<p class="soft">{escape(says)}</p>' if says else "")

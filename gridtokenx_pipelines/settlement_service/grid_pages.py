"""The grid report as documents: JSON for machines, one HTML page for people, both whole or not at all.

Belongs here: wording and files. Does not belong here: computing the report (grid_report.py), the page's frame
(report/page.py).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.hosting import Hosting
from gridtokenx_pipelines.report.page import cards, document, heading, table, tiles
from gridtokenx_pipelines.settlement_service.grid_report import GridReport
from gridtokenx_pipelines.units import kwh, thb

ASSET = "grid_report"


def as_document(found: GridReport, hosting: list[Hosting]) -> dict[str, Any]:
    """The report as plain values; energies Wh, money µTHB, voltages p.u., loadings percent, powers W."""
    return {
        "days": found.totals.to_dicts(),
        "zones": found.zone_days.to_dicts(),
        "links": found.links.to_dicts(),
        "worst": found.worst.to_dicts(),
        "hosting": [
            {
                "zone_id": each.zone_id,
                "production_w": each.production_w,
                "load_w": each.load_w,
                "production_ends": each.production_ends,
                "load_ends": each.load_ends,
            }
            for each in hosting
        ],
        "unsolved": [key_of(epoch) for epoch in found.unsolved],
        "meters_without_a_place": list(found.unplaced),
    }


def write(folder: Path, title: str, found: GridReport, hosting: list[Hosting]) -> tuple[Path, Path]:
    """Write report.json and report.html into the folder; returns their paths."""
    content = as_document(found, hosting)
    folder.mkdir(parents=True, exist_ok=True)
    pages = folder / "report.json", folder / "report.html"
    for path, words in zip(pages, (json.dumps(content, indent=2) + "\n", page(title, content)), strict=True):
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(words, encoding="utf-8")
        temporary.replace(path)
    return pages


def page(title: str, content: dict[str, Any]) -> str:
    """The HTML page of a document."""
    days, zones = content["days"], content["zones"]
    broken = sum(row["violations"] for row in zones)
    loss, load = sum(row["loss_wh"] for row in days), sum(row["load_wh"] for row in days)
    unsolved = len(content["unsolved"])
    unmetered = sum(row["unmetered_wh"] for row in days)
    # rounding is a Wh or two an epoch; more says that readings and declaration contradict each other
    told = [(kwh(unmetered), "kWh in islands that no meter accounts for", "bad")] if 100 * abs(unmetered) > load else []
    body = [
        f"<h1>{title}</h1>",
        '<p class="soft">From AC power flow on the metered net energy of every epoch, mean powers of a quarter of an '
        "hour. Bounds: voltages ±10 %, loadings 100 %.</p>",
        tiles(
            [
                (kwh(sum(row["generation_wh"] for row in days)), "kWh generated", ""),
                (kwh(load), "kWh consumed", ""),
                (kwh(sum(row["upstream_wh"] for row in days)), "kWh from upstream, less what was sent there", ""),
                (kwh(loss), f"kWh lost ({loss / load:.1%} of the load)" if load else "kWh lost", ""),
                (str(broken), "violations (elements × epochs)", "bad" if broken else "good"),
                (str(unsolved), "epochs without a power flow", "bad" if unsolved else "good"),
                *told,
            ]
        ),
        heading("By zone and day", "Zone 0 is what zones share: transformer and busbar. kWh."),
        cards([_zones(zones)]),
        heading("Worst hours", "Epochs nearest to a bound, and the element that is."),
        cards([_worst(content["worst"])]),
        heading("Links", "Energy sold over each link, and its congestion rent."),
        cards([_links(content["links"])]),
        heading("Hosting capacity", "What a zone carries on top in every epoch of the report, spread over its meters."),
        cards([_hosting(content["hosting"])]),
    ]
    return document(title, body)


def _real(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _zones(rows: list[dict[str, Any]]) -> str:
    head = ("day", "zone", "generation", "load", "exchange", "losses", "violations", "to curtail", "p.u.", "line %")
    cells = [
        (
            row["day"],
            str(row["zone_id"]),
            *(kwh(row[f"{name}_wh"]) for name in ("generation", "load", "exchange", "loss")),
            str(row["violations"]),
            kwh(row["to_curtail_wh"]),
            f"{_real(row['lowest_pu'], 3)}…{_real(row['highest_pu'], 3)}",
            _real(row["line_percent"], 1),
        )
        for row in rows
    ]
    return table(head, cells)


def _worst(rows: list[dict[str, Any]]) -> str:
    cells = [(row["epoch"], _real(row["margin_percent"], 2), str(row["violations"]), row["what"]) for row in rows]
    return table(("epoch", "margin %", "violations", "element"), cells)


def _links(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            row["day"],
            f"{row['link_id']}: {row['link']}",
            kwh(row["sent_wh"]),
            kwh(row["delivered_wh"]),
            thb(row["wheeling_uthb"]),
            thb(row["rent_uthb"]),
        )
        for row in rows
    ]
    return table(("day", "link", "sent kWh", "delivered kWh", "wheeling THB", "rent THB"), cells)


def _hosting(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            str(row["zone_id"]),
            f"{row['production_w'] / 1_000:.1f}",
            row["production_ends"],
            f"{row['load_w'] / 1_000:.1f}",
            row["load_ends"],
        )
        for row in rows
    ]
    return table(("zone", "PV kW", "ends with", "load kW", "ends with"), cells)


def zone_table(found: GridReport) -> pl.DataFrame:
    """What an operator sees in the UI."""
    return found.zone_days.with_columns(
        *[(pl.col(name) / 1_000).alias(name.replace("_wh", "_kwh")) for name in ("generation_wh", "load_wh", "loss_wh")]
    ).select("day", "zone_id", "generation_kwh", "load_kwh", "loss_kwh", "violations", "lowest_pu", "highest_pu")

from __future__ import annotations

import copy
import io
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gridtokenx_pipelines.report.data import ReportData, Savings, savings
from gridtokenx_pipelines.report.html import write_report
from gridtokenx_pipelines.report.summary import print_summary
from gridtokenx_pipelines.report.svg import Series, nice_step, plot

VOID = {"meta", "br", "link", "img"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def printed(result: dict[str, Any], saved: Savings | None = None, width: int = 100) -> str:
    out = io.StringIO()
    print_summary(result, saved, Console(file=out, width=width))
    return out.getvalue()


def test_the_report_is_one_well_formed_file_that_needs_no_other(morning: ReportData, tmp_path: Path):
    path = write_report(tmp_path / "out" / "report.html", morning)
    text = path.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"<script|src=|https?://|url\(", text)
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    assert text.count("<svg") == 7
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)  # noqa: S314 - our own page
    for heading in ("The market", "Energy balance", "One household", "Settlement", "Ledger proof"):
        assert heading in text
    for law in morning.result["ledger_proof"]:
        assert escape(law["law"]) in text


def test_the_same_data_gives_the_same_file(morning: ReportData, tmp_path: Path):
    one, two = (write_report(tmp_path / name, morning).read_bytes() for name in ("one.html", "two.html"))
    assert one == two


def test_names_from_outside_cannot_break_out_of_the_page(morning: ReportData, tmp_path: Path):
    hostile = msgspec.structs.replace(morning, household=("<b>&", "</title><script>alert(1)</script>"))
    text = write_report(tmp_path / "report.html", hostile).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;b&gt;&amp;" in text


def test_a_law_that_does_not_close_is_seen(morning: ReportData, tmp_path: Path):
    result = copy.deepcopy(dict(morning.result))
    result["ledger_proof"][2]["difference"] = 7
    text = write_report(tmp_path / "report.html", msgspec.structs.replace(morning, result=result)).read_text()
    assert '<b class="bad">10/11</b>' in text
    assert "does NOT close" in printed(result)


def test_the_summary_says_what_happened_in_kwh_and_baht(morning: ReportData):
    text = printed(dict(morning.result), savings(morning.wallet_entries, morning.rules))
    energy = morning.result["energy_wh"]
    assert "12 epochs settled on grid 1-LV-rural1--2-sw, seed 1: every conservation law closes to 0" in text
    assert re.search(rf"produced\s+{energy['produced'] // 1_000}\.{energy['produced'] % 1_000:03d}\b", text)
    assert re.search(r"buyers, against the retail tariff\s+-?[\d,]+\.\d{6}", text)
    assert text.count("refused:") == len(morning.result["readings"]["rejected"])
    for law in morning.result["ledger_proof"]:
        assert law["law"] in text


def test_the_summary_fits_a_narrow_terminal_and_zones_without_trades(morning: ReportData):
    result = {**morning.result, "price_uthb_per_kwh": {"1": {"min": None, "max": None, "mean": None}}}
    text = printed(result, width=60)
    assert "no trade" in text
    assert max(map(len, text.splitlines())) <= 60


@given(
    st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.sampled_from(["line", "dashed", "area", "bar"]),
    st.booleans(),
)
def test_any_values_give_a_plot_inside_its_frame(values: list[float | None], style: str, from_zero: bool):
    series = Series(name="<&>", values=values, colour=1, style=style)  # type: ignore[arg-type]
    svg = plot(range(1_979_404, 1_979_404 + len(values)), [series], label="l", unit="kWh", from_zero=from_zero)
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own page
    for line in root.iter("line"):
        assert 0 <= float(line.attrib["x1"]) <= float(line.attrib["x2"]) <= 480
        assert 0 <= float(line.attrib["y1"]) <= 250


@pytest.mark.parametrize(("span", "step"), [(4.0, 1.0), (10.0, 2.5), (0.9, 0.25), (1_700.0, 500.0), (8.0, 2.0)])
def test_steps_of_the_axis_are_round(span: float, step: float):
    assert nice_step(span) == pytest.approx(step)

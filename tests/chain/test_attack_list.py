"""The tests that docs/security names exist: a renamed test can't leave an attack or a clause without its proof."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("attacks.md", "clauses.md", "programs.md")


@cache
def names_there() -> frozenset[str]:
    """Names of all tests, of the programs and of what runs beside them."""
    found: set[str] = set()
    for path in (ROOT / "tests").glob("**/test_*.py"):
        found |= set(re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE))
    for path in (ROOT / "programs").glob("*/src/**/*.rs"):
        found |= set(re.findall(r"fn (\w+)\(\)", path.read_text()))
    return frozenset(found)


def named(page: str) -> list[str]:
    """Tests a page names: whole, or by their beginning with … after it."""
    return re.findall(r"`(test_\w+…?)`", (ROOT / "docs" / "security" / page).read_text())


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    names = named(page)
    assert names
    for name in names:
        whole = name.removesuffix("…")
        there = any(each.startswith(whole) for each in names_there()) if name != whole else whole in names_there()
        assert there, f"docs/security/{page} names {name}, which no test is called"


def test_every_known_attack_has_a_test() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "security" / "attacks.md").read_text().splitlines()]
    rows = [row for row in rows if len(row) > 3 and row[1].strip() not in ("attack", "---")]
    assert len(rows) == 33
    for _, attack, tests, *_ in rows:
        assert "`test_" in tests, f"no test of: {attack}"

"""The example of docs/reference/market.md is what the command prints, and the page names every field of a document."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.unit.market_cli.clearing_files import Run
from tests.unit.market_cli.market_folder import write_folder

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "market.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    found = re.search(rf"<!-- example {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_prints_what_the_page_says(tmp_path):
    book = tmp_path / "book.csv"
    book.write_text(example("book.csv"))
    run = Run("clear", book, "--json")
    assert (run.code, run.error, run.out.count("\n")) == (0, "", 1)
    assert run.json == json.loads(example("result"))


def test_the_page_names_every_field_of_the_statistics(tmp_path):
    write_folder(tmp_path)
    one = Run("stats", "--data-dir", tmp_path, "--json").json
    both = Run("stats", one["first_epoch"], "--data-dir", tmp_path, "--json").json | one
    plain = {"first_epoch", "last_epoch", "epochs", "orders", "rejected", "bought_wh"}
    assert {name for name in both if f"`{name}`" not in PAGE} == plain

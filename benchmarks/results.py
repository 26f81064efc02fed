"""RESULTS.md, a section a benchmark: replaced whole each time the benchmark runs.

Belongs here: the file's layout and what is said of the machine. Does not belong here: figures.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Measured\n\nEach section is written by the benchmark that it names; run it again to replace it.\n"


def machine(*packages: str) -> str:
    """One line: processor, cores, Python, packages, date."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    model = found[1] if found else platform.machine()
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}; {date}."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def write_section(name: str, text: str, path: Path = RESULTS) -> None:
    """Replace the section `name` (or add it at the end); other sections stay."""
    whole = path.read_text(encoding="utf-8") if path.exists() else TITLE
    section = f"## {name}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    whole = pattern.sub(lambda _: section + "\n", whole) if pattern.search(whole) else f"{whole.rstrip()}\n\n{section}"
    path.write_text(whole.rstrip() + "\n", encoding="utf-8")

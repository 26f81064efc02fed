"""The report as one file.

Belongs here: `write_report`. Does not belong here: its contents (sections.py). The file needs no network and no
script; plots are inline SVG.
"""

from __future__ import annotations

import os
from pathlib import Path

from gridtokenx_pipelines.report.data import ReportData
from gridtokenx_pipelines.report.page import document
from gridtokenx_pipelines.report.sections import all_sections


def write_report(path: Path, data: ReportData) -> Path:
    """Write the report and return its path; a reader never sees half a file. Raises OSError if it can't."""
    title = f"GridTokenX: {data.result['grid']}, seed {data.result['seed']}"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(document(title, all_sections(data)), encoding="utf-8")
    temporary.replace(path)
    return path

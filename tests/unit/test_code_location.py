"""The code location loads fast: what only some runs need is imported by those runs."""

from __future__ import annotations

import subprocess
import sys

# each of these takes a quarter of a second to several seconds to import
HEAVY = (
    "great_expectations", "lightsim2grid", "numba", "pandapower", "pandas", "plotly", "pvlib", "scipy", "simbench",
)  # fmt: skip


def test_loading_the_code_location_imports_no_heavy_library() -> None:
    script = (
        "import sys\nimport gridtokenx_pipelines.definitions as loaded\nassert loaded.defs\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

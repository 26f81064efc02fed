"""The committed program is what its sources give: one program is built again and compared byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[2] / "programs"
TOOLS = Path(os.environ.get("SBF_TOOLS", Path.home() / ".cache" / "gridtokenx" / "sbf"))


@pytest.mark.slow
@pytest.mark.skipif(
    not (TOOLS / "bin" / "sbpf-linker").exists() or shutil.which("rustc", path="/usr/bin") is None,
    reason="no on-chain toolchain on this machine: programs/toolchain/install.sh installs it",
)
def test_building_the_oracle_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    built = subprocess.run(
        ["bash", str(PROGRAMS / "build.sh"), "--check", "oracle"],
        env={**os.environ, "SBF_TARGET_DIR": str(tmp_path / "target")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr

"""The committed program is what its sources give: one program is built again and compared byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[2] / "programs"
TOOLS = Path(os.environ.get("SBF_TOOLS", Path.home() / ".cache" / "gridtokenx" / "sbf"))


INSTALL_SECONDS = 600


@pytest.fixture(scope="module")
def toolchain() -> None:
    """The on-chain toolchain; CI installs it where it may, a developer's machine is left as it is."""
    if (TOOLS / "bin" / "sbpf-linker").exists() and shutil.which("rustc", path="/usr/bin"):
        return
    if os.environ.get("CI") != "true" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("no on-chain toolchain on this machine: programs/toolchain/install.sh installs it")
    script = str(PROGRAMS / "toolchain" / "install.sh")
    try:
        done = subprocess.run(["bash", script], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the on-chain toolchain was not installed within {INSTALL_SECONDS} s")
    if done.returncode != 0:
        pytest.skip(f"the on-chain toolchain could not be installed here: {done.stderr.strip()[-300:]}")


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_SECONDS + 300)
@pytest.mark.usefixtures("toolchain")
def test_building_the_oracle_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    built = subprocess.run(
        ["bash", str(PROGRAMS / "build.sh"), "--check", "oracle"],
        env={**os.environ, "SBF_TARGET_DIR": str(tmp_path / "target")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr

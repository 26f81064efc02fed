"""Random days through crashes and RPC faults end as undisturbed ones do; a failure found stays here by its seed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.rpc_faults import FAULTS, FaultyRpc
from tests.chaos.settlement_faults import run_seed


# 12: a transaction had landed, the node did not show it yet, and a crash later nobody asked again
@pytest.mark.parametrize("number", [1, 12])
def test_a_random_day_ends_the_same_through_crashes_and_faults(
    number: int, new_database: Callable[[], str], tmp_path: Path
) -> None:
    wrong, market = run_seed(number, tmp_path, new_database)
    assert wrong == [], market.crashes
    assert market.crashes
    assert market.faults


def test_the_same_seed_is_the_same_trouble_and_every_fault_occurs() -> None:
    def drawn(seed: int) -> list[str | None]:
        proxy = FaultyRpc("http://127.0.0.1:9", seed)
        return [proxy.fault_of("getSignatureStatuses") for _ in range(400)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert set(drawn(3)) == {None, *FAULTS}


def test_a_few_random_kills_of_relayers_chain_and_database_leave_no_difference() -> None:
    """The short form of `make chaos`, whose 200 kills take minutes."""
    script = Path(__file__).with_name("kill_settlement.py")
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "8"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(": 0 differences")

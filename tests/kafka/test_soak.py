"""The short form of `make soak`: twenty seconds of signed readings through the flow's own process on a real broker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

pytestmark = pytest.mark.slow
MOST_GROWTH_MEBIBYTES = 32  # a short run is still warming up; `make soak` measures flatness


def test_a_short_soak_ends_exact_and_its_memory_stays_in_bounds(tmp_path: Path) -> None:
    import streaming_soak  # noqa: PLC0415 - of the benchmarks
    from streaming_place import place  # noqa: PLC0415

    found: dict[str, Any]
    try:
        with place(tmp_path) as where:
            found = streaming_soak.soak(where.brokers, where.database(), tmp_path, 20, 500, meters=50)
    except RuntimeError as error:
        if type(error).__name__ != "KafkaMissing":
            raise
        pytest.skip(str(error))
    assert found["exact"] and found["exit"] == 0 and found["epochs"] >= 5
    assert found["mebibytes_last_third"] - found["mebibytes_second_third"] < MOST_GROWTH_MEBIBYTES

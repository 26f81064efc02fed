from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.simulation.grids import (
    EPOCHS_PER_DAY,
    LV_CODES,
    PROFILE_ROWS,
    UnknownGridError,
    load_grid,
    profile_row,
)


def test_an_unknown_code_is_refused_with_the_codes_that_are_known():
    with pytest.raises(UnknownGridError, match=re.escape("grid was '1-MV-urban--0-sw', must be")) as error:
        load_grid("1-MV-urban--0-sw")
    assert all(code in str(error.value) for code in LV_CODES)


def test_the_listed_codes_are_simbenchs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench  # noqa: PLC0415 - slow to import

        assert set(LV_CODES) == {code for code in simbench.collect_all_simbench_codes() if code.startswith("1-LV-")}


def test_a_grid_from_the_cache_is_the_grid_that_was_extracted(grid_cache: Path, tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a demo prints no warnings
        first = load_grid("1-LV-rural1--2-sw", tmp_path)
    again = load_grid("1-LV-rural1--2-sw", tmp_path)
    assert [path.name.startswith("1-LV-rural1--2-sw.simbench-") for path in tmp_path.iterdir()] == [True]
    for name in first.__struct_fields__:
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.load_milliwatt.shape == (PROFILE_ROWS, 28)
    assert first.pv_milliwatt.shape == (PROFILE_ROWS, 8)
    assert first.storage_milliwatt.shape == (PROFILE_ROWS, 5)
    assert min(int(power.min()) for power in (first.load_milliwatt, first.pv_milliwatt, first.storage_milliwatt)) == 0


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("2026-06-14T17:00Z", 166 * EPOCHS_PER_DAY),  # midnight of 15 June in Bangkok; 2016 is a leap year
        ("2026-06-15T05:00Z", 166 * EPOCHS_PER_DAY + 48),  # noon there
        ("2026-12-31T16:45Z", 365 * EPOCHS_PER_DAY + 95),
        ("2026-12-31T17:00Z", 0),
        ("2028-02-28T17:00Z", 59 * EPOCHS_PER_DAY),  # 29 February
        ("2027-02-28T17:00Z", 60 * EPOCHS_PER_DAY),  # 1 March
    ],
)
def test_profile_rows_follow_the_bangkok_calendar(key: str, row: int):
    assert profile_row(epoch_of_key(key)) == row


def test_the_sun_is_highest_around_bangkok_noon(grid_cache: Path):
    grid = load_grid("1-LV-rural1--2-sw", grid_cache)
    by_quarter = grid.pv_milliwatt.sum(axis=1, dtype="int64").reshape(366, EPOCHS_PER_DAY).sum(axis=0)
    assert 44 <= int(by_quarter.argmax()) <= 56

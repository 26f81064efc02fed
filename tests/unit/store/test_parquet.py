"""The Parquet store on a real folder."""

from __future__ import annotations

import polars as pl
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.store.parquet import ParquetStore

EPOCH = epoch_of_key("2026-01-27T12:00Z")
FRAME = pl.DataFrame({"wallet": ["a", "b"], "net_wh": [1, -2], "raw": [b"\x00", None]})


def test_a_frame_lies_where_its_asset_and_epoch_say_and_reads_back_equal(tmp_path):
    store = ParquetStore(tmp_path)
    path = store.write("net_energy", EPOCH, "rows", FRAME)
    assert path.relative_to(tmp_path).as_posix() == "net_energy/date=2026-01-27/epoch=20260127T1200Z/rows.parquet"
    assert store.exists("net_energy", EPOCH, "rows")
    assert store.read("net_energy", EPOCH, "rows").equals(FRAME)


def test_a_folder_url_is_the_folder(tmp_path):
    ParquetStore(f"file://{tmp_path}").write("a", EPOCH, "n", FRAME)
    assert ParquetStore(str(tmp_path)).exists("a", EPOCH, "n")


def test_writing_again_replaces_and_leaves_no_other_file(tmp_path):
    store = ParquetStore(tmp_path)
    store.write("a", EPOCH, "n", FRAME)
    path = store.write("a", EPOCH, "n", FRAME.head(1))
    assert store.read("a", EPOCH, "n").height == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["n.parquet"]


def test_a_failed_write_keeps_the_old_file_and_no_temporary_one(tmp_path):
    store = ParquetStore(tmp_path)
    path = store.write("a", EPOCH, "n", FRAME)
    with pytest.raises(pl.exceptions.PolarsError):
        store.write("a", EPOCH, "n", pl.DataFrame({"object": [object()]}))
    assert [entry.name for entry in path.parent.iterdir()] == ["n.parquet"]
    assert store.read("a", EPOCH, "n").equals(FRAME)


def test_a_scan_reads_the_epochs_that_are_there_in_order(tmp_path):
    store = ParquetStore(tmp_path)
    for epoch in (EPOCH + 2, EPOCH):
        store.write("a", epoch, "n", pl.DataFrame({"epoch": [epoch]}))
    found = store.scan("a", range(EPOCH, EPOCH + 4), "n").collect()
    assert found["epoch"].to_list() == [EPOCH, EPOCH + 2]


def test_what_is_not_there_or_not_a_name_says_what_to_do(tmp_path):
    store = ParquetStore(tmp_path)
    with pytest.raises(FileNotFoundError, match="materialise a for that epoch first"):
        store.read("a", EPOCH, "n")
    with pytest.raises(FileNotFoundError, match="no n of a in 1 epochs"):
        store.scan("a", [EPOCH], "n")
    with pytest.raises(ValueError, match=r"'\.\./x', must be letters"):
        store.path("a", EPOCH, "../x")
    with pytest.raises(ValueError, match="s3://…, must be a folder"):
        ParquetStore("s3://bucket/x")


def test_many_epochs_read_at_once_say_of_each_row_which_epoch_it_is_of(tmp_path):
    store = ParquetStore(tmp_path)
    for epoch, frame in ((EPOCH, FRAME), (EPOCH + 1, FRAME.clear()), (EPOCH + 2, FRAME.head(1))):
        store.write("net_energy", epoch, "rows", frame)
    epochs = [EPOCH, EPOCH + 1, EPOCH + 2]
    expected = FRAME.vstack(FRAME.head(1)).with_columns(_epoch=pl.Series([EPOCH, EPOCH, EPOCH + 2]))
    assert store.read_many("net_energy", epochs, "rows").equals(expected)
    with pytest.raises(FileNotFoundError, match="materialise net_energy"):
        store.read_many("net_energy", [EPOCH, EPOCH + 3], "rows")

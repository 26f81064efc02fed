"""A compacted day reads as it read before, whatever a crash left behind."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.store.parquet import ParquetStore

DAY = epoch_of_key("2026-03-02T00:00Z")


def frame(epoch: int) -> pl.DataFrame:
    return pl.DataFrame({"wallet": ["a", "b"], "net_wh": [epoch % 7, -3]})


def test_a_compacted_day_has_one_file_a_name_and_gives_the_same_frames(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path)
    epochs = [DAY, DAY + 1, DAY + 95]
    for epoch in epochs:
        store.write("order_book", epoch, "book", frame(epoch))
    store.write("order_book", DAY + 1, "rejected", frame(0).clear())
    store.write("order_book", DAY + 96, "book", frame(1))
    assert store.days_before(DAY + 96) == [DAY]
    assert store.compact(DAY) == (4, 2)
    assert store.compact(DAY) == (2, 2)
    assert [store.read("order_book", epoch, "book").equals(frame(epoch)) for epoch in epochs] == [True] * 3
    assert store.read("order_book", DAY + 1, "rejected").equals(frame(0).clear())
    assert store.exists("order_book", DAY + 2, "book") is False
    with pytest.raises(FileNotFoundError):
        store.read("order_book", DAY + 2, "book")
    assert store.scan("order_book", [*epochs, DAY + 96], "book").collect().height == 8


def test_an_epoch_written_again_after_its_day_was_compacted_is_what_is_read_and_kept(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path)
    for epoch in (DAY, DAY + 1):
        store.write("order_book", epoch, "book", frame(epoch))
    store.compact(DAY)
    store.write("order_book", DAY, "book", frame(5))
    assert store.read("order_book", DAY, "book").equals(frame(5))
    store.compact(DAY)
    assert store.read("order_book", DAY, "book").equals(frame(5))
    assert store.read("order_book", DAY + 1, "book").equals(frame(DAY + 1))

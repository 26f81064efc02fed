"""Frames as Parquet files by asset and epoch: the signed archive and every asset's frames.

Belongs here: paths, atomic writes, reads and scans. Does not belong here: what the frames mean. A file is either
there whole or not at all: written under a temporary name, synced, then renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl

from gridtokenx_pipelines.epochs import EPOCH_SECONDS

EPOCHS_A_DAY = 96
# column that a compacted day keeps its rows' epoch in
EPOCH = "_epoch"


class ParquetStore:
    """A folder of frames: `<asset>/date=YYYY-MM-DD/epoch=YYYYMMDDTHHMMZ/<name>.parquet`."""

    def __init__(self, url: str | Path) -> None:
        """Take a local folder or its file:// URL; raises ValueError for any other scheme."""
        parts = urlsplit(str(url))
        if parts.scheme not in ("", "file"):
            raise ValueError(f"Parquet store was {parts.scheme}://…, must be a folder or file:// URL; set such a one")
        self.root = Path(unquote(parts.path)).absolute()

    def path(self, asset: str, epoch: int, name: str) -> Path:
        """Where a frame lies; the epoch's key is written without colons, which some file systems refuse."""
        for part in (asset, name):
            if not part.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"asset or frame name was {part!r}, must be letters, digits, - and _; rename it")
        return self._epoch_folder(asset, epoch) / f"{name}.parquet"

    def _epoch_folder(self, asset: str, epoch: int) -> Path:
        return _epoch_folder(self.root, asset, epoch)

    def write(self, asset: str, epoch: int, name: str, frame: pl.DataFrame) -> Path:
        """Write, or replace, one frame; readers see the old file or the new one, never a part of either."""
        target = self.path(asset, epoch, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as handle:
                frame.write_parquet(handle, compression="zstd", compression_level=1)  # signatures don't shrink
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        # the rename itself must survive a power cut too
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return target

    def exists(self, asset: str, epoch: int, name: str) -> bool:
        """Whether the frame has been written."""
        return self.path(asset, epoch, name).is_file() or epoch in self._compacted(asset, epoch, name)

    def read(self, asset: str, epoch: int, name: str) -> pl.DataFrame:
        """One frame; raises FileNotFoundError naming the asset and epoch to materialise."""
        path = self.path(asset, epoch, name)
        if not path.is_file():
            if epoch in self._compacted(asset, epoch, name):
                return self._of_day(asset, epoch, name).filter(pl.col(EPOCH) == epoch).drop(EPOCH)
            raise FileNotFoundError(f"{path} is not there; materialise {asset} for that epoch first")
        return pl.read_parquet(path, hive_partitioning=False)

    def scan(self, asset: str, epochs: Sequence[int], name: str) -> pl.LazyFrame:
        """All frames present of that name in these epochs, in their order; raises FileNotFoundError if none is."""
        present = [epoch for epoch in epochs if self.exists(asset, epoch, name)]
        if not present:
            raise FileNotFoundError(f"no {name} of {asset} in {len(epochs)} epochs; materialise them first")
        paths = [self.path(asset, epoch, name) for epoch in present]
        if all(path.is_file() for path in paths):
            return pl.scan_parquet(paths, hive_partitioning=False)
        return pl.concat([self.read(asset, epoch, name) for epoch in present]).lazy()

    def read_many(self, asset: str, epochs: Sequence[int], name: str) -> pl.DataFrame:
        """The frames of that name one after the other, in the epochs' order, each row with its epoch in `_epoch`.

        Raises FileNotFoundError as `read` does, polars' SchemaError where two frames differ in shape.
        """
        paths = {str(self.path(asset, epoch, name)): epoch for epoch in epochs}
        if paths and all(os.path.isfile(path) for path in paths):
            source = "_path"
            found = pl.read_parquet(list(paths), hive_partitioning=False, include_file_paths=source)
            return found.with_columns(pl.col(source).replace_strict(paths, return_dtype=pl.Int64).alias(EPOCH)).drop(
                source
            )
        return pl.concat(
            [self.read(asset, epoch, name).with_columns(pl.lit(epoch, pl.Int64).alias(EPOCH)) for epoch in epochs]
        )

    # --- old days, one file a name -----------------------------------------------------------------------------

    def days_before(self, epoch: int) -> list[int]:
        """First epochs of the days that have frames and end at or before this epoch, in order."""
        dates = {folder.name.removeprefix("date=") for folder in self.root.glob("*/date=*") if folder.is_dir()}
        starts = sorted(
            int(datetime.fromisoformat(f"{date}T00:00+00:00").timestamp()) // EPOCH_SECONDS for date in dates
        )
        return [start for start in starts if start + EPOCHS_A_DAY <= epoch]

    def compact(self, first_epoch: int) -> tuple[int, int]:
        """Merge the frames of a day's epochs into one file a name; how many files the day had and has.

        Reading gives the same frames as before. A crash in between leaves both, and the next call goes on.
        """
        before = after = 0
        day = self._epoch_folder("x", first_epoch).parent.name
        for folder in sorted(self.root.glob(f"*/{day}")):
            asset = folder.parent.name
            before += sum(1 for _ in folder.rglob("*.parquet"))
            names = {path.stem for path in folder.glob("epoch=*/*.parquet")}
            for name in sorted(names):
                self._merge(asset, first_epoch, name)
            for epoch in folder.glob("epoch=*"):
                shutil.rmtree(epoch)
            after += sum(1 for _ in folder.rglob("*.parquet"))
        return before, after

    def _merge(self, asset: str, first_epoch: int, name: str) -> None:
        folder = self._epoch_folder(asset, first_epoch).parent
        day = range(first_epoch, first_epoch + EPOCHS_A_DAY)
        present = [epoch for epoch in day if self.exists(asset, epoch, name)]
        merged = pl.concat(
            [self.read(asset, epoch, name).with_columns(pl.lit(epoch, pl.Int64).alias(EPOCH)) for epoch in present]
        )
        for target, write in (
            (folder / f"{name}.parquet", lambda path: merged.write_parquet(path, compression="zstd")),
            (folder / f"{name}.epochs.json", lambda path: path.write_text(json.dumps(present))),
        ):
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
            write(temporary)
            _sync(temporary)
            os.replace(temporary, target)
        _sync(folder)

    def _compacted(self, asset: str, epoch: int, name: str) -> list[int]:
        path = self._epoch_folder(asset, epoch).parent / f"{name}.epochs.json"
        return json.loads(path.read_text()) if path.is_file() else []

    def _of_day(self, asset: str, epoch: int, name: str) -> pl.DataFrame:
        path = self._epoch_folder(asset, epoch).parent / f"{name}.parquet"
        return pl.read_parquet(path, hive_partitioning=False)


@lru_cache(maxsize=4096)
def _epoch_folder(root: Path, asset: str, epoch: int) -> Path:
    start = datetime.fromtimestamp(epoch * EPOCH_SECONDS, UTC)
    return root / asset / f"date={start:%Y-%m-%d}" / f"epoch={start:%Y%m%dT%H%MZ}"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

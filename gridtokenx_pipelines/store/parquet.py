"""Frames as Parquet files by asset and epoch: the signed archive and every asset's frames.

Belongs here: paths, atomic writes, reads and scans. Does not belong here: what the frames mean. A file is either
there whole or not at all: written under a temporary name, synced, then renamed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl

from gridtokenx_pipelines.epochs import EPOCH_SECONDS


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
        start = datetime.fromtimestamp(epoch * EPOCH_SECONDS, UTC)
        return self.root / asset / f"date={start:%Y-%m-%d}" / f"epoch={start:%Y%m%dT%H%MZ}"

    def write(self, asset: str, epoch: int, name: str, frame: pl.DataFrame) -> Path:
        """Write, or replace, one frame; readers see the old file or the new one, never a part of either."""
        target = self.path(asset, epoch, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as handle:
                frame.write_parquet(handle, compression="zstd")
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
        return self.path(asset, epoch, name).is_file()

    def read(self, asset: str, epoch: int, name: str) -> pl.DataFrame:
        """One frame; raises FileNotFoundError naming the asset and epoch to materialise."""
        path = self.path(asset, epoch, name)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; materialise {asset} for that epoch first")
        return pl.read_parquet(path, hive_partitioning=False)

    def scan(self, asset: str, epochs: Sequence[int], name: str) -> pl.LazyFrame:
        """All frames present of that name in these epochs, in their order; raises FileNotFoundError if none is."""
        paths = [path for epoch in epochs if (path := self.path(asset, epoch, name)).is_file()]
        if not paths:
            raise FileNotFoundError(f"no {name} of {asset} in {len(epochs)} epochs; materialise them first")
        return pl.scan_parquet(paths, hive_partitioning=False)

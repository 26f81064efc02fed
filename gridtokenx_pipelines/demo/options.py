"""What a demo is asked to do, checked before anything starts.

Belongs here: the options as frozen data, and their fingerprint in the data folder. Does not belong here: the command
line's wording (cli.py).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import epoch_of_key, key_of


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `gridtokenx demo`; `start_epoch` is the number of the first epoch played."""

    seed: int
    grid: str
    zones: int
    start_epoch: int
    epochs: int
    speed: float
    chain: str
    data_dir: Path
    rpc_port: int | None
    fresh: bool
    as_json: bool
    output: Path

    @classmethod
    def checked(cls, *, start: str, data_dir: Path, output: Path, **options: object) -> DemoOptions:
        """From the command line's words; ConfigError names the first that can't be used."""
        try:
            start_epoch = epoch_of_key(start)
        except ValueError as error:
            raise ConfigError("--start", start, "a UTC quarter hour", str(error)) from error
        from gridtokenx_pipelines.partitions import range_tags  # noqa: PLC0415 - imports Dagster, a second

        epochs = int(str(options["epochs"]))
        try:
            range_tags(start_epoch, start_epoch + epochs - 1)
        except ValueError as error:
            raise ConfigError("--start", start, "such that all epochs are partitions", str(error)) from error
        return cls(start_epoch=start_epoch, data_dir=data_dir.resolve(), output=output.resolve(), **options)  # type: ignore[arg-type]

    @property
    def last_epoch(self) -> int:
        """The last epoch played."""
        return self.start_epoch + self.epochs - 1

    def fingerprint(self) -> dict[str, object]:
        """What decides the result; a data folder holds one fingerprint's demo."""
        return {
            "seed": self.seed,
            "grid": self.grid,
            "zones": self.zones,
            "start": key_of(self.start_epoch),
            "epochs": self.epochs,
            "chain": self.chain,
        }

"""What a demo is asked to do, checked before anything starts.

Belongs here: the options as frozen data, and their fingerprint in the data folder. Does not belong here: the command
line's wording (cli.py).
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import msgspec

from gridtokenx_pipelines.chain.idl import PROGRAMS_DIR
from gridtokenx_pipelines.config import ConfigError, mechanism_from_env
from gridtokenx_pipelines.epochs import epoch_of_key, key_of
from gridtokenx_pipelines.simulation.grids import LV_CODES
from gridtokenx_pipelines.stack import require_free_port


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
    mechanism: str = "zonal"

    @classmethod
    def checked(
        cls, *, start: str, data_dir: Path, output: Path, grid: str, rpc_port: int | None, **options: object
    ) -> DemoOptions:
        """From the command line's words; ConfigError, or StackError for a port in use, names what can't be used."""
        if grid not in LV_CODES:
            raise ConfigError("--grid", grid, "a SimBench low-voltage grid", f"use one of {', '.join(LV_CODES)}")
        for port in (rpc_port, rpc_port + 1) if rpc_port else ():
            require_free_port(port, "the local chain and its websockets")
        _require_writable("--data-dir", data_dir)
        _require_writable("--output", output.parent)
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
        return cls(
            start_epoch=start_epoch,
            data_dir=data_dir.resolve(),
            output=output.resolve(),
            grid=grid,
            rpc_port=rpc_port,
            mechanism=mechanism_from_env(),
            **options,  # type: ignore[arg-type]
        )

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
            "mechanism": self.mechanism,
            "programs": sha256((PROGRAMS_DIR / "deploy" / "SHA256SUMS").read_bytes()).hexdigest()[:16],
        }


def _require_writable(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable, why = os.access(folder, os.W_OK | os.X_OK), "permission denied"
    except OSError as error:
        writable, why = False, str(error.strerror)
    if not writable:
        raise ConfigError(option, str(folder), "in a folder that can be made and written", f"name another ({why})")

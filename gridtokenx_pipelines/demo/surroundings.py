"""The data folder of a demo: its settings, its state file, starting afresh.

Belongs here: which files a demo leaves and what makes them stale. Does not belong here: processes (stack.py).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from gridtokenx_pipelines.config import ConfigError, Settings
from gridtokenx_pipelines.demo.options import DemoOptions
from gridtokenx_pipelines.embedded_postgres import stop_postgres

STATE_FILE, RESULT_FILE = "demo-state.json", "result.json"
EMPTYING = "demo-state.emptying"  # stands for the state file while the folder is emptied
KEPT = ("lock", "cache")  # the lock is held by us, and the grids' profiles don't depend on the demo


def settings_for(data_dir: Path, *, database_url: str, brokers: str, rpc_url: str, mechanism: str) -> Settings:
    """Settings of every process of the demo."""
    return Settings.from_env(
        {
            "DATABASE_URL": database_url,
            "KAFKA_BOOTSTRAP_SERVERS": brokers,
            "SOLANA_RPC_URL": rpc_url,
            "GRIDTOKENX_DATA_DIR": str(data_dir),
            "GRIDTOKENX_MECHANISM": mechanism,
        }
    )


def claim(options: DemoOptions) -> None:
    """Make the folder this demo's: empty it with `--fresh`, refuse one that holds another demo. Holds the lock.

    A real validator starts on an empty ledger each time, so its demo starts afresh as well. A folder that no demo made
    is refused in any case: its files are somebody's.
    """
    state = options.data_dir / STATE_FILE
    if not state.is_file() and not (options.data_dir / EMPTYING).is_file():
        strangers = sorted(path.name for path in options.data_dir.iterdir() if path.name not in KEPT)
        if strangers:
            bound = f"an empty folder or a demo's (it holds {', '.join(strangers[:5])}, and no {STATE_FILE})"
            raise ConfigError("--data-dir", str(options.data_dir), bound, "name another folder")
    if options.fresh or options.chain == "validator":
        empty(options.data_dir)
    if state.is_file():
        there = {"mechanism": "zonal"} | json.loads(state.read_text())
        if there != options.fingerprint():
            different = [name for name, value in options.fingerprint().items() if there.get(name) != value]
            raise ConfigError(
                "--data-dir",
                str(options.data_dir),
                f"a folder without another demo (its {', '.join(different)} differs)",
                "add --fresh to forget it, or name another folder",
            )
        return
    empty(options.data_dir)
    temporary = state.with_suffix(".tmp")
    temporary.write_text(json.dumps(options.fingerprint()))
    temporary.replace(state)


def empty(data_dir: Path) -> None:
    """Remove what a demo left; the state file gives way first, so that a kill in the middle leaves no half demo."""
    emptying = data_dir / EMPTYING
    emptying.touch()
    (data_dir / STATE_FILE).unlink(missing_ok=True)
    stop_postgres(data_dir)
    for path in data_dir.iterdir():
        if path.name in (*KEPT, EMPTYING):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    emptying.unlink()

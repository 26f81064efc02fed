"""Where `audit run`, `audit prove` and `statement` find database and chain: the environment, or a demo's folder.

Belongs here: choosing and opening them. Does not belong here: what is done with them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gridtokenx_pipelines.config import ConfigError, Settings
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.stack import Stack

STATE_FILE = "demo-state.json"
NO_BROKER = "127.0.0.1:9092"
VALIDATOR_URL = "http://127.0.0.1:8899"

data_dir_option = click.option(
    "--data-dir",
    envvar="GRIDTOKENX_DATA_DIR",
    default=Path(".gridtokenx/demo"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a demo; used where DATABASE_URL is not set.",
)


@contextmanager
def services_of(data_dir: Path) -> Iterator[Services]:
    """Services of the environment, or of the demo in the folder with its Postgres and chain started for it.

    Raises ConfigError or StackError with the remedy.
    """
    if os.environ.get("DATABASE_URL"):
        with open_services(Settings.from_env({"KAFKA_BOOTSTRAP_SERVERS": NO_BROKER, **os.environ})) as services:
            yield services
        return
    data_dir = data_dir.resolve()
    state_path = data_dir / STATE_FILE
    if not state_path.is_file():
        raise ConfigError(
            "--data-dir",
            str(data_dir),
            "the folder of a demo",
            "run `make demo`, or set DATABASE_URL and SOLANA_RPC_URL",
        )
    state = json.loads(state_path.read_text())
    with Stack(data_dir) as stack:
        env = {
            "DATABASE_URL": stack.postgres(),
            "KAFKA_BOOTSTRAP_SERVERS": NO_BROKER,
            "SOLANA_RPC_URL": stack.localnet() if state.get("chain", "localnet") == "localnet" else VALIDATOR_URL,
            "GRIDTOKENX_DATA_DIR": str(data_dir),
            "GRIDTOKENX_MECHANISM": state.get("mechanism", "zonal"),
        }
        with open_services(Settings.from_env(env)) as services:
            yield services

"""What every stage is handed: stores, rules, the chain and its keys, explicit and frozen.

Belongs here: gathering them from settings, and closing them. Does not belong here: what a stage does with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from sqlalchemy import Engine

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.signer import FileSigner, Signer
from gridtokenx_pipelines.config import ConfigError, Settings
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.case import load as load_case
from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.market.rule_book import RuleBook
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.messaging.connection import Cluster
from gridtokenx_pipelines.settlement_service.events import EventPublisher
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import engine as make_engine

RELAYER_KEY, ORACLE_KEYS = "relayer.json", "oracle-*.json"
Data = TypeVar("Data", RuleBook, Network)


@dataclass(frozen=True, kw_only=True)
class Services:
    """The surroundings of a stage. `oracles` are the keys this process attests with, in the order of their files.

    `rules` may be a rule book: compute with `rules.at(epoch)` and `network_at(epoch)`, the versions in force.
    `grid` None: no grid case, so the network file's own capacities hold and no result is checked by power flow.
    `pages_url`: where the folder of pages for people is served; empty where nobody serves it.
    """

    engine: Engine
    parquet: ParquetStore
    rules: Rules
    network: Network
    mechanism: str
    client: ChainClient
    authority: Signer
    relayer: Signer
    oracles: tuple[Signer, ...]
    grid: GridCase | None = None
    pages_url: str = ""
    # most µlamports a compute unit that a transaction signed anew may bid
    highest_bid: int = 1_000_000
    events: EventPublisher | None = None

    def network_at(self, epoch: int) -> Network:
        """The network file's zones and links with the wheeling in force in an epoch."""
        return self.rules.network_at(epoch, self.network)

    def publish(self) -> None:
        """Tell the topics what was committed and not told yet; without a publisher it waits in the outbox."""
        if self.events is not None:
            self.events.publish(self.engine)


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """Services of these settings, closed at the end. Raises ConfigError for a file that can't be used."""
    rules = read_data(settings.rules_path, RuleBook, "GRIDTOKENX_RULES_PATH")
    if rules.network_id != settings.network_id:
        raise ConfigError(
            "network_id in the rules", rules.network_id, f"{settings.network_id} ({settings.network})", "use its rules"
        )
    oracle_files = sorted(settings.keys_dir.glob(ORACLE_KEYS))
    if not oracle_files:
        raise ConfigError(
            "GRIDTOKENX_KEYS_DIR", str(settings.keys_dir), f"a folder with {ORACLE_KEYS}", "put keys there"
        )
    engine = make_engine(settings.database_url)
    client = ChainClient(settings.solana_rpc_url, fallback_urls=settings.solana_rpc_fallback_urls)
    try:
        yield Services(
            engine=engine,
            parquet=ParquetStore(settings.data_dir / "frames"),
            rules=rules,
            network=read_data(settings.network_path, Network, "GRIDTOKENX_ZONES_PATH"),
            mechanism=settings.mechanism,
            client=client,
            authority=FileSigner(settings.authority_wallet_path),
            relayer=FileSigner(settings.keys_dir / RELAYER_KEY),
            oracles=tuple(map(FileSigner, oracle_files)),
            grid=read_case(settings.grid_path),
            pages_url=settings.pages_url,
            highest_bid=settings.highest_bid,
            events=EventPublisher(Cluster(settings.kafka_bootstrap_servers, settings.kafka_security)),
        )
    finally:
        client.close()
        engine.dispose()


def read_data(path: Path, kind: type[Data], setting: str) -> Data:
    """A rules or network file. Raises ConfigError naming the setting, the file and what is wrong in it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(setting, str(path), "a readable JSON file", f"write one ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise ConfigError(setting, str(path), f"a {kind.__name__} in JSON", f"correct it: {error}") from error


def read_case(path: Path) -> GridCase | None:
    """The grid case of a file, None where there is none. Raises ConfigError for a file that isn't one."""
    if not path.is_file():
        return None
    try:
        return load_case(path)
    except NetworkError as error:
        raise ConfigError("GRIDTOKENX_GRID_PATH", str(path), "a grid case", str(error)) from error

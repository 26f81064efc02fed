"""Services over a real database and a real Parquet folder: before the chain, and on a fresh local chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import engine
from tests.assets.market_chain import bring_up, settings
from tests.assets.market_day import NETWORK


@pytest.fixture
def services(postgres_url: str, tmp_path: Path) -> Iterator[Services]:
    """Services for the stages before the chain: their client points at nothing and is never asked."""
    made = engine(postgres_url)
    client = ChainClient("http://127.0.0.1:9")
    yield Services(
        engine=made,
        parquet=ParquetStore(tmp_path / "frames"),
        rules=Rules(),
        network=NETWORK,
        mechanism="zonal",
        client=client,
        authority=KeypairSigner.from_seed(bytes([1] * 32)),
        relayer=KeypairSigner.from_seed(bytes([2] * 32)),
        oracles=tuple(KeypairSigner.from_seed(bytes([3 + index] * 32)) for index in range(3)),
    )
    client.close()
    made.dispose()


@pytest.fixture
def live(postgres_url: str, tmp_path: Path) -> Iterator[Services]:
    """Services on a fresh local chain that knows the households."""
    with LocalnetProcess(tmp_path / "localnet", slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        with open_services(settings(tmp_path / "data", postgres_url, localnet.url)) as services:
            yield services

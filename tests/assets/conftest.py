"""Services over a real database and a real Parquet folder; the chain's parts come from the fixtures that need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import engine
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

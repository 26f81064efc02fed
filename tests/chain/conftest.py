"""Fixtures of the chain's tests: a local chain per module, a real validator per session, keys from seeds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.chain.validator import Validator, ValidatorMissing, find_validator

CACHE = Path.home() / ".cache" / "gridtokenx"
SHARED_BIN = Path(__file__).resolve().parents[3] / "shared" / "bin"


def signer(name: str) -> KeypairSigner:
    """A key of its own for every name."""
    return KeypairSigner.from_seed(sha256(name.encode()).digest())


@pytest.fixture(scope="module")
def localnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalnetProcess]:
    with LocalnetProcess(tmp_path_factory.mktemp("localnet"), slot_ms=50) as process:
        yield process


@pytest.fixture(scope="module")
def localnet_client(localnet: LocalnetProcess) -> Iterator[ChainClient]:
    with ChainClient(localnet.url) as client:
        yield client


@pytest.fixture(scope="module")  # a validator keeps a core busy: it must not outlive the tests that need it
def validator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    try:
        binary = find_validator(CACHE, SHARED_BIN, os.environ.get("SOLANA_TEST_VALIDATOR"))
    except ValidatorMissing as missing:
        pytest.skip(str(missing))
    with Validator(binary, tmp_path_factory.mktemp("validator") / "ledger") as running:
        yield running


@pytest.fixture(scope="module")
def validator_client(validator: Validator) -> Iterator[ChainClient]:
    with ChainClient(validator.url) as client:
        yield client

"""A real solana-test-validator for `make demo CHAIN=validator`.

Belongs here: finding the binary and starting it in the data folder. Does not belong here: what is done on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridtokenx_pipelines.chain.validator import Validator, ValidatorFailed, ValidatorMissing, find_validator
from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.stack import StackError

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "bin"


@contextmanager
def validator(data_dir: Path) -> Iterator[str]:
    """RPC URL of a validator with the five programs, stopped at the end."""
    named = os.environ.get("SOLANA_TEST_VALIDATOR")
    try:
        binary = find_validator(data_dir / "cache", BESIDE, named)
    except ValidatorMissing as error:
        raise ConfigError(
            "CHAIN", "validator", "localnet where there is no validator", f"install one: {error}"
        ) from error
    try:
        running = Validator(binary, data_dir / "validator")
        running.start()
    except ValidatorFailed as error:
        raise StackError(str(error)) from error
    try:
        yield running.url
    finally:
        running.stop()

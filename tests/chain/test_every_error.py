"""Every error of the IDL is raised somewhere: by the built programs in their tests, else by a Rust test.

Generated: the list is the IDL's, what was raised is heard by the recorder of valid_calls while the program tests run,
and what no transaction can bring about (a law broken inside the program) is looked up in the Rust tests.
"""

from __future__ import annotations

import json
import re
from functools import cache

import pytest

from gridtokenx_pipelines.chain.idl import PROGRAMS_DIR
from tests.chain.valid_calls import raised

IDL_ERRORS = [error["name"] for error in json.loads((PROGRAMS_DIR / "idl" / "trading.json").read_text())["errors"]]


@cache
def rust_tests() -> str:
    """The test modules of all programs."""
    found = []
    for path in sorted(PROGRAMS_DIR.glob("*/src/**/*.rs")):
        text = path.read_text()
        found.append(text if "tests" in path.parts else text.partition("#[cfg(test)]")[2])
    return "\n".join(found)


@pytest.mark.parametrize("name", IDL_ERRORS)
def test_every_error_is_raised_by_a_test(name: str) -> None:
    if name in raised():
        return
    in_rust = re.search(rf"\bError::{name}\b", rust_tests()) is not None
    assert in_rust, f"no test raises {name}"


def test_all_five_programs_have_the_same_errors() -> None:
    for path in (PROGRAMS_DIR / "idl").glob("*.json"):
        assert [error["name"] for error in json.loads(path.read_text())["errors"]] == IDL_ERRORS

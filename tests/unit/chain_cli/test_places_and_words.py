"""Names of accounts, and how their fields are shown."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import AccountInfo
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain_cli.commands import chain
from gridtokenx_pipelines.chain_cli.places import UnknownPlace, identify, locate
from gridtokenx_pipelines.chain_cli.show import plain, words

EPOCH = 1_979_396
WALLET = "4sTE457MAktXSBYMmhYfnTvpm6pTYjEWtA5rkvGWjr1n"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("market", addresses.market()),
        ("governance", addresses.governance()),
        ("epoch:2026-06-14T17:00Z", addresses.epoch(EPOCH)),
        (f"epoch:{EPOCH}", addresses.epoch(EPOCH)),
        (f"metered:{EPOCH}", addresses.metered(EPOCH)),
        ("meter:MEA-001", addresses.address_of_meter("MEA-001")),
        (f"trader:{WALLET}", addresses.address_of_trader(WALLET)),
        (f"attestation:clearing/{EPOCH}/0", addresses.attestation(1, EPOCH, 0)),
        ("validators", addresses.validators()),
        ("proposal:7", addresses.proposal(7)),
        (f"vote:7/{WALLET}", addresses.vote(7, Pubkey.from_string(WALLET))),
        ("price:3", addresses.price_feed(3)),
        ("certificate:REC-2026-001", addresses.certificate(b"REC-2026-001".ljust(32, b"\0"))),
        (f"certificate:{'0a' * 32}", addresses.certificate(bytes([10] * 32))),
        ("deposit:demo/1", addresses.deposit(b"demo/1")),
        (WALLET, Pubkey.from_string(WALLET)),
    ],
)
def test_an_account_is_found_by_its_name(name: str, address: Pubkey) -> None:
    assert locate(name) == address


@pytest.mark.parametrize(
    "name",
    [
        "",
        "epoch:",
        "epoch:2026-06-14T17:05Z",
        "epoch:99999999999",
        "trader:x",
        "attestation:clearing/1",
        "shop:1",
        "proposal:x",
        "proposal:-1",
        "vote:1",
        "price:99999",
        "certificate:",
        f"certificate:{'x' * 33}",
    ],
)
def test_a_name_of_no_account_is_refused_with_the_forms(name: str) -> None:
    with pytest.raises(UnknownPlace, match="must be one of"):
        locate(name)


def test_an_account_tells_its_program_type_and_fields() -> None:
    layout = Program.load("registry").layout("Registry")
    data = layout.prefix + bytes(layout.size - 8)
    account = AccountInfo(addresses.registry(), 1, addresses.program_id("registry"), data, False)
    found = identify(account)
    assert found is not None
    assert found[:2] == ("registry", "Registry")
    assert found[2]["minted_wh"] == 0
    stranger = AccountInfo(addresses.registry(), 1, Pubkey.default(), data, False)
    assert identify(stranger) is None


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("grid_wh", 1_234, "1.234 kWh"),
        ("thbc_uthb", -4_100_000, "-4.100000 THB"),
        ("price_min", 2_000_000, "2.000000 THB/kWh"),
        ("fee_bp", 100, "1 %"),
        ("end_epoch", 2**32 - 1, "never"),
        ("last_epoch", 0, "none"),
        ("epoch", EPOCH, f"2026-06-14T17:00Z ({EPOCH})"),
        ("seq", 12_345, "12,345"),
    ],
)
def test_a_field_is_shown_with_its_unit(name: str, value: int, shown: str) -> None:
    assert words(name, value) == shown


def test_raw_fields_are_what_json_takes_and_padding_is_left_out() -> None:
    key = Pubkey.from_string(WALLET)
    assert plain({"owner": key, "root": b"\x01\xff", "slots": [{"used": 1}], "_pad": [0]}) == {
        "owner": WALLET,
        "root": "01ff",
        "slots": [{"used": 1}],
    }


def test_a_chain_that_does_not_answer_ends_with_one_line_and_code_1() -> None:
    result = CliRunner().invoke(chain, ["show", "market", "--rpc-url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert result.output.startswith("chain: RPC node http://127.0.0.1:9 does not answer")


def test_a_wrong_name_is_a_usage_error() -> None:
    result = CliRunner().invoke(chain, ["show", "shop:1"])
    assert result.exit_code == 2
    assert "must be one of" in result.output

"""The IDL of made-up and of the real programs: bytes out, values in, errors that say what is wrong."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.errors import describe
from gridtokenx_pipelines.chain.idl import Program, discriminator
from gridtokenx_pipelines.chain.layout import IdlError

KEY = Pubkey(bytes(range(32)))
OTHER = Pubkey(bytes([9] * 32))


def field(name: str, type_: Any) -> dict[str, Any]:
    return {"name": name, "type": type_}


IDL = {
    "instructions": [
        {
            "name": "mix",
            "accounts": [
                {"name": "payer", "writable": True, "signer": True},
                {"name": "system_program"},
                {"name": "fixed", "address": str(OTHER)},
            ],
            "args": [
                field("a", "u16"),
                field("b", "i64"),
                field("key", "pubkey"),
                field("keys", {"vec": "pubkey"}),
                field("name", "string"),
                field("maybe", {"option": "u32"}),
                field("hash", {"array": ["u8", 4]}),
                field("pair", {"defined": {"name": "Pair"}}),
                field("rest", "tail"),
            ],
        },
        {"name": "old_spelling", "accounts": [{"name": "who", "isMut": True, "isSigner": False}], "args": []},
    ],
    "accounts": [{"name": "Thing"}],
    "types": [
        {"name": "Pair", "type": {"kind": "struct", "fields": [field("left", "u32"), field("right", "u32")]}},
        {
            "name": "Thing",
            "type": {
                "kind": "struct",
                "fields": [
                    field("owner", "pubkey"),
                    field("zone", "u16"),
                    field("flag", "bool"),
                    field("_pad", {"array": ["u8", 5]}),
                    field("amount", "u64"),
                    field("delta", "i64"),
                    field("pairs", {"array": [{"defined": "Pair"}, 2]}),
                    field("wide", "u128"),
                    field("text", {"array": ["u8", 8]}),
                ],
            },
        },
    ],
    "errors": [{"code": 6000, "name": "TooBig", "msg": "x"}],
}
PROGRAM = Program("made-up", IDL, OTHER)
THING = struct.Struct("<32sHB5xQq4I16s8s")


def thing(amount: int, delta: int = -1) -> bytes:
    packed = THING.pack(
        bytes(KEY), 7, 1, amount, delta, 1, 2, 3, 4, (1 << 70).to_bytes(16, "little"), b"ab\0\0\0\0\0\0"
    )
    return discriminator("account", "Thing") + packed


def test_an_instruction_packs_every_type_in_order_and_its_accounts_as_named() -> None:
    instruction = PROGRAM.instruction(
        "mix",
        {"payer": KEY},
        remaining=[AccountMeta(OTHER, False, True)],
        a=513,
        b=-2,
        key=str(KEY),
        keys=[KEY, OTHER],
        name="zähler",
        maybe=None,
        hash=b"\x01\x02\x03\x04",
        pair={"left": 5, "right": 6},
        rest=b"tail",
    )
    assert bytes(instruction.data) == b"".join(
        [
            sha256(b"global:mix").digest()[:8],
            struct.pack("<Hq", 513, -2),
            bytes(KEY),
            struct.pack("<I", 2) + bytes(KEY) + bytes(OTHER),
            struct.pack("<I", 7) + "zähler".encode(),
            b"\0",
            b"\x01\x02\x03\x04",
            struct.pack("<II", 5, 6),
            b"tail",
        ]
    )
    assert [(m.pubkey, m.is_signer, m.is_writable) for m in instruction.accounts] == [
        (KEY, True, True),
        (addresses.SYSTEM_PROGRAM, False, False),
        (OTHER, False, False),
        (OTHER, False, True),
    ]
    old = PROGRAM.instruction("old_spelling", {"who": KEY})
    assert [(m.is_signer, m.is_writable) for m in old.accounts] == [(False, True)]


def test_an_account_decodes_to_plain_values_without_its_padding() -> None:
    assert PROGRAM.decode("Thing", thing(2**64 - 1) + b"trailing bytes are left alone") == {
        "owner": KEY,
        "zone": 7,
        "flag": True,
        "amount": 2**64 - 1,
        "delta": -1,
        "pairs": [{"left": 1, "right": 2}, {"left": 3, "right": 4}],
        "wide": 1 << 70,
        "text": b"ab\0\0\0\0\0\0",
    }


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)), max_size=20))
def test_many_accounts_decode_in_one_go_to_the_same_as_one_by_one(values: list[tuple[int, int]]) -> None:
    layout = PROGRAM.layout("Thing")
    datas = [thing(*pair) for pair in values]
    rows = layout.rows(datas)
    together = zip(layout.column(rows, "amount").tolist(), layout.column(rows, "delta").tolist(), strict=True)
    one_by_one = [(decoded["amount"], decoded["delta"]) for decoded in map(layout.read, datas)]
    assert list(together) == one_by_one == values
    assert "_pad" not in layout.columns(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": 65_536}, "must lie in 0…65535"),
        ({"a": -1}, "must lie in 0…65535"),
        ({"key": b"short"}, "must be 32"),
        ({"hash": b"\1"}, "must have 4"),
        ({"pair": {"left": 1}}, "lacks 'right'"),
        ({"unknown": 1}, "does not take unknown"),
    ],
)
def test_wrong_arguments_are_refused_with_value_and_bound(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "a": 1, "b": 1, "key": KEY, "keys": [], "name": "", "maybe": 1, "hash": bytes(4),
        "pair": {"left": 1, "right": 1}, "rest": b"",
    }  # fmt: skip
    with pytest.raises(IdlError, match=message):
        PROGRAM.instruction("mix", {"payer": KEY}, **{**good, **arguments})


def test_missing_names_are_refused_with_the_remedy() -> None:
    with pytest.raises(IdlError, match="needs account 'payer'"):
        PROGRAM.instruction("mix", {})
    with pytest.raises(IdlError, match="needs argument 'a'"):
        PROGRAM.instruction("mix", {"payer": KEY})
    with pytest.raises(IdlError, match="it has mix, old_spelling"):
        PROGRAM.instruction("mixx")
    with pytest.raises(IdlError, match="has no account"):
        PROGRAM.decode("Nothing", b"")
    with pytest.raises(IdlError, match=r"no IDL for 'nothing'"):
        Program.load("nothing")


def test_account_bytes_of_another_type_or_too_short_are_refused() -> None:
    with pytest.raises(IdlError, match="account 1 is no Thing"):
        PROGRAM.layout("Thing").rows([thing(1), b"x" * 200])
    with pytest.raises(IdlError, match="20 bytes"):
        PROGRAM.decode("Thing", thing(1)[:20])


def test_a_layout_that_the_compiler_would_pad_is_refused() -> None:
    fields = [field("small", "u8"), field("large", "u64")]
    program = Program(
        "padded",
        {"accounts": [{"name": "Bad"}], "types": [{"name": "Bad", "type": {"kind": "struct", "fields": fields}}]},
        KEY,
    )
    with pytest.raises(IdlError, match=r"Bad.large lies at 1, must be a multiple of 8"):
        program.layout("Bad")


def test_errors_are_known_by_name_and_from_logs_the_innermost_program_is_blamed() -> None:
    assert (PROGRAM.error_name(6000), PROGRAM.error_name(1), PROGRAM.error_code("TooBig")) == ("TooBig", None, 6000)
    trading = addresses.program_id("trading")
    settled = Program.load("trading").error_code("AlreadySettled")
    error = {"InstructionError": [1, {"Custom": settled}]}
    logs = [f"Program {trading} invoke [1]", f"Program {trading} failed: custom program error: {settled:#x}"]
    assert describe(error, logs) == ("AlreadySettled", "trading", settled)
    assert describe(error, (), [KEY, trading]) == ("AlreadySettled", "trading", settled)
    assert describe("BlockhashNotFound", ()) == ("BlockhashNotFound", "", None)
    assert describe({"InstructionError": [0, "InvalidAccountData"]}, (), [trading]) == (
        "InvalidAccountData",
        "trading",
        None,
    )


@pytest.mark.parametrize("name", addresses.PROGRAM_NAMES)
def test_the_programs_idl_files_load_and_all_their_accounts_are_aligned(name: str) -> None:
    program = Program.load(name)
    assert program.program_id == Pubkey(sha256(f"gridtokenx/localnet/program/{name}".encode()).digest())
    for account in program.account_names:
        layout = program.layout(account)
        assert layout.prefix == sha256(f"account:{account}".encode()).digest()[:8]
        empty = layout.read(layout.prefix + bytes(layout.size - 8))
        assert all(not np.any(value) for value in empty.values() if isinstance(value, int))


def test_a_meter_id_gives_one_address_and_a_bad_one_none() -> None:
    assert addresses.address_of_meter("MEA-001") == addresses.address_of_meter("MEA-001")
    for bad in ("", "x" * 33, "zähler", "a\0", "tab\t"):
        with pytest.raises(ValueError, match="printable ASCII"):
            addresses.address_of_meter(bad)

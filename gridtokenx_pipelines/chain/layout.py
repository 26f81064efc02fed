"""Byte layouts of IDL types: packers for instruction arguments, numpy dtypes for accounts.

Belongs here: IDL type → bytes → Python values. Does not belong here: programs, discriminators, RPC.
Account layouts are `repr(C)` with explicit padding, so fields packed in order give the very bytes; a layout whose
fields are not naturally aligned is refused, because then the compiler has padded where the IDL does not say so.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from solders.pubkey import Pubkey

IdlType = str | dict[str, Any]
Encoder = Callable[[Any], bytes]
PUBKEY_BYTES = 32

_INTEGERS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "u128": 16, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "i128": 16}
_FIXED: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(f"<{name[0]}{size}") for name, size in _INTEGERS.items() if size <= 8},
    **{name: np.dtype((np.void, 16)) for name in ("u128", "i128")},
    **{name: np.dtype((np.void, PUBKEY_BYTES)) for name in ("pubkey", "publicKey")},
    "bool": np.dtype("u1"),
}
_READERS: dict[str, Callable[[Any], Any]] = {
    **{name: lambda item: Pubkey.from_bytes(item.tobytes()) for name in ("pubkey", "publicKey")},
    "u128": lambda item: int.from_bytes(item.tobytes(), "little"),
    "i128": lambda item: int.from_bytes(item.tobytes(), "little", signed=True),
    "bool": bool,
}


class IdlError(ValueError):
    """An IDL, an argument or account bytes do not fit together."""


def defined_name(type_: IdlType) -> str | None:
    """Name of a `defined` type in either spelling of Anchor's IDL, else None."""
    if isinstance(type_, dict) and "defined" in type_:
        named = type_["defined"]
        return named["name"] if isinstance(named, dict) else named
    return None


def fields_of(types: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Fields of a struct type; IdlError if the IDL has no such struct."""
    definition = types.get(name)
    if definition is None or definition.get("kind") != "struct":
        raise IdlError(f"type {name!r} is no struct of this IDL; it knows {', '.join(sorted(types)) or 'none'}")
    return definition["fields"]


def _integer_encoder(name: str, size: int) -> Encoder:
    signed = name[0] == "i"

    def encode(value: Any) -> bytes:
        try:
            return int(value).to_bytes(size, "little", signed=signed)
        except OverflowError as error:
            low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)
            raise IdlError(f"value was {value}, must lie in {low}…{high} to be a {name}") from error

    return encode


def _pubkey(value: Any) -> bytes:
    raw = bytes(Pubkey.from_string(value)) if isinstance(value, str) else bytes(value)
    if len(raw) != PUBKEY_BYTES:
        raise IdlError(f"public key was {len(raw)} bytes long, must be {PUBKEY_BYTES}")
    return raw


def _with_length(raw: bytes) -> bytes:
    return struct.pack("<I", len(raw)) + raw


_SCALARS: dict[str, Encoder] = {
    **{name: _integer_encoder(name, size) for name, size in _INTEGERS.items()},
    "bool": lambda value: b"\x01" if value else b"\x00",
    "pubkey": _pubkey,
    "publicKey": _pubkey,
    "string": lambda value: _with_length(value.encode()),
    "bytes": lambda value: _with_length(bytes(value)),
    "tail": bytes,
}


def encoder(type_: IdlType, types: Mapping[str, Any]) -> Encoder:
    """Packer for a type: little-endian, packed, Borsh lengths; `tail` is the raw rest. IdlError for unknown types."""
    if isinstance(type_, str):
        if type_ not in _SCALARS:
            raise IdlError(f"IDL type {type_!r} is not supported")
        return _SCALARS[type_]
    name = defined_name(type_)
    if name is not None:
        members = [(field["name"], encoder(field["type"], types)) for field in fields_of(types, name)]
        return lambda value: b"".join(encode(_member(value, member, name)) for member, encode in members)
    if "array" in type_:
        return _array_encoder(type_, types)
    if "vec" in type_:
        item = encoder(type_["vec"], types)
        return lambda value: struct.pack("<I", len(value)) + b"".join(map(item, value))
    if "option" in type_:
        inner = encoder(type_["option"], types)
        return lambda value: b"\x00" if value is None else b"\x01" + inner(value)
    raise IdlError(f"IDL type {type_!r} is not supported")


def _array_encoder(type_: dict[str, Any], types: Mapping[str, Any]) -> Encoder:
    item_type, length = type_["array"]
    item = bytes if item_type == "u8" else encoder(item_type, types)

    def encode(value: Any) -> bytes:
        if len(value) != length:
            raise IdlError(f"array had {len(value)} items, must have {length}")
        return item(value) if item is bytes else b"".join(map(item, value))

    return encode


def _member(value: Any, member: str, name: str) -> Any:
    """Member of a mapping or an object; padding defaults to nothing and is never asked for by name."""
    try:
        return value[member] if isinstance(value, Mapping) else getattr(value, member)
    except (KeyError, AttributeError) as error:
        raise IdlError(f"{name} lacks {member!r}; give every field of it") from error


def account_dtype(type_: IdlType, types: Mapping[str, Any]) -> np.dtype[Any]:
    """Numpy dtype of a fixed-size type, packed in field order; IdlError for types without a fixed size."""
    if isinstance(type_, str) and type_ in _FIXED:
        return _FIXED[type_]
    name = defined_name(type_)
    if name is not None:
        return np.dtype(
            [(f"{i}:{f['name']}", account_dtype(f["type"], types)) for i, f in enumerate(fields_of(types, name))]
        )
    if isinstance(type_, dict) and "array" in type_:
        item, length = type_["array"]
        # bytes stay bytes: numpy's S type would strip trailing zeros, void keeps them
        return np.dtype((np.void, length)) if item == "u8" else np.dtype((account_dtype(item, types), (length,)))
    raise IdlError(f"IDL type {type_!r} has no fixed size; accounts are repr(C) with explicit padding")


def alignment(type_: IdlType, types: Mapping[str, Any]) -> int:
    """Natural alignment of a type in `repr(C)`; 128-bit numbers count 8, as sBPF aligns them."""
    if isinstance(type_, str):
        return min(_INTEGERS.get(type_, 1), 8)
    name = defined_name(type_)
    if name is not None:
        return max((alignment(f["type"], types) for f in fields_of(types, name)), default=1)
    return alignment(type_["array"][0], types) if "array" in type_ else 1


def check_alignment(name: str, types: Mapping[str, Any]) -> None:
    """IdlError where the compiler would pad although the IDL shows no padding field."""
    offset = 0
    for field in fields_of(types, name):
        need = alignment(field["type"], types)
        if offset % need:
            raise IdlError(
                f"{name}.{field['name']} lies at {offset}, must be a multiple of {need}: add padding to the IDL"
            )
        offset += account_dtype(field["type"], types).itemsize
    need = alignment({"defined": name}, types)
    if offset % need:
        raise IdlError(f"{name} ends at {offset}, must end on a multiple of {need}: add padding to the IDL")


def reader(type_: IdlType, types: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Converter of one numpy item of `account_dtype(type_)` into plain Python values (padding left out)."""
    if isinstance(type_, str):
        return _READERS.get(type_, int)
    name = defined_name(type_)
    if name is not None:
        members = [
            (f["name"], f"{i}:{f['name']}", reader(f["type"], types))
            for i, f in enumerate(fields_of(types, name))
            if not is_padding(f["name"])
        ]
        return lambda item: {public: read(item[key]) for public, key, read in members}
    element, _ = type_["array"]
    if element == "u8":
        return lambda item: item.tobytes()
    read_element = reader(element, types)
    return lambda items: [read_element(item) for item in items]


def is_padding(name: str) -> bool:
    """Whether a field is explicit padding by its name."""
    return name.startswith(("_pad", "pad_", "reserved", "_reserved")) or name == "padding"

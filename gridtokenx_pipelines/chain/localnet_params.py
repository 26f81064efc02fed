"""Parameters of the local chain's JSON-RPC methods: texts, numbers, addresses, transactions, base58.

Belongs here: JSON values to typed ones, refused as agave refuses them. Does not belong here: the methods.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain.rpc_errors import INVALID_PARAMS, RpcError, invalid_params
from gridtokenx_pipelines.chain.wire import MAX_TRANSACTION_BYTES

API_VERSION = "3.1.12"
Params = list[Any]
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {letter: value for value, letter in enumerate(_ALPHABET)}
_TRANSACTION = "solana_transaction::versioned::VersionedTransaction"
_ENCODED_LIMITS = {"base58": 1_683, "base64": 1_644}


def in_context(slot: int, value: Any) -> dict[str, Any]:
    """A value with the slot it was read at."""
    return {"context": {"apiVersion": API_VERSION, "slot": slot}, "value": value}


def b58encode(raw: bytes) -> str:
    """Bytes as base58 text."""
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def b58decode(text: str) -> bytes:
    """Base58 text as bytes; ValueError for other letters."""
    number = 0
    for letter in text:
        if letter not in _DIGITS:
            raise ValueError(f"{letter!r} is no base58 letter")
        number = number * 58 + _DIGITS[letter]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def option(params: list[Any], index: int) -> dict[str, Any]:
    """The configuration object at a position, empty if absent; `invalid params` for anything else."""
    value = params[index] if len(params) > index else None
    if value is None or isinstance(value, str):
        return {}
    if not isinstance(value, dict):
        raise invalid_params(f"parameter {index} must be an object")
    return value


def pubkey(params: list[Any], index: int) -> Pubkey:
    """The address at a position; `invalid params` if it is none."""
    return address(params[index] if len(params) > index else None)


def address(value: Any) -> Pubkey:
    """An address from base58 text; refused as agave refuses it."""
    try:
        return Pubkey.from_string(value)
    except (TypeError, ValueError) as error:
        raise RpcError(INVALID_PARAMS, "Invalid param: WrongSize") from error


def text(params: Params, index: int, name: str) -> str:
    """The text at a position."""
    if len(params) <= index or not isinstance(params[index], str):
        raise invalid_params(f"parameter {index} must be the {name} as text")
    return params[index]


def integer(params: Params, index: int, name: str) -> int:
    """The number from 0 at a position."""
    if len(params) <= index or type(params[index]) is not int or params[index] < 0:
        raise invalid_params(f"parameter {index} must be the {name}, a number from 0")
    return params[index]


def blockhash(value: str) -> Hash:
    """A blockhash from base58 text."""
    try:
        return Hash.from_string(value)
    except ValueError as error:
        raise invalid_params(f"{value} is no blockhash") from error


def signature(value: Any) -> bytes:
    """The 64 bytes of a signature from base58 text."""
    try:
        return bytes(Signature.from_string(value))
    except (TypeError, ValueError) as error:
        raise invalid_params(f"{value} is no signature") from error


def wire_transaction(params: Params, encoding: str) -> tuple[bytes, VersionedTransaction]:
    """Bytes and transaction of parameter 0: at most 1 232 bytes, decodable, its parts consistent."""
    if encoding not in _ENCODED_LIMITS:
        raise RpcError(INVALID_PARAMS, f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    encoded, limit = text(params, 0, "transaction"), _ENCODED_LIMITS[encoding]
    if len(encoded) > limit:
        bound = f"(max: encoded/raw {limit}/{MAX_TRANSACTION_BYTES})"
        raise RpcError(INVALID_PARAMS, f"{encoding} encoded {_TRANSACTION} too large: {len(encoded)} bytes {bound}")
    try:
        raw = base64.b64decode(encoded, validate=True) if encoding == "base64" else b58decode(encoded)
    except (binascii.Error, ValueError) as error:
        raise RpcError(INVALID_PARAMS, f"invalid {encoding} encoding: {error}") from error
    if len(raw) > MAX_TRANSACTION_BYTES:
        bound = f"(max: {MAX_TRANSACTION_BYTES} bytes)"
        raise RpcError(INVALID_PARAMS, f"decoded {_TRANSACTION} too large: {len(raw)} bytes {bound}")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        transaction.sanitize()
    except (ValueError, RuntimeError) as error:
        raise RpcError(INVALID_PARAMS, f"failed to deserialize {_TRANSACTION}: {error}") from error
    return raw, transaction

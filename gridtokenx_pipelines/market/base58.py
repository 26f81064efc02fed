"""Base58 of wallet addresses: text ↔ the 32 bytes that are signed and hashed.

Belongs here: the two conversions. Does not belong here: program-derived addresses (chain/addresses.py).
Written out because the domain may not import a Solana library for twenty lines.
"""

from __future__ import annotations

from functools import lru_cache

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {letter: value for value, letter in enumerate(ALPHABET)}
KEY_BYTES = 32


def encode(raw: bytes) -> str:
    """Bytes → base58 text; each leading zero byte becomes one '1'."""
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


@lru_cache(maxsize=262_144)
def decode_wallet(address: str) -> bytes:
    """Wallet address → its 32 bytes; raises ValueError for anything else, naming what is wrong."""
    number = 0
    for letter in address:
        if letter not in _DIGIT:
            raise ValueError(f"wallet address was {address!r}: {letter!r} is no base58 letter")
        number = number * 58 + _DIGIT[letter]
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    raw = b"\0" * (len(address) - len(address.lstrip("1"))) + body
    if len(raw) != KEY_BYTES:
        raise ValueError(f"wallet address was {address!r}: {len(raw)} bytes, must be {KEY_BYTES}; give a base58 key")
    return raw

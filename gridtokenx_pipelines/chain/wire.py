"""What can be read off a transaction's message: writable accounts, loaded addresses, sizes.

Belongs here: pure functions on solders messages that both the local chain and the client need.
Does not belong here: executing, sending.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from solders.pubkey import Pubkey

MAX_TRANSACTION_BYTES = 1_232
LOOKUP_TABLE_META_BYTES = 56


def writable_flags(message: Any) -> list[bool]:
    """For each static account key of a message, whether the transaction may write it."""
    header, count = message.header, len(message.account_keys)
    signed = header.num_required_signatures
    writable_signed = signed - header.num_readonly_signed_accounts
    writable_unsigned = count - header.num_readonly_unsigned_accounts
    return [index < writable_signed if index < signed else index < writable_unsigned for index in range(count)]


def loaded_addresses(
    message: Any, data_of: Callable[[Pubkey], bytes | None]
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Addresses a message loads from lookup tables, writable and readonly; missing tables or entries load nothing."""
    writable: list[bytes] = []
    readonly: list[bytes] = []
    for lookup in getattr(message, "address_table_lookups", ()):
        table = data_of(lookup.account_key) or b""
        for indexes, into in ((lookup.writable_indexes, writable), (lookup.readonly_indexes, readonly)):
            for index in bytes(indexes):
                start = LOOKUP_TABLE_META_BYTES + 32 * index
                if len(table) >= start + 32:
                    into.append(bytes(table[start : start + 32]))
    return tuple(writable), tuple(readonly)

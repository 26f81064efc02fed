"""Instructions to signed transactions: compiling, signing by `Signer`, size, packing.

Belongs here: what is done to a transaction before it is sent, without asking a node anything.
Does not belong here: sending, which instructions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import msgspec
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain.addresses import (
    ASSOCIATED_TOKEN,
    ED25519_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_2022,
    token_account,
)
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.chain.wire import MAX_TRANSACTION_BYTES

LookupTable = AddressLookupTableAccount
MAX_LOCKS = 64
SIGNATURE_BYTES = 64
_CREATE_IDEMPOTENT = b"\x01"


class Group(msgspec.Struct, frozen=True):
    """Instructions that must share a transaction, with the signers they need besides the payer."""

    instructions: tuple[Instruction, ...]
    signers: tuple[Signer, ...] = ()
    compute_units: int = 50_000


class TransactionTooLarge(ValueError):
    """A single group does not fit a transaction."""


def sign(
    instructions: Sequence[Instruction],
    payer: Signer,
    signers: Sequence[Signer],
    blockhash: Hash,
    lookup_tables: Sequence[LookupTable] = (),
) -> VersionedTransaction:
    """Signed v0 transaction; ValueError naming the key when a required signer is missing."""
    message = MessageV0.try_compile(payer.pubkey, list(instructions), list(lookup_tables), blockhash)
    by_key = {signer.pubkey: signer for signer in (payer, *signers)}
    required = message.account_keys[: message.header.num_required_signatures]
    missing = [str(key) for key in required if key not in by_key]
    if missing:
        raise ValueError(f"transaction needs the signature of {', '.join(missing)}; give its signer")
    content = to_bytes_versioned(message)
    return VersionedTransaction.populate(message, [by_key[key].sign(content) for key in required])


def wire_size(instructions: Sequence[Instruction], payer: Pubkey, lookup_tables: Sequence[LookupTable] = ()) -> int:
    """Bytes on the wire once signed."""
    message = MessageV0.try_compile(payer, list(instructions), list(lookup_tables), Hash.default())
    return 1 + SIGNATURE_BYTES * message.header.num_required_signatures + len(to_bytes_versioned(message))


def pack(groups: Iterable[Group], payer: Signer, compute_unit_cap: int = 1_400_000) -> list[Group]:
    """Groups merged in order into as few transactions as they fit (size, locks, compute), budget instruction included.

    Raises TransactionTooLarge when one group alone does not fit.
    """
    packed: list[Group] = []
    current: Group | None = None
    for group in groups:
        merged = _merge(current, group) if current else group
        if _fits(merged, payer, compute_unit_cap):
            current = merged
            continue
        if current is None or not _fits(group, payer, compute_unit_cap):
            size = wire_size(_with_budget(group), payer.pubkey)
            raise TransactionTooLarge(f"one group takes {size} bytes, at most {MAX_TRANSACTION_BYTES} fit; split it")
        packed.append(current)
        current = group
    if current is not None:
        packed.append(current)
    return [Group(tuple(_with_budget(group)), group.signers, group.compute_units) for group in packed]


def _merge(first: Group, second: Group) -> Group:
    signers = {signer.pubkey: signer for signer in (*first.signers, *second.signers)}
    units = first.compute_units + second.compute_units
    return Group((*first.instructions, *second.instructions), tuple(signers.values()), units)


def _with_budget(group: Group) -> list[Instruction]:
    return [set_compute_unit_limit(group.compute_units), *group.instructions]


def _fits(group: Group, payer: Signer, compute_unit_cap: int) -> bool:
    keys = {meta.pubkey for instruction in group.instructions for meta in instruction.accounts}
    keys |= {instruction.program_id for instruction in group.instructions} | {payer.pubkey}
    if group.compute_units > compute_unit_cap or len(keys) + 1 > MAX_LOCKS:
        return False
    return wire_size(_with_budget(group), payer.pubkey) <= MAX_TRANSACTION_BYTES


def create_token_account(payer: Pubkey, wallet: Pubkey, mint: Pubkey) -> Instruction:
    """Associated Token-2022 account of a wallet, made if it is not there yet."""
    accounts = [
        AccountMeta(payer, True, True),
        AccountMeta(token_account(wallet, mint), False, True),
        AccountMeta(wallet, False, False),
        AccountMeta(mint, False, False),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(TOKEN_2022, False, False),
    ]
    return Instruction(ASSOCIATED_TOKEN, _CREATE_IDEMPOTENT, accounts)


def ed25519(public_key: bytes, signature: bytes, message: bytes) -> Instruction:
    """Precompile instruction that proves a signature; key, signature and message lie in its own data."""
    header_bytes, key_bytes = 16, 32
    this = 0xFFFF
    signature_at = header_bytes + key_bytes
    message_at = signature_at + SIGNATURE_BYTES
    header = struct.pack("<BB7H", 1, 0, signature_at, this, header_bytes, this, message_at, len(message), this)
    return Instruction(ED25519_PROGRAM, header + public_key + signature + message, [])

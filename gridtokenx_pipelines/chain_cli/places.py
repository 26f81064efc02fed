"""From what an operator writes to an address: `epoch:2026-06-14T17:00Z`, `trader:WALLET`, `meter:MEA-001`, or base58.

Belongs here: names of accounts and which type a found account has. Does not belong here: how it is shown (show.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import AccountInfo
from gridtokenx_pipelines.chain.idl import DISCRIMINATOR_BYTES, Program
from gridtokenx_pipelines.epochs import epoch_of_key

SINGLETONS = {
    "market": addresses.market,
    "governance": addresses.governance,
    "registry": addresses.registry,
    "token-config": addresses.token_config,
    "validators": addresses.validators,
}
ID_BYTES = 32
KINDS = {"metering": 0, "clearing": 1, "late": 2, "resettlement": 3}
FORMS = (
    "market, governance, registry, token-config, validators, epoch:EPOCH, metered:EPOCH, trader:WALLET, user:WALLET, "
    "meter:METER_ID, attestation:KIND/EPOCH/RUN (KIND metering, clearing, late or resettlement), certificate:ID, "
    "proposal:NUMBER, vote:NUMBER/VALIDATOR, price:ZONE, deposit:REFERENCE or a base58 address; EPOCH is a number or a "
    "key like 2026-06-14T17:00Z, ID 64 hexadecimal digits or a text of at most 32 characters"
)


class UnknownPlace(ValueError):
    """A name that is no account's; the message lists the forms."""


def locate(name: str) -> Pubkey:
    """Address of a named account. Raises UnknownPlace."""
    if name in SINGLETONS:
        return SINGLETONS[name]()
    kind, _, rest = name.partition(":")
    try:
        return FAMILIES[kind](rest) if kind in FAMILIES else Pubkey.from_string(name)
    except (ValueError, KeyError, OverflowError, struct.error) as error:
        raise UnknownPlace(f"account was {name!r}, must be one of: {FORMS}") from error


def _attestation(rest: str) -> Pubkey:
    word, epoch, run = rest.split("/")
    return addresses.attestation(KINDS[word], epoch_number(epoch), int(run))


def _vote(rest: str) -> Pubkey:
    number, validator = rest.split("/")
    return addresses.vote(int(number), Pubkey.from_string(validator))


def certificate_id(text: str) -> bytes:
    """32 bytes of an id: 64 hexadecimal digits, or a text padded with zeros. Raises UnknownPlace for a longer text."""
    if len(text) == 2 * ID_BYTES and all(digit in "0123456789abcdefABCDEF" for digit in text):
        return bytes.fromhex(text)
    raw = text.encode()
    if not 0 < len(raw) <= ID_BYTES:
        raise UnknownPlace(
            f"certificate id was {text!r}, must be 64 hexadecimal digits or 1 to {ID_BYTES} bytes of text"
        )
    return raw.ljust(ID_BYTES, b"\0")


def epoch_number(text: str) -> int:
    """An epoch's number from its number or key. Raises ValueError."""
    return int(text) if text.isdecimal() else epoch_of_key(text)


def identify(account: AccountInfo) -> tuple[str, str, dict[str, Any]] | None:
    """(program, account type, fields) of an account of ours, None for any other."""
    for program_name in addresses.PROGRAM_NAMES:
        if account.owner != addresses.program_id(program_name):
            continue
        program = Program.load(program_name)
        for type_name in program.account_names:
            layout = program.layout(type_name)
            if account.data[:DISCRIMINATOR_BYTES] == layout.prefix and len(account.data) >= layout.size:
                return program_name, type_name, layout.read(account.data)
    return None


FAMILIES: dict[str, Callable[[str], Pubkey]] = {
    "epoch": lambda rest: addresses.epoch(epoch_number(rest)),
    "metered": lambda rest: addresses.metered(epoch_number(rest)),
    "trader": addresses.address_of_trader,
    "user": addresses.address_of_user,
    "meter": addresses.address_of_meter,
    "attestation": _attestation,
    "certificate": lambda rest: addresses.certificate(certificate_id(rest)),
    "proposal": lambda rest: addresses.proposal(int(rest)),
    "vote": _vote,
    "price": lambda rest: addresses.price_feed(int(rest)),
    "deposit": lambda rest: addresses.deposit(rest.encode()),
}

"""Address lookup tables for meters and traders, so that 50 of them fit a transaction.

Belongs here: creating and extending tables, finding those there are, which tables a transaction needs.
Does not belong here: what transactions do. The layout follows the order the addresses are given in, 256 a table, so
batches cut in that order touch one or two tables; newcomers go to the end.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence

from solders.address_lookup_table_account import AddressLookupTableAccount, derive_lookup_table_address
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.chain.transactions import LookupTable, sign
from gridtokenx_pipelines.chain.wire import LOOKUP_TABLE_META_BYTES

TABLE_ADDRESSES = 256
ADDRESSES_PER_EXTEND = 25
AUTHORITY_OFFSET = 22
LAST_EXTENDED_SLOT = struct.Struct("<Q")
LAST_EXTENDED_OFFSET = 12
WARM_UP_SECONDS = 60.0
_CREATE, _EXTEND = 0, 2


class Lookup:
    """The tables of one authority and what is in them."""

    def __init__(self, tables: Sequence[LookupTable]) -> None:
        self.tables = tuple(tables)
        self._table_of: dict[Pubkey, int] = {}
        for number, table in enumerate(self.tables):
            for address in table.addresses:
                self._table_of.setdefault(address, number)

    def __contains__(self, address: Pubkey) -> bool:
        return address in self._table_of

    def tables_for(self, wanted: Iterable[Pubkey]) -> tuple[LookupTable, ...]:
        """The fewest tables that hold those of the addresses that are in any, most useful first."""
        counts: dict[int, int] = {}
        for address in wanted:
            number = self._table_of.get(address)
            if number is not None:
                counts[number] = counts.get(number, 0) + 1
        # a table costs 34 bytes and saves 31 for each address in it: below two it isn't worth naming
        worth = sorted((n for n, count in counts.items() if count > 1), key=lambda n: (-counts[n], n))
        return tuple(self.tables[number] for number in worth)


def shared_addresses() -> list[Pubkey]:
    """Accounts that every batch names; first in the first table."""
    known = addresses.well_known()
    names = ("governance", "market", "registry", "token_config", "mint_authority", "grid_mint", "grid_vault")
    return [*(known[name] for name in names), known["energy_token_program"], known["token_program"]]


def load(client: ChainClient, authority: Pubkey) -> Lookup:
    """The authority's tables as they are on the chain, oldest first."""
    return Lookup([table for _, table in _existing(client, authority)])


def ensure(client: ChainClient, authority: Signer, wanted: Sequence[Pubkey], payer: Signer | None = None) -> Lookup:
    """Tables that hold the shared accounts and every wanted address, made or extended as needed, ready for use.

    New entries are ready when they are finalised: 13 s on a validator, 2 s on the local chain.
    """
    payer = payer or authority
    existing = _existing(client, authority.pubkey)
    lookup = Lookup([table for _, table in existing])
    missing = [a for a in dict.fromkeys([*shared_addresses(), *wanted]) if a not in lookup]
    if missing:
        _fill(client, authority, payer, lookup, missing)
        existing = _existing(client, authority.pubkey)
        lookup = Lookup([table for _, table in existing])
    lost = [address for address in wanted if address not in lookup]
    if lost:
        raise ChainError(f"{len(lost)} addresses are in no lookup table after extending, first {lost[0]}; run it again")
    _warm_up(client, max((slot for slot, _ in existing), default=0))
    return lookup


def _existing(client: ChainClient, authority: Pubkey) -> list[tuple[int, LookupTable]]:
    """(last extended slot, table) of the authority's active tables, in the order they were made."""
    filters = [{"memcmp": {"offset": AUTHORITY_OFFSET, "bytes": str(authority)}}]
    found = []
    for account in client.program_accounts(addresses.LOOKUP_TABLE_PROGRAM, filters):
        deactivation = account.data[4:12]
        if deactivation != b"\xff" * 8:
            continue
        body = account.data[LOOKUP_TABLE_META_BYTES:]
        held = [Pubkey(body[i : i + 32]) for i in range(0, len(body), 32)]
        slot = LAST_EXTENDED_SLOT.unpack_from(account.data, LAST_EXTENDED_OFFSET)[0]
        found.append((slot, AddressLookupTableAccount(account.address, held)))
    # a table's address says nothing of its age: full ones were made before the one still open
    return sorted(found, key=lambda pair: (-len(pair[1].addresses), bytes(pair[1].key)))


def _fill(client: ChainClient, authority: Signer, payer: Signer, lookup: Lookup, missing: list[Pubkey]) -> None:
    """Extend the tables with room, then make new ones; extends of one table go in order, tables side by side."""
    work: list[tuple[Pubkey, list[Pubkey]]] = []
    rest = missing
    for table in lookup.tables:
        room = TABLE_ADDRESSES - len(table.addresses)
        if room and rest:
            work.append((table.key, rest[:room]))
            rest = rest[room:]
    creations: list[Instruction] = []
    if rest:
        count = -(-len(rest) // TABLE_ADDRESSES)
        # a table's address comes from a recent slot, so each needs one of its own; a chain just born has too few
        while (newest := client.slot("finalized")) < count:
            time.sleep(0.05)
        for number in range(count):
            create, key = _create(authority.pubkey, payer.pubkey, newest - number)
            creations.append(create)
            work.append((key, rest[number * TABLE_ADDRESSES : (number + 1) * TABLE_ADDRESSES]))
    signers = (authority,)
    for start in range(0, len(creations), 4):
        client.send_and_confirm(creations[start : start + 4], payer, signers)
    rounds = max(-(-len(part) // ADDRESSES_PER_EXTEND) for _, part in work)
    for number in range(rounds):
        cut = slice(number * ADDRESSES_PER_EXTEND, (number + 1) * ADDRESSES_PER_EXTEND)
        blockhash = client.blockhash().value
        raws = [
            bytes(sign([_extend(key, authority.pubkey, payer.pubkey, part[cut])], payer, signers, blockhash))
            for key, part in work
            if part[cut]
        ]
        client.deliver(raws)


def _create(authority: Pubkey, payer: Pubkey, recent_slot: int) -> tuple[Instruction, Pubkey]:
    key, bump = derive_lookup_table_address(authority, recent_slot)
    accounts = [
        AccountMeta(key, False, True),
        AccountMeta(authority, True, False),
        AccountMeta(payer, True, True),
        AccountMeta(addresses.SYSTEM_PROGRAM, False, False),
    ]
    data = struct.pack("<IQB", _CREATE, recent_slot, bump)
    return Instruction(addresses.LOOKUP_TABLE_PROGRAM, data, accounts), key


def _extend(table: Pubkey, authority: Pubkey, payer: Pubkey, added: Sequence[Pubkey]) -> Instruction:
    accounts = [
        AccountMeta(table, False, True),
        AccountMeta(authority, True, False),
        AccountMeta(payer, True, True),
        AccountMeta(addresses.SYSTEM_PROGRAM, False, False),
    ]
    data = struct.pack("<IQ", _EXTEND, len(added)) + b"".join(map(bytes, added))
    return Instruction(addresses.LOOKUP_TABLE_PROGRAM, data, accounts)


def _warm_up(client: ChainClient, last_extended_slot: int) -> None:
    """Wait until the newest entries are finalised.

    The runtime takes them from the next slot on, but a leader resolves tables against its root: until then it keeps
    a transaction that needs them waiting without a word.
    """
    deadline = time.monotonic() + WARM_UP_SECONDS
    while client.slot("finalized") <= last_extended_slot:
        if time.monotonic() > deadline:
            raise ChainError(f"slot {last_extended_slot} is not finalised after {WARM_UP_SECONDS} s; look at the node")
        time.sleep(0.05)

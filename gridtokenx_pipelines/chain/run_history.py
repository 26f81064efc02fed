"""Receipts of settled runs, told by the chain's own history: what a restored database has forgotten.

Belongs here: history of an epoch's accounts → which transaction was which step of which run. Does not belong here:
storing it (outbox_store), deciding that it is needed (settlement_service/reconcile.py).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import CONFIRMED, ChainClient
from gridtokenx_pipelines.chain.idl import discriminator
from gridtokenx_pipelines.chain.outbox_store import OutboxRow, Receipt

PAGE = 1_000
CLEARING: Final = 1
# instruction → step; batches carry their index right after the discriminator
INDEXED: Final = {
    **dict.fromkeys(("settle_meters", "settle_late_meters", "correct_meters"), "meter"),
    **dict.fromkeys(("settle_batch", "settle_pay_as_bid_batch", "settle_late_batch", "resettle_batch"), "settle"),
    "record_order": "record",
}
SINGLE: Final = {
    "commit_clearing": "commit",
    "commit_run": "commit",
    "begin_run": "begin",
    "finalize_epoch": "finalize",
}
PROGRAMS: Final = ("trading", "registry", "oracle")
# where an instruction names the epoch's own account: metering also names the epoch before, a resettlement the prior one
OWN: Final = {
    **dict.fromkeys(("settle_meters", "settle_late_meters", "correct_meters"), 2),
    **dict.fromkeys(("settle_batch", "settle_late_batch", "resettle_batch"), 2),
    **dict.fromkeys(("record_order", "commit_clearing", "commit_run", "finalize_epoch"), 1),
    "begin_run": 0,
}
NAMES: Final = {discriminator("global", name): name for name in (*INDEXED, *SINGLE)}


class Landed(msgspec.Struct, frozen=True):
    """One transaction of a run as it landed."""

    row: OutboxRow
    receipt: Receipt


def landed_of(client: ChainClient, epoch: int) -> list[Landed]:
    """Every batch, commitment, record and finalisation of the epoch's runs that landed, oldest first."""
    signatures = history_of_epoch(client, epoch)
    config = {"encoding": "base64", "maxSupportedTransactionVersion": 0, **CONFIRMED}
    details = client.call_many("getTransaction", [[signature, config] for signature in signatures])
    programs = {addresses.program_id(name) for name in PROGRAMS}
    found: list[Landed] = []
    run = begun = (CLEARING, 0)
    for signature, detail in zip(signatures, details, strict=True):
        raw = base64.b64decode(detail["transaction"][0])
        for name, data in _instructions(raw, programs, epoch):
            if name == "begin_run":
                begun = (data[8], int.from_bytes(data[9:11], "little"))
            elif name == "commit_run":
                run = (data[8], int.from_bytes(data[9:11], "little"))
            kind, number = begun if name in ("begin_run", "settle_late_meters", "correct_meters") else run
            if name == "settle_meters":
                kind, number = CLEARING, 0
            idx = int.from_bytes(data[8:10], "little") if name in INDEXED else 0
            step = INDEXED.get(name) or SINGLE[name]
            key = (epoch, kind, number, step, idx)
            meta = detail["meta"]
            found.append(
                Landed(
                    OutboxRow(
                        *key,
                        signature=signature,
                        transaction=raw,
                        last_valid_block_height=0,
                        status="confirmed",
                        attempts=1,
                        error=None,
                    ),
                    Receipt(
                        *key,
                        signature=signature,
                        slot=detail["slot"],
                        fee_lamports=meta["fee"],
                        compute_units=meta.get("computeUnitsConsumed") or 0,
                        status="ok",
                        commitment="confirmed",
                    ),
                )
            )
    return found


def history_of_epoch(client: ChainClient, epoch: int) -> list[str]:
    """Signatures that named the epoch's accounts and succeeded, in the order they landed."""
    slots: dict[str, tuple[int, int]] = {}
    for address in (addresses.epoch(epoch), addresses.metered(epoch)):
        rows = list(_pages(client, address))[::-1]
        for place, row in enumerate(rows):
            if row["err"] is None:
                slots.setdefault(row["signature"], (row["slot"], place))
    return sorted(slots, key=slots.__getitem__)


def _pages(client: ChainClient, address: Pubkey) -> Iterator[dict[str, Any]]:
    before: dict[str, str] = {}
    while True:
        page = client.call(
            "getSignaturesForAddress", str(address), {"limit": PAGE, "commitment": "confirmed", **before}
        )
        yield from page
        if len(page) < PAGE:
            return
        before = {"before": page[-1]["signature"]}


def _instructions(raw: bytes, programs: set[Pubkey], epoch: int) -> Iterator[tuple[str, bytes]]:
    message = VersionedTransaction.from_bytes(raw).message
    keys, ours = message.account_keys, {addresses.epoch(epoch), addresses.metered(epoch)}
    for compiled in message.instructions:
        if keys[compiled.program_id_index] in programs:
            data = bytes(compiled.data)
            name = NAMES.get(data[:8])
            if name is not None and keys[compiled.accounts[OWN[name]]] in ours:
                yield name, data

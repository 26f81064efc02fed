"""A proof that one trade was settled: leaves, siblings and roots, to be checked with nothing but the chain's roots.

Belongs here: making and checking such a document. Does not belong here: reading plans or asking the chain. A trade is
shown twice: as a row under the clearing's result root, and by the buyer's and seller's entries and the epoch's header
under the root that the oracles made final on the chain.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from gridtokenx_pipelines.audit.dossier import canonical
from gridtokenx_pipelines.market.roots import RESULT_TAG, leaf_hash, node_hash
from gridtokenx_pipelines.settlement.batches import LEAF_TAG, Batch, Leaves, RunPlan
from gridtokenx_pipelines.settlement.frames import CLEARING

FORMAT: Final = "gridtokenx/trade-proof/v1"
ENTRY = struct.Struct("<ii")
HEADER = struct.Struct("<QHHHHQQqH")
ZONE = struct.Struct("<HII")
HASH_BYTES = 32
TAG: Final = b"gridtokenx/trade-proof/v1\0"
TRADE_KIND: Final = b"\4"


class ProofError(ValueError):
    """A proof that does not hold: names the part and what it should be."""


def leaf_part(leaves: Leaves, program_id: bytes, batch: Batch, addresses: Sequence[bytes]) -> dict[str, Any]:
    """A batch's leaf with its siblings, as a proof carries it."""
    return {
        "index": batch.index,
        "leaf_bytes": leaves.row(program_id, batch.index, batch.entries, addresses).hex(),
        "siblings": [each.hex() for each in batch.proof],
    }


def header_part(plan: RunPlan, program_id: bytes) -> dict[str, Any]:
    """Leaf 0 of a run: prices, losses and rent, with its siblings."""
    leaves = Leaves(plan.network_id, plan.kind, plan.epoch, plan.run)
    return {
        "index": 0,
        "leaf_bytes": leaves.row(program_id, 0, plan.header, ()).hex(),
        "siblings": [each.hex() for each in plan.header_proof],
    }


def side_part(plan: RunPlan, program_id: bytes, wallet: str, address: Mapping[str, bytes]) -> dict[str, Any]:
    """The batch that settles a wallet, and at which place it lies there. Raises ProofError if none does."""
    leaves = Leaves(plan.network_id, plan.kind, plan.epoch, plan.run)
    for batch in plan.trading:
        if wallet in batch.owners:
            place = batch.owners.index(wallet)
            net, traded = ENTRY.unpack_from(batch.entries, ENTRY.size * place)
            part = leaf_part(leaves, program_id, batch, [address[owner] for owner in batch.owners])
            return part | {
                "wallet": wallet,
                "address": address[wallet].hex(),
                "place": place,
                "entries": len(batch.owners),
                "net_wh": net,
                "traded_wh": traded,
            }
    raise ProofError(f"wallet {wallet} has no entry in run {plan.run} of epoch {plan.epoch}; name a trade of the epoch")


def root_of(part: Mapping[str, Any]) -> bytes:
    """The root that a leaf and its siblings give. Raises ProofError for a part that is none."""
    try:
        index, siblings = int(part["index"]), [bytes.fromhex(each) for each in part["siblings"]]
        node = leaf_hash(bytes.fromhex(part["leaf_bytes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ProofError(f"a leaf's part can't be read ({error}); ask for the original") from error
    if not 0 <= index < 1 << len(siblings) or any(len(each) != HASH_BYTES for each in siblings):
        raise ProofError(f"leaf index was {index} with {len(siblings)} siblings of 32 bytes; ask for the original")
    for depth, sibling in enumerate(siblings):
        node = node_hash(sibling, node) if index >> depth & 1 else node_hash(node, sibling)
    return node


def header_of(part: Mapping[str, Any], network_id: int, epoch: int, run: int, kind: int) -> dict[str, Any]:
    """What leaf 0 says, after checking that it is leaf 0 of that run: seq, flags, sums, zones (price, wheeling)."""
    head = _head(part, network_id, epoch, run, kind)
    try:
        seq, registry, trading, orders, flags, lost, wheeling, rent, count = HEADER.unpack_from(head)
        zones = {
            zone: (price, charge)
            for zone, price, charge in (
                ZONE.unpack_from(head, HEADER.size + ZONE.size * number) for number in range(count)
            )
        }
    except struct.error as error:
        raise ProofError(f"header: {error}; ask for the original") from error
    return {
        "seq": seq,
        "registry_batches": registry,
        "trading_batches": trading,
        "orders": orders,
        "flags": flags,
        "lost_wh": lost,
        "link_wheeling_uthb": wheeling,
        "rent_uthb": rent,
        "zones": zones,
    }


def _head(part: Mapping[str, Any], network_id: int, epoch: int, run: int, kind: int) -> bytes:
    """The bytes of a leaf after tag, program and place, the place checked."""
    row = bytes.fromhex(part["leaf_bytes"])
    place = struct.pack("<QBIHH", network_id, kind, epoch, run, int(part["index"]))
    start = len(LEAF_TAG) + HASH_BYTES
    if not row.startswith(LEAF_TAG) or row[start : start + len(place)] != place:
        raise ProofError(f"leaf {part['index']}: is of another network, epoch, run or place; ask for the original")
    return row[start + len(place) :]


def check_side(part: Mapping[str, Any], network_id: int, epoch: int, address: bytes) -> tuple[int, int]:
    """(net, traded) Wh that a wallet's entry states. Raises ProofError naming what differs."""
    rest = _head(part, network_id, epoch, 0, CLEARING)
    place, count = int(part["place"]), int(part["entries"])
    size = ENTRY.size * count
    if not 0 <= place < count or len(rest) != size + HASH_BYTES * count:
        raise ProofError(f"entry {place} of {count}: the leaf has {len(rest)} bytes; ask for the original")
    held = rest[size + HASH_BYTES * place : size + HASH_BYTES * (place + 1)]
    if held != address:
        raise ProofError(f"entry {place}: its account is not that of wallet {part['wallet']}; ask for the original")
    net, traded = ENTRY.unpack_from(rest, ENTRY.size * place)
    for name, stated, real in (("net_wh", part["net_wh"], net), ("traded_wh", part["traded_wh"], traded)):
        if stated != real:
            raise ProofError(f"{name} of {part['wallet']} was {stated}, the leaf says {real}: the proof was edited")
    return net, traded


def message_of(document: Mapping[str, Any]) -> bytes:
    """The bytes that the operator signs: everything but the signature."""
    return TAG + sha256(canonical({name: value for name, value in document.items() if name != "signature"})).digest()


def result_row_of(document: Mapping[str, Any]) -> bytes:
    """The bytes of the trade's row, built from what the proof says the trade was (market/roots.py, kind 4)."""
    trade = document["trade"]
    head = RESULT_TAG + int(document["network_id"]).to_bytes(8, "little") + int(document["epoch"]).to_bytes(4, "little")
    ids = int(trade["match_id"]).to_bytes(8, "little")
    ids += bytes.fromhex(trade["buy_order_id"]) + bytes.fromhex(trade["sell_order_id"])
    people = b"".join(
        len(name).to_bytes(1, "little") + name.encode("ascii") for name in (trade["buyer"], trade["seller"])
    )
    amounts = b"".join(
        int(trade[name]).to_bytes(8, "little", signed=True) for name in ("energy_wh", "price_uthb_per_kwh")
    )
    return head + TRADE_KIND + ids + people + amounts

"""The Merkle tree of abi.md, and the canonical bytes of a book's and a result's rows.

Belongs here: leaves, roots, proofs and their check (settlement uses the same tree), and one fixed byte form per row.
Does not belong here: what the leaves of a settlement run contain (settlement/batches.py).
A row is: tag ‖ network u64 ‖ epoch u32 ‖ fields; integers little-endian, texts as u8 length ‖ ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from gridtokenx_pipelines.market.orders import NO_CERTIFICATE, meter_hash

if TYPE_CHECKING:
    import polars as pl

    from gridtokenx_pipelines.market.clearing import ClearingResult

EMPTY = bytes(32)
BOOK_TAG = b"gridtokenx/book/v1"
RESULT_TAG = b"gridtokenx/result/v1"


def leaf_hash(row: bytes) -> bytes:
    """sha256(0x00 ‖ row): the leaf of raw row bytes (tag and all)."""
    return sha256(b"\0" + row).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """sha256(0x01 ‖ left ‖ right)."""
    return sha256(b"\1" + left + right).digest()


class MerkleTree:
    """Tree over 32-byte leaf hashes, padded with 32 zero bytes to a power of two; no leaves: root of zeros."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        width = 1 << max(len(leaves) - 1, 0).bit_length()
        level = [*leaves, *[EMPTY] * (width - len(leaves))]
        self.count = len(leaves)
        self.levels = [level]
        while len(level) > 1:
            level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level), 2)]
            self.levels.append(level)

    @property
    def root(self) -> bytes:
        """32-byte root."""
        return self.levels[-1][0]

    @property
    def depth(self) -> int:
        """Siblings in a proof."""
        return len(self.levels) - 1

    def proof(self, index: int) -> tuple[bytes, ...]:
        """Siblings of a leaf from the bottom up. Raises IndexError for a leaf that isn't there."""
        if not 0 <= index < self.count:
            raise IndexError(f"leaf was {index}, must lie in 0…{self.count - 1}")
        return tuple(level[(index >> depth) ^ 1] for depth, level in enumerate(self.levels[:-1]))


def tree_of(rows: Iterable[bytes]) -> MerkleTree:
    """Tree over raw rows; each row is hashed to its leaf."""
    return MerkleTree([leaf_hash(row) for row in rows])


def merkle_root(rows: Sequence[bytes]) -> bytes:
    """Root over raw rows."""
    return tree_of(rows).root


def proof(rows: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Proof that `rows[index]` is under the rows' root."""
    return tree_of(rows).proof(index)


def verify(root: bytes, row: bytes, index: int, siblings: Sequence[bytes]) -> bool:
    """Whether the raw row is leaf `index` under the root; an index beyond the proof's depth is refused."""
    if not 0 <= index < 1 << len(siblings):
        return False
    node = leaf_hash(row)
    for depth, sibling in enumerate(siblings):
        node = node_hash(sibling, node) if index >> depth & 1 else node_hash(node, sibling)
    return node == root


def _u(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _i64(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


def _text(value: str) -> bytes:
    raw = value.encode("ascii")
    return _u(len(raw), 1) + raw


def _price(value: int | None) -> bytes:
    return b"\0" + bytes(8) if value is None else b"\1" + _i64(value)


def book_rows(book: pl.DataFrame, network_id: int, epoch: int) -> list[bytes]:
    """Canonical bytes of a book frame, a row per order, in the book's own (priority) order."""
    head = BOOK_TAG + _u(network_id, 8) + _u(epoch, 4)
    return [
        head
        + row["order_id"]
        + _text(row["wallet"])
        + _u(row["zone_id"], 2)
        + (meter_hash(row["meter_id"]) if row["meter_id"] else EMPTY)
        + _u(row["side"], 1)
        + _i64(row["energy_wh"])
        + _i64(row["limit_uthb_per_kwh"])
        + _u(row["nonce"], 8)
        + _i64(row["placed_at_us"])
        + _i64(row["broker_us"])
        + (row["certificate_id"] or NO_CERTIFICATE)
        + _u(row["is_mandate"], 1)
        + _i64(row["covered_wh"])
        + _i64(row["net_limit_uthb_per_kwh"])
        for row in book.iter_rows(named=True)
    ]


def result_rows(result: ClearingResult, network_id: int, epoch: int) -> list[bytes]:
    """Canonical bytes of a result: the summary, then zones, flows, fills, matches and charges, each led by its kind."""
    head = RESULT_TAG + _u(network_id, 8) + _u(epoch, 4)
    sums = (result.volume_wh, result.lost_wh, result.link_wheeling_uthb, result.rent_uthb, result.welfare_uthb)
    summary = b"\0" + _text(result.mechanism) + _u(result.halted, 1) + b"".join(_i64(value) for value in sums)
    rows = [summary]
    for row in result.zones.iter_rows(named=True):
        wheeling, bought, sold = row["zone_wheeling_uthb_per_kwh"], row["bought_wh"], row["sold_wh"]
        price = _price(row["price_uthb_per_kwh"])
        rows.append(b"\1" + _u(row["zone_id"], 2) + price + _i64(wheeling) + _i64(bought) + _i64(sold))
    for row in result.flows.iter_rows(named=True):
        ids = _u(row["link_id"], 4) + _u(row["from_zone"], 2) + _u(row["to_zone"], 2)
        flow = (row["sent_wh"], row["delivered_wh"], row["lost_wh"], row["wheeling_uthb"])
        rows.append(b"\2" + ids + b"".join(_i64(value) for value in flow))
    for row in result.fills.iter_rows(named=True):
        ids = row["order_id"] + _text(row["wallet"]) + _u(row["zone_id"], 2) + _u(row["side"], 1)
        amounts = _i64(row["filled_wh"]) + _i64(row["price_uthb_per_kwh"]) + _u(row["is_mandate"], 1)
        rows.append(b"\3" + ids + amounts)
    for row in result.matches.iter_rows(named=True):
        ids = _u(row["match_id"], 8) + row["buy_order_id"] + row["sell_order_id"]
        people = _text(row["buyer"]) + _text(row["seller"])
        rows.append(b"\4" + ids + people + _i64(row["energy_wh"]) + _i64(row["price_uthb_per_kwh"]))
    charges = ("cost_uthb", "energy_cost_uthb", "zone_wheeling_uthb", "value_uthb", "fee_uthb", "proceeds_uthb")
    for row in result.traded.iter_rows(named=True):
        ids = _text(row["wallet"]) + _u(row["zone_id"], 2) + _i64(row["traded_wh"])
        rows.append(b"\5" + ids + b"".join(_i64(row[name]) for name in charges))
    return [head + row for row in rows]

"""A booking as what the chain settles: entries in batches, leaves, roots and proofs (docs/reference/abi.md).

Belongs here: the bytes of headers, entries and leaves, and the size of batches. Does not belong here: the tree itself
(market/roots.py), addresses of accounts (given as mappings), transactions (chain/runs.py). The order is that of the
booking, by meter id and wallet, so the same booking always gives the same roots.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec
import numpy as np
import polars as pl

from gridtokenx_pipelines.market.roots import MerkleTree, leaf_hash
from gridtokenx_pipelines.settlement.frames import CLEARING, LATE, METERING, RESETTLEMENT, Booking, LedgerError
from gridtokenx_pipelines.settlement.pay_as_bid import entries_of, groups_of

LEAF_TAG: Final = b"gridtokenx/leaf/v1"
METERS_A_BATCH, TRADERS_A_BATCH = 45, 50
# an entry costs its bytes and one byte of look-up index; with these two sums and an 8-level proof a transaction stays
# within 1 232 bytes, and every level more takes 32 of them
REGISTRY_BUDGET, TRADING_BUDGET, BUDGET_DEPTH = METERS_A_BATCH * 9, TRADERS_A_BATCH * 9, 8
MAX_BATCH_INDEX: Final = 1_023  # the bitmap of a run has 1 024 bits
DEFICIT_IS_PRIOR: Final = 1 << 31
HALTED_FLAG, BUY_BACK_FLAG, PAY_AS_BID_FLAG = 1, 2, 4
PAY_AS_BID_INSTRUCTION: Final = "settle_pay_as_bid_batch"
ENTRY_BYTES: Final = {CLEARING: 8, LATE: 12, RESETTLEMENT: 20}
METER_ENTRY_BYTES: Final = {CLEARING: 8, LATE: 16, RESETTLEMENT: 4}
REGISTRY_INSTRUCTION: Final = {CLEARING: "settle_meters", LATE: "settle_late_meters", RESETTLEMENT: "correct_meters"}
TRADING_INSTRUCTION: Final = {CLEARING: "settle_batch", LATE: "settle_late_batch", RESETTLEMENT: "resettle_batch"}
# a resettlement trader batch has one account more, not in the look-up table
RESETTLE_ACCOUNT_BYTES: Final = 32


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction's entries; `owners` are meter ids (registry) or wallets (trading), in the entries' order."""

    program: str
    instruction: str
    index: int
    n: int
    entries: bytes
    owners: tuple[str, ...]
    leaf: bytes
    proof: tuple[bytes, ...]


class OrderLeaf(msgspec.Struct, frozen=True, kw_only=True):
    """A signed, filled order that anyone may record before its batch."""

    index: int
    message: bytes
    signature: bytes
    wallet: str
    leaf: bytes
    proof: tuple[bytes, ...]


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is sent to the chain for one run."""

    network_id: int
    epoch: int
    run: int
    kind: int
    seq: int
    header: bytes
    header_proof: tuple[bytes, ...]
    metering_root: bytes | None
    root: bytes
    registry: tuple[Batch, ...]
    trading: tuple[Batch, ...]
    orders: tuple[OrderLeaf, ...]

    def encode(self) -> bytes:
        """MessagePack, as it is kept in `runs.plan`."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> RunPlan:
        """The plan of `encode`'s bytes; raises msgspec.ValidationError for others."""
        return msgspec.msgpack.decode(raw, type=cls)


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A filled, hand-placed order: its 169 signed bytes and the wallet's signature over them."""

    wallet: str
    message: bytes
    signature: bytes


class Leaves(msgspec.Struct, frozen=True):
    """Where a run's leaves belong: what every leaf says besides its own batch."""

    network_id: int
    kind: int
    epoch: int
    run: int

    def row(self, program_id: bytes, index: int, entries: bytes, addresses: Sequence[bytes]) -> bytes:
        """Bytes that a leaf hashes (abi.md, Merkle tree), without the 0x00 in front."""
        place = struct.pack("<QBIHH", self.network_id, self.kind, self.epoch, self.run, index)
        return b"".join((LEAF_TAG, program_id, place, entries, *addresses))


def batch_size(entry_bytes: int, limit: int, budget: int, depth: int) -> int:
    """Entries that fit one transaction with a proof of `depth` levels; raises LedgerError if none does."""
    room = budget - 32 * max(0, depth - BUDGET_DEPTH)
    size = min(limit, room // (entry_bytes + 1))
    if size < 1:
        raise LedgerError(
            f"proof of {depth} levels leaves {room} bytes for entries of {entry_bytes}; settle fewer orders"
        )
    return size


def header_bytes(
    booking: Booking, registry_batches: int, trading_batches: int, orders: int, *, by_order: bool = False
) -> bytes:
    """Entries of leaf 0; `by_order`: each order has a value of its own."""
    header = booking.header
    flags = HALTED_FLAG * header.halted + BUY_BACK_FLAG * header.buy_back + PAY_AS_BID_FLAG * by_order
    sums = (header.lost_wh, header.link_wheeling_uthb, header.rent_uthb, len(header.zones))
    counts = (registry_batches, trading_batches, orders, flags)
    return struct.pack("<QHHHHQQqH", booking.seq, *counts, *sums) + b"".join(
        struct.pack("<HII", *zone) for zone in header.zones
    )


def _packed(frame: pl.DataFrame, *columns: str, signed: bool) -> bytes:
    kind = np.dtype("<i4" if signed else "<u4")
    bounds = np.iinfo(kind)
    values = frame.select(columns).to_numpy()
    if values.size and (values.min() < bounds.min or values.max() > bounds.max):
        raise LedgerError(
            f"entry of {columns} lies in {values.min()}…{values.max()}, must fit {bounds.min}…{bounds.max}; "
            "book fewer epochs at once"
        )
    return np.ascontiguousarray(values.astype(kind)).tobytes()


def meter_entry_bytes(kind: int, meter_entries: pl.DataFrame) -> bytes:
    """All meters' registry entries one after the other, in the frame's order."""
    if kind == LATE:
        columns = ("last_epoch", "production_delta_wh", "consumption_delta_wh", "surplus_wh")
        return _packed(meter_entries, *columns, signed=False)
    if kind == RESETTLEMENT:
        return _packed(meter_entries, "x_wh", signed=True)
    return _packed(meter_entries, "production_delta_wh", "consumption_delta_wh", signed=False)


def wallet_entry_bytes(kind: int, wallet_entries: pl.DataFrame) -> bytes:
    """All wallets' trading entries one after the other, in the frame's order."""
    if kind == CLEARING:
        return _packed(wallet_entries, "net_wh", "traded_wh", signed=True)
    if kind == LATE:
        return _packed(wallet_entries, "minted_wh", "deficit_on_peak_wh", "deficit_off_peak_wh", signed=False)
    prior = pl.col("refund_epoch").fill_null(pl.col("epoch")) < pl.col("epoch")
    chained = wallet_entries.select(
        pl.col("minted_wh").clip(lower_bound=0).alias("minted_and_burned_wh"),
        pl.col("refund_wh") + pl.when(prior).then(DEFICIT_IS_PRIOR).otherwise(0),
        "taken_back_wh",
        "returned_wh",
        "rebilled_wh",
    )
    return _packed(chained, *chained.columns, signed=False)


def plan_run(
    booking: Booking,
    *,
    network_id: int,
    meter_address: Mapping[str, bytes],
    trader_address: Mapping[str, bytes],
    program_ids: Mapping[str, bytes],
    orders: Sequence[SignedOrder] = (),
    order_values: pl.DataFrame | None = None,
) -> RunPlan:
    """Batches, leaves, roots and proofs of a booking; `program_ids` has `registry` and `trading`.

    `orders` are the filled, hand-placed orders of an initial run; `order_values` (pay_as_bid.ORDER_VALUES): it was
    cleared pay as bid and not halted. Raises LedgerError for amounts that don't fit an
    entry, more batches than the bitmap holds, or an owner without an address.
    """
    kind, initial = booking.kind, booking.kind == CLEARING
    ordered = sorted(orders, key=lambda order: (order.wallet, order.message))
    leaves = Leaves(network_id, kind, booking.epoch, booking.run)

    def registry(first: int, depth: int, leaves: Leaves) -> list[Batch]:
        size = batch_size(METER_ENTRY_BYTES[kind], METERS_A_BATCH, REGISTRY_BUDGET, depth)
        entries = meter_entry_bytes(kind, booking.meter_entries)
        owners = booking.meter_entries["meter_id"].to_list()
        name = ("registry", REGISTRY_INSTRUCTION[kind], program_ids["registry"])
        parts = _even(entries, len(owners), size)
        return _batches(name=name, owners=owners, parts=parts, first=first, address=meter_address, leaves=leaves)

    def trading(first: int, depth: int) -> list[Batch]:
        budget = TRADING_BUDGET - (RESETTLE_ACCOUNT_BYTES if kind == RESETTLEMENT else 0)
        owners = booking.wallet_entries["wallet"].to_list()
        instruction = TRADING_INSTRUCTION[kind] if order_values is None else PAY_AS_BID_INSTRUCTION
        if order_values is None:
            size = batch_size(ENTRY_BYTES[kind], TRADERS_A_BATCH, budget, depth)
            parts = _even(wallet_entry_bytes(kind, booking.wallet_entries), len(owners), size)
        else:
            uneven = entries_of(booking.wallet_entries, order_values)
            groups = groups_of(uneven, TRADERS_A_BATCH, budget - 32 * max(0, depth - BUDGET_DEPTH))
            parts = [(start, end, b"".join(uneven[start:end])) for start, end in groups]
        name = ("trading", instruction, program_ids["trading"])
        return _batches(name=name, owners=owners, parts=parts, first=first, address=trader_address, leaves=leaves)

    if initial:
        metered = _settled_depth(lambda depth: registry(0, depth, Leaves(network_id, METERING, booking.epoch, 0)), 0)
        traded = _settled_depth(lambda depth: trading(1, depth), 1 + len(ordered))
    else:
        both = _settled_depth(lambda depth: _numbered(registry(1, depth, leaves), trading, depth), 1)
        metered = [batch for batch in both if batch.program == "registry"]
        traded = [batch for batch in both if batch.program == "trading"]
    last = max((batch.index for batch in [*metered, *traded]), default=0)
    if last > MAX_BATCH_INDEX:
        raise LedgerError(
            f"run needs batch {last}, at most {MAX_BATCH_INDEX} is possible; split the market's households"
        )
    header = header_bytes(booking, len(metered), len(traded), len(ordered), by_order=order_values is not None)
    header_leaf = leaf_hash(leaves.row(program_ids["trading"], 0, header, ()))
    order_leaves = [
        OrderLeaf(
            index=1 + len(traded) + place,
            message=order.message,
            signature=order.signature,
            wallet=order.wallet,
            leaf=_order_leaf(order, 1 + len(traded) + place, leaves, program_ids, trader_address),
            proof=(),
        )
        for place, order in enumerate(ordered)
    ]
    inside = [] if initial else metered
    batch_leaves = [batch.leaf for batch in [*inside, *traded]]
    tree = MerkleTree([header_leaf, *batch_leaves, *(order.leaf for order in order_leaves)])
    metering = MerkleTree([batch.leaf for batch in metered]) if initial else tree
    return RunPlan(
        network_id=network_id,
        epoch=booking.epoch,
        run=booking.run,
        kind=kind,
        seq=booking.seq,
        header=header,
        header_proof=tree.proof(0),
        metering_root=metering.root if initial else None,
        root=tree.root,
        registry=tuple(msgspec.structs.replace(each, proof=metering.proof(each.index)) for each in metered),
        trading=tuple(msgspec.structs.replace(each, proof=tree.proof(each.index)) for each in traded),
        orders=tuple(msgspec.structs.replace(each, proof=tree.proof(each.index)) for each in order_leaves),
    )


def _settled_depth(make: Callable[[int], list[Batch]], others: int) -> list[Batch]:
    """Batches of a size that leaves room for the proof that their own number makes necessary."""
    depth = 0
    while True:
        batches = make(depth)
        needed = (max(len(batches) + others, 1) - 1).bit_length()
        if needed <= depth or needed <= BUDGET_DEPTH:
            return batches
        depth = needed


def _numbered(registry: list[Batch], trading: Callable[[int, int], list[Batch]], depth: int) -> list[Batch]:
    return [*registry, *trading(1 + len(registry), depth)]


def _even(entries: bytes, n: int, size: int) -> list[tuple[int, int, bytes]]:
    """(first owner, one after the last, bytes) of batches of `size` entries of one length."""
    width = len(entries) // max(n, 1)
    cuts = [(start, min(start + size, n)) for start in range(0, n, size)]
    return [(start, end, entries[start * width : end * width]) for start, end in cuts]


def _batches(
    *,
    name: tuple[str, str, bytes],
    owners: list[str],
    parts: Sequence[tuple[int, int, bytes]],
    first: int,
    address: Mapping[str, bytes],
    leaves: Leaves,
) -> list[Batch]:
    program, instruction, program_id = name
    strangers = [owner for owner in owners if owner not in address]
    if strangers:
        raise LedgerError(
            f"{len(strangers)} entries have no {program} address, such as {strangers[0]!r}; register them"
        )
    batches = []
    for index, (start, end, part) in enumerate(parts, first):
        those = tuple(owners[start:end])
        row = leaves.row(program_id, index, part, [address[owner] for owner in those])
        batches.append(
            Batch(
                program=program,
                instruction=instruction,
                index=index,
                n=len(those),
                entries=part,
                owners=those,
                leaf=leaf_hash(row),
                proof=(),
            )
        )
    return batches


def _order_leaf(
    order: SignedOrder,
    index: int,
    leaves: Leaves,
    program_ids: Mapping[str, bytes],
    trader_address: Mapping[str, bytes],
) -> bytes:
    if order.wallet not in trader_address:
        raise LedgerError(f"order's wallet {order.wallet!r} has no trader address; register it")
    entries = sha256(order.message).digest()
    return leaf_hash(leaves.row(program_ids["trading"], index, entries, [trader_address[order.wallet]]))

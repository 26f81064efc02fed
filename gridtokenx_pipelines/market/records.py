"""What order intake reads and gives out: facts about meters and wallets, decoded records, accepted and refused ones.

Belongs here: frozen structs, the lookup they come from, and reading one record from its bytes and headers.
Does not belong here: the rules of admission (intake.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from gridtokenx_pipelines.market.base58 import encode
from gridtokenx_pipelines.market.orders import (
    CANCEL_BYTES,
    Cancel,
    Order,
    OrderError,
    OrderReject,
    decode_cancel,
    decode_order,
    meter_hash,
    verify,
)


class MeterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What intake needs to know of a meter. It is active in [first_epoch, end_epoch); `produces`: Solar or Hybrid."""

    meter_id: str
    wallet: str
    zone_id: int
    rating_w: int
    produces: bool
    first_epoch: int = 0
    end_epoch: int | None = None

    def is_active(self, epoch: int) -> bool:
        """Whether the meter takes part in the epoch."""
        return self.first_epoch <= epoch and (self.end_epoch is None or epoch < self.end_epoch)


class WalletFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet in one epoch: its zone, whether it may trade at all and sell, the sum of its meters' ratings."""

    zone_id: int
    is_active: bool
    may_sell: bool
    rating_w: int


class Lookup(Protocol):
    """What was in force in an epoch; a replay years later must be given the same answers."""

    def meter(self, hashed_id: bytes) -> MeterFacts | None:
        """Meter by sha256 of its id."""

    def wallet(self, wallet: str, epoch: int) -> WalletFacts | None:
        """Wallet as it stands in the epoch, None if it has no meter at all."""

    def partition_of(self, zone_id: int) -> int:
        """Partition in which a zone's orders arrive."""


class MeterLookup:
    """Lookup over a list of meters; `partition_of_zone` is the producer's own rule (messaging)."""

    def __init__(self, meters: Iterable[MeterFacts], partition_of_zone: Mapping[int, int]) -> None:
        self._by_hash: dict[bytes, MeterFacts] = {}
        self._by_wallet: dict[str, list[MeterFacts]] = {}
        self._partitions = dict(partition_of_zone)
        for meter in meters:
            self._by_hash[meter_hash(meter.meter_id)] = meter
            self._by_wallet.setdefault(meter.wallet, []).append(meter)

    def meter(self, hashed_id: bytes) -> MeterFacts | None:
        """Meter by sha256 of its id."""
        return self._by_hash.get(hashed_id)

    def wallet(self, wallet: str, epoch: int) -> WalletFacts | None:
        """Wallet over its meters that are active in the epoch."""
        owned = self._by_wallet.get(wallet)
        if not owned:
            return None
        active = [meter for meter in owned if meter.is_active(epoch)]
        return WalletFacts(
            zone_id=owned[0].zone_id,
            is_active=bool(active),
            may_sell=any(meter.produces for meter in active),
            rating_w=sum(meter.rating_w for meter in active),
        )

    def partition_of(self, zone_id: int) -> int:
        """Partition of the zone, −1 for a zone that has none."""
        return self._partitions.get(zone_id, -1)


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded order whose signature was checked against `wallet`."""

    offset: int
    broker_us: int
    wallet: str
    order: Order
    message: bytes = b""
    signature: bytes = b""


class CancelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded cancel whose signature was checked against `wallet`."""

    offset: int
    broker_us: int
    wallet: str
    cancel: Cancel


class TickRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's tick, decoded and checked; its event time in µs."""

    offset: int
    tick_us: int


class BadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record refused before intake (bytes, signature), kept in its place so that outputs stay in offset order."""

    offset: int
    broker_us: int
    reason: OrderReject
    detail: str


Record = OrderRecord | CancelRecord | TickRecord | BadRecord


class AcceptedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order in the book of its epoch."""

    partition: int
    record: OrderRecord
    zone_id: int
    meter_id: str

    def row(self) -> dict[str, Any]:
        """Columns of frame and table `orders`."""
        order = self.record.order
        return {
            "order_id": order.order_id,
            "wallet": self.record.wallet,
            "zone_id": self.zone_id,
            "meter_id": self.meter_id,
            "side": order.side,
            "energy_wh": order.energy_wh,
            "limit_uthb_per_kwh": order.limit_uthb_per_kwh,
            "epoch": order.epoch,
            "nonce": order.nonce,
            "placed_at_us": order.placed_at_us,
            "certificate_id": order.certificate_id,
            "is_mandate": False,
            "broker_us": self.record.broker_us,
            "market": order.market,
            "message": self.record.message,
            "signature": self.record.signature,
            "partition": self.partition,
            "offset": self.record.offset,
            "status": "pending",
        }


class RejectedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What goes to `orders.rejected`: place, numbered reason, and the value, bound and remedy."""

    partition: int
    offset: int
    broker_us: int
    reason: OrderReject
    detail: str


class CancelledOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order taken out again by its wallet before its epoch began; wallet, epoch and nonce name it for good."""

    order_id: bytes
    wallet: str
    epoch: int
    nonce: int
    cancelled_at_us: int


class IntakeOutputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of records led to; `gate_epochs` ascend, each is closed once in this partition."""

    accepted: list[AcceptedOrder]
    rejected: list[RejectedRecord]
    cancelled: list[CancelledOrder]
    gate_epochs: list[int]


def read_record(offset: int, broker_us: int, value: bytes, signature: bytes, public_key: bytes) -> Record:
    """Kafka value and headers `sig`, `pub` → record; what can't be read or isn't signed becomes a BadRecord.

    The flow may check signatures in batches instead and build OrderRecord itself.
    """
    try:
        parsed = decode_cancel(value) if len(value) == CANCEL_BYTES else decode_order(value)
    except OrderError as error:
        return BadRecord(offset=offset, broker_us=broker_us, reason=error.reason, detail=error.detail)
    if not verify(value, signature, public_key):
        detail = f"signature is not that of key {public_key.hex()} over these {len(value)} bytes; sign them again"
        return BadRecord(offset=offset, broker_us=broker_us, reason=OrderReject.SIGNATURE, detail=detail)
    wallet = encode(public_key)
    if isinstance(parsed, Cancel):
        return CancelRecord(offset=offset, broker_us=broker_us, wallet=wallet, cancel=parsed)
    return OrderRecord(
        offset=offset, broker_us=broker_us, wallet=wallet, order=parsed, message=value, signature=signature
    )

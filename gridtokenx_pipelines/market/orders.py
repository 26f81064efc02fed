"""The bytes of orders and cancels, their signatures, and the numbered reasons for refusing one.

Belongs here: `Order` and `Cancel` ↔ the fixed bytes of abi.md, signing and checking, ids, `OrderReject`.
Does not belong here: whether an order is admitted (intake.py) or covered (book.py).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from hashlib import sha256

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from gridtokenx_pipelines.market.base58 import decode_wallet

ORDER_TAG = b"gridtokenx/order/v1\0"
CANCEL_TAG = b"gridtokenx/cancel/v1\0"
MANDATE_ORDER_TAG = b"gridtokenx/mandate-order/v1\0"
_ORDER = struct.Struct("<20sQ32s16s32sBIIIQq32s")
_CANCEL = struct.Struct("<21sQ32s16sQ")
ORDER_BYTES = _ORDER.size  # 169
CANCEL_BYTES = _CANCEL.size  # 85
NO_CERTIFICATE = bytes(32)


class Side(IntEnum):
    """Side of an order, as in its bytes."""

    BUY = 0
    SELL = 1


class OrderReject(IntEnum):
    """Why an order, a cancel or a part of the book was refused; numbers are never reused."""

    NOT_DECODABLE = 1
    SIGNATURE = 2
    NETWORK = 3
    MARKET = 4
    WALLET_UNKNOWN = 5
    WALLET_INACTIVE = 6
    METER_UNKNOWN = 7
    METER_NOT_OWNED = 8
    WRONG_PARTITION = 9
    ENERGY_LIMIT = 10
    ABOVE_RATING = 11
    PRICE_BAND = 12
    PRICE_TICK = 13
    NONCE_RANGE = 14
    NONCE_USED = 15
    ORDER_ID_USED = 16
    SELF_TRADE = 17
    CONSUMER_SELLS = 18
    CLOCK = 19
    EPOCH_CLOSED = 20
    EPOCH_TOO_FAR = 21
    CANCEL_UNKNOWN_ORDER = 30
    CANCEL_TOO_LATE = 31
    METER_MISSING = 40
    NOT_COVERED = 41
    NET_BID_NOT_POSITIVE = 42
    ZONE_UNKNOWN = 43


class OrderError(ValueError):
    """A refusal with its numbered reason; the text gives the value, the bound and the remedy."""

    def __init__(self, reason: OrderReject, detail: str) -> None:
        super().__init__(f"{reason.name.lower()} ({reason.value}): {detail}")
        self.reason = reason
        self.detail = detail


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One signed order. Energy Wh, limit µTHB/kWh (all-in), times µs UTC; `certificate_id` 32 bytes or None."""

    network_id: int
    market: bytes
    order_id: bytes
    meter_hash: bytes
    side: int
    energy_wh: int
    limit_uthb_per_kwh: int
    epoch: int
    nonce: int
    placed_at_us: int
    certificate_id: bytes | None = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet's instruction to take one of its own orders out, named by id and nonce."""

    network_id: int
    market: bytes
    order_id: bytes
    nonce: int


def meter_hash(meter_id: str) -> bytes:
    """What an order names its meter by: sha256 of the ASCII id."""
    return sha256(meter_id.encode("ascii")).digest()


def _sized(name: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise ValueError(f"{name} had {len(value)} bytes, must have {size}")
    return value


def encode_order(order: Order) -> bytes:
    """The 169 bytes that the wallet signs. Raises ValueError if a field doesn't fit its place."""
    try:
        return _ORDER.pack(
            ORDER_TAG,
            order.network_id,
            _sized("market", order.market, 32),
            _sized("order_id", order.order_id, 16),
            _sized("meter_hash", order.meter_hash, 32),
            order.side,
            order.energy_wh,
            order.limit_uthb_per_kwh,
            order.epoch,
            order.nonce,
            order.placed_at_us,
            _sized("certificate_id", order.certificate_id or NO_CERTIFICATE, 32),
        )
    except struct.error as error:
        raise ValueError(f"order {order.order_id.hex()} does not fit its bytes: {error}") from error


def decode_order(message: bytes) -> Order:
    """169 bytes → Order. Raises OrderError NOT_DECODABLE for another length, tag or side."""
    if len(message) != ORDER_BYTES or not message.startswith(ORDER_TAG):
        raise OrderError(
            OrderReject.NOT_DECODABLE,
            f"message had {len(message)} bytes and tag {message[:20]!r}, must be {ORDER_BYTES} bytes of order/v1",
        )
    _, network, market, order_id, meter, side, energy, limit, epoch, nonce, placed, certificate = _ORDER.unpack(message)
    if side not in (Side.BUY, Side.SELL):
        raise OrderError(OrderReject.NOT_DECODABLE, f"side was {side}, must be 0 (buy) or 1 (sell)")
    return Order(
        network_id=network,
        market=market,
        order_id=order_id,
        meter_hash=meter,
        side=side,
        energy_wh=energy,
        limit_uthb_per_kwh=limit,
        epoch=epoch,
        nonce=nonce,
        placed_at_us=placed,
        certificate_id=None if certificate == NO_CERTIFICATE else certificate,
    )


def encode_cancel(cancel: Cancel) -> bytes:
    """The 85 bytes that the wallet signs to cancel. Raises ValueError if a field doesn't fit its place."""
    market, order_id = _sized("market", cancel.market, 32), _sized("order_id", cancel.order_id, 16)
    try:
        return _CANCEL.pack(CANCEL_TAG, cancel.network_id, market, order_id, cancel.nonce)
    except struct.error as error:
        raise ValueError(f"cancel of {cancel.order_id.hex()} does not fit its bytes: {error}") from error


def decode_cancel(message: bytes) -> Cancel:
    """85 bytes → Cancel. Raises OrderError NOT_DECODABLE for another length or tag."""
    if len(message) != CANCEL_BYTES or not message.startswith(CANCEL_TAG):
        raise OrderError(
            OrderReject.NOT_DECODABLE,
            f"message had {len(message)} bytes and tag {message[:21]!r}, must be {CANCEL_BYTES} bytes of cancel/v1",
        )
    _, network, market, order_id, nonce = _CANCEL.unpack(message)
    return Cancel(network_id=network, market=market, order_id=order_id, nonce=nonce)


def sign(message: bytes, key: SigningKey) -> bytes:
    """64-byte Ed25519 signature over an order's or cancel's bytes."""
    return key.sign(message).signature


def verify(message: bytes, signature: bytes, wallet_key: bytes) -> bool:
    """Whether the signature is the wallet's over exactly these bytes; malformed input is simply False."""
    try:
        VerifyKey(wallet_key).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def order_id_of(placed_at_us: int, entropy: bytes) -> bytes:
    """UUIDv7 from an instant and at least 10 bytes of entropy that the caller draws (no global random here)."""
    if len(entropy) < 10:
        raise ValueError(f"entropy had {len(entropy)} bytes, must have at least 10")
    raw = bytearray((placed_at_us // 1_000).to_bytes(6, "big") + entropy[:10])
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


def mandate_order_id(wallet: str, epoch: int) -> bytes:
    """Id of the one order that a wallet's mandate becomes in an epoch (abi.md)."""
    return sha256(MANDATE_ORDER_TAG + decode_wallet(wallet) + struct.pack("<I", epoch)).digest()[:16]

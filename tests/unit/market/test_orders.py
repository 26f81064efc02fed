"""Order and cancel bytes, ids and signatures."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from gridtokenx_pipelines.market import base58, orders
from gridtokenx_pipelines.market.orders import Cancel, Order, OrderError, OrderReject

KEY = SigningKey(bytes(range(32)))
ORDER = Order(
    network_id=3,
    market=b"m" * 32,
    order_id=bytes(range(16)),
    meter_hash=orders.meter_hash("MEA-001"),
    side=1,
    energy_wh=1_250,
    limit_uthb_per_kwh=3_010_000,
    epoch=1_966_416,
    nonce=7,
    placed_at_us=1_769_774_400_123_456,
)


def test_an_order_has_exactly_the_bytes_of_the_abi():
    expected = (
        b"gridtokenx/order/v1\0"
        + (3).to_bytes(8, "little")
        + b"m" * 32
        + bytes(range(16))
        + sha256(b"MEA-001").digest()
        + b"\x01"
        + (1_250).to_bytes(4, "little")
        + (3_010_000).to_bytes(4, "little")
        + (1_966_416).to_bytes(4, "little")
        + (7).to_bytes(8, "little")
        + (1_769_774_400_123_456).to_bytes(8, "little")
        + bytes(32)
    )
    assert orders.encode_order(ORDER) == expected
    assert len(expected) == orders.ORDER_BYTES == 169


@given(
    side=st.sampled_from([0, 1]),
    energy=st.integers(0, 2**32 - 1),
    nonce=st.integers(0, 2**64 - 1),
    placed=st.integers(-(2**63), 2**63 - 1),
    certificate=st.one_of(st.none(), st.binary(min_size=32, max_size=32).filter(any)),
)
def test_orders_survive_their_bytes(side, energy, nonce, placed, certificate):
    changed = msgspec.structs.replace(
        ORDER, side=side, energy_wh=energy, nonce=nonce, placed_at_us=placed, certificate_id=certificate
    )
    assert orders.decode_order(orders.encode_order(changed)) == changed


def test_cancels_survive_their_bytes():
    cancel = Cancel(network_id=3, market=b"m" * 32, order_id=bytes(range(16)), nonce=7)
    message = orders.encode_cancel(cancel)
    assert len(message) == orders.CANCEL_BYTES == 85
    assert orders.decode_cancel(message) == cancel


def test_a_signature_covers_every_byte():
    message = orders.encode_order(ORDER)
    signature = orders.sign(message, KEY)
    wallet = bytes(KEY.verify_key)
    assert orders.verify(message, signature, wallet)
    for place in range(len(message)):
        forged = bytearray(message)
        forged[place] ^= 1
        assert not orders.verify(bytes(forged), signature, wallet)
    assert not orders.verify(message, signature[:-1], wallet)
    assert not orders.verify(message, signature, b"short")


@pytest.mark.parametrize("message", [b"", bytes(169), b"gridtokenx/order/v1\0", orders.encode_order(ORDER) + b"\0"])
def test_garbage_is_refused_by_number(message):
    with pytest.raises(OrderError) as error:
        orders.decode_order(message)
    assert error.value.reason is OrderReject.NOT_DECODABLE


def test_an_unknown_side_is_refused():
    message = bytearray(orders.encode_order(ORDER))
    message[108] = 2
    with pytest.raises(OrderError, match="side was 2"):
        orders.decode_order(bytes(message))


def test_a_field_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="order_id had 15 bytes, must have 16"):
        orders.encode_order(msgspec.structs.replace(ORDER, order_id=bytes(15)))
    with pytest.raises(ValueError, match="does not fit its bytes"):
        orders.encode_order(msgspec.structs.replace(ORDER, energy_wh=2**32))


def test_a_mandate_order_id_is_the_hash_of_wallet_and_epoch():
    wallet = base58.encode(bytes(KEY.verify_key))
    expected = sha256(b"gridtokenx/mandate-order/v1\0" + bytes(KEY.verify_key) + (99).to_bytes(4, "little")).digest()
    assert orders.mandate_order_id(wallet, 99) == expected[:16]


def test_an_order_id_is_a_uuid_of_version_seven():
    made = UUID(bytes=orders.order_id_of(1_769_774_400_123_456, bytes(10)))
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == 1_769_774_400_123


@given(st.binary(min_size=32, max_size=32))
def test_wallets_survive_base58(raw):
    assert base58.decode_wallet(base58.encode(raw)) == raw


def test_the_system_program_is_thirty_two_ones():
    assert base58.encode(bytes(32)) == "1" * 32
    assert base58.encode(b"\0\0a") == "112g"


@pytest.mark.parametrize("address", ["alice", "0" * 40, "1" * 31])
def test_an_address_that_is_no_key_is_refused(address):
    with pytest.raises(ValueError, match="wallet address was"):
        base58.decode_wallet(address)

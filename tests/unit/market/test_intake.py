"""Order intake of a partition: admission, gates by ticks, cancels, replays."""

from __future__ import annotations

import pickle

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from gridtokenx_pipelines.epochs import EPOCH_US, end_us, start_us
from gridtokenx_pipelines.market import base58, orders
from gridtokenx_pipelines.market.intake import IntakeState, step
from gridtokenx_pipelines.market.orders import Cancel, Order, OrderReject
from gridtokenx_pipelines.market.records import (
    BadRecord,
    CancelRecord,
    MeterFacts,
    MeterLookup,
    OrderRecord,
    RejectedRecord,
    TickRecord,
    read_record,
)
from gridtokenx_pipelines.market.rules import Rules

EPOCH = 1_966_416
NOW = start_us(EPOCH) + 60_000_000
MARKET = b"m" * 32
RULES = Rules()
LOOKUP = MeterLookup(
    [
        MeterFacts(meter_id="A1", wallet="anna", zone_id=1, rating_w=4_000, produces=True),
        MeterFacts(meter_id="A2", wallet="anna", zone_id=1, rating_w=1_001, produces=False),
        MeterFacts(meter_id="B1", wallet="ben", zone_id=1, rating_w=9_000, produces=False),
        MeterFacts(meter_id="C1", wallet="chai", zone_id=2, rating_w=9_000, produces=True),
        MeterFacts(meter_id="D1", wallet="dao", zone_id=1, rating_w=9_000, produces=True, end_epoch=EPOCH),
    ],
    {1: 0, 2: 1},
)


def fresh() -> IntakeState:
    return IntakeState(partition=0, network_id=3, market=MARKET)


def order(**changes) -> Order:
    base = {
        "network_id": 3,
        "market": MARKET,
        "order_id": bytes(16),
        "meter_hash": orders.meter_hash("A1"),
        "side": 1,
        "energy_wh": 500,
        "limit_uthb_per_kwh": 3_000_000,
        "epoch": EPOCH,
        "nonce": 0,
        "placed_at_us": NOW,
    }
    return Order(**(base | changes))


def placed(offset: int, wallet: str = "anna", broker_us: int = NOW, **changes) -> OrderRecord:
    changes.setdefault("order_id", offset.to_bytes(16, "big"))
    changes.setdefault("nonce", offset % 50)
    return OrderRecord(offset=offset, broker_us=broker_us, wallet=wallet, order=order(**changes))


def cancel(offset: int, of: int, wallet: str = "anna", nonce: int | None = None) -> CancelRecord:
    named = Cancel(
        network_id=3, market=MARKET, order_id=of.to_bytes(16, "big"), nonce=of % 50 if nonce is None else nonce
    )
    return CancelRecord(offset=offset, broker_us=NOW, wallet=wallet, cancel=named)


def tick(offset: int, tick_us: int) -> TickRecord:
    return TickRecord(offset=offset, tick_us=tick_us)


def reasons(out) -> list[tuple[int, OrderReject]]:
    return [(refused.offset, refused.reason) for refused in out.rejected]


def test_an_admitted_order_becomes_a_row_of_the_orders_table():
    record = placed(0, broker_us=NOW + 5)
    out = step(fresh(), [record], LOOKUP, RULES)
    assert out.rejected == [] and out.cancelled == [] and out.gate_epochs == []
    assert [accepted.row() for accepted in out.accepted] == [
        {
            "order_id": bytes(16),
            "wallet": "anna",
            "zone_id": 1,
            "meter_id": "A1",
            "side": 1,
            "energy_wh": 500,
            "limit_uthb_per_kwh": 3_000_000,
            "epoch": EPOCH,
            "nonce": 0,
            "placed_at_us": NOW,
            "certificate_id": None,
            "is_mandate": False,
            "broker_us": NOW + 5,
            "market": MARKET,
            "message": b"",
            "signature": b"",
            "partition": 0,
            "offset": 0,
            "status": "pending",
        }
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network_id": 1}, OrderReject.NETWORK),
        ({"market": b"x" * 32}, OrderReject.MARKET),
        ({"wallet": "nobody"}, OrderReject.WALLET_UNKNOWN),
        ({"wallet": "dao", "meter_hash": orders.meter_hash("D1")}, OrderReject.WALLET_INACTIVE),
        ({"meter_hash": orders.meter_hash("Z9")}, OrderReject.METER_UNKNOWN),
        ({"meter_hash": orders.meter_hash("D1")}, OrderReject.METER_UNKNOWN),
        ({"meter_hash": orders.meter_hash("B1")}, OrderReject.METER_NOT_OWNED),
        ({"wallet": "chai", "meter_hash": orders.meter_hash("C1")}, OrderReject.WRONG_PARTITION),
        ({"energy_wh": 0}, OrderReject.ENERGY_LIMIT),
        ({"side": 0, "energy_wh": 1_000_001}, OrderReject.ENERGY_LIMIT),
        ({"energy_wh": 1_251}, OrderReject.ABOVE_RATING),
        ({"limit_uthb_per_kwh": 1_990_000}, OrderReject.PRICE_BAND),
        ({"limit_uthb_per_kwh": 8_010_000}, OrderReject.PRICE_BAND),
        ({"limit_uthb_per_kwh": 3_000_001}, OrderReject.PRICE_TICK),
        ({"nonce": 50}, OrderReject.NONCE_RANGE),
        ({"wallet": "ben", "meter_hash": orders.meter_hash("B1")}, OrderReject.CONSUMER_SELLS),
        ({"placed_at_us": NOW - 10_000_001}, OrderReject.CLOCK),
        ({"placed_at_us": NOW + 10_000_001}, OrderReject.CLOCK),
        ({"epoch": EPOCH + 673}, OrderReject.EPOCH_TOO_FAR),
    ],
)
def test_what_breaks_a_limit_is_refused_by_number(changes, reason):
    assert reasons(step(fresh(), [placed(3, **changes)], LOOKUP, RULES)) == [(3, reason)]


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_wh": 1_250},
        {"side": 0, "energy_wh": 1_000_000},
        {"limit_uthb_per_kwh": 2_000_000},
        {"limit_uthb_per_kwh": 8_000_000},
        {"nonce": 49},
        {"placed_at_us": NOW - 10_000_000},
        {"epoch": EPOCH + 672},
        {"wallet": "ben", "side": 0, "meter_hash": orders.meter_hash("B1")},
    ],
)
def test_what_lies_on_a_limit_is_admitted(changes):
    out = step(fresh(), [placed(3, **changes)], LOOKUP, RULES)
    assert (len(out.accepted), out.rejected) == (1, [])


def test_a_nonce_counts_once_per_wallet_and_epoch():
    records = [
        placed(0, nonce=4, side=0),
        placed(1, nonce=4, side=0),
        placed(2, nonce=4, side=0, epoch=EPOCH + 1),
        placed(3, nonce=4, side=0, wallet="ben", meter_hash=orders.meter_hash("B1")),
    ]
    out = step(fresh(), records, LOOKUP, RULES)
    assert reasons(out) == [(1, OrderReject.NONCE_USED)]
    assert [accepted.record.offset for accepted in out.accepted] == [0, 2, 3]


def test_an_order_id_stands_in_one_book_only():
    out = step(fresh(), [placed(0), placed(1, order_id=bytes(16), epoch=EPOCH + 1)], LOOKUP, RULES)
    assert reasons(out) == [(1, OrderReject.ORDER_ID_USED)]


def test_a_wallet_has_one_side_per_epoch():
    out = step(fresh(), [placed(0), placed(1, side=0), placed(2, side=0, epoch=EPOCH + 1)], LOOKUP, RULES)
    assert reasons(out) == [(1, OrderReject.SELF_TRADE)]


def test_a_refused_order_uses_up_nothing():
    out = step(fresh(), [placed(0, energy_wh=0, nonce=0), placed(1, nonce=0, order_id=bytes(16))], LOOKUP, RULES)
    assert reasons(out) == [(0, OrderReject.ENERGY_LIMIT)]
    assert len(out.accepted) == 1


def test_the_first_tick_at_or_after_the_end_closes_the_gate():
    state = fresh()
    late = {"broker_us": end_us(EPOCH), "placed_at_us": end_us(EPOCH)}
    out = step(
        state,
        [
            tick(0, NOW),
            placed(1),
            tick(2, end_us(EPOCH) - 1),
            placed(3, **late),  # placed after the end, but no tick has said so yet
            tick(4, end_us(EPOCH)),
            placed(5, **late),
            tick(6, end_us(EPOCH) - 5),  # a slower gateway
            tick(7, end_us(EPOCH + 2) + 1),
        ],
        LOOKUP,
        RULES,
    )
    assert out.gate_epochs == [EPOCH - 1, EPOCH, EPOCH + 1, EPOCH + 2]
    assert reasons(out) == [(5, OrderReject.EPOCH_CLOSED)]
    assert [accepted.record.offset for accepted in out.accepted] == [1, 3]
    assert (state.gate_through, state.books, state.epoch_of_order) == (EPOCH + 2, {}, {})


def test_a_cancel_acts_until_the_epoch_begins():
    state = fresh()
    out = step(
        state,
        [
            tick(0, NOW),
            placed(1, epoch=EPOCH + 1),
            placed(2, epoch=EPOCH + 1),
            cancel(3, of=1),
            cancel(4, of=1),
            cancel(5, of=2, wallet="ben"),
            cancel(6, of=2, nonce=9),
            tick(7, start_us(EPOCH + 1)),
            cancel(8, of=2),
        ],
        LOOKUP,
        RULES,
    )
    assert [(gone.order_id, gone.wallet, gone.epoch) for gone in out.cancelled] == [
        ((1).to_bytes(16, "big"), "anna", EPOCH + 1)
    ]
    unknown, late = OrderReject.CANCEL_UNKNOWN_ORDER, OrderReject.CANCEL_TOO_LATE
    assert reasons(out) == [(4, unknown), (5, unknown), (6, unknown), (8, late)]


def test_a_wallet_without_live_orders_may_change_sides():
    later = {"epoch": EPOCH + 1}
    out = step(fresh(), [placed(0, **later), cancel(1, of=0), placed(2, side=0, **later)], LOOKUP, RULES)
    assert [accepted.record.offset for accepted in out.accepted] == [0, 2]
    # the nonce stays used: the chain's bitmap could otherwise be asked to record it twice
    again = step(fresh(), [placed(0, **later), cancel(1, of=0), placed(2, nonce=0, **later)], LOOKUP, RULES)
    assert reasons(again) == [(2, OrderReject.NONCE_USED)]


def test_a_record_that_could_not_be_read_keeps_its_place():
    bad = BadRecord(offset=4, broker_us=NOW, reason=OrderReject.SIGNATURE, detail="forged")
    assert step(fresh(), [bad], LOOKUP, RULES).rejected == [
        RejectedRecord(partition=0, offset=4, broker_us=NOW, reason=OrderReject.SIGNATURE, detail="forged")
    ]


def test_bytes_and_headers_become_records():
    key = SigningKey(bytes(32))
    public, message = bytes(key.verify_key), orders.encode_order(order())
    signature = orders.sign(message, key)
    assert read_record(1, NOW, message, signature, public) == OrderRecord(
        offset=1, broker_us=NOW, wallet=base58.encode(public), order=order(), message=message, signature=signature
    )
    forged = read_record(2, NOW, message, signature[::-1], public)
    assert isinstance(forged, BadRecord) and forged.reason is OrderReject.SIGNATURE
    garbage = read_record(3, NOW, b"garbage", signature, public)
    assert isinstance(garbage, BadRecord) and garbage.reason is OrderReject.NOT_DECODABLE
    named = Cancel(network_id=3, market=MARKET, order_id=bytes(16), nonce=1)
    message = orders.encode_cancel(named)
    assert read_record(4, NOW, message, orders.sign(message, key), public) == CancelRecord(
        offset=4, broker_us=NOW, wallet=base58.encode(public), cancel=named
    )


RECORDS = st.lists(
    st.one_of(
        st.builds(
            lambda nonce, side, ahead, ident: (
                "order",
                {"nonce": nonce, "side": side, "epoch": EPOCH + ahead, "order_id": bytes(15) + bytes([ident])},
            ),
            st.integers(0, 3),
            st.integers(0, 1),
            st.integers(0, 2),
            st.integers(0, 5),
        ),
        st.integers(0, 3 * EPOCH_US).map(lambda after: ("tick", NOW + after)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(RECORDS, st.data())
def test_batches_pickling_and_replays_do_not_matter(drawn, data):
    made = {"order": lambda at, what: placed(at, **what), "tick": tick, "cancel": cancel}
    records = [made[kind](offset, what) for offset, (kind, what) in enumerate(drawn)]
    whole_state, parts_state = fresh(), fresh()
    whole = step(whole_state, records, LOOKUP, RULES)
    cut = data.draw(st.integers(0, len(records)))
    first = step(parts_state, records[:cut], LOOKUP, RULES)
    parts_state = pickle.loads(pickle.dumps(parts_state))  # noqa: S301 (our own bytes)
    second = step(parts_state, records, LOOKUP, RULES)  # the first part is replayed
    assert parts_state == whole_state
    for name in ("accepted", "rejected", "cancelled", "gate_epochs"):
        assert getattr(first, name) + getattr(second, name) == getattr(whole, name)
    handled = len(whole.accepted) + len(whole.rejected) + len(whole.cancelled)
    assert handled == sum(not isinstance(record, TickRecord) for record in records)
    per_book = {}
    for accepted in whole.accepted:
        key = (accepted.record.wallet, accepted.record.order.epoch, accepted.record.order.nonce)
        assert per_book.setdefault(key, accepted) is accepted


def test_the_state_can_be_compared_and_copied():
    assert msgspec.structs.replace(fresh(), offset=3) != fresh()

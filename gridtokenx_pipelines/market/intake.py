"""Order intake of one partition: what is admitted to which epoch's book, and when its gate closes (domain §4).

Belongs here: the per-partition state and `step`, a pure reducer over decoded records in offset order; the same function
serves the flow, a test and the audit. State pickles. Does not belong here: Kafka, signatures in batches (the flow does
both), cover and mandates (book.py). Only ticks move time: "now" is the last tick before a record.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gridtokenx_pipelines.epochs import EPOCHS_PER_DAY, end_us, epoch_of_us, key_of
from gridtokenx_pipelines.market.orders import Order, OrderError, OrderReject, Side
from gridtokenx_pipelines.market.records import (
    AcceptedOrder,
    BadRecord,
    CancelledOrder,
    CancelRecord,
    IntakeOutputs,
    Lookup,
    MeterFacts,
    OrderRecord,
    Record,
    RejectedRecord,
    TickRecord,
)
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.units import PRICE_TICK_UTHB_PER_KWH

HORIZON_EPOCHS = 7 * EPOCHS_PER_DAY
QUARTERS_PER_HOUR = 4


class EpochIntake(msgspec.Struct):
    """One open book: nonces used and live orders' side per wallet, live orders by id."""

    nonces: dict[str, int] = {}
    sides: dict[str, tuple[int, int]] = {}
    orders: dict[bytes, tuple[str, int]] = {}


class IntakeState(msgspec.Struct, kw_only=True):
    """State of one partition. `gate_through`: last epoch whose gate has passed here, None before the first tick."""

    partition: int
    network_id: int
    market: bytes
    offset: int = -1
    tick_us: int | None = None
    gate_through: int | None = None
    books: dict[int, EpochIntake] = {}
    epoch_of_order: dict[bytes, int] = {}


def step(state: IntakeState, records: Iterable[Record], lookup: Lookup, rules: Rules) -> IntakeOutputs:
    """Advance the state (in place) over records in offset order.

    Records at or below the state's offset were applied already and are skipped, so a replayed batch changes nothing.
    """
    out = IntakeOutputs(accepted=[], rejected=[], cancelled=[], gate_epochs=[])
    for record in records:
        if record.offset <= state.offset:
            continue
        state.offset = record.offset
        if isinstance(record, TickRecord):
            _tick(state, record.tick_us, out)
            continue
        try:
            if isinstance(record, BadRecord):
                raise OrderError(record.reason, record.detail)
            if isinstance(record, CancelRecord):
                out.cancelled.append(_cancel(state, record))
            else:
                out.accepted.append(_admit(state, record, lookup, rules))
        except OrderError as error:
            out.rejected.append(
                RejectedRecord(
                    partition=state.partition,
                    offset=record.offset,
                    broker_us=record.broker_us,
                    reason=error.reason,
                    detail=error.detail,
                )
            )
    return out


def _tick(state: IntakeState, tick_us: int, out: IntakeOutputs) -> None:
    if state.tick_us is not None and tick_us <= state.tick_us:
        return  # a second gateway's slower clock never turns time back
    state.tick_us = tick_us
    through = epoch_of_us(tick_us) - 1
    first = through if state.gate_through is None else state.gate_through + 1
    out.gate_epochs.extend(range(first, through + 1))
    state.gate_through = through
    for epoch in [epoch for epoch in state.books if epoch <= through]:
        for order_id in state.books.pop(epoch).orders:
            state.epoch_of_order.pop(order_id, None)


def _same_market(state: IntakeState, network_id: int, market: bytes) -> None:
    if network_id != state.network_id:
        raise OrderError(OrderReject.NETWORK, f"network was {network_id}, must be {state.network_id}; sign for it")
    if market != state.market:
        raise OrderError(OrderReject.MARKET, f"market was {market.hex()}, must be {state.market.hex()}; sign for it")


def _admit(state: IntakeState, record: OrderRecord, lookup: Lookup, rules: Rules) -> AcceptedOrder:
    order, wallet = record.order, record.wallet
    _same_market(state, order.network_id, order.market)
    _check_time(state, record, rules)
    meter = _check_people(state, record, lookup)
    _check_limits(order, rules.at(order.epoch))
    book = state.books.get(order.epoch, EpochIntake())
    used, (side, live) = book.nonces.get(wallet, 0), book.sides.get(wallet, (order.side, 0))
    if used >> order.nonce & 1:
        raise OrderError(OrderReject.NONCE_USED, f"nonce {order.nonce} of epoch {order.epoch} is used; take a free one")
    if order.order_id in state.epoch_of_order:
        raise OrderError(OrderReject.ORDER_ID_USED, f"order id {order.order_id.hex()} is in a book; draw a new one")
    if live and side != order.side:
        raise OrderError(
            OrderReject.SELF_TRADE,
            f"side was {Side(order.side).name}, the wallet's {live} orders of epoch {order.epoch} are on side "
            f"{Side(side).name}; a wallet has one side per epoch",
        )
    state.books[order.epoch] = book
    book.nonces[wallet] = used | 1 << order.nonce
    book.sides[wallet] = (order.side, live + 1)
    book.orders[order.order_id] = (wallet, order.nonce)
    state.epoch_of_order[order.order_id] = order.epoch
    return AcceptedOrder(partition=state.partition, record=record, zone_id=meter.zone_id, meter_id=meter.meter_id)


def _check_time(state: IntakeState, record: OrderRecord, rules: Rules) -> None:
    order = record.order
    away = abs(order.placed_at_us - record.broker_us)
    if away > rules.order_clock_tolerance_us:
        raise OrderError(
            OrderReject.CLOCK,
            f"placed_at was {away} µs away from the broker's time, must be within {rules.order_clock_tolerance_us}; "
            "set the clock and sign again",
        )
    if state.gate_through is not None and order.epoch <= state.gate_through:
        raise OrderError(
            OrderReject.EPOCH_CLOSED,
            f"epoch was {order.epoch}, the gate has passed through {state.gate_through}; name a later one",
        )
    # before the first tick there is no event time yet, the broker's stands in for this bound only
    now = epoch_of_us(record.broker_us if state.tick_us is None else state.tick_us)
    if order.epoch > now + HORIZON_EPOCHS:
        raise OrderError(
            OrderReject.EPOCH_TOO_FAR,
            f"epoch was {order.epoch}, at most {now + HORIZON_EPOCHS} is open (7 days ahead); place it later",
        )


def _check_people(state: IntakeState, record: OrderRecord, lookup: Lookup) -> MeterFacts:
    order = record.order
    person = lookup.wallet(record.wallet, order.epoch)
    if person is None:
        raise OrderError(OrderReject.WALLET_UNKNOWN, f"wallet {record.wallet} has no meter; register one first")
    if not person.is_active:
        raise OrderError(OrderReject.WALLET_INACTIVE, f"wallet {record.wallet} is not active in epoch {order.epoch}")
    if lookup.partition_of(person.zone_id) != state.partition:
        raise OrderError(
            OrderReject.WRONG_PARTITION,
            f"partition was {state.partition}, orders of zone {person.zone_id} belong to "
            f"{lookup.partition_of(person.zone_id)}; key the record by the wallet's zone",
        )
    meter = lookup.meter(order.meter_hash)
    if meter is None or not meter.is_active(order.epoch):
        raise OrderError(
            OrderReject.METER_UNKNOWN,
            f"meter with hash {order.meter_hash.hex()} is not active in {order.epoch}; name an active one",
        )
    if meter.wallet != record.wallet:
        raise OrderError(
            OrderReject.METER_NOT_OWNED, f"meter {meter.meter_id} is not the wallet's; name one of your own"
        )
    if order.side == Side.SELL:
        if not person.may_sell:
            raise OrderError(OrderReject.CONSUMER_SELLS, "wallet has no production meter; a consumer only buys")
        if order.energy_wh * QUARTERS_PER_HOUR > person.rating_w:
            raise OrderError(
                OrderReject.ABOVE_RATING,
                f"energy was {order.energy_wh} Wh, meters of {person.rating_w} W make at most "
                f"{person.rating_w // QUARTERS_PER_HOUR} Wh in 15 minutes; sell less",
            )
    return meter


def _check_limits(order: Order, rules: Rules) -> None:
    if not 0 < order.energy_wh <= rules.max_order_wh:
        raise OrderError(
            OrderReject.ENERGY_LIMIT, f"energy was {order.energy_wh} Wh, must lie in 1…{rules.max_order_wh}; split it"
        )
    low, high = rules.price_min_uthb_per_kwh, rules.price_max_uthb_per_kwh
    if not low <= order.limit_uthb_per_kwh <= high:
        raise OrderError(
            OrderReject.PRICE_BAND, f"limit was {order.limit_uthb_per_kwh} µTHB/kWh, must lie in {low}…{high}"
        )
    if order.limit_uthb_per_kwh % PRICE_TICK_UTHB_PER_KWH:
        raise OrderError(
            OrderReject.PRICE_TICK,
            f"limit was {order.limit_uthb_per_kwh} µTHB/kWh, must be a multiple of {PRICE_TICK_UTHB_PER_KWH}",
        )
    if order.nonce >= rules.max_orders_per_wallet_epoch:
        raise OrderError(
            OrderReject.NONCE_RANGE,
            f"nonce was {order.nonce}, must lie in 0…{rules.max_orders_per_wallet_epoch - 1}: "
            f"{rules.max_orders_per_wallet_epoch} orders per wallet and epoch",
        )


def _cancel(state: IntakeState, record: CancelRecord) -> CancelledOrder:
    cancel = record.cancel
    _same_market(state, cancel.network_id, cancel.market)
    epoch = state.epoch_of_order.get(cancel.order_id)
    book = state.books.get(epoch) if epoch is not None else None
    if epoch is None or book is None or book.orders[cancel.order_id] != (record.wallet, cancel.nonce):
        raise OrderError(
            OrderReject.CANCEL_UNKNOWN_ORDER,
            f"order {cancel.order_id.hex()} with nonce {cancel.nonce} is not in an open book of this wallet",
        )
    if state.tick_us is not None and epoch <= epoch_of_us(state.tick_us):
        raise OrderError(
            OrderReject.CANCEL_TOO_LATE,
            f"epoch {key_of(epoch)} has begun (its gate is at {end_us(epoch)} µs); a cancel acts before that",
        )
    del book.orders[cancel.order_id], state.epoch_of_order[cancel.order_id]
    side, live = book.sides[record.wallet]
    book.sides[record.wallet] = (side, live - 1)  # with none left the wallet may take either side; its nonce stays used
    return CancelledOrder(
        order_id=cancel.order_id,
        wallet=record.wallet,
        epoch=epoch,
        nonce=cancel.nonce,
        cancelled_at_us=record.broker_us,
    )

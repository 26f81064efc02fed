"""Orders that people place by hand: some good ones where they fit, a few cancelled, a few wrong ones of every kind.

Belongs here: who places what and when, in signed bytes. Does not belong here: mandates (neighbourhood.py) or whether
an order is admitted. A wallet is used at most once an epoch, so no order but the one meant to is ever refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum

import msgspec
from nacl.signing import SigningKey

from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.market.orders import (
    Cancel,
    Order,
    OrderReject,
    Side,
    decode_order,
    encode_cancel,
    encode_order,
    meter_hash,
    order_id_of,
    sign,
)
from gridtokenx_pipelines.metering.registry import partition_of_zone
from gridtokenx_pipelines.simulation.draws import Draws
from gridtokenx_pipelines.simulation.keys import DemoKeys, public_bytes
from gridtokenx_pipelines.simulation.messages import ORDERS_TOPIC, Event
from gridtokenx_pipelines.simulation.neighbourhood import PROSUMER, Household, Neighbourhood
from gridtokenx_pipelines.simulation.registers import Registers
from gridtokenx_pipelines.simulation.telemetry import MS, Sent
from gridtokenx_pipelines.units import PRICE_TICK_UTHB_PER_KWH

SHARE_IN_100 = 40  # of epochs with a good buy, and of those with a good sell where the sun gives one
LEAST_WH = 40
CANCELLED_NONCE, BAD_NONCE = 10, 20
EARLIEST_MS, LATEST_MS = 120_000, 700_000  # a cancel or second order, up to 45 s later, still meets the gate
PLACED_BEFORE_MS = 400  # how long a signed order is on its way


class Trick(Enum):
    """What goes wrong with a hand-placed order; one comes at a fixed place of every twelve epochs."""

    OFF_TICK = 1
    WRONG_METER = 2
    OTHER_SIDE = 3
    FORGED = 4
    CANCEL = 5
    CANCEL_TOO_LATE = 6
    CONSUMER_SELLS = 7


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Events, good ones counted by `orders` and `cancels`, and the refusals to expect by reason."""

    sent: list[Sent]
    good: Counter[str]
    refused: Counter[str]


class HandOrders:
    """Orders and cancels of a run, epoch by epoch."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        registers: Registers,
        *,
        market: bytes,
        partitions: int,
        without: str | None = None,
    ) -> None:
        """`market`: 32 bytes of the market's address; `without`: a wallet that stays out (its meter falls silent)."""
        if len(market) != 32:
            raise ValueError(f"market had {len(market)} bytes, must be the 32 bytes of the market's address")
        self._market, self._partitions = market, partitions
        self._registers, self._network_id = registers, neighbourhood.network_id
        self._draws, self._keys = Draws(neighbourhood.seed), DemoKeys(neighbourhood.seed)
        self._homes = [home for home in neighbourhood.households if home.wallet != without]
        places = {meter.meter_id: place for place, meter in enumerate(neighbourhood.meters)}
        self._places = {home.name: [places[meter.meter_id] for meter in home.meters] for home in self._homes}

    def of_epoch(self, epoch: int) -> Placed:
        """What is placed during an epoch."""
        net = {
            home.name: sum(self._registers.net_wh(m, epoch) for m in self._places[home.name]) for home in self._homes
        }
        free = sorted(self._homes, key=lambda home: self._draws.raw("turn", home.name, epoch))
        placed = Placed(sent=[], good=Counter(), refused=Counter())
        for side, word in ((Side.SELL, "sell"), (Side.BUY, "buy")):
            if self._draws.below(100, word, epoch) >= SHARE_IN_100:
                continue
            sign_of = 1 if side == Side.SELL else -1
            home = _take(free, [each for each in free if sign_of * net[each.name] >= LEAST_WH])
            if home is not None:
                energy_wh = abs(net[home.name]) * self._draws.between(50, 80, word, "part", epoch) // 100
                placed.sent.append(self._order(home, epoch, side, energy_wh))
                placed.good["orders"] += 1
        place = (epoch - self._registers.start_epoch) % 12
        if 1 <= place <= len(Trick):
            self._play(Trick(place), epoch, free, placed)
        return placed

    def _play(self, trick: Trick, epoch: int, free: list[Household], placed: Placed) -> None:
        sent, good, refused = placed.sent, placed.good, placed.refused
        consumers = [home for home in free if home.user_type != PROSUMER]
        prosumers = [home for home in free if home.user_type == PROSUMER]
        anyone = consumers + prosumers
        fitting = {Trick.OTHER_SIDE: prosumers, Trick.CONSUMER_SELLS: consumers}
        home = _take(free, fitting.get(trick, anyone))
        if home is None:
            return
        nonce = BAD_NONCE + trick.value
        match trick:
            case Trick.OFF_TICK:
                sent.append(self._order(home, epoch, Side.BUY, 100, nonce=nonce, off_tick=1_234))
                refused[OrderReject.PRICE_TICK.name.lower()] += 1
            case Trick.WRONG_METER:
                other = _take(free, anyone)
                if other is not None:
                    meter_id = other.meters[0].meter_id
                    sent.append(self._order(home, epoch, Side.BUY, 100, nonce=nonce, meter_id=meter_id))
                    refused[OrderReject.METER_NOT_OWNED.name.lower()] += 1
            case Trick.OTHER_SIDE:
                sent.append(self._order(home, epoch, Side.BUY, 100))
                good["orders"] += 1
                sent.append(self._order(home, epoch, Side.SELL, 100, nonce=nonce, after_ms=30_000))
                refused[OrderReject.SELF_TRADE.name.lower()] += 1
            case Trick.FORGED:
                stranger = self._keys.stranger(home.name)
                sent.append(self._order(home, epoch, Side.BUY, 100, nonce=nonce, signer=stranger))
                refused[OrderReject.SIGNATURE.name.lower()] += 1
            case Trick.CANCEL | Trick.CANCEL_TOO_LATE:
                # a cancel acts before the epoch begins, so only the order for the next one can be taken out
                target = epoch + (trick is Trick.CANCEL)
                order = self._order(home, epoch, Side.BUY, 100, nonce=CANCELLED_NONCE, target=target)
                sent += [order, self._cancel(home, order)]
                good["orders"] += 1
                if trick is Trick.CANCEL:
                    good["cancels"] += 1
                else:
                    refused[OrderReject.CANCEL_TOO_LATE.name.lower()] += 1
            case Trick.CONSUMER_SELLS:
                sent.append(self._order(home, epoch, Side.SELL, 100, nonce=nonce))
                refused[OrderReject.CONSUMER_SELLS.name.lower()] += 1

    def _order(
        self,
        home: Household,
        epoch: int,
        side: Side,
        energy_wh: int,
        *,
        nonce: int = 0,
        target: int | None = None,
        off_tick: int = 0,
        meter_id: str | None = None,
        signer: SigningKey | None = None,
        after_ms: int = 0,
    ) -> Sent:
        entropy = self._draws.raw("order", home.name, epoch, nonce)
        arrival_ms = (
            start_us(epoch) // MS + self._draws.between(EARLIEST_MS, LATEST_MS, "placed", home.name, epoch) + after_ms
        )
        placed_at_us = (arrival_ms - PLACED_BEFORE_MS) * MS
        # sellers ask within reach of buyers, so that most hand-placed orders trade
        low, high = (220, 300) if side == Side.SELL else (310, 410)
        limit = self._draws.between(low, high, "limit", home.name, epoch) * PRICE_TICK_UTHB_PER_KWH + off_tick
        message = encode_order(
            Order(
                network_id=self._network_id,
                market=self._market,
                order_id=order_id_of(placed_at_us, entropy),
                meter_hash=meter_hash(meter_id or _meter_for(home, side)),
                side=side,
                energy_wh=energy_wh,
                limit_uthb_per_kwh=limit,
                epoch=epoch if target is None else target,
                nonce=nonce,
                placed_at_us=placed_at_us,
            )
        )
        return self._sent(home, message, b"order", arrival_ms, signer)

    def _cancel(self, home: Household, placed: Sent) -> Sent:
        order = decode_order(placed.event.value)
        cancel = Cancel(network_id=self._network_id, market=self._market, order_id=order.order_id, nonce=order.nonce)
        return self._sent(home, encode_cancel(cancel), b"cancel", placed.arrival_ms + 45_000, None)

    def _sent(self, home: Household, message: bytes, kind: bytes, arrival_ms: int, signer: SigningKey | None) -> Sent:
        wallet = self._keys.wallet(home.name)
        event = Event(
            topic=ORDERS_TOPIC,
            partition=partition_of_zone(home.zone_id, self._partitions),
            key=str(home.zone_id).encode(),
            value=message,
            headers=(("kind", kind), ("sig", sign(message, signer or wallet)), ("pub", public_bytes(wallet))),
            timestamp_ms=arrival_ms,
        )
        return Sent(arrival_ms, event)


def _take(free: list[Household], candidates: Sequence[Household]) -> Household | None:
    """The first candidate that is still free; it is then no longer."""
    for home in candidates:
        if home in free:
            free.remove(home)
            return home
    return None


def _meter_for(home: Household, side: Side) -> str:
    """A seller names a meter that produces, a buyer the main one."""
    producing = [meter for meter in home.meters if meter.pv_columns or meter.storage_columns]
    return (producing[0] if side == Side.SELL and producing else home.meters[0]).meter_id

"""The orders flow over lists: admitted, cancelled and refused orders, ticks of registered gateways only."""

from __future__ import annotations

from hashlib import sha256

from bytewax.testing import TestingSource, run_main
from metering_world import EPOCH, NETWORK, SECOND, START_US, Stream, key_of, meter_record, registry_of

from gridtokenx_pipelines.market.base58 import encode
from gridtokenx_pipelines.market.orders import Cancel, Order, encode_cancel, encode_order, meter_hash, order_id_of, sign
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import RegistryView
from streaming.orders import Admitted, Market, RegistryLookup, build_flow
from streaming.telemetry import Registry

WALLET = key_of("wallet")
WALLET_ADDRESS = encode(bytes(WALLET.verify_key))
MARKET = Market(NETWORK, sha256(b"market").digest(), Rules())
METER = meter_record(wallet=WALLET_ADDRESS)


class OrderStream(Stream):
    """Orders of one wallet; `seconds` is both the placing and the broker's time."""

    def place(self, nonce: int, seconds: float, epoch: int = EPOCH + 1, **changes: object) -> Order:
        order = Order(
            network_id=NETWORK,
            market=MARKET.address,
            order_id=order_id_of(START_US + 1_000 * nonce, bytes(10)),
            meter_hash=meter_hash("MEA-001"),
            side=0,
            energy_wh=100,
            limit_uthb_per_kwh=3_000_000,
            epoch=epoch,
            nonce=nonce,
            placed_at_us=START_US + round(seconds * SECOND),
        )
        self._signed_at(encode_order(order), seconds, **changes)
        return order

    def cancel(self, order: Order, seconds: float) -> None:
        message = encode_cancel(
            Cancel(network_id=NETWORK, market=MARKET.address, order_id=order.order_id, nonce=order.nonce)
        )
        self._signed_at(message, seconds)

    def _signed_at(self, message: bytes, seconds: float, signer: str = "wallet") -> None:
        headers = (("sig", sign(message, key_of(signer))), ("pub", bytes(WALLET.verify_key)))
        self.raws.append(Raw(len(self.raws), START_US + round(seconds * SECOND), message, headers, b"1"))


def run(raws: list[Raw], registry: Registry) -> list[Admitted]:
    gathered: list[Admitted] = []
    source = TestingSource([("0000", raws[start : start + 2]) for start in range(0, len(raws), 2)])
    run_main(build_flow(source, 4, MARKET, registry, {"gather": gathered.extend}))
    return gathered


def test_orders_cancels_ticks_and_refusals_come_out_in_their_order() -> None:
    stream = OrderStream()
    stream.tick(0)
    first = stream.place(0, 1)
    second = stream.place(1, 2)
    stream.cancel(first, 3)
    stream.place(2, 4, signer="a stranger")
    stream.tick(900, key=key_of("a stranger"))
    stream.tick(1_800)
    stream.place(3, 1_801)
    stream.signed(b"garbage")
    gathered = run(stream.raws, Registry(registry_of(METER), lambda: None))
    accepted = [each.record.order for batch in gathered for each in batch.outputs.accepted]
    assert accepted == [first, second]
    assert [each.order_id for batch in gathered for each in batch.outputs.cancelled] == [first.order_id]
    letters = [letter for batch in gathered for letter in batch.letters]
    assert [(letter.raw, letter.word) for letter in letters] == [
        (stream.raws[4], "signature"),
        (stream.raws[5], "signature"),
        (stream.raws[7], "epoch_closed"),
        (stream.raws[8], "not_decodable"),
    ]
    assert [epoch for batch in gathered for epoch in batch.outputs.gate_epochs] == [EPOCH - 1, EPOCH, EPOCH + 1]
    last = gathered[-1]
    assert (last.tick_us, last.gate_through, last.offset) == (START_US + 1_800 * SECOND, EPOCH + 1, 8)


def test_the_registry_is_read_anew_for_a_wallet_it_lacks() -> None:
    stream, view = OrderStream(), registry_of(meter_record("MEA-009"))
    stream.tick(0)
    stream.place(0, 1)
    gathered = run(stream.raws, Registry(view, lambda: view.add(METER)))
    assert [len(batch.outputs.accepted) for batch in gathered] == [1]


def test_the_registry_answers_what_was_in_force_in_an_epoch() -> None:
    retired = meter_record(wallet=WALLET_ADDRESS, status="retired", effective_epoch=EPOCH + 5)
    second = meter_record("MEA-002", wallet=WALLET_ADDRESS, meter_type="Grid", first_epoch=EPOCH + 3, rating_w=500)
    view = RegistryView([METER, retired, second])
    lookup = RegistryLookup(view, 4)
    facts = lookup.meter(meter_hash("MEA-001"))
    assert facts is not None and (facts.is_active(EPOCH + 4), facts.is_active(EPOCH + 5)) == (True, False)
    found = [lookup.wallet(WALLET_ADDRESS, EPOCH + at) for at in (0, 3, 5)]
    assert [(each.is_active, each.may_sell, each.rating_w) for each in found if each] == [
        (True, True, 4_000),
        (True, True, 4_500),
        (True, False, 500),
    ]
    assert lookup.wallet("nobody", EPOCH) is None and lookup.meter(bytes(32)) is None
    assert lookup.partition_of(6) == 1

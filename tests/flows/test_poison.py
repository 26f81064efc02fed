"""Poison in every field of a reading, a block, a tick and an order: refused by reason, kept whole, nothing stopped."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256

import pytest
from bytewax.testing import TestingSource, run_main
from metering_world import (
    EPOCH,
    GATEWAY,
    NETWORK,
    SECOND,
    START_US,
    Stream,
    document,
    key_of,
    meter_record,
    registry_of,
)
from sqlalchemy import text

from gridtokenx_pipelines.market.base58 import encode
from gridtokenx_pipelines.market.orders import Order, encode_order, meter_hash, order_id_of, sign
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.metering.readings import Raw, RejectReason, decode, sign_tick
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.store.postgres import engine
from streaming import orders
from streaming.telemetry import Registry, Shard, build_flow, write_postgres

# as JSON text: what a field may be sent as
POISON = (
    "null",
    "true",
    '"x"',
    '""',
    '"\\u0000"',
    '"\\ud800"',
    "[]",
    "{}",
    "-1",
    "-0.5",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "1e-999999999",
    "9223372036854775807",
    "9223372036854775808",
    "1" + "0" * 400,
    "0x10",
    "1_000",
    "01",
    "+1",
    '"2026-01-27T12:00:00"',
    '"2026-13-27T12:00:00Z"',
    '"9999-12-31T23:59:59.999999Z"',
    '"0001-01-01T00:00:00Z"',
    "[" * 5_000,
)
FIELDS = tuple(document(11, 1, 0, 0, battery_soc=0.5))
# any of these numbers is a possible measurement, which is recorded and never settled
MEASURED = {"voltage_v", "current_a", "power_factor", "frequency_hz", "battery_soc"}


def poisoned(field: str, poison: str) -> bytes:
    marked = json.dumps({**document(11, 1, 0, 0, battery_soc=0.5), field: "POISON"})
    return marked.replace('"POISON"', poison).encode()


def wrong_whole() -> list[bytes]:
    """Values that are wrong as a whole."""
    good = json.dumps(document(11, 1, 0, 0)).encode()
    return [
        b"",
        b"\x00",
        b"null",
        b"[]",
        b'"reading"',
        good[:-1],
        good + good,
        good + b"\x00",
        b"\xef\xbb\xbf" + good,
        good.decode().encode("utf-16"),
        good.replace(b"MEA-001", "MÉA-001".encode("latin-1")),
        good.replace(b"MEA-001", "ΜΕΑ-001".encode()),
        b" " * (1 << 20) + good,
        json.dumps({**document(11, 1, 0, 0), "readings": []}).encode(),
        json.dumps({"meter_id": "MEA-001", "zone_id": 1, "readings": [document(11, 1, 0, 0)] * 2}).encode(),
        json.dumps({"meter_id": "MEA-001", "zone_id": 1, "readings": [{"seq": 11}]}).encode(),
        b'{"readings":' * 3_000,
        b"{" * 100_000,
    ]


def test_poison_in_every_field_ends_in_the_dead_letters_and_the_next_good_reading_counts(postgres_url: str) -> None:
    stream = Stream()
    stream.tick(895)
    sent = [poisoned(field, poison) for field in FIELDS for poison in POISON] + wrong_whole()
    for value in sent:
        stream.signed(value)
    for field in ("gateway_id", "timestamp"):
        for poison in POISON:
            whole = json.dumps({"gateway_id": "gw-1", "timestamp": 0, field: "POISON"}).replace('"POISON"', poison)
            stream.put(whole.encode(), sign_tick(whole.encode(), NETWORK, GATEWAY))
    for headers in (
        [],
        [("sig", b"")],
        [("sig", b"x" * 64), ("pub", b"y" * 31)],
        [("pub", b"\xff" * 32), ("kind", b"?")],
    ):
        stream.put(json.dumps(document(11, 895, 0, 0)).encode(), headers)
    last_bad = len(stream.raws) - 1
    stream.read(40, 898, 7, 8)
    stream.tick(930)
    database, shards = engine(postgres_url), []
    sinks = {"postgres": lambda given: (write_postgres(database, given), shards.extend(given))}
    items = [("0000", stream.raws[at : at + 100]) for at in range(0, len(stream.raws), 100)]
    registry = Registry(registry_of(), lambda: None)
    run_main(build_flow(TestingSource(items), 4, Verifier(NETWORK), registry, sinks))
    with database.connect() as connection:
        letters = connection.execute(text('SELECT "offset", reason, value FROM dead_letters ORDER BY 1')).fetchall()
        net = connection.execute(
            text("SELECT production_wh, consumption_wh FROM net_energy WHERE epoch = :e"), {"e": EPOCH}
        )
        counts = dict(
            connection.execute(
                text("SELECT reason, sum(records)::BIGINT FROM stream_counts WHERE status = 'rejected' GROUP BY 1")
            ).fetchall()
        )
        assert [tuple(row) for row in net] == [(7, 8)]
    database.dispose()
    refused = {offset for offset, _, _ in letters}
    harmless = {raw.offset for raw in stream.raws[1 : last_bad + 1] if raw.offset not in refused}
    # what was not refused is a measurement, or a tick of the past; it is never energy
    for offset in harmless:
        assert any(f'"{name}":'.encode() in stream.raws[offset].value for name in (*MEASURED, "gateway_id")), offset
    outputs = [shard.outputs for shard in shards if isinstance(shard, Shard)]
    assert sum(each.counts["accepted", ""] + each.counts["accepted", "late"] for each in outputs) <= 2
    assert all(value == stream.raws[offset].value for offset, _, value in letters)
    assert Counter(reason for _, reason, _ in letters) == counts
    assert {"undecodable", "bad_field", "wrong_key", "ahead_of_arrival", "too_old"} <= set(counts)
    assert len(letters) > 0.9 * last_bad - len(FIELDS)


@pytest.mark.parametrize("poison", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("field", sorted(MEASURED))
def test_nothing_that_is_not_finite_is_ever_read(field: str, poison: str) -> None:
    body = decode(Raw(0, 0, poisoned(field, poison)))
    assert body.reason in (RejectReason.BAD_FIELD, RejectReason.UNDECODABLE)


def test_poison_in_every_byte_of_an_order_is_refused_by_reason_and_the_next_order_stands(postgres_url: str) -> None:
    wallet = key_of("wallet")
    owner = encode(bytes(wallet.verify_key))
    market = orders.Market(NETWORK, sha256(b"market").digest(), Rules())

    def order(nonce: int, **changes: object) -> bytes:
        fields = {
            "network_id": NETWORK,
            "market": market.address,
            "order_id": order_id_of(START_US + 1_000 * nonce, bytes(10)),
            "meter_hash": meter_hash("MEA-001"),
            "side": 0,
            "energy_wh": 100,
            "limit_uthb_per_kwh": 3_000_000,
            "epoch": EPOCH + 1,
            "nonce": nonce,
            "placed_at_us": START_US + SECOND,
        }
        return encode_order(Order(**{**fields, **changes}))

    good = order(0)
    values = [good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :] for at in range(len(good))]
    values += [b"", good[:-1], good + b"\0", b"\xff" * 169, good * 7_000, b"\0" * (1 << 20)]
    stream = Stream()
    stream.tick(0)
    for value in values:
        # signed after the change: what is refused is refused for what it says
        headers = (("sig", sign(value, wallet)), ("pub", bytes(wallet.verify_key)))
        stream.raws.append(Raw(len(stream.raws), START_US + SECOND, value, headers, b"1"))
    unsigned = Raw(len(stream.raws), START_US + SECOND, good, (("sig", b"\0" * 64), ("pub", b"\1" * 32)), b"1")
    stream.raws.append(unsigned)
    fine = order(49)
    headers = (("sig", sign(fine, wallet)), ("pub", bytes(wallet.verify_key)))
    stream.raws.append(Raw(len(stream.raws), START_US + SECOND, fine, headers, b"1"))
    database = engine(postgres_url)
    items = [("0000", stream.raws[at : at + 50]) for at in range(0, len(stream.raws), 50)]
    registry = Registry(registry_of(meter_record(wallet=owner)), lambda: None)
    sinks = {"postgres": lambda given: orders.write_postgres(database, given)}
    run_main(orders.build_flow(TestingSource(items), 4, market, registry, sinks))
    with database.connect() as connection:
        stored = connection.execute(
            text("SELECT nonce, energy_wh, limit_uthb_per_kwh FROM orders ORDER BY 1")
        ).fetchall()
        reasons = Counter(connection.execute(text("SELECT reason FROM dead_letters")).scalars())
    database.dispose()
    # a changed order id or certificate is another order by its owner; everything else must be refused
    assert (49, 100, 3_000_000) in [tuple(row) for row in stored]
    assert len(stored) + sum(reasons.values()) == len(values) + 2
    assert {row.nonce for row in stored} <= {0, 49}
    assert reasons["not_decodable"] >= 6 and reasons["signature"] >= 1
    assert len(reasons) >= 8, reasons

"""Messages, their signed bytes and their numbered reasons: what others build on and may never change."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering_world import NETWORK, START_US, document, key_of

from gridtokenx_pipelines.metering.readings import (
    Block,
    Raw,
    Reading,
    Refusal,
    RejectReason,
    Tick,
    decode,
    encode,
    reading_message,
    sign_reading,
    sign_tick,
    tick_message,
)


def test_reasons_keep_their_numbers() -> None:
    assert {reason.word: reason.value for reason in RejectReason} == {
        "undecodable": 1,
        "bad_field": 2,
        "unknown_meter": 3,
        "wrong_key": 4,
        "bad_signature": 5,
        "wrong_zone": 6,
        "replay": 7,
        "out_of_order": 8,
        "ahead_of_arrival": 9,
        "too_old": 10,
        "register_ran_back": 11,
        "over_rating": 12,
        "mis_keyed": 13,
    }


def test_the_signed_bytes_are_tag_zero_network_and_value() -> None:
    assert reading_message(3, b"{}") == b"gridtokenx/reading/v1\0\x03\0\0\0\0\0\0\0{}"
    assert tick_message(2, b"{}") == b"gridtokenx/tick/v1\0\x02\0\0\0\0\0\0\0{}"


def test_headers_carry_64_and_32_raw_bytes_that_verify() -> None:
    key = key_of("MEA-001")
    headers = dict(sign_reading(b"{}", NETWORK, key))
    assert headers["pub"] == bytes(key.verify_key)
    key.verify_key.verify(reading_message(NETWORK, b"{}"), headers["sig"])
    assert dict(sign_tick(b"{}", NETWORK, key))["kind"] == b"tick"


def test_a_timestamp_may_be_microseconds_or_rfc_3339_with_a_zone() -> None:
    for written in (START_US + 1, "2026-01-27T12:00:00.000001Z", "2026-01-27T19:00:00.000001+07:00"):
        body = decode(Raw(0, 0, json.dumps({**document(1, 0, 0, 0), "timestamp": written}).encode()))
        assert isinstance(body, Reading) and body.timestamp_us == START_US + 1
    naive = decode(Raw(0, 0, json.dumps({**document(1, 0, 0, 0), "timestamp": "2026-01-27T12:00:00"}).encode()))
    assert isinstance(naive, Refusal) and naive.reason == RejectReason.BAD_FIELD


def test_a_document_is_told_by_its_shape_where_no_header_says_so() -> None:
    reading = document(1, 0, 0, 0)
    block = {"meter_id": "MEA-001", "zone_id": 1, "readings": [reading]}
    kinds = [
        type(decode(Raw(0, 0, json.dumps(each).encode())))
        for each in (reading, block, {"gateway_id": "gw-1", "timestamp": 1})
    ]
    assert kinds == [Reading, Block, Tick]


@given(st.binary(max_size=300))
def test_no_bytes_make_decoding_raise(value: bytes) -> None:
    for headers in ((), (("kind", b"tick"),)):
        assert isinstance(decode(Raw(0, 0, value, headers)), Refusal | Reading | Block | Tick)


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    value = b'{"meter_id":' + b"[" * 200_000
    assert decode(Raw(0, 0, value)) == decode(Raw(1, 0, value))
    assert isinstance(decode(Raw(0, 0, b'{"x":' + b"[" * 200_000)), Refusal)


def test_what_is_encoded_decodes_to_the_same() -> None:
    body = decode(Raw(0, 0, json.dumps(document(7, 1, 2, 3, battery_soc=0.5)).encode()))
    assert isinstance(body, Reading)
    assert decode(Raw(0, 0, encode(body))) == body


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_never_gets_in(value: float) -> None:
    refused = decode(Raw(0, 0, json.dumps(document(7, 1, 2, 3, voltage_v=value)).encode()))
    assert isinstance(refused, Refusal)

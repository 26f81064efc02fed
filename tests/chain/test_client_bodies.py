"""How many calls one request carries: a node refuses bodies over 50 KiB, which a neighbourhood's set-up once met."""

from __future__ import annotations

import msgspec

from gridtokenx_pipelines.chain.client import BODY_BYTES, CALLS_PER_REQUEST, ENVELOPE_BYTES, _bodies

NODE_LIMIT_BYTES = 50 << 10


def test_long_transactions_are_spread_over_bodies_that_a_node_takes_in_their_order() -> None:
    many = [["A" * 1_644, {"encoding": "base64", "n": n}] for n in range(200)]
    parts = list(_bodies(many))
    assert [params for part in parts for params in part] == many
    for part in parts:
        body = [{"jsonrpc": "2.0", "id": 10**6, "method": "sendTransaction", "params": params} for params in part]
        assert len(msgspec.json.encode(body)) < NODE_LIMIT_BYTES


def test_short_calls_share_a_body_up_to_the_most_calls() -> None:
    assert [len(part) for part in _bodies([["x"]] * (2 * CALLS_PER_REQUEST + 1))] == [64, 64, 1]


def test_a_call_over_the_limit_goes_alone_and_no_call_gives_no_body() -> None:
    big = ["B" * (BODY_BYTES + ENVELOPE_BYTES)]
    assert [len(part) for part in _bodies([["x"], big, ["y"]])] == [1, 1, 1]
    assert list(_bodies([])) == []

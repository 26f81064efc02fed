"""Batches verify like single records, in order, and a tick's signature is checked once for all partitions."""

from __future__ import annotations

import pytest
from metering_world import NETWORK, Stream

from gridtokenx_pipelines.metering import verify
from gridtokenx_pipelines.metering.verify import Verifier, is_signed


def test_a_large_batch_on_threads_gives_what_one_by_one_gives() -> None:
    stream = Stream()
    for seq in range(200):
        stream.read(seq, seq, network=NETWORK + (seq % 3 == 0))
        if seq % 10 == 0:
            stream.signed(b"garbage")
    together, verifier = Verifier(NETWORK, threads=3), Verifier(NETWORK)
    assert together.messages(stream.raws) == [verifier.messages([raw])[0] for raw in stream.raws]
    assert [message.authentic for message in together.messages(stream.raws)].count(True) == 133


def test_the_same_tick_bytes_are_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []

    def counted(signature: bytes, pub: bytes, message: bytes) -> bool:
        checks.append(message)
        return is_signed(signature, pub, message)

    monkeypatch.setattr(verify, "is_signed", counted)
    stream, verifier = Stream(), Verifier(NETWORK)
    tick = stream.tick(5)
    for _ in range(7):
        stream.again(tick)
    stream.tick(10)
    assert all(message.authentic for message in verifier.messages(stream.raws))
    assert len(checks) == 2


@pytest.mark.parametrize(("signature", "pub"), [(b"", b""), (bytes(64), bytes(32)), (bytes(63), bytes(32))])
def test_malformed_keys_and_signatures_are_simply_wrong(signature: bytes, pub: bytes) -> None:
    assert is_signed(signature, pub, b"message") is False

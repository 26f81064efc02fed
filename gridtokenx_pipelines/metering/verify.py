"""Signatures of a batch of records, checked on a few threads with libsodium (domain §3).

Belongs here: from `Raw` to `Message`: decoded, and whether its signature is that of the key in its header.
Does not belong here: whether that key is the registered one (window.py, which knows the registry).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from gridtokenx_pipelines.metering.readings import (
    KIND_TICK,
    Block,
    Body,
    Raw,
    Reading,
    Refusal,
    Tick,
    decode_value,
    digest_of,
    reading_message,
    tick_message,
)

SIGNATURE_BYTES, KEY_BYTES = 64, 32
INLINE_BELOW = 48  # handing fewer to the pool costs more than it saves
REMEMBERED_TICKS = 256


class Message(msgspec.Struct, frozen=True, gc=False):
    """A record with what it says; `authentic`: the signature is that of `pub` over exactly these bytes."""

    raw: Raw
    body: Body | Refusal
    pub: bytes = b""
    authentic: bool = False
    digest: int = 0  # of a reading's bytes; 0 for blocks and ticks


def is_signed(signature: bytes, pub: bytes, message: bytes) -> bool:
    """Whether the Ed25519 signature is right; malformed keys and signatures are simply False."""
    if len(signature) != SIGNATURE_BYTES or len(pub) != KEY_BYTES:
        return False
    try:
        # the one call that releases the GIL and takes raw bytes
        crypto_sign_open(signature + message, pub)
    except (BadSignatureError, ValueError):
        return False
    return True


class Verifier:
    """Decodes and verifies batches of one network; keeps a thread pool and the latest ticks' verdicts."""

    def __init__(self, network_id: int, threads: int = 2) -> None:
        self._network_id = network_id
        self._prefix = reading_message(network_id, b"")
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
        self._ticks: dict[bytes, bool] = {}

    def messages(self, raws: Sequence[Raw]) -> list[Message]:
        """One `Message` per record, in order."""
        if len(raws) < INLINE_BELOW or self._threads == 1:
            return self._chunk(raws)
        size = -(-len(raws) // self._threads)
        chunks = [raws[start : start + size] for start in range(0, len(raws), size)]
        return [message for chunk in self._pool.map(self._chunk, chunks) for message in chunk]

    def _chunk(self, raws: Iterable[Raw]) -> list[Message]:
        return [self._message(raw) for raw in raws]

    def _message(self, raw: Raw) -> Message:
        signature, pub, kind = raw.proof()
        value = raw.value
        body = decode_value(value, is_tick=kind == KIND_TICK)
        shape = type(body)
        if shape is Reading:
            return Message(raw, body, pub, is_signed(signature, pub, self._prefix + value), digest_of(value))
        if shape is Block:
            return Message(raw, body, pub, is_signed(signature, pub, self._prefix + value))
        if shape is Tick:
            return Message(raw, body, pub, self._is_tick_signed(signature, pub, value))
        return Message(raw, body)

    def _is_tick_signed(self, signature: bytes, pub: bytes, value: bytes) -> bool:
        # every partition carries the same tick bytes: one check serves them all
        identity = signature + pub + value
        known = self._ticks.get(identity)
        if known is None:
            known = is_signed(signature, pub, tick_message(self._network_id, value))
            while len(self._ticks) >= REMEMBERED_TICKS:
                self._ticks.pop(next(iter(self._ticks), b""), None)
            self._ticks[identity] = known
        return known

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

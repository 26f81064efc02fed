"""Requests to one of several RPC endpoints: whichever answers soundly, the one that did last first.

Belongs here: failing over, waiting before trying again, judging whether an answer is one. Does not belong here: what is
asked (client.py). Every request may be repeated: reading changes nothing, and a transaction has one signature wherever
and however often it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from solana.exceptions import SolanaRpcException
from solana.rpc.async_http_provider import AsyncHTTPProvider

from gridtokenx_pipelines.chain.errors import ChainUnavailable

ROUNDS = 4  # over all endpoints
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0
# a node that says so is behind, overloaded or broken; another one, or the same a little later, may know better:
# internal error, block not available, node unhealthy, too many requests, slot skipped on this node
NODES_OWN_TROUBLE = frozenset({-32603, -32004, -32005, -32014, -32016, 429})


class Body:
    """Adapter to the provider's request protocol."""

    __slots__ = ("_json",)

    def __init__(self, content: Any) -> None:
        self._json = msgspec.json.encode(content).decode()

    def to_json(self) -> str:
        """The request as sent."""
        return self._json


class UnsoundAnswer(Exception):
    """An answer that is none: another request's, not whole, or a node's own trouble."""


class Transport:
    """Endpoints in order of preference; to be opened and used on one event loop."""

    def __init__(self, urls: Sequence[str], timeout_seconds: float) -> None:
        self.urls = tuple(urls)
        self._providers = [AsyncHTTPProvider(url, timeout=timeout_seconds, http2=False) for url in self.urls]
        self._current = 0
        self.failovers = 0

    async def close(self) -> None:
        """Close all connections."""
        for provider in self._providers:
            await provider.close()

    async def post(self, content: Any) -> Any:
        """The decoded answer to one request or a batch. Raises ChainUnavailable if no endpoint answers soundly."""
        pause, why = FIRST_PAUSE_SECONDS, ""
        for _ in range(ROUNDS):
            for _ in self._providers:
                asked = self._current
                try:
                    answer = msgspec.json.decode(await self._providers[asked].make_request_unparsed(Body(content)))
                    _require_sound(content, answer)
                except SolanaRpcException as error:
                    why = f"{type(error.__cause__).__name__}: {error.__cause__}"
                except (msgspec.DecodeError, UnsoundAnswer) as error:
                    why = f"answered no JSON-RPC: {error}"
                else:
                    return answer
                # several requests may fail at once; only the first of them moves on
                if self._current == asked and len(self._providers) > 1:
                    self._current = (asked + 1) % len(self._providers)
                    self.failovers += 1
            await asyncio.sleep(pause)
            pause = min(4 * pause, LONGEST_PAUSE_SECONDS)
        raise ChainUnavailable(
            f"RPC node {' or '.join(self.urls)} does not answer ({why}); start it or check the URL", name="Unavailable"
        )


def _require_sound(content: Any, answer: Any) -> None:
    if isinstance(content, list):
        if not isinstance(answer, list):
            raise UnsoundAnswer(f"a batch was answered with {str(answer)[:80]}")
        answers = {each.get("id"): each for each in answer if isinstance(each, dict)}
        for request in content:
            _require_sound(request, answers.get(request["id"]))
        return
    if not isinstance(answer, dict) or answer.get("id") != content["id"]:
        raise UnsoundAnswer(f"request {content['id']} was answered with {str(answer)[:80]}")
    if "error" in answer:
        code = answer["error"].get("code") if isinstance(answer["error"], dict) else None
        if code in NODES_OWN_TROUBLE:
            raise UnsoundAnswer(f"error {code} {answer['error'].get('message', '')}")
    elif "result" not in answer:
        raise UnsoundAnswer(f"request {content['id']} was answered without a result")

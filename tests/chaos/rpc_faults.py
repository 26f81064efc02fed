"""A proxy in front of a chain's RPC that misbehaves by a seeded schedule.

Belongs here: the faults of a node and of the way to it. Does not belong here: what is settled through it.
What happens to the n-th request of a method depends on the seed alone, not on the clock: the same seed is the same
trouble again.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from typing import Any, Self

from aiohttp import ClientSession, web

# weights out of 100 requests; the rest passes untouched
FAULTS = {
    "dropped before the node had it": 3,
    "dropped after the node had it": 3,
    "sent twice": 3,
    "answered too late": 1,
    "429": 2,
    "502": 2,
    "half an answer": 2,
    "another request's answer": 2,
    "node is behind": 2,
    "confirmation comes late": 4,
}
HOLD_SECONDS = 0.6  # longer than the tests' clients wait


class FaultyRpc:
    """Context manager: `url` is where the proxy listens; `happened` counts the faults by name."""

    def __init__(self, node: str, seed: int, share: float = 1.0) -> None:
        self.node, self.seed, self.share = node, seed, share
        self.happened: Counter[str] = Counter()
        self.url = ""
        self._counts: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._session = ClientSession()
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/", self._handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        (socket,) = site._server.sockets  # type: ignore[union-attr] # aiohttp tells the port nowhere else
        self.url = f"http://127.0.0.1:{socket.getsockname()[1]}"

    async def _stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    def fault_of(self, method: str) -> str | None:
        """What happens to the next request of this method."""
        self._counts[method] += 1
        draw = random.Random(f"{self.seed}/{method}/{self._counts[method]}").random() * 100  # noqa: S311 - not secret
        for name, weight in FAULTS.items():
            draw -= weight * self.share
            if draw < 0:
                return name
        return None

    async def _handle(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - an answer a fault
        body = await request.read()
        asked = json.loads(body)
        method = (asked[0] if isinstance(asked, list) else asked)["method"]
        fault = self.fault_of(method)
        if fault == "confirmation comes late" and "getSignatureStatuses" not in body.decode():
            fault = None
        if fault is not None:
            self.happened[fault] += 1
        if fault in ("429", "502"):
            return web.Response(status=int(fault))
        if fault == "dropped before the node had it":
            return _cut(request)
        if fault == "node is behind":
            return web.json_response(_errors(asked))
        answer = await self._forward(body)
        match fault:
            case "sent twice":
                answer = await self._forward(body)
            case "dropped after the node had it":
                return _cut(request)
            case "answered too late":
                await asyncio.sleep(HOLD_SECONDS)
            case "half an answer":
                return web.Response(body=answer[: len(answer) // 2], content_type="application/json")
            case "another request's answer":
                return web.json_response(_renumbered(json.loads(answer)))
            case "confirmation comes late":
                return web.json_response(_unknown(json.loads(answer)))
        return web.Response(body=answer, content_type="application/json")

    async def _forward(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self.node, data=body, headers=headers) as response:
            return await response.read()


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _many(document: Any) -> list[dict[str, Any]]:
    return document if isinstance(document, list) else [document]


def _errors(asked: Any) -> Any:
    error = {"code": -32005, "message": "Node is behind by 150 slots"}
    answers = [{"jsonrpc": "2.0", "id": each["id"], "error": error} for each in _many(asked)]
    return answers if isinstance(asked, list) else answers[0]


def _renumbered(answer: Any) -> Any:
    for each in _many(answer):
        each["id"] = each["id"] + 1_000_000
    return answer


def _unknown(answer: Any) -> Any:
    """Statuses that the node doesn't show yet; heights of the same batch stay, and must not let anything be re-sent."""
    heights = len(_many(answer)) > 1
    for each in _many(answer):
        result = each.get("result")
        # a node that tells a finalised height knows what it finalised: there only the plain question is answered late
        if not heights and isinstance(result, dict) and isinstance(result.get("value"), list):
            result["value"] = [None] * len(result["value"])
    return answer

"""Websocket subscriptions of the local chain: signatures and slots.

Belongs here: who waits for what, and telling them. Does not belong here: sockets' life (`localnet`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web
from solders.signature import Signature

from gridtokenx_pipelines.chain.bank import Bank
from gridtokenx_pipelines.chain.rpc_errors import METHOD_NOT_FOUND, RpcError, invalid_params


class Subscriptions:
    """Open subscriptions of all websockets of one bank."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._next = 0
        self._slots: dict[int, web.WebSocketResponse] = {}
        self._signatures: dict[int, tuple[web.WebSocketResponse, bytes]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def call(self, socket: web.WebSocketResponse, method: str, params: list[Any]) -> int | bool:
        """Subscription id, or whether something was unsubscribed; −32601 for other subscriptions."""
        match method:
            case "slotSubscribe":
                self._next += 1
                self._slots[self._next] = socket
                return self._next
            case "signatureSubscribe":
                try:
                    signature = bytes(Signature.from_string(params[0]))
                except (IndexError, TypeError, ValueError) as error:
                    raise invalid_params("parameter 0 must be a signature") from error
                self._next += 1
                self._signatures[self._next] = (socket, signature)
                return self._next
            case "slotUnsubscribe":
                return bool(params) and self._slots.pop(params[0], None) is not None
            case "signatureUnsubscribe":
                return bool(params) and self._signatures.pop(params[0], None) is not None
        raise RpcError(METHOD_NOT_FOUND, "Method not found")

    def notify_landed(self) -> None:
        """Tell those whose signature has landed, once."""
        for number, (socket, signature) in list(self._signatures.items()):
            landed = self.bank.landed.get(signature)
            if landed is None:
                continue
            del self._signatures[number]
            err = msgspec.json.decode(landed.err) if landed.err else None
            result = {"context": {"apiVersion": "3.1.12", "slot": landed.slot}, "value": {"err": err}}
            self._send(socket, "signatureNotification", number, result)

    async def tick(self) -> None:
        """Tell slot subscribers of every slot, for ever."""
        slot = self.bank.advance()
        while True:
            await asyncio.sleep(self.bank.genesis.slot_ms / 1_000)
            if not self._slots or (now := self.bank.advance()) == slot:
                continue
            slot = now
            for number, socket in list(self._slots.items()):
                root = self.bank.finalized_slot()
                self._send(socket, "slotNotification", number, {"parent": slot - 1, "root": root, "slot": slot})

    def _send(self, socket: web.WebSocketResponse, method: str, number: int, result: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": {"result": result, "subscription": number}}
        task = asyncio.create_task(self._deliver(socket, msgspec.json.encode(message).decode()))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _deliver(self, socket: web.WebSocketResponse, text: str) -> None:
        try:
            await socket.send_str(text)
        except ConnectionError:
            self.drop(socket)

    def drop(self, socket: web.WebSocketResponse) -> None:
        """Forget a socket that has gone."""
        self._slots = {number: owner for number, owner in self._slots.items() if owner is not socket}
        self._signatures = {number: pair for number, pair in self._signatures.items() if pair[0] is not socket}

    async def close(self) -> None:
        """Close every subscriber's socket."""
        sockets = {*self._slots.values(), *(socket for socket, _ in self._signatures.values())}
        for socket in sockets:
            await socket.close()

"""`gridtokenx localnet`: the local chain as a server, JSON-RPC over HTTP and subscriptions over websockets.

Belongs here: sockets, JSON-RPC envelopes and batches, when an answer may leave (after the disk has it), start and stop.
Does not belong here: what the methods do (`localnet_rpc`), executing (`bank`).
Websockets listen on port + 1, as a validator's do. An answer waits until everything executed before it is synced;
one sync serves all answers that wait for it, so `kill -9` never loses an acknowledged transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import WSMsgType, web
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.bank import Bank
from gridtokenx_pipelines.chain.idl import PROGRAMS_DIR
from gridtokenx_pipelines.chain.ledger_file import LocalnetError
from gridtokenx_pipelines.chain.localnet_rpc import LocalnetRpc
from gridtokenx_pipelines.chain.localnet_subscriptions import Subscriptions
from gridtokenx_pipelines.chain.rpc_errors import INVALID_REQUEST, PARSE_ERROR, RpcError

MAX_REQUEST_BYTES = 50 << 10  # as a validator's, so that a client that works here works there
DEFAULT_SLOT_MS = 400
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def program_files(directory: Path | None = None) -> dict[Pubkey, Path]:
    """The deployed programs by id, from `<directory>/<name>.so` (default: the repository's programs/deploy)."""
    folder = directory or PROGRAMS_DIR / "deploy"
    found: dict[Pubkey, Path] = {}
    for name in addresses.PROGRAM_NAMES:
        for path in (folder / f"{name}.so", folder / f"{name.replace('-', '_')}.so"):
            if path.is_file():
                found[addresses.program_id(name)] = path
                break
    return found


class LocalnetServer:
    """HTTP and websocket handlers over one bank."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.rpc = LocalnetRpc(bank)
        self.subscriptions = Subscriptions(bank)
        self._synced = bank.file.position
        self._syncing: asyncio.Task[None] | None = None

    async def durable(self) -> None:
        """Return once everything executed so far is on disk."""
        position = self.bank.file.position
        while self._synced < position:
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync())
            await asyncio.shield(self._syncing)

    async def _sync(self) -> None:
        target = self.bank.file.position
        try:
            await asyncio.to_thread(self.bank.file.sync)
            self._synced = target
        finally:
            self._syncing = None

    def answer(self, body: bytes) -> bytes:
        """Response bytes for a request or a batch of them."""
        try:
            request = _decode(body)
        except msgspec.DecodeError:
            return _encode(_error(None, RpcError(PARSE_ERROR, "Parse error")))
        if isinstance(request, list):
            # agave answers an empty batch with an empty body
            return _encode([self._one(item) for item in request]) if request else b""
        return _encode(self._one(request))

    def _one(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, RpcError(INVALID_REQUEST, "Invalid request"))
        identifier, params = request.get("id"), request.get("params") or []
        try:
            if not isinstance(params, list):
                raise RpcError(-32602, "Invalid params: expected an array.")
            return {"jsonrpc": "2.0", "result": self.rpc.call(request["method"], params), "id": identifier}
        except RpcError as error:
            return _error(identifier, error)

    async def post(self, request: web.Request) -> web.Response:
        """One HTTP request; the answer leaves when it is durable."""
        response = self.answer(await request.read())
        await self.durable()
        self.subscriptions.notify_landed()
        self.bank.save_when_due()
        return web.Response(body=response, content_type="application/json")

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        """One websocket client until it leaves."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await socket.send_str(self._subscribe(socket, message.data))
                    self.subscriptions.notify_landed()
        finally:
            self.subscriptions.drop(socket)
        return socket

    def _subscribe(self, socket: web.WebSocketResponse, text: str) -> str:
        try:
            request = _decode(text)
            method, params = request["method"], request.get("params") or []
        except (msgspec.DecodeError, TypeError, KeyError):
            return _encode(_error(None, RpcError(PARSE_ERROR, "Parse error"))).decode()
        try:
            result = self.subscriptions.call(socket, method, params)
        except RpcError as error:
            return _encode(_error(request.get("id"), error)).decode()
        return _encode({"jsonrpc": "2.0", "result": result, "id": request.get("id")}).decode()


def _error(identifier: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": error.body(), "id": identifier}


async def _listen(application: web.Application, host: str, port: int) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError as error:
        await runner.cleanup()
        raise LocalnetError(
            f"port {port} of {host} is in use ({error.strerror}); stop what uses it or choose another"
        ) from error
    return runner


async def run(
    server: LocalnetServer, host: str, port: int, stop: asyncio.Event, ready: Callable[[], None] | None = None
) -> None:
    """Serve until `stop` is set, calling `ready` once both ports listen; LocalnetError if a port is in use."""
    http = web.Application(client_max_size=MAX_REQUEST_BYTES)
    http.router.add_post("/", server.post)
    http.router.add_get("/health", _health)
    sockets = web.Application()
    sockets.router.add_get("/", server.websocket)
    runners = [await _listen(http, host, port)]
    slots = asyncio.create_task(server.subscriptions.tick())
    try:
        runners.append(await _listen(sockets, host, port + 1))
        if ready is not None:
            ready()
        await stop.wait()
    finally:
        slots.cancel()
        await server.subscriptions.close()
        for runner in runners:
            await runner.cleanup()


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="ok")


def serve(
    port: int,
    data_dir: str | Path,
    *,
    host: str = "127.0.0.1",
    slot_ms: int = DEFAULT_SLOT_MS,
    programs: Mapping[Pubkey, Path] | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve the local chain in `data_dir` until SIGINT or SIGTERM, then snapshot it; `ready` is called once it answers.

    Raises LocalnetError when a port or the folder is in use, or the folder's ledger doesn't fit the programs.
    """
    bank = Bank(Path(data_dir), program_files() if programs is None else programs, slot_ms=slot_ms)
    try:
        asyncio.run(_until_signal(bank, host, port, ready))
    finally:
        bank.close()


async def _until_signal(bank: Bank, host: str, port: int, ready: Callable[[], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # only the main thread may install handlers; a test's thread stops by its own event
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
    await run(LocalnetServer(bank), host, port, stop, ready)


def main(arguments: list[str] | None = None) -> int:
    """Command line of `python -m gridtokenx_pipelines.chain.localnet`."""
    parser = argparse.ArgumentParser(prog="gridtokenx localnet", description="Serve the local chain.")
    parser.add_argument("--port", type=int, default=8899)
    parser.add_argument("--data-dir", type=Path, default=Path(".gridtokenx/localnet"))
    parser.add_argument("--slot-ms", type=int, default=DEFAULT_SLOT_MS)
    parser.add_argument("--programs", type=Path, default=None, help="folder of the .so files")
    chosen = parser.parse_args(arguments)
    try:
        serve(chosen.port, chosen.data_dir, slot_ms=chosen.slot_ms, programs=program_files(chosen.programs))
    except LocalnetError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

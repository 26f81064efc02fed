"""`ChainClient`: everything the project asks of a Solana node, by JSON-RPC and nothing else.

Belongs here: a sync facade over solana-py's async HTTP provider on a background event loop; batches, chunks and the
blockhash cache. Does not belong here: what is sent and why (setup, runs), surviving crashes (outbox).
Commitment is `confirmed` unless said otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from solders.hash import Hash
from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain.errors import ChainError, rpc_error, transaction_error
from gridtokenx_pipelines.chain.programs_run import LOG_CUT, programs_run
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.chain.transactions import LookupTable, sign
from gridtokenx_pipelines.chain.transport import Transport

CONFIRMED = {"commitment": "confirmed"}
ACCOUNTS_PER_CALL = 100
STATUSES_PER_CALL = 256
CALLS_PER_REQUEST = 64
BODY_BYTES = 48 << 10  # a node refuses a body over 50 KiB with 413
ENVELOPE_BYTES = 80  # a call around its parameters
REQUESTS_IN_FLIGHT = 8
BLOCKHASH_MAX_AGE_SECONDS = 2.0
RESEND_SECONDS = 2.0
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.01, 0.4
T = TypeVar("T")


# the HTTP library logs a line per request at INFO, thousands an epoch
logging.getLogger("httpx2").setLevel(logging.WARNING)


class AccountInfo(msgspec.Struct, frozen=True):
    """An account of the chain."""

    address: Pubkey
    lamports: int
    owner: Pubkey
    data: bytes
    executable: bool


class SignatureStatus(msgspec.Struct, frozen=True):
    """What became of a signature; `err` is the JSON error, None for success."""

    slot: int
    err: Any
    confirmation: str

    @property
    def is_confirmed(self) -> bool:
        """Whether a confirmed (or finalised) block holds it."""
        return self.confirmation in ("confirmed", "finalized")


class TransactionInfo(msgspec.Struct, frozen=True):
    """A landed transaction's cost and result."""

    slot: int
    err: Any
    fee_lamports: int
    compute_units: int
    logs: tuple[str, ...]
    programs: frozenset[str] = frozenset()  # that ran, told only where the log was cut off


class Blockhash(msgspec.Struct, frozen=True):
    """A recent blockhash and the last block height it is good for."""

    value: Hash
    last_valid_block_height: int


class ChainClient:
    """Sync client of an RPC node, or of several that stand in for one another.

    Safe to use from several threads; close it or use it as a context manager.

    Every method raises ChainUnavailable if the node does not answer and ChainError if it refuses.
    """

    def __init__(self, rpc_url: str, timeout_seconds: float = 30.0, fallback_urls: Sequence[str] = ()) -> None:
        self.rpc_url = rpc_url
        self._urls = (rpc_url, *fallback_urls)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chain-client", daemon=True)
        self._thread.start()
        self._transport = self._await(self._open(timeout_seconds))
        self._ids = itertools.count(1)
        self._blockhash: tuple[float, Blockhash] | None = None

    async def _open(self, timeout_seconds: float) -> Transport:
        return Transport(self._urls, timeout_seconds)

    @property
    def failovers(self) -> int:
        """How often another endpoint had to stand in since this client was made."""
        return self._transport.failovers

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Close connections and the background loop."""
        if not self._loop.is_closed():
            self._await(self._transport.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- transport ---------------------------------------------------------------------------------------------

    async def _post(self, content: Any) -> Any:
        return await self._transport.post(content)

    def call(self, method: str, *params: Any) -> Any:
        """Result of one RPC method."""
        response = self._await(self._post(self._request(method, params)))
        if "error" in response:
            raise rpc_error(response["error"], method)
        return response["result"]

    def call_many(self, method: str, many: Sequence[Sequence[Any]]) -> list[Any]:
        """Results of one method for many parameter lists, in order; a refused one gives its `error` as RpcRefusal."""
        return self._await(self._call_many(method, many))

    async def _call_many(self, method: str, many: Sequence[Sequence[Any]]) -> list[Any]:
        gate = asyncio.Semaphore(REQUESTS_IN_FLIGHT)

        async def chunk(part: Sequence[Sequence[Any]]) -> list[Any]:
            requests = [self._request(method, params) for params in part]
            async with gate:
                responses = await self._post(requests)
            by_id = {response["id"]: response for response in responses}
            ordered = [by_id[request["id"]] for request in requests]
            return [RpcRefusal(r["error"]) if "error" in r else r["result"] for r in ordered]

        parts = [chunk(part) for part in _bodies(many)]
        return [result for part in await asyncio.gather(*parts) for result in part]

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    # --- slots and blockhashes ---------------------------------------------------------------------------------

    def slot(self, commitment: str = "confirmed") -> int:
        """Newest slot."""
        return self.call("getSlot", {"commitment": commitment})

    def chain_time(self) -> int:
        """Unix seconds of the newest slot, as programs see them, about."""
        return int(self.call("getBlockTime", self.slot()))

    def block_height(self, commitment: str = "confirmed") -> int:
        """Newest block height, which blockhash expiry is counted in."""
        return self.call("getBlockHeight", {"commitment": commitment})

    def blockhash(self) -> Blockhash:
        """A recent blockhash, asked for at most every two seconds."""
        now = time.monotonic()
        if self._blockhash is None or now - self._blockhash[0] > BLOCKHASH_MAX_AGE_SECONDS:
            value = self.call("getLatestBlockhash", CONFIRMED)["value"]
            fresh = Blockhash(Hash.from_string(value["blockhash"]), value["lastValidBlockHeight"])
            self._blockhash = (now, fresh)
        return self._blockhash[1]

    def forget_blockhash(self) -> None:
        """Ask for a new blockhash next time, after one was refused."""
        self._blockhash = None

    # --- accounts ----------------------------------------------------------------------------------------------

    def account(self, address: Pubkey) -> AccountInfo | None:
        """One account, None if there is none."""
        return self.accounts([address])[0]

    def accounts(self, wanted: Sequence[Pubkey]) -> list[AccountInfo | None]:
        """Accounts in the order asked for, None where there is none; 100 a call, many calls a request."""
        config = {"encoding": "base64", **CONFIRMED}
        parts = [wanted[i : i + ACCOUNTS_PER_CALL] for i in range(0, len(wanted), ACCOUNTS_PER_CALL)]
        results = self.call_many("getMultipleAccounts", [[[str(key) for key in part], config] for part in parts])
        found: list[AccountInfo | None] = []
        for part, result in zip(parts, results, strict=True):
            values = _unwrap(result, "getMultipleAccounts")["value"]
            found += [value and _account(key, value) for key, value in zip(part, values, strict=True)]
        return found

    def program_accounts(self, owner: Pubkey, filters: Iterable[dict[str, Any]] = ()) -> list[AccountInfo]:
        """Accounts of an owner, through `{"dataSize": n}` and `{"memcmp": {"offset": n, "bytes": base58}}`."""
        config = {"encoding": "base64", "filters": list(filters), **CONFIRMED}
        rows = self.call("getProgramAccounts", str(owner), config)
        return [_account(Pubkey.from_string(row["pubkey"]), row["account"]) for row in rows]

    def balance(self, address: Pubkey) -> int:
        """Lamports of an address."""
        return self.call("getBalance", str(address), CONFIRMED)["value"]

    def token_supply(self, mint: Pubkey) -> int:
        """Base units of a mint in existence."""
        return int(self.call("getTokenSupply", str(mint), CONFIRMED)["value"]["amount"])

    def token_balance(self, account: Pubkey) -> int:
        """Base units in a token account."""
        return int(self.call("getTokenAccountBalance", str(account), CONFIRMED)["value"]["amount"])

    def airdrop(self, address: Pubkey, lamports: int) -> None:
        """Lamports from the faucet (localnet, devnet), confirmed on return."""
        self.confirm([self.call("requestAirdrop", str(address), lamports, CONFIRMED)])

    # --- transactions ------------------------------------------------------------------------------------------

    def send_many(self, raws: Sequence[bytes]) -> list[str | ChainError]:
        """Send signed transactions; each answer is its signature or why preflight refused it."""
        config = {"encoding": "base64", "preflightCommitment": "confirmed"}
        params = [[base64.b64encode(raw).decode(), config] for raw in raws]
        results = self.call_many("sendTransaction", params)
        answers: list[str | ChainError] = []
        for raw, result in zip(raws, results, strict=True):
            if isinstance(result, RpcRefusal):
                answers.append(_refused(raw, result.error))
            else:
                answers.append(result)
        return answers

    def statuses(self, signatures: Sequence[str]) -> list[SignatureStatus | None]:
        """What became of signatures, None for those never seen; 256 a call, searching the whole history."""
        config = {"searchTransactionHistory": True}
        parts = [signatures[i : i + STATUSES_PER_CALL] for i in range(0, len(signatures), STATUSES_PER_CALL)]
        found: list[SignatureStatus | None] = []
        for result in self.call_many("getSignatureStatuses", [[list(part), config] for part in parts]):
            for value in _unwrap(result, "getSignatureStatuses")["value"]:
                found.append(_status(value))
        return found

    def finalised_and_statuses(self, signatures: Sequence[str]) -> tuple[int, int, list[SignatureStatus | None]]:
        """Finalised block height and slot, and what became of signatures (at most 256), told by one and the same node.

        A node that has finalised a transaction's last valid height and doesn't know it says for good that it never
        landed; another node's height would prove nothing about this one's knowledge.
        """
        asked = [
            self._request("getBlockHeight", [{"commitment": "finalized"}]),
            self._request("getSlot", [{"commitment": "finalized"}]),
            self._request("getSignatureStatuses", [list(signatures), {"searchTransactionHistory": True}]),
        ]
        by_id = {response["id"]: response for response in self._await(self._post(asked))}
        for request in asked:
            if "error" in by_id[request["id"]]:
                raise rpc_error(by_id[request["id"]]["error"], request["method"])
        height, slot, statuses = (by_id[request["id"]]["result"] for request in asked)
        return height, slot, [_status(value) for value in statuses["value"]]

    def transactions(self, signatures: Sequence[str]) -> list[TransactionInfo | None]:
        """Cost and result of confirmed transactions, None where the node has none (yet)."""
        config = {"encoding": "base64", "maxSupportedTransactionVersion": 0, **CONFIRMED}
        results = self.call_many("getTransaction", [[signature, config] for signature in signatures])
        return [_transaction_info(_unwrap(result, "getTransaction")) for result in results]

    def deliver(self, raws: Sequence[bytes], timeout_seconds: float = 60.0) -> list[str]:
        """Send signed transactions and confirm them all, sending again what a busy network dropped; their signatures.

        ChainError for the first that failed. Nothing is remembered: what must survive a crash goes by the outbox.
        """
        signatures = [str(VersionedTransaction.from_bytes(raw).signatures[0]) for raw in raws]
        answers = self.send_many(raws)
        for answer in answers:
            if isinstance(answer, ChainError) and answer.name != "AlreadyProcessed":
                raise answer
        self._wait(dict(zip(signatures, raws, strict=True)), timeout_seconds)
        return signatures

    def confirm(self, signatures: Sequence[str], timeout_seconds: float = 60.0) -> None:
        """Wait until all are confirmed; ChainError for the first that failed or if time runs out."""
        self._wait(dict.fromkeys(signatures), timeout_seconds)

    def _wait(self, waiting: dict[str, bytes | None], timeout_seconds: float) -> None:
        started = last_sent = time.monotonic()
        pause = FIRST_POLL_SECONDS
        while True:
            for signature, status in zip(list(waiting), self.statuses(list(waiting)), strict=True):
                if status is None or not status.is_confirmed:
                    continue
                if status.err is not None:
                    info = self.transactions([signature])[0]
                    raise transaction_error(status.err, info.logs if info else (), signature)
                del waiting[signature]
            if not waiting:
                return
            now = time.monotonic()
            if now - started > timeout_seconds:
                message = f"{next(iter(waiting))} was not confirmed in {timeout_seconds} s; ask for its status later"
                raise ChainError(message, name="Timeout")
            if now - last_sent > RESEND_SECONDS:
                self.send_many([raw for raw in waiting.values() if raw is not None])
                last_sent = now
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_SECONDS)

    def send_and_confirm(
        self,
        instructions: Sequence[Instruction],
        payer: Signer,
        signers: Sequence[Signer] = (),
        lookup_tables: Sequence[LookupTable] = (),
    ) -> str:
        """Sign, send and confirm one transaction; its signature."""
        transaction = sign(instructions, payer, signers, self.blockhash().value, lookup_tables)
        return self.deliver([bytes(transaction)])[0]

    def simulate(self, transaction: VersionedTransaction) -> dict[str, Any]:
        """The node's simulation result: err, logs, unitsConsumed, returnData."""
        raw = base64.b64encode(bytes(transaction)).decode()
        return self.call("simulateTransaction", raw, {"encoding": "base64", **CONFIRMED})["value"]


def _status(value: dict[str, Any] | None) -> SignatureStatus | None:
    return None if value is None else SignatureStatus(value["slot"], value["err"], value["confirmationStatus"])


def _bodies(many: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """The calls in runs that one request may carry: not too many, and not over what a node reads of a body."""
    start, size = 0, 0
    for index, params in enumerate(many):
        added = len(msgspec.json.encode(params)) + ENVELOPE_BYTES
        if index > start and (index - start == CALLS_PER_REQUEST or size + added > BODY_BYTES):
            yield many[start:index]
            start, size = index, 0
        size += added
    if start < len(many):
        yield many[start:]


class RpcRefusal(msgspec.Struct, frozen=True):
    """The `error` member of one response in a batch."""

    error: dict[str, Any]


def _unwrap(result: Any, method: str) -> Any:
    if isinstance(result, RpcRefusal):
        raise rpc_error(result.error, method)
    return result


def _refused(raw: bytes, error: dict[str, Any]) -> ChainError:
    transaction = VersionedTransaction.from_bytes(raw)
    keys = transaction.message.account_keys
    programs = [keys[compiled.program_id_index] for compiled in transaction.message.instructions]
    return rpc_error(error, "sendTransaction", str(transaction.signatures[0]), programs)


def _account(address: Pubkey, value: dict[str, Any]) -> AccountInfo:
    return AccountInfo(
        address=address,
        lamports=value["lamports"],
        owner=Pubkey.from_string(value["owner"]),
        data=base64.b64decode(value["data"][0]),
        executable=value["executable"],
    )


def _transaction_info(value: dict[str, Any] | None) -> TransactionInfo | None:
    if value is None:
        return None
    meta = value["meta"]
    units = meta.get("computeUnitsConsumed") or 0
    logs = tuple(meta.get("logMessages") or ())
    programs = programs_run(value) if LOG_CUT in logs else frozenset()
    return TransactionInfo(value["slot"], meta["err"], meta["fee"], units, logs, programs)

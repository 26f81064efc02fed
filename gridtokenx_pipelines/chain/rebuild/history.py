"""What happened to a program, in order: its top-level calls and the events it logged, read back through RPC.

Belongs here: paging signatures, transactions to calls and events by the IDL. Does not belong here: what they do to
balances (trading.py, registry.py). An event counts only where the program itself was running: any program can log
the same bytes. Batches log nothing: their instruction data is the history.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import PROGRAMS_DIR, discriminator
from gridtokenx_pipelines.chain.programs_run import LOG_CUT, programs_run

PAGE = 1_000
CHUNK = 256
INVOKED = re.compile(r"^Program (\w+) invoke \[(\d+)\]$")
ENDED = re.compile(r"^Program (\w+) (success|failed.*)$")
DATA = "Program data: "
Json = dict[str, Any]
Reader = Callable[["Cursor"], Any]


class HistoryGap(ValueError):
    """The history cannot tell all that happened; the message says where."""


class Call(msgspec.Struct, frozen=True):
    """A top-level instruction; `accounts` by the IDL's names, `remaining` after them."""

    signature: str
    name: str
    accounts: dict[str, Pubkey]
    remaining: tuple[Pubkey, ...]
    args: dict[str, Any]


class Event(msgspec.Struct, frozen=True):
    """A logged event; `source` is the account that counts."""

    signature: str
    name: str
    source: Pubkey
    seq: int
    fields: dict[str, Any]


class Cursor:
    """Packed little-endian bytes, read in order. HistoryGap past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if self.at + n > len(self.data):
            raise HistoryGap(f"data had {len(self.data)} bytes, needs {self.at + n}: it is of another IDL")
        self.at += n
        return self.data[self.at - n : self.at]

    def integer(self, n: int, signed: bool) -> int:
        """An integer of n bytes."""
        return int.from_bytes(self.take(n), "little", signed=signed)


def _integer(name: str) -> Reader:
    size, signed = int(name[1:]) // 8, name[0] == "i"
    return lambda cursor: cursor.integer(size, signed)


def _reader(type_: Any, types: Mapping[str, Json]) -> Reader:  # noqa: PLR0911 - one return a kind of type
    if isinstance(type_, str):
        if type_ == "tail":
            return lambda cursor: cursor.take(len(cursor.data) - cursor.at)
        if type_ == "pubkey":
            return lambda cursor: Pubkey(cursor.take(32))
        if type_ == "string":
            return lambda cursor: cursor.take(cursor.integer(4, False)).decode("ascii", "replace")
        return _integer(type_)
    if "vec" in type_:
        item = _reader(type_["vec"], types)
        return lambda cursor: [item(cursor) for _ in range(cursor.integer(4, False))]
    if "array" in type_:
        inner, count = type_["array"]
        if inner == "u8":
            return lambda cursor: cursor.take(count)
        each = _reader(inner, types)
        return lambda cursor: [each(cursor) for _ in range(count)]
    fields = _fields(types[type_["defined"]["name"]]["type"]["fields"], types)
    return lambda cursor: {name: read(cursor) for name, read in fields}


def _fields(fields: list[Json], types: Mapping[str, Json]) -> list[tuple[str, Reader]]:
    return [(field["name"], _reader(field["type"], types)) for field in fields]


class Decoder:
    """Calls and events of one program by its IDL."""

    def __init__(self, program: str) -> None:
        idl = msgspec.json.decode((PROGRAMS_DIR / "idl" / f"{program}.json").read_bytes())
        types = {spec["name"]: spec for spec in idl["types"]}
        self.program_id = addresses.program_id(program)
        self.calls = {
            bytes(spec["discriminator"]): (
                spec["name"],
                [account["name"] for account in spec["accounts"]],
                _fields(spec["args"], types),
            )
            for spec in idl["instructions"]
        }
        self.events = {
            discriminator("event", spec["name"]): (spec["name"], _fields(types[spec["name"]]["type"]["fields"], types))
            for spec in idl["events"]
        }

    def call(self, signature: str, accounts: list[Pubkey], data: bytes) -> Call:
        """A call of a transaction that succeeded; HistoryGap for an instruction that the IDL does not know."""
        if data[:8] not in self.calls:
            raise HistoryGap(f"{signature} calls {data[:8].hex()} of {self.program_id}, which the IDL does not know")
        name, names, fields = self.calls[data[:8]]
        cursor = Cursor(data[8:])
        args = {field: read(cursor) for field, read in fields}
        return Call(signature, name, dict(zip(names, accounts, strict=False)), tuple(accounts[len(names) :]), args)

    def event(self, signature: str, data: bytes) -> Event | None:
        """The event, None for other bytes."""
        if data[:8] not in self.events:
            return None
        name, fields = self.events[data[:8]]
        cursor = Cursor(data[8:])
        values = {field: read(cursor) for field, read in fields}
        return Event(signature, name, values.pop("source"), values.pop("seq"), values)


@cache
def decoder(program: str) -> Decoder:
    """Decoder of a program, made once."""
    return Decoder(program)


def signatures(client: ChainClient, program: str, until: str | None = None) -> list[str]:
    """Signatures of all successful transactions that name the program, oldest first, after `until`."""
    found: list[str] = []
    before: str | None = None
    while True:
        config: Json = {"limit": PAGE, "commitment": "confirmed"}
        config |= {"before": before} if before else {}
        config |= {"until": until} if until else {}
        page = client.call("getSignaturesForAddress", str(addresses.program_id(program)), config)
        found += [row["signature"] for row in page if row["err"] is None]
        if len(page) < PAGE:
            return found[::-1]
        before = page[-1]["signature"]


def read(client: ChainClient, program: str, wanted: list[str]) -> Iterator[Call | Event]:
    """Calls and events of a program in these transactions, in the order in which they happened."""
    config = {"encoding": "base64", "maxSupportedTransactionVersion": 0, "commitment": "confirmed"}
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        answers = client.call_many("getTransaction", [[signature, config] for signature in chunk])
        for signature, answer in zip(chunk, answers, strict=True):
            if not isinstance(answer, dict):
                raise HistoryGap(f"the node has no transaction {signature} any more: ask one that keeps its history")
            transaction = VersionedTransaction.from_bytes(base64.b64decode(answer["transaction"][0]))
            loaded = answer["meta"].get("loadedAddresses") or {}
            keys = list(transaction.message.account_keys)
            keys += [Pubkey.from_string(key) for part in ("writable", "readonly") for key in loaded.get(part, ())]
            calls = [
                (keys[each.program_id_index], [keys[i] for i in each.accounts], bytes(each.data))
                for each in transaction.message.instructions
            ]
            logs = answer["meta"]["logMessages"] or ()
            if LOG_CUT in logs and str(addresses.program_id(program)) not in programs_run(answer):
                continue  # a stranger's long log that only names the program
            yield from told(decoder(program), signature, calls, logs)


def told(
    decode: Decoder, signature: str, calls: Sequence[tuple[Pubkey, list[Pubkey], bytes]], logs: Sequence[str]
) -> Iterator[Call | Event]:
    """Calls and events of one program in a successful transaction; `calls`: (program, accounts, data) each."""
    own = iter([(accounts, data) for program, accounts, data in calls if program == decode.program_id])
    stack: list[Pubkey] = []
    for line in logs:
        if line == LOG_CUT:
            raise HistoryGap(f"the log of {signature} is truncated: it may have told more")
        invoked, ended = INVOKED.match(line), ENDED.match(line)
        if invoked:
            stack.append(Pubkey.from_string(invoked[1]))
            if stack[-1] == decode.program_id and len(stack) == 1:
                yield decode.call(signature, *next(own))
        elif ended:
            stack.pop()
        elif line.startswith(DATA) and stack and stack[-1] == decode.program_id:
            event = decode.event(signature, base64.b64decode(line.removeprefix(DATA)))
            if event is not None:
                yield event

"""What the trading program told of its market: events of finalised transactions, in order.

Belongs here: history of the market's address → decoded events. Does not belong here: what they do to the ledger
(settlement_service/movements.py). Only data that was logged while the trading program itself ran is read: anybody can
log the same bytes from a program of their own.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient, TransactionInfo
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.idl import PROGRAMS_DIR, Program
from gridtokenx_pipelines.chain.programs_run import LOG_CUT

PAGE = 1_000
TRANSACTIONS_AT_ONCE = 256
DATA: Final = "Program data: "
INVOKED: Final = re.compile(r"^Program (\w+) invoke \[\d+\]$")
ENDED: Final = re.compile(r"^Program \w+ (success|failed.*)$")
INTEGERS: Final = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i32": "i", "i64": "q"}
PUBKEY_BYTES = 32


class MarketEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event; `reference` is unique: signature and place in its transaction. Pubkeys are base58, times Unix s."""

    reference: str
    signature: str
    slot: int
    block_time: int
    name: str
    seq: int
    source: str
    fields: dict[str, Any]


def newest_finalised(client: ChainClient) -> str | None:
    """Signature of the market's newest finalised transaction."""
    rows = _page(client, None, None, PAGE)
    return next((row["signature"] for row in rows if row["confirmationStatus"] == "finalized"), None)


def market_events(client: ChainClient, after: str | None) -> tuple[list[MarketEvent], str | None]:
    """Events of finalised transactions after the one with signature `after` (None: all), oldest first.

    Also the signature of the newest of those transactions, `after` if there is none. Raises ChainError `NoHistory`
    if the node doesn't know `after` any more or keeps no transactions; `LogTruncated` where events were cut off.
    """
    if after is not None and client.statuses([after])[0] is None:
        raise ChainError(
            f"the node doesn't know {after}, which was final; use a node that keeps transaction history, or find out "
            "which chain this is",
            name="NoHistory",
        )
    rows = [row for row in _history(client, after) if row["confirmationStatus"] == "finalized"][::-1]
    good = [row for row in rows if row["err"] is None]
    found: list[MarketEvent] = []
    for start in range(0, len(good), TRANSACTIONS_AT_ONCE):
        part = good[start : start + TRANSACTIONS_AT_ONCE]
        infos = client.transactions([row["signature"] for row in part])
        for row, info in zip(part, infos, strict=True):
            if info is None:
                raise ChainError(f"{row['signature']} is final but the node has no record of it", name="NoHistory")
            found += _events_of(row, info)
    return found, (rows[-1]["signature"] if rows else after)


def owners_of_traders(client: ChainClient, traders: Iterable[str]) -> dict[str, str]:
    """Trading account → wallet, for those accounts that exist."""
    wanted = sorted(set(traders))
    program = Program.load("trading")
    found = client.accounts([Pubkey.from_string(each) for each in wanted])
    return {
        name: str(program.decode("Trader", account.data)["owner"])
        for name, account in zip(wanted, found, strict=True)
        if account is not None
    }


def _history(client: ChainClient, after: str | None) -> Iterator[dict[str, Any]]:
    before: str | None = None
    while True:
        page = _page(client, before, after, PAGE)
        yield from page
        if len(page) < PAGE:
            return
        before = page[-1]["signature"]


def _page(client: ChainClient, before: str | None, until: str | None, limit: int) -> list[dict[str, Any]]:
    config: dict[str, Any] = {"limit": limit, "commitment": "confirmed"}
    config |= {"before": before} if before else {}
    config |= {"until": until} if until else {}
    rows: list[dict[str, Any]] = client.call("getSignaturesForAddress", str(addresses.market()), config)
    return rows


def _events_of(row: dict[str, Any], info: TransactionInfo) -> Iterator[MarketEvent]:
    if LOG_CUT in info.logs and str(addresses.program_id("trading")) not in info.programs:
        return  # whoever names the market in a long log of its own moved nothing in it
    for place, (name, source, seq, fields) in enumerate(decode_logs(info.logs)):
        yield MarketEvent(
            reference=f"{row['signature']}:{place}",
            signature=row["signature"],
            slot=row["slot"],
            block_time=row["blockTime"] or 0,
            name=name,
            seq=seq,
            source=source,
            fields=fields,
        )


def decode_logs(logs: Sequence[str]) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """(name, source, seq, fields) of the trading program's events in a transaction's logs."""
    trading, running = str(addresses.program_id("trading")), list[str]()
    known = _layouts()
    for line in logs:
        if line == LOG_CUT:
            raise ChainError("a transaction's log was cut off, so events may be missing", name="LogTruncated")
        # whole lines: a program's own text ("Program log: success") must not end what runs
        if invoked := INVOKED.match(line):
            running.append(invoked[1])
        elif ENDED.match(line) and running:
            running.pop()
        elif line.startswith(DATA) and running and running[-1] == trading:
            raw = base64.b64decode(line.removeprefix(DATA).split(" ")[0])
            if raw[:8] in known:
                name, layout = known[raw[:8]]
                values = _unpack(layout, raw[8:])
                yield name, values.pop("source"), values.pop("seq"), values


def _unpack(layout: Sequence[tuple[str, str]], raw: bytes) -> dict[str, Any]:
    values, at = {}, 0
    for name, kind in layout:
        if kind == "pubkey":
            values[name] = str(Pubkey.from_bytes(raw[at : at + PUBKEY_BYTES]))
            at += PUBKEY_BYTES
        else:
            (values[name],) = struct.unpack_from("<" + INTEGERS[kind], raw, at)
            at += struct.calcsize(INTEGERS[kind])
    return values


_LAYOUTS: dict[bytes, tuple[str, list[tuple[str, str]]]] = {}


def _layouts() -> dict[bytes, tuple[str, list[tuple[str, str]]]]:
    """Discriminator → name and fields of trading's events, from its IDL."""
    if not _LAYOUTS:
        idl = msgspec.json.decode((PROGRAMS_DIR / "idl" / "trading.json").read_bytes())
        types = {each["name"]: each["type"] for each in idl["types"]}
        for event in idl["events"]:
            fields = [(field["name"], field["type"]) for field in types[event["name"]]["fields"]]
            _LAYOUTS[bytes(event["discriminator"])] = (event["name"], fields)
    return _LAYOUTS

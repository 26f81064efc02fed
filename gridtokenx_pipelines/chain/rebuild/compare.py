"""The whole rebuild: all histories told, the accounts read, and every difference named.

Belongs here: which histories, when they are complete, what is compared with which account. Does not belong here: what
calls and events do (trading.py, registry.py), how it is shown (chain_cli).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import AccountInfo, ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.rebuild import history
from gridtokenx_pipelines.chain.rebuild.history import Call, Event, HistoryGap
from gridtokenx_pipelines.chain.rebuild.registry import METER_FIELDS, RegistryLedger
from gridtokenx_pipelines.chain.rebuild.trading import TradingLedger
from gridtokenx_pipelines.chain.state import read_supplies
from gridtokenx_pipelines.market.base58 import encode as b58

TOLD = ("governance", "registry", "energy-token", "trading")
BALANCES = ("grid_wh", "thbc_uthb", "debt_uthb")
MOST_ROUNDS = 5


class Difference(msgspec.Struct, frozen=True):
    """A value that the history and the chain do not agree on; None: one of them has no such account."""

    account: str
    field: str
    rebuilt: str | int | None
    chain: str | int | None


class Rebuilt(msgspec.Struct, frozen=True):
    """What was told and compared; no differences: the history explains every balance."""

    transactions: int
    calls: int
    events: int
    traders: int
    meters: int
    certificates: int
    values: int
    differences: tuple[Difference, ...]


class _Books:
    def __init__(self) -> None:
        self.trading, self.registry = TradingLedger(), RegistryLedger()
        self.calls = self.events = self.transactions = 0
        self.newest: dict[str, str | None] = dict.fromkeys(TOLD)
        self._next: dict[Pubkey, int] = {}

    def catch_up(self, client: ChainClient) -> bool:
        """Tells what is new; whether anything was."""
        anything = False
        for program in TOLD:
            fresh = history.signatures(client, program, self.newest[program])
            for item in history.read(client, program, fresh):
                self._tell(program, item)
            if fresh:
                anything = True
                self.newest[program] = fresh[-1]
                self.transactions += len(fresh)
        return anything

    def _tell(self, program: str, item: Call | Event) -> None:
        if isinstance(item, Event):
            self.events += 1
            self._count(program, item)
        else:
            self.calls += 1
        (self.trading if program == "trading" else self.registry).tell(item)

    def _count(self, program: str, event: Event) -> None:
        # a run's events are numbered by the run, a meter's registrations by their count: not one after the other
        if event.name in {"RunCommitted", "RunBegun", "MeteredVoided", "MeterRegistered"}:
            return
        if event.seq != self._next.get(event.source, 0):
            raise HistoryGap(
                f"{program} {event.source}: event {event.name} is number {event.seq}, the one before was "
                f"{self._next.get(event.source, 0) - 1}: what came between is missing"
            )
        self._next[event.source] = event.seq + 1


def rebuild(client: ChainClient) -> Rebuilt:
    """Tells all histories from the programs' first transaction on and compares every balance with its account.

    Raises HistoryGap where the history is incomplete, ChainError where the node does not answer.
    """
    books = _Books()
    for _ in range(MOST_ROUNDS):
        books.catch_up(client)
        compared = list(_compare(client, books))
        # accounts are read after the history: on a chain that goes on, both must be of the same moment
        if not books.catch_up(client):
            break
    else:
        raise HistoryGap(f"the chain went on during {MOST_ROUNDS} attempts; ask when fewer transactions arrive")
    return Rebuilt(
        transactions=books.transactions,
        calls=books.calls,
        events=books.events,
        traders=len(books.trading.traders),
        meters=len(books.registry.meters),
        certificates=len(books.registry.certificates),
        values=len(compared),
        differences=tuple(each for each in compared if each.rebuilt != each.chain),
    )


def _compare(client: ChainClient, books: _Books) -> Iterable[Difference]:
    """Every value, equal or not."""
    yield from _accounts(client, "trading", "Trader", _traders(books.trading), BALANCES)
    yield from _accounts(client, "registry", "Meter", books.registry.meters, METER_FIELDS)
    certificates = {addresses.certificate(key): value for key, value in books.registry.certificates.items()}
    yield from _accounts(client, "governance", "Certificate", certificates, ("holder", "status"))
    market = {addresses.market(): books.trading.market}
    yield from _accounts(client, "trading", "Market", market, tuple(books.trading.market))
    supplies, told = read_supplies(client), books.trading.market
    grid = books.registry.grid_minted_wh - told["tokens_burned_wh"]
    outside = told["withdrawn_grid_wh"] - told["deposited_grid_wh"]
    held = told["deposited_uthb"] + told["funded_uthb"] - told["withdrawn_uthb"]
    yield Difference("GRID", "supply", grid, supplies.grid_supply_wh)
    yield Difference("GRID vault", "amount", grid - outside, supplies.grid_vault_wh)
    yield Difference("THBC", "supply", books.registry.thbc_supply_uthb, supplies.thbc_supply_uthb)
    yield Difference("THBC vault", "amount", held, supplies.thbc_vault_uthb)
    balances = sum(home.thbc_uthb for home in books.trading.traders.values())
    own = sum(told[f"{name}_thbc_uthb"] for name in ("supplier", "platform", "grid_operator"))
    if told["finalized_seq"] >= books.trading.applied_seq:
        yield Difference("all balances", "THBC", balances + own, held)


def _traders(trading: TradingLedger) -> dict[Pubkey, dict[str, int]]:
    return {at: {name: getattr(home, name) for name in BALANCES} for at, home in trading.traders.items()}


def _accounts(
    client: ChainClient, program: str, name: str, rebuilt: dict[Pubkey, dict[str, int]], fields: tuple[str, ...]
) -> Iterable[Difference]:
    own = Program.load(program)
    layout = own.layout(name)
    filters = [{"dataSize": layout.size}, {"memcmp": {"offset": 0, "bytes": b58(layout.prefix)}}]
    found: dict[Pubkey, AccountInfo] = {each.address: each for each in client.program_accounts(own.program_id, filters)}
    for address in sorted({*found, *rebuilt}, key=str):
        told = rebuilt.get(address)
        there = own.decode(name, found[address].data) if address in found else None
        for field in fields:
            yield Difference(f"{name} {address}", field, _plain(told and told[field]), _plain(there and there[field]))


def _plain(value: object) -> str | int | None:
    return str(value) if isinstance(value, Pubkey) else value  # type: ignore[return-value]

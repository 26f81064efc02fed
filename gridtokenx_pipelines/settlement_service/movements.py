"""Following the chain: deposits, fundings, withdrawals, matches and on-chain orders into the ledger, as they come.

Belongs here: which event is which booking, and when history is read at all. Does not belong here: decoding
(chain/market_events.py), SQL and double entry (store/movements.py, store/deposits.py).

The market account keeps running totals of everything that moves money outside of runs. Where the ledger's totals are
the same nothing is read; else the history since the last reading is, finalised transactions only, and each event is
booked once by its own reference. Reading again after a crash books nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.market_events import (
    MarketEvent,
    market_events,
    newest_finalised,
    owners_of_traders,
)
from gridtokenx_pipelines.chain.state import read_market, read_withdrawal_requests
from gridtokenx_pipelines.epochs import epoch_of_us
from gridtokenx_pipelines.market.base58 import decode_wallet
from gridtokenx_pipelines.settlement_service import booked_again
from gridtokenx_pipelines.settlement_service.events import chain_document
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import chain_orders, deposits, ledger, movements
from gridtokenx_pipelines.store.epochs import last_cleared_epoch
from gridtokenx_pipelines.store.market_events import announce
from gridtokenx_pipelines.store.movements import Leg, Totals

ACCOUNTS: Final = ("supplier", "platform", "grid_operator")
SIMULATED_TIME = 1
# a block is final some 32 slots after its time: what was sent in an epoch's last seconds covers from one epoch later
FINALITY_SECONDS = 13
TOTALS: Final = tuple(Totals.__struct_fields__)


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the chain brought: bookings by kind, open requests, and whether the totals agree now."""

    booked: dict[str, int]
    requests: int
    caught_up: bool


def follow(services: Services) -> Followed:
    """Book whatever finalised transactions moved since the last look. Raises ChainError if the chain can't be read."""
    client = services.client
    newest = newest_finalised(client)  # before the totals: what they hold may only be newer
    market = read_market(client)
    requests = read_withdrawal_requests(client)
    with services.engine.connect() as connection:
        reached = movements.read_up_to(connection)
        behind = _totals_of(market) != movements.totals(connection)
    events, through = market_events(client, reached.signature) if behind else ([], newest or reached.signature)
    owners = _owners(services, events)
    booked: dict[str, int] = {}
    with services.engine.begin() as connection:
        ledger.lock_ledger(connection)
        if movements.read_up_to(connection) == reached:
            first = _first_covered(connection, market)
            for place, event in enumerate(events):
                stands = partial(booked_again.before_grid_moved, services, connection, events, place)
                if _book(connection, event, owners, first(event.block_time), stands):
                    booked[event.name] = booked.get(event.name, 0) + 1
            window = (market["continuous_from"], market["continuous_end"])
            if not behind:
                deposits.link_known(connection)
            movements.save_read_up_to(
                connection, movements.ReadUpTo(signature=through, continuous_from=window[0], continuous_end=window[1])
            )
        movements.save_requests(connection, requests)
        caught_up = _totals_of(market) == movements.totals(connection)
    refresh_orders(services)
    return Followed(booked=booked, requests=requests.height, caught_up=caught_up)


def refresh_orders(services: Services) -> None:
    """Bring on-chain orders of open epochs to what their slots hold: matched and cancelled parts go."""
    with services.engine.connect() as connection:
        open_orders = chain_orders.of_open_epochs(connection)
    if open_orders.is_empty():
        return
    wallets = open_orders["wallet"].unique().sort().to_list()
    accounts = services.client.accounts([addresses.address_of_trader(wallet) for wallet in wallets])
    program = Program.load("trading")
    left: dict[int, int] = {}
    for account in accounts:
        if account is not None:
            trader = program.decode("Trader", account.data)
            left |= {
                number: slot["energy_wh"]
                for number, slot in zip(trader["placed"], trader["slots"], strict=True)
                if number and slot["used"] == chain_orders.SLOT_PLACED
            }
    with services.engine.begin() as connection:
        chain_orders.refresh(connection, open_orders, left)


def _totals_of(market: dict[str, int]) -> Totals:
    return Totals(**{name: market[name] for name in TOTALS})


def _owners(services: Services, events: list[MarketEvent]) -> dict[str, str]:
    """Trading account → wallet, for the accounts that these events name."""
    named = {event.fields[name] for event in events for name in ("trader", "buyer", "seller") if name in event.fields}
    named |= {event.source for event in events if event.name == "OrderPlaced"}
    return owners_of_traders(services.client, named)


def _first_covered(connection: Connection, market: dict[str, int]) -> Any:
    """Block time → the first epoch that what was final then covers: one that had not begun, nor has cleared since."""
    after_cleared = last_cleared_epoch(connection) + 1

    def first(block_time: int) -> int:
        if market["time_mode"] == SIMULATED_TIME:
            return max(market["last_opened"] + 1, after_cleared)
        return max(epoch_of_us((block_time + FINALITY_SECONDS) * 1_000_000) + 1, after_cleared)

    return first


def _book(
    connection: Connection, event: MarketEvent, owners: dict[str, str], epoch: int, book: Callable[[Leg], bool]
) -> bool:
    """One event into the ledger, its legs by `book`; False where it moves nothing or is booked already."""
    fields = event.fields
    told = chain_document(event, owners)
    if told is not None:
        announce(connection, event.seq, "chain", told)
    place = {"reference": event.reference, "slot": event.slot, "event_seq": event.seq, "epoch": epoch}
    match event.name:
        case "Deposited" | "AccountFunded":
            owner = owners[fields["trader"]] if "trader" in fields else ACCOUNTS[fields["account"]]
            return deposits.from_chain(connection, event.reference, owner, fields["amount_uthb"], epoch)
        case "GridDeposited":
            leg = Leg(leg=0, kind="grid_deposit", owner=owners[fields["trader"]], grid_wh=fields["energy_wh"], **place)
            return book(leg)
        case "Withdrawn":
            owner = owners[fields["trader"]]
            amounts = {"grid_wh": -fields["energy_wh"], "cash_uthb": -fields["amount_uthb"]}
            return book(Leg(leg=0, kind="withdrawal", owner=owner, **amounts, **place))
        case "EnergyTraded":
            return all([book(leg) for leg in match_legs(fields, owners, place)])
        case "OrderPlaced":
            return chain_orders.save(
                connection,
                number=fields["number"],
                wallet=owners[event.source],
                slot=fields["slot"],
                epoch=fields["epoch"],
                side=fields["side"],
                limit_uthb_per_kwh=fields["limit"],
                energy_wh=fields["energy_wh"],
                placed_at_us=event.block_time * 1_000_000,
                order_id=chain_order_id(owners[event.source], fields["number"]),
            )
    return False


def match_legs(fields: dict[str, Any], owners: dict[str, str], place: dict[str, Any]) -> tuple[Leg, Leg]:
    """The two households of a match on chain: the buyer pays cost, the seller gets it less wheeling and fee."""
    buyer, seller = owners[fields["buyer"]], owners[fields["seller"]]
    proceeds = fields["cost_uthb"] - fields["wheeling_uthb"] - fields["fee_uthb"]
    common = {"kind": "match", "price_uthb_per_kwh": fields["price"], **place}
    bought = Leg(
        leg=0,
        owner=buyer,
        counterparty=seller,
        grid_wh=fields["energy_wh"],
        cash_uthb=-fields["cost_uthb"],
        cost_uthb=fields["cost_uthb"],
        zone_wheeling_uthb=fields["wheeling_uthb"],
        **common,
    )
    sold = Leg(
        leg=1,
        owner=seller,
        counterparty=buyer,
        grid_wh=-fields["energy_wh"],
        cash_uthb=proceeds,
        proceeds_uthb=proceeds,
        fee_uthb=fields["fee_uthb"],
        **common,
    )
    return bought, sold


def chain_order_id(wallet: str, number: int) -> bytes:
    """The id that an order placed on chain has in books and fills: from its owner and its number, 16 bytes."""
    message = b"gridtokenx/chain-order/v1\0" + decode_wallet(wallet) + number.to_bytes(8, "little")
    return sha256(message).digest()[:16]


def cover(connection: Connection, balances: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """What covers orders of `epoch`: balances less what came too late and what is asked back (domain §4)."""
    return movements.less_requested(connection, deposits.covering(connection, balances, epoch), epoch)

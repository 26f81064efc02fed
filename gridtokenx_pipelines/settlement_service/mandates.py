"""Mandates as the chain holds them, into the table that books are made from.

Belongs here: what a household's own `set_mandate` and `revoke_mandate` mean for the table. Does not belong here:
reading the chain (chain/state.py), SQL (store/participants.py), what a mandate orders (market/book.py).

A book on a mandate that the chain no longer has gives a batch that the program refuses for ever, with metering applied.
Every change on chain acts from an epoch that has not begun, so once an epoch is over, what the chain says of it stands:
rows of cleared epochs never change, later ones follow.
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain.state import read_mandates
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audited, ledger, participants
from gridtokenx_pipelines.store.epochs import last_cleared_epoch

KEY = ["wallet", "effective_epoch"]


def follow(services: Services) -> int:
    """Bring the table to what the chain holds now; how many rows changed. Raises ChainError if it can't be read."""
    on_chain = read_mandates(services.client)
    with services.engine.begin() as connection:
        ledger.lock_ledger(connection)
        return adopt(connection, on_chain, last_cleared_epoch(connection))


def adopt(connection: Connection, on_chain: pl.DataFrame, cleared: int) -> int:
    """Bring the table to `on_chain` (columns of table `mandates`, of all trading accounts); how many rows changed.

    A mandate that begins after epoch `cleared` and is no longer on chain is gone. Wallets without a trading account
    here are left alone.
    """
    members = participants.users(connection).filter(pl.col("trader_address").is_not_null()).select("wallet")
    stored = audited.mandates(connection)
    mine = on_chain.join(members, on="wallet", how="semi").select(stored.columns)
    changed = mine.join(stored, on=stored.columns, how="anti")
    if changed.height:
        participants.save_mandates(connection, changed)
    open_ones = stored.filter(pl.col("effective_epoch") > cleared).join(members, on="wallet", how="semi")
    gone = open_ones.join(mine, on=KEY, how="anti").select(KEY)
    if gone.height:
        participants.forget_mandates(connection, gone)
    return changed.height + gone.height

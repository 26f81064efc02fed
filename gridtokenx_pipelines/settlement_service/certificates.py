"""Certificates of a running market's epoch: locked with the book's sells at the gate, passed on with its matches.

Belongs here: what the chain says of the certificates that a book names, and writing the outcome. Does not belong here:
who locks what (market/certificates.py), SQL (store/certificates.py), what of settled energy is claimed (the programs).

Clearing goes in epoch order, and what passed in one epoch is no longer there in the next, so that no kWh of a
certificate backs two sells. Certificates change no trade and no root: an audit of trades doesn't need them.
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.epochs import end_us
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.certificates import CERTIFICATES, Locks, lock, pass_on
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import certificates as store

VALIDATED = 1
US_PER_SECOND = 1_000_000


def lock_and_pass(
    services: Services, connection: Connection, epoch: int, book: pl.DataFrame, matches: pl.DataFrame
) -> Locks | None:
    """Lock what the book's sells name, pass on what its matches sold, and write both; None where no order names one."""
    named = book["certificate_id"].drop_nulls().unique().sort().to_list()
    if not named:
        return None
    held = on_chain(services.client, named)
    gone = store.passed_wh(connection, named)
    left = [max(0, wh - gone.get(name, 0)) for name, wh in held.select("certificate_id", "unclaimed_wh").iter_rows()]
    held = held.with_columns(unclaimed_wh=pl.Series(left, dtype=pl.Int64))
    locks = lock(book, held, end_us(epoch))
    store.write(connection, epoch, locks, pass_on(locks.locked, matches))
    return locks


def on_chain(client: ChainClient, certificates: list[bytes]) -> pl.DataFrame:
    """Frame CERTIFICATES of those that exist, unclaimed with all their Wh."""
    program = Program.load("governance")
    found = client.accounts([addresses.certificate(name) for name in certificates])
    decoded = [program.decode("Certificate", account.data) for account in found if account is not None]
    return frames.frame(
        CERTIFICATES,
        [
            {
                "certificate_id": bytes(each["certificate_id"]),
                "wallet": str(each["holder"]),
                "unclaimed_wh": each["energy_wh"],
                "expires_us": each["expires_at"] * US_PER_SECOND,
                "is_valid": each["status"] == VALIDATED,
            }
            for each in decoded
        ],
    )

"""Money that comes in over the bridge: households' deposits and the prefunding of market accounts.

Belongs here: SQL on `deposits` and what a deposit changes in the ledger. Does not belong here: runs (ledger.py).
Each is booked once per reference, which is the chain's own (a transaction signature or a deposit reference).
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.settlement.double_entry import BRIDGE, RESIDUAL, SUPPLIER, row
from gridtokenx_pipelines.settlement.frames import LEDGER_ROWS
from gridtokenx_pipelines.store.ledger import copy_ledger_rows, last_seq, lock_ledger
from gridtokenx_pipelines.store.postgres import read_frame

ACCOUNTS = ("supplier", "platform", "grid_operator")
DEPOSITS = {
    "reference": pl.String,
    "owner": pl.String,
    "amount_uthb": pl.Int64,
    "debt_repaid_uthb": pl.Int64,
    "epoch": pl.Int64,
    "after_seq": pl.Int64,
}


def deposits(connection: Connection) -> pl.DataFrame:
    """All deposits and fundings, by run they followed and reference."""
    return read_frame(
        connection,
        "SELECT reference, owner, amount_uthb, debt_repaid_uthb, epoch, after_seq FROM deposits "
        "ORDER BY after_seq, reference",
        schema=DEPOSITS,
    )


def covering(connection: Connection, balances: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """The balances that cover orders of `epoch`: without deposits that were final only after it began (domain §4)."""
    later = read_frame(
        connection,
        "SELECT owner, sum(amount_uthb - debt_repaid_uthb)::bigint AS later_uthb FROM deposits WHERE epoch > :epoch "
        "GROUP BY owner",
        {"epoch": epoch},
        {"owner": pl.String, "later_uthb": pl.Int64},
    )
    # such a deposit may be spent in part by runs booked since: what is left of it can't be told, and never covers
    cash = (pl.col("thbc_uthb") - pl.col("later_uthb").fill_null(0)).clip(lower_bound=0)
    return balances.join(later, on="owner", how="left", maintain_order="left").select(
        *(cash.alias(name) if name == "thbc_uthb" else pl.col(name) for name in balances.columns)
    )


def from_chain(connection: Connection, reference: str, owner: str, amount_uthb: int, epoch: int) -> bool:
    """Book a deposit or funding that the chain told of; False if it is known, be it under a reference of our own.

    What was deposited by a command of ours is booked by it, under its own reference: the first such row of that owner
    and amount that no event has claimed yet is this one.
    """
    known = connection.execute(
        text("SELECT 1 FROM deposits WHERE chain_reference = :reference OR reference = :reference"),
        {"reference": reference},
    ).scalar()
    if known:
        return False
    claimed = connection.execute(
        text(
            "UPDATE deposits SET chain_reference = :reference WHERE reference = (SELECT reference FROM deposits "
            "WHERE owner = :owner AND amount_uthb = :amount AND chain_reference IS NULL ORDER BY reference LIMIT 1)"
        ),
        {"reference": reference, "owner": owner, "amount": amount_uthb},
    )
    if claimed.rowcount:
        return False
    if owner in ACCOUNTS:
        fund(connection, reference=reference, account=owner, amount_uthb=amount_uthb, epoch=epoch)
    else:
        deposit(connection, reference=reference, wallet=owner, amount_uthb=amount_uthb, epoch=epoch)
    connection.execute(
        text("UPDATE deposits SET chain_reference = reference WHERE reference = :reference"), {"reference": reference}
    )
    return True


def link_known(connection: Connection) -> None:
    """The chain's totals are ours: whatever is booked has its event behind the place read up to."""
    connection.execute(
        text("UPDATE deposits SET chain_reference = 'known:' || reference WHERE chain_reference IS NULL")
    )


def deposit(connection: Connection, *, reference: str, wallet: str, amount_uthb: int, epoch: int) -> bool:
    """Book a household's deposit once per reference, debt first; False if the reference is booked already.

    `epoch` is the first one that it covers: it was final on the chain before that epoch began.
    Raises ValueError for an amount of 0 or less.
    """
    after_seq = _new_deposit(connection, reference, wallet, amount_uthb, epoch)
    if after_seq is None:
        return False
    debt = connection.execute(text("SELECT debt_uthb FROM balances WHERE owner = :owner"), {"owner": wallet}).scalar()
    repaid = min(int(debt or 0), amount_uthb)
    connection.execute(
        text(
            "INSERT INTO balances AS old (owner, thbc_uthb, seq) VALUES (:owner, :cash, :seq) ON CONFLICT (owner) "
            "DO UPDATE SET thbc_uthb = old.thbc_uthb + EXCLUDED.thbc_uthb, debt_uthb = old.debt_uthb - :repaid"
        ),
        {"owner": wallet, "cash": amount_uthb - repaid, "repaid": repaid, "seq": after_seq},
    )
    connection.execute(
        text("UPDATE deposits SET debt_repaid_uthb = :repaid WHERE reference = :reference"),
        {"repaid": repaid, "reference": reference},
    )
    connection.execute(
        text("UPDATE market_accounts SET thbc_uthb = thbc_uthb + :repaid WHERE account = 'supplier'"),
        {"repaid": repaid},
    )
    rows = [
        *row(wallet, BRIDGE, "THBC", amount_uthb, f"deposit {reference}"),
        *row(SUPPLIER, wallet, "THBC", repaid, "debt repaid"),
        *row(RESIDUAL, f"debt:{wallet}", "THBC", repaid, "debt"),
    ]
    copy_ledger_rows(connection, pl.DataFrame(rows, schema=LEDGER_ROWS, orient="row"), after_seq, epoch)
    return True


def fund(connection: Connection, *, reference: str, account: str, amount_uthb: int, epoch: int) -> bool:
    """Book a prefunding of a market account once per reference; False if the reference is booked already."""
    if account not in ACCOUNTS:
        raise ValueError(f"market account was {account!r}, must be one of {', '.join(ACCOUNTS)}; correct it")
    after_seq = _new_deposit(connection, reference, account, amount_uthb, epoch)
    if after_seq is None:
        return False
    connection.execute(
        text("UPDATE market_accounts SET thbc_uthb = thbc_uthb + :amount WHERE account = :account"),
        {"amount": amount_uthb, "account": account},
    )
    rows = row(account, BRIDGE, "THBC", amount_uthb, f"funded {reference}")
    copy_ledger_rows(connection, pl.DataFrame(rows, schema=LEDGER_ROWS, orient="row"), after_seq, epoch)
    return True


def _new_deposit(connection: Connection, reference: str, owner: str, amount_uthb: int, epoch: int) -> int | None:
    if amount_uthb <= 0:
        raise ValueError(f"deposit {reference!r} was {amount_uthb} µTHB, must be above 0; correct the amount")
    lock_ledger(connection)
    after_seq = last_seq(connection)
    result = connection.execute(
        text(
            "INSERT INTO deposits (reference, owner, amount_uthb, epoch, after_seq) "
            "VALUES (:reference, :owner, :amount, :epoch, :seq) ON CONFLICT (reference) DO NOTHING"
        ),
        {"reference": reference, "owner": owner, "amount": amount_uthb, "epoch": epoch, "seq": after_seq},
    )
    return after_seq if result.rowcount else None

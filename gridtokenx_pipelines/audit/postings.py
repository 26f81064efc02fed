"""Double-entry rows of a whole range at once, from recomputed entries and the deposits between them.

Belongs here: settlement/double_entry.py's flows over many runs in a dozen column operations. Does not belong here: the
entries themselves (entries.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from gridtokenx_pipelines.settlement.double_entry import (
    BRIDGE,
    BURNED,
    CLEARING,
    GRID_OPERATOR,
    PLATFORM,
    RESIDUAL,
    SUPPLIER,
    WALLET_FLOWS,
    row,
)
from gridtokenx_pipelines.settlement.frames import LEDGER_ROWS, Booking

POSTED = pl.Schema([("seq", pl.Int64()), ("epoch", pl.Int64()), *LEDGER_ROWS.items()])
MARKET_ACCOUNTS = ("supplier", "platform", "grid_operator")


def postings(bookings: Mapping[int, Booking], deposits: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """POSTED rows of all bookings, and of deposits and movements (`moved`, as POSTED) booked after one of them.

    Equal rows are told apart by nothing, so each is there once with its number (`times`).
    """
    entries = pl.concat([booking.wallet_entries for booking in bookings.values()]) if bookings else None
    parts = [pl.DataFrame(schema=POSTED)]
    if entries is not None:
        owed = entries.with_columns(wallet=pl.format("debt:{}", "wallet"))
        parts += [_flow(entries, *flow) for flow in WALLET_FLOWS]
        parts.append(_flow(owed, "debt_delta_uthb", None, RESIDUAL, "THBC", "debt"))
    rows = [(booking.seq, booking.epoch, *each) for booking in bookings.values() for each in _shared(booking)]
    rows += [
        (each["after_seq"], each["epoch"], *posted)
        for each in deposits.iter_rows(named=True)
        if each["after_seq"] in bookings
        for posted in _deposit(each)
    ]
    parts.append(pl.DataFrame(rows, schema=POSTED, orient="row"))
    parts.append(moved.filter(pl.col("seq").is_in(list(bookings))).select(POSTED.names()))
    return counted(pl.concat(parts))


def counted(rows: pl.DataFrame) -> pl.DataFrame:
    """Equal rows as one, with how many there are."""
    return rows.group_by(list(POSTED)).agg(pl.len().cast(pl.Int64).alias("times")).sort(list(POSTED))


def _flow(entries: pl.DataFrame, column: str, to: str | None, source: str | None, unit: str, memo: str) -> pl.DataFrame:  # noqa: PLR0917
    target = pl.lit(to) if to else pl.col("wallet")
    origin = pl.lit(source) if source else pl.col("wallet")
    forward = pl.col(column) > 0
    return entries.filter(pl.col(column) != 0).select(
        "seq",
        "epoch",
        debit=pl.when(forward).then(target).otherwise(origin),
        credit=pl.when(forward).then(origin).otherwise(target),
        unit=pl.lit(unit),
        amount=pl.col(column).abs(),
        memo=pl.lit(memo),
    )


def _shared(booking: Booking) -> list[tuple[str, str, str, int, str]]:
    header, entries = booking.header, booking.wallet_entries
    fee, wheeling = int(entries["fee_uthb"].sum()), int(entries["zone_wheeling_uthb"].sum())
    return [
        *row(BURNED, CLEARING, "GRID", header.lost_wh, "lost on links"),
        *row(PLATFORM, CLEARING, "THBC", fee, "platform fees"),
        *row(GRID_OPERATOR, CLEARING, "THBC", wheeling, "zone wheeling"),
        *row(GRID_OPERATOR, CLEARING, "THBC", header.link_wheeling_uthb, "link wheeling"),
        *row(GRID_OPERATOR, CLEARING, "THBC", header.rent_uthb, "congestion rent and rounding"),
    ]


def _deposit(each: Mapping[str, object]) -> list[tuple[str, str, str, int, str]]:
    owner, reference = str(each["owner"]), each["reference"]
    amount, repaid = int(str(each["amount_uthb"])), int(str(each["debt_repaid_uthb"]))
    if owner in MARKET_ACCOUNTS:
        return row(owner, BRIDGE, "THBC", amount, f"funded {reference}")
    return [
        *row(owner, BRIDGE, "THBC", amount, f"deposit {reference}"),
        *row(SUPPLIER, owner, "THBC", repaid, "debt repaid"),
        *row(RESIDUAL, f"debt:{owner}", "THBC", repaid, "debt"),
    ]

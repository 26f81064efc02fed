"""Certificates locked with sells, and passed to the buyers (domain §4, §8). Pure.

Belongs here: which sell locks how much of which certificate, and who gets what was sold under it. Does not belong here:
issuing and claiming (the chain's), files, clearing: a certificate changes no trade.
- Sells lock in priority order: net limit, time, id. A sell locks at most its own Wh and what earlier ones left.
- A sell whose certificate can't back it trades without one, for a numbered reason.
- What of a sell's locked Wh reached buyers passes to them pro rata by its matches: whole shares down, the rest of 1 Wh
  each to the largest remainders, ties by wallet and order id. What was not sold, or was lost on links, is free again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.orders import Side

CERTIFICATES: frames.Schema = {
    "certificate_id": pl.Binary,
    "wallet": pl.String,
    "unclaimed_wh": pl.Int64,
    "expires_us": pl.Int64,
    "is_valid": pl.Boolean,
}
LOCKED: frames.Schema = {
    "order_id": pl.Binary,
    "certificate_id": pl.Binary,
    "locked_wh": pl.Int64,
}
UNBACKED: frames.Schema = {
    "order_id": pl.Binary,
    "certificate_id": pl.Binary,
    "reason_code": pl.Int64,
    "reason": pl.String,
}
PASSED: frames.Schema = {
    "certificate_id": pl.Binary,
    "sell_order_id": pl.Binary,
    "buy_order_id": pl.Binary,
    "seller": pl.String,
    "buyer": pl.String,
    "energy_wh": pl.Int64,
}


class Unbacked(IntEnum):
    """Why an order's certificate backs nothing; numbers are never reused."""

    NOT_A_SELL = 1
    UNKNOWN = 2
    NOT_VALID = 3
    FOREIGN = 4
    EXPIRED = 5
    USED_UP = 6


class Locks(NamedTuple):
    """`locked`: frame LOCKED; `unbacked`: frame UNBACKED; both by order id."""

    locked: pl.DataFrame
    unbacked: pl.DataFrame


def lock(book: pl.DataFrame, certificates: pl.DataFrame, at_us: int | None = None) -> Locks:
    """Lock certificates with the sells of a book (frames.BOOK) that name one.

    `certificates`: CERTIFICATES; one is expired that ends at or before `at_us` (None: the order's own time). Raises
    ValueError for a certificate given twice or with negative Wh.
    """
    given = frames.conform(certificates, CERTIFICATES, "certificates")
    by_id = {row["certificate_id"]: row for row in given.iter_rows(named=True)}
    if len(by_id) < given.height:
        raise ValueError(f"certificates had {given.height} rows of {len(by_id)} ids, must have one an id; drop doubles")
    left: dict[bytes, int] = {name: row["unclaimed_wh"] for name, row in by_id.items()}
    if min(left.values(), default=0) < 0:
        raise ValueError(f"unclaimed_wh was {min(left.values())}, must be 0 or more; correct the certificate")
    locked, unbacked = [], []
    naming = book.filter(pl.col("certificate_id").is_not_null())
    for order in naming.sort("net_limit_uthb_per_kwh", "broker_us", "order_id").iter_rows(named=True):
        key = {"order_id": order["order_id"], "certificate_id": order["certificate_id"]}
        certificate = by_id.get(order["certificate_id"])
        moment = order["broker_us"] if at_us is None else at_us
        why = _fault(order, certificate, left.get(order["certificate_id"], 0), moment)
        if why is not None:
            unbacked.append(key | {"reason_code": int(why), "reason": why.name.lower()})
            continue
        wh = min(order["covered_wh"], left[order["certificate_id"]])
        left[order["certificate_id"]] -= wh
        locked.append(key | {"locked_wh": wh})
    return Locks(frames.frame(LOCKED, locked).sort("order_id"), frames.frame(UNBACKED, unbacked).sort("order_id"))


def _fault(
    order: Mapping[str, object], certificate: Mapping[str, object] | None, left_wh: int, at_us: int
) -> Unbacked | None:
    if order["side"] != Side.SELL:
        return Unbacked.NOT_A_SELL
    if certificate is None:
        return Unbacked.UNKNOWN
    expires = certificate["expires_us"]
    for why, holds in (
        (Unbacked.NOT_VALID, not certificate["is_valid"]),
        (Unbacked.FOREIGN, certificate["wallet"] != order["wallet"]),
        (Unbacked.EXPIRED, isinstance(expires, int) and expires <= at_us),
        (Unbacked.USED_UP, left_wh == 0),
    ):
        if holds:
            return why
    return None


def pass_on(locked: pl.DataFrame, matches: pl.DataFrame) -> pl.DataFrame:
    """What of the locked Wh passes to whom (PASSED, by sell order and buy order), given frames.MATCHES of the clearing.

    Per sell it is the lesser of its locked and its matched Wh in all, and per match never more than the match's Wh.
    """
    met = (
        matches.group_by("sell_order_id", "buy_order_id", "seller", "buyer")
        .agg(pl.col("energy_wh").sum())
        .join(locked, left_on="sell_order_id", right_on="order_id")
        .sort("sell_order_id", "buyer", "buy_order_id")
    )
    passed = []
    for _, sale in met.group_by("sell_order_id", maintain_order=True):
        shares = apportion(min(int(sale["locked_wh"][0]), int(sale["energy_wh"].sum())), sale["energy_wh"].to_list())
        passed.append(sale.with_columns(energy_wh=pl.Series(shares, dtype=pl.Int64)))
    if not passed:
        return frames.frame(PASSED)
    given = frames.conform(pl.concat(passed), PASSED, "passed")
    return given.filter(pl.col("energy_wh") > 0).sort("sell_order_id", "buy_order_id")


def apportion(total: int, weights: list[int]) -> list[int]:
    """`total` in whole shares by weight, largest remainder first, then the earlier place; 0 ≤ total ≤ Σ weights.

    Raises ValueError for a total beyond that.
    """
    whole = sum(weights)
    if not 0 <= total <= whole:
        raise ValueError(f"total was {total}, must lie in 0…{whole}, the sum of the weights; cut it")
    if not whole:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    rest = sorted(range(len(weights)), key=lambda place: (-(total * weights[place] % whole), place))
    for place in rest[: total - sum(shares)]:
        shares[place] += 1
    return shares


def unclaimed_after(certificates: pl.DataFrame, passed: pl.DataFrame) -> dict[bytes, int]:
    """What each certificate still has unclaimed once `passed` is claimed by the buyers."""
    gone: Counter[bytes] = Counter()
    for name, wh in passed.select("certificate_id", "energy_wh").iter_rows():
        gone[name] += wh
    left = certificates.sort("certificate_id").select("certificate_id", "unclaimed_wh")
    return {name: wh - gone[name] for name, wh in left.iter_rows()}

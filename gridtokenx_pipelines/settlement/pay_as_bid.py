"""Trading entries of an epoch where each order trades at a value of its own (docs/reference/abi.md, pay as bid).

Belongs here: orders' exact values from a clearing's matches, the bytes of a wallet's entry, entries into batches. Does
not belong here: leaves and roots (batches.py), charges (market/charges.py), who met whom (market/mechanisms).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from gridtokenx_pipelines.settlement.frames import LedgerError
from gridtokenx_pipelines.units import WH_PER_KWH

SELLS, BY_MANDATE = 1 << 30, 1 << 31
ORDER_VALUES: Final = pl.Schema(
    {"wallet": pl.String, "slot": pl.Int64, "order_id": pl.Binary, "filled_wh": pl.Int64, "value_uthb": pl.Int64}
)


def order_values(fills: pl.DataFrame, matches: pl.DataFrame, limits: Mapping[bytes, int]) -> pl.DataFrame:
    """ORDER_VALUES of a pay-as-bid clearing, as entries take them: by wallet, slot, order id.

    `limits`: µTHB/kWh by order id, of all orders but mandates'. The value is the floor of Wh × price summed over the
    order's matches. Raises LedgerError for a filled order without a limit, or whose matches aren't its fill.
    """
    worth = pl.col("energy_wh") * pl.col("price_uthb_per_kwh")
    sides = [matches.select("energy_wh", worth=worth, order_id=name) for name in ("buy_order_id", "sell_order_id")]
    summed = pl.concat(sides).group_by("order_id").agg(pl.col("energy_wh", "worth").sum())
    joined = fills.join(summed, on="order_id", how="left")
    unlike = joined.filter(pl.col("energy_wh").fill_null(-1) != pl.col("filled_wh"))
    if unlike.height:
        row = unlike.row(0, named=True)
        raise LedgerError(
            f"order {row['order_id'].hex()} was filled {row['filled_wh']} Wh, its matches say {row['energy_wh']}; "
            "clear the epoch again with its matches kept"
        )
    rows = []
    for wallet, side, order_id, is_mandate, filled, value in joined.select(
        "wallet", "side", "order_id", "is_mandate", "filled_wh", pl.col("worth") // WH_PER_KWH
    ).iter_rows():
        if not is_mandate and order_id not in limits:
            raise LedgerError(f"filled order {order_id.hex()} has no limit; restore its row in orders")
        named = BY_MANDATE if is_mandate else limits[order_id]
        rows.append((wallet, named | SELLS * side, order_id, filled, value))
    return pl.DataFrame(rows, schema=ORDER_VALUES, orient="row").sort("wallet", "slot", "order_id")


def entries_of(wallets: pl.DataFrame, values: pl.DataFrame) -> list[bytes]:
    """A wallet's entry each, in the order of `wallets` (wallet, net_wh): net_wh i32 ‖ n u8 ‖ n × (slot, Wh, value)."""
    fills: dict[str, list[bytes]] = {}
    for wallet, slot, _, filled, value in values.select(ORDER_VALUES.names()).iter_rows():
        fills.setdefault(wallet, []).append(struct.pack("<IIQ", slot, filled, value))
    strangers = sorted(set(fills) - set(wallets["wallet"]))
    if strangers:
        raise LedgerError(f"wallet {strangers[0]} has fills and no entry; book the wallets that traded")
    found = []
    for wallet, net in wallets.select("wallet", "net_wh").iter_rows():
        own = fills.get(wallet, [])
        try:
            found.append(struct.pack("<iB", net, len(own)) + b"".join(own))
        except struct.error as error:
            raise LedgerError(f"entry of {wallet} ({net} Wh, {len(own)} fills) doesn't fit: {error}") from error
    return found


def groups_of(entries: Sequence[bytes], most: int, room: int) -> list[tuple[int, int]]:
    """Entries into batches of at most `most`, each of at most `room` bytes with one of look-up index an entry."""
    groups: list[tuple[int, int]] = []
    start = used = 0
    for at, entry in enumerate(entries):
        size = len(entry) + 1
        if size > room:
            raise LedgerError(f"an entry of {size} bytes must fit {room}; let a wallet have fewer orders")
        if at - start == most or used + size > room:
            groups.append((start, at))
            start, used = at, 0
        used += size
    return [*groups, (start, len(entries))] if entries else []

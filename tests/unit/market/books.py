"""Small books, networks and frames for the market's tests."""

from __future__ import annotations

from hashlib import sha256

import polars as pl

from gridtokenx_pipelines.market import base58, frames
from gridtokenx_pipelines.market.book import net_limit_uthb_per_kwh
from gridtokenx_pipelines.market.rules import Link, Network, Zone

EPOCH = 1_966_416
BUY, SELL = 0, 1
THB = 1_000_000


def wallet(name: str) -> str:
    """A real base58 address for a name."""
    return base58.encode(sha256(name.encode()).digest())


def order_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def network(*wheeling: int, links: tuple[Link, ...] = ()) -> Network:
    """Zones 1, 2, … with these wheelings (µTHB/kWh)."""
    zones = tuple(
        Zone(zone_id=number, zone_wheeling_uthb_per_kwh=rate) for number, rate in enumerate(wheeling or (0,), 1)
    )
    return Network(zones=zones, links=links)


def link(
    ident: int, ends: tuple[int, int], capacity: int, *, wheeling: int = 0, loss_ppm: int = 0, back: int = -1
) -> Link:
    return Link(
        link_id=ident,
        from_zone=ends[0],
        to_zone=ends[1],
        capacity_forward_wh=capacity,
        capacity_backward_wh=capacity if back < 0 else back,
        link_wheeling_uthb_per_kwh=wheeling,
        loss_ppm=loss_ppm,
    )


def order_row(number: int, side: int, energy_wh: int, limit: int, **changes) -> dict:
    """A row of frame `orders`; the wallet is named after the number unless given."""
    return {
        "order_id": order_id(number),
        "wallet": wallet(f"w{number}"),
        "zone_id": 1,
        "meter_id": f"M{number}",
        "side": side,
        "energy_wh": energy_wh,
        "limit_uthb_per_kwh": limit,
        "epoch": EPOCH,
        "nonce": 0,
        "placed_at_us": number,
        "certificate_id": None,
        "is_mandate": False,
        "broker_us": number,
    } | changes


def book_of(rows: list[dict], net: Network, fee_bp: int = 0) -> pl.DataFrame:
    """A book straight from rows, covered whole."""
    wheeling = {zone.zone_id: zone.zone_wheeling_uthb_per_kwh for zone in net.zones}
    full = [
        row
        | {
            "covered_wh": row["energy_wh"],
            "net_limit_uthb_per_kwh": net_limit_uthb_per_kwh(
                row["side"], row["limit_uthb_per_kwh"], fee_bp, wheeling[row["zone_id"]]
            ),
        }
        for row in rows
    ]
    full.sort(
        key=lambda row: (
            row["side"],
            row["net_limit_uthb_per_kwh"] * (1 if row["side"] else -1),
            row["broker_us"],
            row["order_id"],
        )
    )
    return frames.frame(frames.BOOK, full)

"""Books for the clearing benchmark: the same numbers for the project's own mechanisms and for the peers.

Belongs here: drawing them, and their forms. Does not belong here: measuring. numpy alone, so that a peer's environment
can load this file; the project's own forms import the project where they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from gridtokenx_pipelines.market.rules import Network

SEED = 20_260_615
TICK = 10_000
LOWEST, HIGHEST = 200, 800
HOUR_US = 3_600_000_000


class Columns(NamedTuple):
    """Side (0 buys, 1 sells), limit µTHB/kWh on the tick, Wh, arrival in µs, 128-bit ids in two halves, zone."""

    side: Any
    limit: Any
    wh: Any
    time_us: Any
    id_high: Any
    id_low: Any
    zone: Any


def draw(orders: int, zones: int = 1) -> Columns:
    """Two overlapping bells of limits on the market's own tick, so that ties are many and half of the book trades."""
    rng = np.random.default_rng(SEED)
    side = rng.integers(0, 2, orders)
    middle = np.where(side == 0, 520, 480)
    ticks = np.clip(np.rint(rng.normal(middle, 90)), LOWEST, HIGHEST).astype(np.int64)
    return Columns(
        side=side,
        limit=ticks * TICK,
        wh=rng.integers(1, 5_000, orders),
        time_us=rng.integers(0, HOUR_US, orders),
        id_high=rng.integers(0, 2**63, orders).astype(np.uint64),
        id_low=rng.integers(0, 2**63, orders).astype(np.uint64),
        zone=rng.integers(1, zones + 1, orders),
    )


def packed(columns: Columns) -> Any:
    """Side, limit and time in one 64-bit key that sorts as priority does: what a sort of the book costs at least."""
    ticks = columns.limit // TICK
    better = np.where(columns.side == 0, HIGHEST - ticks, ticks)
    return (columns.side << 62 | better << 48 | columns.time_us >> 6).astype(np.uint64)


def book_of(columns: Columns) -> pl.DataFrame:
    """The book as the market's own frame (frames.BOOK), a wallet an order."""
    import polars as pl  # noqa: PLC0415 - peers' environments have no polars

    from gridtokenx_pipelines.market import frames  # noqa: PLC0415

    orders = len(columns.side)
    halves = np.stack([columns.id_high, columns.id_low], axis=1).astype(">u8").tobytes()
    return pl.DataFrame(
        {
            "order_id": [halves[place : place + 16] for place in range(0, len(halves), 16)],
            "wallet": np.arange(orders).astype(str),
            "zone_id": columns.zone,
            "meter_id": [None] * orders,
            "side": columns.side,
            "energy_wh": columns.wh,
            "limit_uthb_per_kwh": columns.limit,
            "epoch": np.zeros(orders, np.int64),
            "nonce": np.zeros(orders, np.int64),
            "placed_at_us": columns.time_us,
            "certificate_id": [None] * orders,
            "is_mandate": np.zeros(orders, np.bool_),
            "broker_us": columns.time_us,
            "covered_wh": columns.wh,
            "net_limit_uthb_per_kwh": columns.limit,
        },
        schema=dict(frames.BOOK),
    )


def network_of(zones: int, links: int, orders: int) -> Network:
    """A ring of zones and chords across it; capacities such that some links fill and some don't."""
    from gridtokenx_pipelines.market.rules import Link, Network, Zone  # noqa: PLC0415 - see above

    rng = np.random.default_rng(SEED + zones)
    ends = [(zone, zone % zones + 1) for zone in range(1, zones + 1)] if zones > 1 else []
    while len(ends) < links:
        start, end = sorted(int(zone) for zone in rng.integers(1, zones + 1, 2))
        if start != end:
            ends.append((start, end))
    each = max(orders * 2_500 // (zones * 40), 1)
    return Network(
        zones=tuple(Zone(zone_id=zone) for zone in range(1, zones + 1)),
        links=tuple(
            Link(
                link_id=number,
                from_zone=start,
                to_zone=end,
                capacity_forward_wh=int(rng.integers(1, each + 1)),
                capacity_backward_wh=int(rng.integers(1, each + 1)),
                link_wheeling_uthb_per_kwh=int(rng.integers(0, 10)) * TICK,
                loss_ppm=int(rng.integers(0, 30)) * 1_000,
            )
            for number, (start, end) in enumerate(ends[:links], 1)
        ),
    )

"""What books and results say about a market: merit order, depth, prices, welfare, concentration, congestion, patterns.

Belongs here: pure functions on the contract's frames, of one epoch or many (a column `epoch` tells them apart). Does
not belong here: clearing, reading files, plots. Every figure is an integer; shares are basis points, rounded down.
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.epochs import BANGKOK_OFFSET_SECONDS, EPOCH_SECONDS
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.units import BASIS_POINTS, WH_PER_KWH

BUY, SELL = 0, 1
BAND_UTHB_PER_KWH = 250_000
STEP_UTHB_PER_KWH = 100_000
EPOCH_MINUTES = EPOCH_SECONDS // 60
SECONDS_A_DAY = 86_400
NET = pl.col("net_limit_uthb_per_kwh")


def merit_order(book: pl.DataFrame) -> pl.DataFrame:
    """Each order's place in its zone's curve: rank from 1 and energy up to and with it.

    `book`: frames.BOOK. Returns epoch, zone_id, side, rank, order_id, wallet, price_uthb_per_kwh (net), energy_wh,
    cumulative_wh; buys from the dearest, sells from the cheapest, each by priority.
    """
    curve = ["epoch", "zone_id", "side"]
    return (
        book.sort(*curve, pl.when(pl.col("side") == BUY).then(-NET).otherwise(NET), "broker_us", "order_id")
        .with_columns(
            rank=pl.int_range(1, pl.len() + 1).over(curve),
            cumulative_wh=pl.col("covered_wh").cum_sum().over(curve),
        )
        .select(
            *curve,
            "rank",
            "order_id",
            "wallet",
            NET.alias("price_uthb_per_kwh"),
            pl.col("covered_wh").alias("energy_wh"),
            "cumulative_wh",
        )
    )


def depth(book: pl.DataFrame, step_uthb_per_kwh: int = STEP_UTHB_PER_KWH) -> pl.DataFrame:
    """Energy by price step: what stands in it, and what would trade at its best end or better.

    Returns epoch, zone_id, side, from_uthb_per_kwh (the step's lower end), orders, energy_wh, cumulative_wh, best
    prices first. Raises ValueError for a step that isn't positive.
    """
    if step_uthb_per_kwh <= 0:
        raise ValueError(f"step was {step_uthb_per_kwh} µTHB/kWh, must be positive; 100000 is 0.10 THB")
    curve = ["epoch", "zone_id", "side"]
    lower = (NET // step_uthb_per_kwh * step_uthb_per_kwh).alias("from_uthb_per_kwh")
    steps = book.group_by(*curve, lower).agg(
        pl.len().cast(pl.Int64).alias("orders"), pl.col("covered_wh").sum().alias("energy_wh")
    )
    best = pl.col("from_uthb_per_kwh")
    return steps.sort(*curve, pl.when(pl.col("side") == BUY).then(-best).otherwise(best)).with_columns(
        cumulative_wh=pl.col("energy_wh").cum_sum().over(curve)
    )


def prices(zones: pl.DataFrame) -> pl.DataFrame:
    """Per zone: zone_id, epochs, priced_epochs, lowest, mean (by energy) and highest price, bought_wh, sold_wh.

    `zones`: frames.ZONES with epoch. Prices are null for a zone that never had one.
    """
    price = pl.col("price_uthb_per_kwh")
    weight = pl.when(price.is_not_null()).then(pl.col("bought_wh") + pl.col("sold_wh"))
    return (
        zones.group_by("zone_id")
        .agg(
            pl.len().cast(pl.Int64).alias("epochs"),
            price.count().cast(pl.Int64).alias("priced_epochs"),
            price.min().alias("lowest_uthb_per_kwh"),
            ((price.cast(pl.Int128) * weight).sum() // pl.when(weight.sum() > 0).then(weight.sum()))
            .cast(pl.Int64)
            .alias("mean_uthb_per_kwh"),
            price.max().alias("highest_uthb_per_kwh"),
            pl.col("bought_wh", "sold_wh").sum(),
        )
        .sort("zone_id")
    )


def price_bands(zones: pl.DataFrame, width_uthb_per_kwh: int = BAND_UTHB_PER_KWH) -> pl.DataFrame:
    """How often, and for how much energy, a zone's price lay in each band.

    Returns zone_id, from_uthb_per_kwh (in the band), to_uthb_per_kwh (not in it), epochs, bought_wh.
    """
    if width_uthb_per_kwh <= 0:
        raise ValueError(f"band width was {width_uthb_per_kwh} µTHB/kWh, must be positive; 250000 is 0.25 THB")
    lower = (pl.col("price_uthb_per_kwh") // width_uthb_per_kwh * width_uthb_per_kwh).alias("from_uthb_per_kwh")
    return (
        zones.filter(pl.col("price_uthb_per_kwh").is_not_null())
        .group_by("zone_id", lower)
        .agg(pl.len().cast(pl.Int64).alias("epochs"), pl.col("bought_wh").sum())
        .with_columns(to_uthb_per_kwh=pl.col("from_uthb_per_kwh") + width_uthb_per_kwh)
        .select("zone_id", "from_uthb_per_kwh", "to_uthb_per_kwh", "epochs", "bought_wh")
        .sort("zone_id", "from_uthb_per_kwh")
    )


def welfare_split(book: pl.DataFrame, fills: pl.DataFrame, traded: pl.DataFrame, flows: pl.DataFrame) -> pl.DataFrame:
    """Who gains what an epoch's trades are worth: buyers and sellers against their all-in limits, and the charges.

    Returns per epoch buyers_uthb, sellers_uthb, fees_uthb, zone_wheeling_uthb, link_wheeling_uthb, rent_uthb and
    total_uthb = worth to buyers − ask of sellers, to which the others add up exactly.
    """
    limits = book.select("epoch", "order_id", pl.col("limit_uthb_per_kwh").cast(pl.Int128))
    value = pl.col("limit_uthb_per_kwh") * pl.col("filled_wh")
    worth = (
        fills.join(limits, on=["epoch", "order_id"], how="left")
        .group_by("epoch")
        .agg(
            (value.filter(pl.col("side") == BUY).sum() // WH_PER_KWH).cast(pl.Int64).alias("worth"),
            # ⌈⌉ by adding before the floor: 128-bit columns can't be negated
            ((value.filter(pl.col("side") == SELL).sum() + WH_PER_KWH - 1) // WH_PER_KWH).cast(pl.Int64).alias("asked"),
        )
    )
    paid = traded.group_by("epoch").agg(pl.col("cost_uthb", "proceeds_uthb", "fee_uthb", "zone_wheeling_uthb").sum())
    over_links = flows.group_by("epoch").agg(link_wheeling_uthb=pl.col("wheeling_uthb").sum())
    joined = worth.join(paid, on="epoch", how="left").join(over_links, on="epoch", how="left").fill_null(0)
    kept = pl.col("proceeds_uthb") + pl.col("fee_uthb") + pl.col("zone_wheeling_uthb") + pl.col("link_wheeling_uthb")
    return joined.select(
        "epoch",
        buyers_uthb=pl.col("worth") - pl.col("cost_uthb"),
        sellers_uthb=pl.col("proceeds_uthb") - pl.col("asked"),
        fees_uthb="fee_uthb",
        zone_wheeling_uthb="zone_wheeling_uthb",
        link_wheeling_uthb="link_wheeling_uthb",
        rent_uthb=pl.col("cost_uthb") - kept,
        total_uthb=pl.col("worth") - pl.col("asked"),
    ).sort("epoch")


def concentration(traded: pl.DataFrame) -> pl.DataFrame:
    """Herfindahl–Hirschman index of buyers and of sellers by traded energy: 10 000 is one alone, 0 a crowd.

    `traded`: frames.TRADED with epoch. Returns epoch, side, participants, traded_wh, largest_bp (the largest's share),
    hhi (both rounded down).
    """
    energy = pl.col("traded_wh").abs().cast(pl.Int128)
    return (
        traded.filter(pl.col("traded_wh") != 0)
        .with_columns(side=(pl.col("traded_wh") < 0).cast(pl.Int64))
        .group_by("epoch", "side", "wallet")
        .agg(pl.col("traded_wh").sum())
        .group_by("epoch", "side")
        .agg(
            pl.len().cast(pl.Int64).alias("participants"),
            pl.col("traded_wh").abs().sum(),
            (energy.max() * BASIS_POINTS // energy.sum()).cast(pl.Int64).alias("largest_bp"),
            ((energy * energy).sum() * BASIS_POINTS // (energy.sum() * energy.sum())).cast(pl.Int64).alias("hhi"),
        )
        .sort("epoch", "side")
    )


def congestion(flows: pl.DataFrame, network: Network) -> pl.DataFrame:
    """Per link and direction: used_minutes, full_minutes, sent_wh, lost_wh, highest_use_bp of its capacity.

    `flows`: frames.FLOWS with epoch. A full link is what keeps zone prices apart.
    """
    ways = [
        (link.link_id, *ends, capacity)
        for link in network.links
        for ends, capacity in (
            ((link.from_zone, link.to_zone), link.capacity_forward_wh),
            ((link.to_zone, link.from_zone), link.capacity_backward_wh),
        )
    ]
    known = pl.DataFrame(ways, schema=["link_id", "from_zone", "to_zone", "capacity_wh"], orient="row")
    known = known.cast(dict.fromkeys(known.columns, pl.Int64))
    sent = pl.col("sent_wh").fill_null(0)
    full = (sent > 0) & (sent >= pl.col("capacity_wh"))
    return (
        known.join(flows, on=["link_id", "from_zone", "to_zone"], how="left")
        .group_by("link_id", "from_zone", "to_zone", "capacity_wh")
        .agg(
            used_minutes=(sent > 0).sum().cast(pl.Int64) * EPOCH_MINUTES,
            full_minutes=full.sum().cast(pl.Int64) * EPOCH_MINUTES,
            sent_wh=sent.sum(),
            lost_wh=pl.col("lost_wh").fill_null(0).sum(),
            highest_use_bp=(
                sent.max().cast(pl.Int128) * BASIS_POINTS // pl.max_horizontal(pl.col("capacity_wh").first(), 1)
            ).cast(pl.Int64),
        )
        .sort("link_id", "from_zone")
    )


def participants(book: pl.DataFrame, fills: pl.DataFrame, traded: pl.DataFrame) -> pl.DataFrame:
    """Each wallet's pattern: orders and how they fared, energy and money by side, the hour it trades most in.

    Returns wallet, zone_id, orders, whole, partly, unfilled, ordered_wh, epochs_bought, epochs_sold, bought_wh,
    sold_wh, cost_uthb, proceeds_uthb, paid_uthb_per_kwh (⌈⌉) and earned_uthb_per_kwh (⌊⌋) all-in, busiest_hour
    (0–23 on a Bangkok clock, the earliest of equals; null where nothing was traded).
    """
    judged = book.join(fills.select("epoch", "order_id", "filled_wh"), on=["epoch", "order_id"], how="left")
    filled = pl.col("filled_wh").fill_null(0)
    fared = judged.group_by("wallet").agg(
        pl.col("zone_id").last(),
        pl.len().cast(pl.Int64).alias("orders"),
        whole=(filled == pl.col("covered_wh")).sum().cast(pl.Int64),
        partly=((filled > 0) & (filled < pl.col("covered_wh"))).sum().cast(pl.Int64),
        unfilled=(filled == 0).sum().cast(pl.Int64),
        ordered_wh=pl.col("covered_wh").sum(),
    )
    wh = pl.col("traded_wh")
    sums = traded.group_by("wallet").agg(
        epochs_bought=(wh > 0).sum().cast(pl.Int64),
        epochs_sold=(wh < 0).sum().cast(pl.Int64),
        bought_wh=wh.clip(lower_bound=0).sum(),
        sold_wh=(-wh).clip(lower_bound=0).sum(),
        cost_uthb=pl.col("cost_uthb").sum(),
        proceeds_uthb=pl.col("proceeds_uthb").sum(),
    )
    figures = [name for name in sums.columns if name != "wallet"]
    bought, sold = (pl.when(pl.col(name) > 0).then(name) for name in ("bought_wh", "sold_wh"))
    return (
        fared.join(sums, on="wallet", how="left")
        .with_columns(pl.col(figures).fill_null(0))
        .with_columns(
            paid_uthb_per_kwh=-(-pl.col("cost_uthb") * WH_PER_KWH // bought),
            earned_uthb_per_kwh=pl.col("proceeds_uthb") * WH_PER_KWH // sold,
        )
        .join(_busiest_hours(traded), on="wallet", how="left")
        .sort("wallet")
    )


def _busiest_hours(traded: pl.DataFrame) -> pl.DataFrame:
    hour = (pl.col("epoch") * EPOCH_SECONDS + BANGKOK_OFFSET_SECONDS) % SECONDS_A_DAY // 3_600
    return (
        traded.filter(pl.col("traded_wh") != 0)
        .group_by("wallet", hour.alias("busiest_hour"))
        .agg(pl.col("traded_wh").abs().sum())
        .sort("wallet", -pl.col("traded_wh"), "busiest_hour")
        .group_by("wallet", maintain_order=True)
        .agg(pl.col("busiest_hour").first())
    )

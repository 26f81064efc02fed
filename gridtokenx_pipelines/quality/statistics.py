"""Statistics that warn: what is within every hard rule and still unlikely.

Belongs here: pure functions from frames to the rows that deserve a look. Does not belong here: blocking rules. Robust
measures (median, MAD; Rousseeuw & Croux, "Alternatives to the Median Absolute Deviation", JASA 88, 1993) because the
history they judge by contains the very outliers they look for. Everything is deterministic and in integers or in floats
that decide nothing but a warning.
"""

from __future__ import annotations

from typing import Final

import polars as pl

DAY: Final = 96
# four epochs: one lost hour; a household's router that restarts is back within one
SILENT_EPOCHS: Final = 4
# a whole day: a meter of a solar plant rightly stands still at night
FROZEN_EPOCHS: Final = DAY
# what is usual at noon says nothing about midnight: history is the same time of earlier days, an hour either way
SAME_TIME_EPOCHS: Final = 4
# EN 50160: 230 V ± 10 %
VOLTAGE_LOW_V, VOLTAGE_HIGH_V = 207.0, 253.0
# a jump counts from six times the usual spread, and from 500 Wh in the quarter hour (2 kW), a kettle and an oven
JUMP_SPREADS, JUMP_MIN_WH = 6, 500
# a low-voltage network loses a few percent; a reading at a boundary may lie a minute off, 7 % of what changed meanwhile
NETWORK_LOSS_MAX, NETWORK_GAIN_MAX, NETWORK_GAIN_WH = 0.10, 0.02, 100
# 2 kW: what a large transformer and its network lose standing idle
NETWORK_IDLE_WH: Final = 500
ESTIMATED_SHARE_MAX, REJECTED_SHARE_MAX = 0.02, 0.01
HISTORY_SPREADS: Final = 6
# fewer priced epochs say nothing about what is usual
HISTORY_LEAST: Final = 8
# 5 % of a price is no news even in a market that never moved before
PRICE_FLOOR_SHARE = 0.05
VOLUME_FLOOR_WH: Final = 1_000


def same_time(rows: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Rows of earlier days within an hour of the epoch's time of day."""
    distance = ((epoch - pl.col("epoch")) % DAY + DAY) % DAY
    near = (distance <= SAME_TIME_EPOCHS) | (distance >= DAY - SAME_TIME_EPOCHS)
    return rows.filter(near, pl.col("epoch") <= epoch - DAY + SAME_TIME_EPOCHS)


def silent_meters(rows: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Meters missing in each of the last SILENT_EPOCHS epochs up to `epoch`: epoch, meter_id, zone_id, epochs_missing.

    `rows` has epoch, meter_id, zone_id, missing (revision 0); a longer absence shows its length as far as rows reach.
    """
    known = rows.filter(pl.col("epoch") <= epoch)
    last_seen = pl.col("epoch").filter(~pl.col("missing")).max()
    found = known.group_by("meter_id", maintain_order=True).agg(
        pl.col("zone_id").last(),
        (pl.lit(epoch) - pl.coalesce(last_seen, pl.col("epoch").min() - 1)).alias("epochs_missing"),
    )
    return (
        found.filter(pl.col("epochs_missing") >= SILENT_EPOCHS)
        .select(pl.lit(epoch, pl.Int64).alias("epoch"), "meter_id", "zone_id", "epochs_missing")
        .sort("meter_id")
    )


def frozen_meters(rows: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Meters that sent readings in the last FROZEN_EPOCHS epochs and never moved a register: a stuck counter."""
    window = rows.filter(pl.col("epoch").is_between(epoch - FROZEN_EPOCHS + 1, epoch), ~pl.col("missing"))
    return (
        window.group_by("meter_id", maintain_order=True)
        .agg(
            pl.len().alias("epochs"),
            pl.col("readings").sum(),
            (pl.col("production_wh") + pl.col("consumption_wh")).sum().alias("moved_wh"),
        )
        .filter(pl.col("epochs") == FROZEN_EPOCHS, pl.col("readings") > 0, pl.col("moved_wh") == 0)
        .select(pl.lit(epoch, pl.Int64).alias("epoch"), "meter_id", "epochs", "readings")
        .sort("meter_id")
    )


def network_balance(rows: pl.DataFrame, exchange: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """One row where the network's losses are impossible: over NETWORK_LOSS_MAX of what flowed, or a gain.

    `exchange`: epoch, import_wh, export_wh as the transformers' own meters counted them; losses are import + Σ
    production − Σ consumption − export. Epochs with a missing meter, or without a register at both ends, say nothing.
    """
    sums = rows.filter(pl.col("epoch") == epoch).select(
        pl.lit(epoch, pl.Int64).alias("epoch"),
        pl.col("production_wh").sum(),
        pl.col("consumption_wh").sum(),
        # nobody's rows are no balance either
        (pl.col("missing").any() | (pl.len() == 0)).alias("missing"),
    )
    flowed = pl.col("import_wh") + pl.col("production_wh")
    lost = flowed - pl.col("consumption_wh") - pl.col("export_wh")
    return (
        sums.unique()
        .filter(~pl.col("missing"))
        .join(exchange, on="epoch")
        .with_columns(lost_wh=lost)
        .filter(
            (pl.col("lost_wh") > NETWORK_LOSS_MAX * flowed + NETWORK_IDLE_WH)
            | (pl.col("lost_wh") < -NETWORK_GAIN_MAX * flowed - NETWORK_GAIN_WH)
        )
        .select("epoch", "import_wh", "production_wh", "consumption_wh", "export_wh", "lost_wh")
    )


def voltage_outliers(latest: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Meters whose last voltage lies outside ±10 % (`latest`: meter_id, zone_id, voltage_v); nulls say nothing."""
    return (
        latest.filter(~pl.col("voltage_v").is_between(VOLTAGE_LOW_V, VOLTAGE_HIGH_V))
        .select(pl.lit(epoch, pl.Int64).alias("epoch"), "meter_id", "zone_id", "voltage_v")
        .sort("meter_id")
    )


def sudden_changes(rows: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Meters whose net lies over JUMP_SPREADS × MAD, and JUMP_MIN_WH, from the median at that time of earlier days."""
    present = rows.filter(~pl.col("missing"), pl.col("epoch") <= epoch)
    before = (
        same_time(present, epoch)
        .with_columns(pl.col("net_wh").median().over("meter_id").alias("median_wh"))
        .group_by("meter_id")
        .agg(
            pl.len().alias("epochs"),
            pl.col("median_wh").first(),
            (pl.col("net_wh") - pl.col("median_wh")).abs().median().alias("mad_wh"),
        )
        .filter(pl.col("epochs") >= HISTORY_LEAST)
    )
    distance = (pl.col("net_wh") - pl.col("median_wh")).abs()
    return (
        present.filter(pl.col("epoch") == epoch)
        .join(before, on="meter_id")
        .filter(distance > JUMP_SPREADS * pl.col("mad_wh"), distance > JUMP_MIN_WH)
        .select("epoch", "meter_id", "net_wh", "median_wh", "mad_wh")
        .sort("meter_id")
    )


def estimated_share(rows: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """One row if more than ESTIMATED_SHARE_MAX of the epoch's latest rows are estimated: epoch, rows, estimated."""
    counted = rows.filter(pl.col("epoch") == epoch).select(
        pl.lit(epoch, pl.Int64).alias("epoch"),
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("estimated").sum().cast(pl.Int64),
    )
    return counted.unique().filter(pl.col("estimated") > ESTIMATED_SHARE_MAX * pl.col("rows"))


def rejection_rates(counts: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Reasons for which over REJECTED_SHARE_MAX of all records were refused (`counts`: status, reason, records)."""
    total = int(counts["records"].sum())
    return (
        counts.filter(pl.col("status") == "rejected")
        .group_by("reason")
        .agg(pl.col("records").sum())
        .filter(pl.col("records") > REJECTED_SHARE_MAX * total)
        .select(
            pl.lit(epoch, pl.Int64).alias("epoch"),
            "reason",
            "records",
            pl.lit(total, pl.Int64).alias("of_records"),
        )
        .sort("reason")
    )


def price_outliers(zones: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """Zones whose price lies over HISTORY_SPREADS × MAD, and 5 %, from the median at that time of earlier days."""
    return _against_history(
        zones.filter(pl.col("price_uthb_per_kwh").is_not_null()),
        epoch,
        value="price_uthb_per_kwh",
        by=["zone_id"],
        floor=PRICE_FLOOR_SHARE * pl.col("median"),
    )


def volume_outliers(zones: pl.DataFrame, epoch: int) -> pl.DataFrame:
    """One row if the volume lies over HISTORY_SPREADS × MAD, and 1 kWh and 20 %, from the usual at that time."""
    volumes = zones.group_by("epoch").agg(pl.col("bought_wh").sum().alias("volume_wh")).sort("epoch")
    floor = pl.max_horizontal(pl.lit(float(VOLUME_FLOOR_WH)), 0.2 * pl.col("median"))
    return _against_history(volumes, epoch, value="volume_wh", by=[], floor=floor)


def bought_above_tariff(zones: pl.DataFrame, epoch: int, tariff_uthb_per_kwh: int) -> pl.DataFrame:
    """Zones whose buyers paid more, wheeling included, than the supplier asks in the epoch, and the Wh they bought."""
    paid = pl.col("price_uthb_per_kwh") + pl.col("zone_wheeling_uthb_per_kwh")
    return (
        zones.filter((pl.col("epoch") == epoch) & (pl.col("bought_wh") > 0) & (paid > tariff_uthb_per_kwh))
        .select(
            "epoch",
            "zone_id",
            paid.alias("paid_uthb_per_kwh"),
            pl.lit(tariff_uthb_per_kwh, pl.Int64).alias("tariff_uthb_per_kwh"),
            "bought_wh",
        )
        .sort("zone_id")
    )


def _against_history(rows: pl.DataFrame, epoch: int, *, value: str, by: list[str], floor: pl.Expr) -> pl.DataFrame:
    keyed = rows if by else rows.with_columns(all=pl.lit(0))
    keys = by or ["all"]
    before = (
        same_time(keyed, epoch)
        .with_columns(pl.col(value).median().over(keys).alias("median"))
        .group_by(keys)
        .agg(
            pl.len().alias("epochs"),
            pl.col("median").first(),
            (pl.col(value) - pl.col("median")).abs().median().alias("mad"),
        )
        .filter(pl.col("epochs") >= HISTORY_LEAST)
    )
    distance = (pl.col(value) - pl.col("median")).abs()
    return (
        keyed.filter(pl.col("epoch") == epoch)
        .join(before, on=keys)
        .filter(distance > HISTORY_SPREADS * pl.col("mad"), distance > floor)
        .select("epoch", *by, value, "median", "mad", "epochs")
        .sort("epoch", *by)
    )

"""Checks on net energy before a book is made from it: presence, continuity, zone balance, rating.

Belongs here: judgements on the net-energy frame and the meters' register. Does not belong here: windowing (metering).
Frames as in docs/reference/contract.md; `rows` holds every revision of the epochs and of the one before the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, verdicts
from gridtokenx_pipelines.units import ceil_div_expr

PRESENT = "every_active_meter_present_or_missing"
CONTINUOUS = "registers_continue_the_epoch_before"
ZONE_BALANCE = "zone_balance_plausible"
RATING = "nothing_above_rating"
CHECKS = (PRESENT, CONTINUOUS, ZONE_BALANCE, RATING)

# a meter may run 10 % over its rating, and a boundary's reading may lie 60 s before it (domain §3)
OVER_RATING_PERCENT = 110
BOUNDARY_WINDOW_SECONDS = 60


def latest(rows: pl.DataFrame) -> pl.DataFrame:
    """The latest revision that measured something, per meter and epoch: an estimate replaces a missing row."""
    return rows.filter(~pl.col("missing")).sort("revision").unique(["meter_id", "epoch"], keep="last")


def inspect(rows: pl.DataFrame, meters: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    """All four checks on each epoch. `meters`: columns of `store.participants.METERS`."""
    return [
        *_present(rows, meters, epochs),
        *_continuous(latest(rows), meters, epochs),
        *_zone_balance(latest(rows), meters, epochs),
        *_rating(latest(rows), meters, epochs),
    ]


def _expected(meters: pl.DataFrame, epochs: Sequence[int]) -> pl.DataFrame:
    calendar = pl.DataFrame({"epoch": epochs}, schema={"epoch": pl.Int64})
    return (
        meters.filter(pl.col("status") == "active")
        .join(calendar, how="cross")
        .filter(pl.col("first_epoch") <= pl.col("epoch"))
        .select("epoch", "meter_id", "zone_id")
    )


def _present(rows: pl.DataFrame, meters: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    on_time = rows.filter(pl.col("revision") == 0, pl.col("epoch").is_in(epochs))
    expected = _expected(meters, epochs)
    absent = expected.join(on_time, on=["epoch", "meter_id"], how="anti").with_columns(fault=pl.lit("no row"))
    known = meters.select("meter_id", "first_epoch")
    strangers = (
        on_time.join(known, on="meter_id", how="left")
        .filter(pl.col("first_epoch").is_null() | (pl.col("first_epoch") > pl.col("epoch")))
        .select("epoch", "meter_id", "zone_id", fault=pl.lit("not in the register, or not yet"))
    )
    counts = dict(expected.group_by("epoch").len().iter_rows())
    missing = dict(on_time.filter("missing").group_by("epoch").len().iter_rows())
    return verdicts(
        PRESENT,
        epochs,
        pl.concat([absent, strangers]).sort("epoch", "meter_id"),
        lambda epoch: f"{counts.get(epoch, 0)} active meters, {missing.get(epoch, 0)} of them flagged missing",
        "a meter without a row, or a row without an active meter; "
        "is the epoch complete? replay the telemetry flow from its last snapshot",
    )


def _continuous(rows: pl.DataFrame, meters: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    registers = ("production", "consumption")
    before = rows.select(
        "meter_id",
        (pl.col("epoch") + 1).alias("epoch"),
        *[pl.col(f"{name}_end_wh").alias(f"{name}_before_wh") for name in registers],
    )
    baselines = meters.select(
        "meter_id", pl.col("first_epoch").alias("epoch"), *[f"baseline_{name}_wh" for name in registers]
    )
    joined = (
        rows.filter(pl.col("epoch").is_in(epochs))
        .join(before, on=["meter_id", "epoch"], how="left")
        .join(baselines, on=["meter_id", "epoch"], how="left")
    )
    faults = []
    for name in registers:
        start, end = pl.col(f"{name}_start_wh"), pl.col(f"{name}_end_wh")
        expected = pl.coalesce(f"baseline_{name}_wh", f"{name}_before_wh", start)
        faults += [start != expected, end - start != pl.col(f"{name}_wh"), end < start]
    faults.append(pl.col("production_wh") - pl.col("consumption_wh") != pl.col("net_wh"))
    shown = [f"{name}_{what}_wh" for name in registers for what in ("before", "start", "end")]
    failing = joined.filter(pl.any_horizontal(faults)).select("epoch", "meter_id", *shown, "net_wh")
    counts = dict(joined.group_by("epoch").len().iter_rows())
    return verdicts(
        CONTINUOUS,
        epochs,
        failing.sort("epoch", "meter_id"),
        lambda epoch: f"{counts.get(epoch, 0)} meters start where they ended",
        "a register that must start where the epoch before ended and never run back; compare the meter's archived "
        "readings at that boundary",
    )


def _bounded(rows: pl.DataFrame, meters: pl.DataFrame, epochs: Sequence[int]) -> pl.DataFrame:
    """On-time rows with `bound_wh`, what metering's power rule lets through between their two boundary readings.

    The reading at the start may lie 60 s before it, the baseline any time. Late rows may hold the energy of epochs that
    are closed for good, so only the power rule judges them: a bound of an epoch would stop the market for good.
    """
    seconds = (
        pl.when(pl.col("epoch") == pl.col("first_epoch"))
        .then((pl.col("epoch") + 1) * EPOCH_SECONDS - pl.col("baseline_timestamp_us") // 1_000_000)
        .otherwise(EPOCH_SECONDS + BOUNDARY_WINDOW_SECONDS)
    )
    watt_seconds = pl.col("rating_w") * OVER_RATING_PERCENT * seconds
    return (
        rows.filter(pl.col("epoch").is_in(epochs), pl.col("revision") == 0)
        .join(meters.select("meter_id", "rating_w", "first_epoch", "baseline_timestamp_us"), on="meter_id")
        .with_columns(bound_wh=ceil_div_expr(watt_seconds, 100 * 3_600))
    )


def _zone_balance(rows: pl.DataFrame, meters: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    zones = (
        _bounded(rows, meters, epochs)
        .group_by("epoch", "zone_id")
        .agg(pl.sum("production_wh", "consumption_wh", "bound_wh"))
    )
    failing = zones.filter(pl.max_horizontal("production_wh", "consumption_wh") > pl.col("bound_wh"))
    sums = {row[0]: row[1:] for row in zones.group_by("epoch").agg(pl.sum("production_wh", "consumption_wh")).rows()}
    return verdicts(
        ZONE_BALANCE,
        epochs,
        failing.sort("epoch", "zone_id"),
        lambda epoch: "produced {} Wh, consumed {} Wh".format(*sums.get(epoch, (0, 0))),
        "a zone whose meters all together run above what their ratings allow; check the zone's readings for a unit "
        "mistake",
    )


def _rating(rows: pl.DataFrame, meters: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    failing = (
        _bounded(rows, meters, epochs)
        .filter(pl.max_horizontal("production_wh", "consumption_wh") > pl.col("bound_wh"))
        .select("epoch", "meter_id", "rating_w", "production_wh", "consumption_wh", "bound_wh")
    )
    return verdicts(
        RATING,
        epochs,
        failing.sort("epoch", "meter_id"),
        lambda _: f"every meter within {OVER_RATING_PERCENT} % of its rating",
        "a meter above 110 % of its rating for the epoch; correct the rating in the register or the readings",
    )

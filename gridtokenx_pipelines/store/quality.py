"""What the statistical checks read: last voltages, counts of records, prices and volumes by zone.

Belongs here: SQL. Does not belong here: judging.
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.store.postgres import read_frame


def latest_voltages(connection: Connection) -> pl.DataFrame:
    """The last voltage of each meter, V; null where the meter didn't say."""
    return read_frame(
        connection,
        "SELECT meter_id, zone_id, voltage_v FROM latest_readings ORDER BY meter_id",
        None,
        {"meter_id": pl.String, "zone_id": pl.Int64, "voltage_v": pl.Float64},
    )


def telemetry_counts(connection: Connection) -> pl.DataFrame:
    """Records of the telemetry flow since its beginning, by status and reason, all partitions together."""
    return read_frame(
        connection,
        "SELECT status, reason, sum(records)::bigint AS records FROM stream_counts WHERE flow = 'telemetry' "
        "GROUP BY status, reason ORDER BY status, reason",
        None,
        {"status": pl.String, "reason": pl.String, "records": pl.Int64},
    )


def zone_prices(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Price and volume per zone and epoch, both ends included."""
    return read_frame(
        connection,
        "SELECT epoch, zone_id, price_uthb_per_kwh, zone_wheeling_uthb_per_kwh, bought_wh, sold_wh FROM zone_results "
        "WHERE epoch BETWEEN :first AND :last ORDER BY epoch, zone_id",
        {"first": first, "last": last},
        dict.fromkeys(
            ("epoch", "zone_id", "price_uthb_per_kwh", "zone_wheeling_uthb_per_kwh", "bought_wh", "sold_wh"), pl.Int64
        ),
    )

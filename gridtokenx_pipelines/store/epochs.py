"""Where epochs stand: first, settled or not, and which have corrections that can be booked.

Belongs here: SQL over `market_epochs`, `meters` and `corrections` that answers "what is next". Does not belong here:
completeness (store/progress.py), an epoch's own row (store/clearing.py).
"""

from __future__ import annotations

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store.energy import NET_COLUMNS, NET_ENERGY
from gridtokenx_pipelines.store.postgres import read_frame


def first_epoch(connection: Connection) -> int | None:
    """The market's first epoch: the earliest of any meter; None before one is admitted."""
    found = connection.execute(text("SELECT min(first_epoch) FROM meters WHERE status <> 'pending'")).scalar()
    return None if found is None else int(found)


# corrections come up to 14 days after an epoch's end (domain §3); a day more for the last of them to settle
HORIZON_EPOCHS, CLOSED_AFTER_EPOCHS = 14 * 96, 15 * 96


def horizon_begins(connection: Connection) -> int:
    """The oldest epoch that may still be corrected, counted from the newest one that closed or cleared."""
    newest = connection.execute(
        text("SELECT greatest((SELECT max(closed_epoch) FROM stream_progress), (SELECT max(epoch) FROM market_epochs))")
    ).scalar()
    return int(newest or 0) - HORIZON_EPOCHS


def last_cleared_epoch(connection: Connection) -> int:
    """The last epoch whose clearing is final, −1 before the first."""
    sql = "SELECT coalesce(max(epoch), -1) FROM market_epochs WHERE status IN ('cleared', 'halted', 'settled')"
    return int(connection.execute(text(sql)).scalar_one())


def statuses(connection: Connection, first: int, last: int) -> dict[int, str]:
    """Status of each epoch from first to last that has a row."""
    rows = connection.execute(
        text("SELECT epoch, status FROM market_epochs WHERE epoch BETWEEN :first AND :last ORDER BY epoch"),
        {"first": first, "last": last},
    )
    return {int(epoch): status for epoch, status in rows}


def newest_settled(connection: Connection) -> int | None:
    """The newest settled epoch; None before one is."""
    found = connection.execute(text("SELECT max(epoch) FROM market_epochs WHERE status = 'settled'")).scalar()
    return None if found is None else int(found)


def unsettled(connection: Connection, first: int, last: int, limit: int) -> list[int]:
    """The first run of consecutive epochs from first to last that are not settled, at most `limit` of them."""
    rows = connection.execute(
        text(
            "SELECT epoch FROM generate_series(CAST(:first AS BIGINT), CAST(:last AS BIGINT)) AS epoch "
            "WHERE NOT EXISTS (SELECT FROM market_epochs m WHERE m.epoch = epoch.epoch AND m.status = 'settled') "
            "ORDER BY epoch LIMIT :limit"
        ),
        {"first": first, "last": last, "limit": limit},
    )
    found = [int(epoch) for (epoch,) in rows]
    # a gap would mean an epoch settled out of order, which nothing allows; a range run must still be one range
    return [epoch for place, epoch in enumerate(found) if epoch == found[0] + place]


def corrections_ready(connection: Connection) -> dict[int, int]:
    """Boundary epoch → how many corrections wait there whose two epochs are both settled."""
    rows = connection.execute(
        text(
            "SELECT c.boundary_epoch, count(*) FROM corrections c "
            "JOIN market_epochs later ON later.epoch = c.boundary_epoch AND later.status = 'settled' "
            "JOIN market_epochs former ON former.epoch = c.boundary_epoch - 1 AND former.status = 'settled' "
            "WHERE c.booked_seq IS NULL GROUP BY c.boundary_epoch ORDER BY c.boundary_epoch"
        )
    )
    return {int(epoch): int(count) for epoch, count in rows}


def corrections_ever(connection: Connection, boundaries: list[int]) -> dict[int, int]:
    """Boundary epoch → how many corrections came there since the beginning, whatever became of them."""
    rows = connection.execute(
        text(
            "SELECT boundary_epoch, count(*) FROM corrections WHERE boundary_epoch = ANY(:boundaries) "
            "GROUP BY boundary_epoch"
        ),
        {"boundaries": boundaries},
    )
    return {int(epoch): int(count) for epoch, count in rows}


def net_energy_between(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Every revision of the rows of these epochs, by epoch, meter and revision."""
    return read_frame(
        connection,
        f"SELECT {NET_COLUMNS} FROM net_energy WHERE epoch BETWEEN :first AND :last "  # noqa: S608 - our own names
        "ORDER BY epoch, meter_id, revision",
        {"first": first, "last": last},
        NET_ENERGY,
    )


def corrections_at(connection: Connection, boundary_epoch: int) -> pl.DataFrame:
    """All corrections of a boundary with what became of them, by meter and revision."""
    return read_frame(
        connection,
        "SELECT meter_id, wallet, revision, production_delta_wh, consumption_delta_wh, status, x_wh, booked_seq, "
        "reason FROM corrections WHERE boundary_epoch = :epoch ORDER BY meter_id, revision",
        {"epoch": boundary_epoch},
        {
            "meter_id": pl.String,
            "wallet": pl.String,
            "revision": pl.Int64,
            "production_delta_wh": pl.Int64,
            "consumption_delta_wh": pl.Int64,
            "status": pl.String,
            "x_wh": pl.Int64,
            "booked_seq": pl.Int64,
            "reason": pl.String,
        },
    )

"""The result of a clearing: one transaction's worth of fills, matches, zones, flows and the epoch's own row.

Belongs here: SQL on `market_epochs`, `fills`, `order_matches`, `zone_results`, `flows`. Does not belong here: clearing
(market/clearing.py) and booking (store/ledger.py). Writing again replaces the epoch's rows until it is settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.market.frames import FILLS, FLOWS, MATCHES, ZONES
from gridtokenx_pipelines.store.postgres import copy_in, quoted, read_frame

TABLES: Final = {
    "fills": (FILLS, "order_id"),
    "order_matches": (MATCHES, "match_id"),
    "zone_results": (ZONES, "zone_id"),
    "flows": (FLOWS, "link_id"),
}
# from where on the circuit breaker knows no price: an operator's resumption, or another state of the network
FORGOTTEN: Final = "SELECT from_epoch FROM market_resumptions UNION SELECT epoch FROM island_events"


class ClearingIsFinal(RuntimeError):
    """An epoch whose run is booked cannot clear again (domain §2)."""


class EpochRow(msgspec.Struct, frozen=True, kw_only=True):
    """A market epoch; `status` is one of the status words (pending … settled, halted)."""

    epoch: int
    status: str
    halted: bool = False
    seq: int | None = None
    mechanism: str | None = None
    book_root: bytes | None = None
    result_root: bytes | None = None
    volume_wh: int | None = None
    lost_wh: int | None = None
    link_wheeling_uthb: int | None = None
    rent_uthb: int | None = None
    welfare_uthb: int | None = None
    fingerprint: str | None = None
    cleared_at: datetime | None = None
    settled_at: datetime | None = None


class ClearingFrames(msgspec.Struct, frozen=True, kw_only=True):
    """The frames of a result as stored, each in the order of its key."""

    fills: pl.DataFrame
    order_matches: pl.DataFrame
    zone_results: pl.DataFrame
    flows: pl.DataFrame


def write_clearing(connection: Connection, row: EpochRow, frames: ClearingFrames) -> None:
    """Replace everything the epoch cleared; raises ClearingIsFinal if a run of it is booked already."""
    write_clearings(connection, [(row, frames)])


def write_clearings(connection: Connection, cleared: Sequence[tuple[EpochRow, ClearingFrames]]) -> None:
    """Replace everything these epochs cleared, as `write_clearing` does for one; a statement a table."""
    epochs = [row.epoch for row, _ in cleared]
    booked = connection.execute(
        text("SELECT epoch, seq FROM runs WHERE epoch = ANY(:epochs) AND run = 0 ORDER BY epoch LIMIT 1"),
        {"epochs": epochs},
    ).one_or_none()
    if booked is not None:
        raise ClearingIsFinal(
            f"epoch {booked.epoch} is booked as run 0 with seq {booked.seq}; read its clearing instead"
        )
    for table, (schema, _) in TABLES.items():
        connection.execute(text(f"DELETE FROM {quoted(table)} WHERE epoch = ANY(:epochs)"), {"epochs": epochs})  # noqa: S608
        parts: list[pl.DataFrame] = [getattr(frames, table) for _, frames in cleared]
        whole = pl.concat([part.select(*schema) for part in parts])
        of = [row.epoch for (row, _), part in zip(cleared, parts, strict=True) for _ in range(part.height)]
        copy_in(connection, table, whole.select(pl.Series("epoch", of, pl.Int64), *schema))
    for row, _ in cleared:
        save_epoch(connection, msgspec.structs.replace(row, halted=row.halted or row.status == "halted"))


def save_epoch(connection: Connection, row: EpochRow) -> None:
    """Insert or replace the epoch's own row, whole."""
    values = msgspec.structs.asdict(row)
    columns = ", ".join(values)
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in values if name != "epoch")
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(
        text(
            f"INSERT INTO market_epochs ({columns}) VALUES ({marks}) ON CONFLICT (epoch) DO UPDATE SET {updates}"  # noqa: S608
        ),
        values,
    )


def settle_epoch(connection: Connection, epoch: int, settled_at: datetime) -> None:
    """Mark a cleared or halted epoch settled; a second call changes nothing; `halted` stays true."""
    settle_epochs(connection, [epoch], settled_at)


def settle_epochs(connection: Connection, epochs: Sequence[int], settled_at: datetime) -> None:
    """Mark these epochs settled, as `settle_epoch` does one."""
    connection.execute(
        text(
            "UPDATE market_epochs SET status = 'settled', settled_at = :at "
            "WHERE epoch = ANY(:epochs) AND status IN ('cleared', 'halted')"
        ),
        {"epochs": list(epochs), "at": settled_at},
    )


def read_epoch(connection: Connection, epoch: int) -> EpochRow | None:
    """The epoch's row, None if it has none yet."""
    names = ", ".join(EpochRow.__struct_fields__)
    found = connection.execute(
        text(f"SELECT {names} FROM market_epochs WHERE epoch = :epoch"),  # noqa: S608
        {"epoch": epoch},
    ).one_or_none()
    return None if found is None else EpochRow(**found._mapping)


def read_clearing(connection: Connection, epoch: int) -> ClearingFrames:
    """The frames of an epoch's clearing; empty ones where nothing was traded or cleared."""
    return ClearingFrames(
        **{
            table: read_frame(
                connection,
                f"SELECT {', '.join(schema)} FROM {quoted(table)} WHERE epoch = :epoch ORDER BY {key}",  # noqa: S608
                {"epoch": epoch},
                schema,
            )
            for table, (schema, key) in TABLES.items()
        }
    )


def priced_history(connection: Connection, zone_id: int, before_epoch: int, count: int) -> list[int]:
    """The zone's prices in its last `count` priced epochs before `before_epoch`, newest first (the halt bound).

    A halted epoch has no trades and so no price that counts; a resumption, and the loss or return of the upstream
    grid, make the market forget those before it.
    """
    rows = connection.execute(
        text(
            "SELECT price_uthb_per_kwh FROM zone_results JOIN market_epochs USING (epoch) WHERE zone_id = :zone "  # noqa: S608
            "AND epoch < :before AND price_uthb_per_kwh IS NOT NULL AND NOT halted AND epoch >= "
            f"(SELECT coalesce(max(from_epoch), 0) FROM ({FORGOTTEN}) f WHERE from_epoch <= :before) "
            "ORDER BY epoch DESC LIMIT :count"
        ),
        {"zone": zone_id, "before": before_epoch, "count": count},
    )
    return [int(price) for (price,) in rows]


def resume(connection: Connection, from_epoch: int) -> bool:
    """Let the market trade again from an epoch on, without the prices before it; False if that was said already."""
    sql = "INSERT INTO market_resumptions (from_epoch) VALUES (:epoch) ON CONFLICT DO NOTHING"
    return connection.execute(text(sql), {"epoch": from_epoch}).rowcount == 1


def resumptions(connection: Connection) -> tuple[int, ...]:
    """The epochs from which the circuit breaker forgets earlier prices, ascending."""
    return tuple(connection.execute(text(f"{FORGOTTEN} ORDER BY from_epoch")).scalars())

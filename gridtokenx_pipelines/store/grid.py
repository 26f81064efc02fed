"""Limits of the network per epoch: what it may carry, and what it was cleared under in the end.

Belongs here: SQL on `grid_states` and `grid_limits`. Does not belong here: power flow (grid/), when to compute it
(settlement_service/network.py). `cleared_*_wh` equals `capacity_*_wh` unless a feasibility check cut it: an audit
clears with the cleared ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.store.postgres import read_frame

LIMITS = {
    "epoch": pl.Int64,
    "link_id": pl.Int64,
    "from_zone": pl.Int64,
    "to_zone": pl.Int64,
    "capacity_forward_wh": pl.Int64,
    "capacity_backward_wh": pl.Int64,
    "loss_ppm": pl.Int64,
    "binding_forward": pl.String,
    "binding_backward": pl.String,
    "cleared_forward_wh": pl.Int64,
    "cleared_backward_wh": pl.Int64,
}
STATES = {
    "epoch": pl.Int64,
    "state_epoch": pl.Int64,
    "source": pl.String,
    "case_fingerprint": pl.String,
    "converged": pl.Boolean,
    "lowest_pu": pl.Float64,
    "highest_pu": pl.Float64,
    "line_percent": pl.Float64,
    "trafo_percent": pl.Float64,
    "loss_wh": pl.Int64,
    "violations": pl.String,
    "unplaced": pl.Int64,
    "repairs": pl.String,
}


class GridState(msgspec.Struct, frozen=True, kw_only=True):
    """The state that an epoch's limits came from; `violations` and `repairs` are JSON lists of words."""

    epoch: int
    state_epoch: int
    source: str
    case_fingerprint: str
    converged: bool
    lowest_pu: float | None
    highest_pu: float | None
    line_percent: float | None
    trafo_percent: float | None
    loss_wh: int
    violations: str
    unplaced: int
    repairs: str = "[]"


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a link in an epoch."""

    epoch: int
    link_id: int
    from_zone: int
    to_zone: int
    capacity_forward_wh: int
    capacity_backward_wh: int
    loss_ppm: int
    binding_forward: str
    binding_backward: str


def save(connection: Connection, state: GridState, limits: Sequence[LimitRow]) -> None:
    """Replace an epoch's state and limits; what it is cleared under starts as the limits themselves."""
    connection.execute(text("DELETE FROM grid_limits WHERE epoch = :epoch"), {"epoch": state.epoch})
    connection.execute(text("DELETE FROM grid_states WHERE epoch = :epoch"), {"epoch": state.epoch})
    _insert(connection, "grid_states", [msgspec.structs.asdict(state)])
    _insert(
        connection,
        "grid_limits",
        [
            msgspec.structs.asdict(limit)
            | {
                "cleared_forward_wh": limit.capacity_forward_wh,
                "cleared_backward_wh": limit.capacity_backward_wh,
            }
            for limit in limits
        ],
    )


def _insert(connection: Connection, table: str, rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    names = ", ".join(rows[0])
    marks = ", ".join(f":{name}" for name in rows[0])
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), rows)  # noqa: S608 - our own names


def save_cleared(
    connection: Connection, epoch: int, cleared_wh: Mapping[int, tuple[int, int]], repairs: Sequence[str]
) -> None:
    """What an epoch was cleared under after repairs: link id → (forward, backward) Wh."""
    for link_id, (forward, backward) in sorted(cleared_wh.items()):
        connection.execute(
            text(
                "UPDATE grid_limits SET cleared_forward_wh = :forward, cleared_backward_wh = :backward "
                "WHERE epoch = :epoch AND link_id = :link"
            ),
            {"epoch": epoch, "link": link_id, "forward": forward, "backward": backward},
        )
    connection.execute(
        text("UPDATE grid_states SET repairs = :repairs WHERE epoch = :epoch"),
        {"epoch": epoch, "repairs": msgspec.json.encode(list(repairs)).decode()},
    )


def states_between(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """States of these epochs, ascending."""
    return _read(connection, "grid_states", STATES, "epoch", (first, last))


def limits_between(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """Limits of these epochs, by epoch and link."""
    return _read(connection, "grid_limits", LIMITS, "epoch, link_id", (first, last))


def _read(
    connection: Connection, table: str, schema: Mapping[str, type[pl.DataType]], order: str, epochs: tuple[int, int]
) -> pl.DataFrame:
    return read_frame(
        connection,
        f"SELECT {', '.join(schema)} FROM {table} WHERE epoch BETWEEN :first AND :last ORDER BY {order}",  # noqa: S608
        {"first": epochs[0], "last": epochs[1]},
        schema,
    )

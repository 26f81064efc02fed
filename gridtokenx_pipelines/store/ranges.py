"""What many epochs hold, each table read once: runs, plans, entries, clearings and signed orders by epoch.

Belongs here: SQL that takes a list of epochs and gives its rows apart by epoch. Does not belong here: one epoch's reads
(ledger.py, clearing.py, energy.py), writing. A statement an epoch and table is what a range's time would go to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.settlement.batches import RunPlan, SignedOrder
from gridtokenx_pipelines.settlement.frames import METER_ENTRIES, WALLET_ENTRIES
from gridtokenx_pipelines.store import energy, participants
from gridtokenx_pipelines.store.clearing import TABLES, EpochRow
from gridtokenx_pipelines.store.energy import NET_COLUMNS, NET_ENERGY
from gridtokenx_pipelines.store.ledger import Run
from gridtokenx_pipelines.store.orders import ORDERS
from gridtokenx_pipelines.store.postgres import quoted, read_frame

# entries held at once: some hundred MB as Python rows on their way into a frame
MOST_ROWS = 40_000


def groups(epochs: Sequence[int], rows_each: int, most: int = 2**31) -> Iterator[list[int]]:
    """The epochs in their order, in groups of at most `most` epochs and `MOST_ROWS` rows, `rows_each` an epoch.

    A group has one epoch at least.
    """
    size = min(max(MOST_ROWS // max(rows_each, 1), 1), most)
    for start in range(0, len(epochs), size):
        yield list(epochs[start : start + size])


def runs(connection: Connection, epochs: Sequence[int]) -> dict[int, list[Run]]:
    """Runs booked for each epoch, in order of run; an empty list where there is none."""
    found: dict[int, list[Run]] = {epoch: [] for epoch in epochs}
    rows = connection.execute(
        text("SELECT seq, epoch, run, kind, status FROM runs WHERE epoch = ANY(:epochs) ORDER BY epoch, run"),
        {"epochs": list(epochs)},
    )
    for row in rows:
        found[row.epoch].append(Run(**row._mapping))
    return found


def plans(connection: Connection, epochs: Sequence[int]) -> dict[int, list[RunPlan]]:
    """Stored plans of each epoch, in order of run; a run without a plan is left out."""
    found: dict[int, list[RunPlan]] = {epoch: [] for epoch in epochs}
    rows = connection.execute(
        text("SELECT epoch, plan FROM runs WHERE epoch = ANY(:epochs) AND plan IS NOT NULL ORDER BY epoch, run"),
        {"epochs": list(epochs)},
    )
    for epoch, raw in rows:
        found[epoch].append(RunPlan.decode(raw))
    return found


def wallet_entries(connection: Connection, seqs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """Wallet entries of these runs by seq, each by wallet."""
    return _entries(connection, "settlements", WALLET_ENTRIES, "wallet", seqs)


def meter_entries(connection: Connection, seqs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """Meter entries of these runs by seq, each by meter."""
    return _entries(connection, "meter_settlements", METER_ENTRIES, "meter_id", seqs)


def _entries(
    connection: Connection, table: str, schema: pl.Schema, key: str, seqs: Sequence[int]
) -> dict[int, pl.DataFrame]:
    rows = read_frame(
        connection,
        f"SELECT {', '.join(schema)} FROM {quoted(table)} WHERE seq = ANY(:seqs) ORDER BY seq, {key}",  # noqa: S608
        {"seqs": list(seqs)},
        schema,
    )
    return _apart(rows, "seq", seqs)


def cleared(connection: Connection, table: str, epochs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """A table of the clearing (`fills`, `zone_results` and so on) of each epoch, in the order of its key."""
    schema, key = TABLES[table]
    rows = read_frame(
        connection,
        f"SELECT epoch, {', '.join(schema)} FROM {quoted(table)} "  # noqa: S608 - our own names
        f"WHERE epoch = ANY(:epochs) ORDER BY epoch, {key}",
        {"epochs": list(epochs)},
        {"epoch": pl.Int64, **schema},
    )
    return {epoch: frame.drop("epoch") for epoch, frame in _apart(rows, "epoch", epochs).items()}


def epoch_rows(connection: Connection, epochs: Sequence[int]) -> dict[int, EpochRow]:
    """Each epoch's own row, where it has one."""
    names = ", ".join(EpochRow.__struct_fields__)
    rows = connection.execute(
        text(f"SELECT {names} FROM market_epochs WHERE epoch = ANY(:epochs)"),  # noqa: S608 - our own names
        {"epochs": list(epochs)},
    )
    return {row.epoch: EpochRow(**row._mapping) for row in rows}


def on_time(connection: Connection, epochs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """Revision 0 of each epoch, one row per meter, missing ones flagged (`energy.on_time`)."""
    rows = read_frame(
        connection,
        f"SELECT {NET_COLUMNS} FROM net_energy WHERE epoch = ANY(:epochs) AND revision = 0 "  # noqa: S608 - our own names
        "ORDER BY epoch, meter_id",
        {"epochs": list(epochs)},
        NET_ENERGY,
    )
    return _apart(rows, "epoch", epochs)


def late_rows(connection: Connection, epochs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """What is booked with each epoch after its run 0 (`energy.late_rows`); few epochs have any."""
    found = dict.fromkeys(epochs, pl.DataFrame(schema=NET_ENERGY))
    some = connection.execute(
        text(
            "SELECT booked_epoch FROM net_energy WHERE booked_epoch = ANY(:epochs) AND revision > 0 "
            "UNION SELECT booked_epoch FROM voided_epochs WHERE booked_epoch = ANY(:epochs)"
        ),
        {"epochs": list(epochs)},
    ).scalars()
    return found | {int(epoch): energy.late_rows(connection, epoch) for epoch in list(some)}


def booked_energy(connection: Connection, epochs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """What each epoch books: its rows on time by meter, then the late rows that are booked with it.

    A voided epoch has no run 0: its present rows are late ones of the epoch that books them, and say so.
    """
    columns = ", ".join(
        {
            "revision": "CASE WHEN v.epoch IS NULL THEN n.revision ELSE greatest(n.revision, 1) END AS revision",
            "booked_epoch": "coalesce(v.booked_epoch, n.booked_epoch) AS booked_epoch",
        }.get(name, f"n.{name}")
        for name in NET_ENERGY
    )
    rows = read_frame(
        connection,
        "SELECT CASE WHEN n.revision = 0 AND v.epoch IS NULL THEN n.epoch "  # noqa: S608 - our own names
        f"ELSE coalesce(v.booked_epoch, n.booked_epoch) END AS books, {columns} FROM net_energy n "
        "LEFT JOIN voided_epochs v ON v.epoch = n.booked_epoch "
        "WHERE (n.epoch = ANY(:epochs) AND n.revision = 0 AND v.epoch IS NULL) "
        "OR (n.booked_epoch = ANY(:epochs) AND n.revision > 0 AND v.epoch IS NULL) "
        "OR (v.booked_epoch = ANY(:epochs) AND NOT n.missing) "
        "ORDER BY books, n.revision > 0, n.meter_id, n.epoch",
        {"epochs": list(epochs)},
        {"books": pl.Int64, **NET_ENERGY},
    )
    return {epoch: frame.drop("books") for epoch, frame in _apart(rows, "books", epochs).items()}


def live_orders(connection: Connection, epochs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """Orders that each epoch's book is made from, by id and wallet: not cancelled, nor rejected (by an operator)."""
    rows = read_frame(
        connection,
        f"SELECT {', '.join(ORDERS)} FROM orders WHERE epoch = ANY(:epochs) "  # noqa: S608 - our own names
        "AND status NOT IN ('cancelled', 'rejected') ORDER BY epoch, order_id, wallet",
        {"epochs": list(epochs)},
        ORDERS,
    )
    return _apart(rows, "epoch", epochs)


def mandates_as_of(connection: Connection, epochs: Sequence[int]) -> dict[int, pl.DataFrame]:
    """The mandates in force in each epoch, by wallet (store.participants); one read where none begins or ends."""
    first, last = min(epochs), max(epochs)
    changes = connection.execute(
        text(
            "SELECT EXISTS (SELECT FROM mandates WHERE effective_epoch > :first AND effective_epoch <= :last "
            "OR end_epoch > :first AND end_epoch <= :last)"
        ),
        {"first": first, "last": last},
    ).scalar_one()
    if changes:
        return {epoch: participants.mandates_as_of(connection, epoch) for epoch in epochs}
    return dict.fromkeys(epochs, participants.mandates_as_of(connection, first))


def signed_orders(connection: Connection, epochs: Sequence[int]) -> dict[int, tuple[SignedOrder, ...]]:
    """The signed bytes of each epoch's filled orders, as `plan_run` takes them."""
    rows = connection.execute(
        text(
            "SELECT f.epoch, o.wallet, o.message, o.signature FROM fills f JOIN orders o USING (epoch, wallet, "
            "order_id) WHERE f.epoch = ANY(:epochs) AND o.message IS NOT NULL "
            "AND o.status NOT IN ('cancelled', 'rejected') ORDER BY f.epoch, o.wallet, o.order_id"
        ),
        {"epochs": list(epochs)},
    )
    found: dict[int, list[SignedOrder]] = {epoch: [] for epoch in epochs}
    for epoch, wallet, message, signature in rows:
        found[epoch].append(SignedOrder(wallet=wallet, message=message, signature=signature))
    return {epoch: tuple(each) for epoch, each in found.items()}


def chain_order_ids(connection: Connection, epochs: Sequence[int]) -> dict[int, list[bytes]]:
    """Ids of each epoch's on-chain orders: filled ones of them have no leaf under the clearing root."""
    found: dict[int, list[bytes]] = {epoch: [] for epoch in epochs}
    sql = "SELECT epoch, order_id FROM chain_orders WHERE epoch = ANY(:epochs)"
    for epoch, order_id in connection.execute(text(sql), {"epochs": list(epochs)}):
        found[epoch].append(bytes(order_id))
    return found


def _apart(rows: pl.DataFrame, column: str, wanted: Sequence[int]) -> dict[int, pl.DataFrame]:
    """The rows by a column that they are ordered by; no row where a wanted value has none."""
    found = dict.fromkeys(wanted, rows.clear())
    found |= {int(key[0]): part for key, part in rows.partition_by(column, as_dict=True, maintain_order=True).items()}
    return found

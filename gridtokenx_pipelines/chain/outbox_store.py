"""SQL of the outbox: tables `outbox` and `blockchain_transactions`.

Belongs here: bound statements and the row types. Does not belong here: sending, deciding.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    LargeBinary,
    TableClause,
    Text,
    and_,
    column,
    select,
    table,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

Key = tuple[int, int, int, str, int]
KEY_COLUMNS = ("epoch", "kind", "run", "step", "idx")


class OutboxRow(msgspec.Struct, frozen=True):
    """A stored transaction: the one version of it that may be under way."""

    epoch: int
    kind: int
    run: int
    step: str
    idx: int
    signature: str
    transaction: bytes
    last_valid_block_height: int
    status: str
    attempts: int
    error: str | None

    @property
    def key(self) -> Key:
        """Primary key."""
        return (self.epoch, self.kind, self.run, self.step, self.idx)


class Receipt(msgspec.Struct, frozen=True):
    """What the chain says of a transaction.

    `status` is `ok` or the error's name that counts as done; slot, fee and CU are 0 where another's transaction
    had done the work already, so that ours never landed.
    """

    epoch: int
    kind: int
    run: int
    step: str
    idx: int
    signature: str
    slot: int
    fee_lamports: int
    compute_units: int
    status: str
    commitment: str


class OutboxConflict(RuntimeError):
    """Another process signed the same item anew; it goes on, this one must stop."""


def _columns(names: Sequence[str]) -> list:  # type: ignore[type-arg]
    types = {
        "step": Text,
        "signature": Text,
        "status": Text,
        "error": Text,
        "commitment": Text,
        "transaction": LargeBinary,
    }
    return [column(name, types.get(name, BigInteger)) for name in names]


OUTBOX = table("outbox", *_columns(OutboxRow.__struct_fields__))
RECEIPTS = table("blockchain_transactions", *_columns(Receipt.__struct_fields__))

_WRITTEN = insert(RECEIPTS)
WRITE_RECEIPT = _WRITTEN.on_conflict_do_update(
    index_elements=["signature"],
    set_={name: _WRITTEN.excluded[name] for name in ("slot", "fee_lamports", "compute_units", "status", "commitment")},
)


class OutboxStore:
    """Rows in and out, each call one transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def rows(self, keys: Sequence[Key]) -> dict[Key, OutboxRow]:
        """Stored rows of these keys."""
        if not keys:
            return {}
        # the epoch besides the whole key: the primary key begins with it, and row-wise IN alone would scan
        wanted = and_(
            OUTBOX.c.epoch.in_({key[0] for key in keys}), tuple_(*(OUTBOX.c[name] for name in KEY_COLUMNS)).in_(keys)
        )
        with self.engine.connect() as connection:
            found = [OutboxRow(*_plain(row)) for row in connection.execute(select(OUTBOX).where(wanted))]
        return {row.key: row for row in found}

    def open_rows(self, runs: Sequence[tuple[int, int, int]]) -> list[OutboxRow]:
        """Rows of these runs (epoch, kind, run) that have no end yet."""
        if not runs:
            return []
        statement = select(OUTBOX).where(_of_runs(OUTBOX, runs), OUTBOX.c.status.in_(("stored", "sent")))
        with self.engine.connect() as connection:
            return [OutboxRow(*_plain(row)) for row in connection.execute(statement)]

    def receipts_of_runs(self, runs: Sequence[tuple[int, int, int]]) -> dict[tuple[int, int, int], list[Receipt]]:
        """Receipts of these runs in the order they landed."""
        if not runs:
            return {}
        order = (RECEIPTS.c.slot, RECEIPTS.c.step, RECEIPTS.c.idx, RECEIPTS.c.signature)
        found: dict[tuple[int, int, int], list[Receipt]] = {}
        with self.engine.connect() as connection:
            for row in connection.execute(select(RECEIPTS).where(_of_runs(RECEIPTS, runs)).order_by(*order)):
                receipt = Receipt(*row)
                found.setdefault((receipt.epoch, receipt.kind, receipt.run), []).append(receipt)
        return found

    def insert(self, rows: Sequence[OutboxRow]) -> set[Key]:
        """Store the rows that are not stored yet and commit; keys of those that were there already.

        Two processes on the same item both go on with the version that was stored first.
        """
        if not rows:
            return set()
        statement = insert(OUTBOX).on_conflict_do_nothing().returning(*(OUTBOX.c[name] for name in KEY_COLUMNS))
        with self.engine.begin() as connection:
            stored = connection.execute(statement, [msgspec.structs.asdict(row) for row in rows])
            return {row.key for row in rows} - {tuple(row) for row in stored}

    def replace(self, old: OutboxRow, new: OutboxRow) -> None:
        """Put a new version in the place of `old`; OutboxConflict if it is no longer `old` that is stored."""
        statement = (
            update(OUTBOX).where(_is(old.key), OUTBOX.c.signature == old.signature).values(msgspec.structs.asdict(new))
        )
        with self.engine.begin() as connection:
            if connection.execute(statement).rowcount != 1:
                raise OutboxConflict(f"{old.key} was signed anew by another process; stop one of the two")

    def mark_sent(self, rows: Sequence[OutboxRow]) -> None:
        """Note that the rows have been sent and are not confirmed yet."""
        if rows:
            self.finish(rows, "sent", None)

    def finish(self, rows: Sequence[OutboxRow], status: str, error: str | None) -> None:
        """Set the status of rows."""
        statement = update(OUTBOX).where(_versions(rows)).values(status=status, error=error)
        with self.engine.begin() as connection:
            connection.execute(statement)

    def confirm(self, receipts: Sequence[Receipt], rows: Sequence[OutboxRow]) -> None:
        """Write receipts and set the rows confirmed, in one transaction.

        Its commit need not reach the disk at once: what a crash takes away, the chain gives back to `reconcile`.
        """
        done = update(OUTBOX).where(_versions(rows)).values(status="confirmed", error=None)
        with self.engine.begin() as connection:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            connection.execute(WRITE_RECEIPT, [msgspec.structs.asdict(receipt) for receipt in receipts])
            if rows:
                connection.execute(done)

    def adopt(self, rows: Sequence[OutboxRow], receipts: Sequence[Receipt]) -> None:
        """Store what the chain's history tells of transactions that this database has forgotten.

        A row that is confirmed already stays as it is.
        """
        if not rows:
            return
        new = insert(OUTBOX)
        names = ("signature", "transaction", "last_valid_block_height", "status", "attempts", "error")
        statement = new.on_conflict_do_update(
            index_elements=list(KEY_COLUMNS),
            set_={name: new.excluded[name] for name in names},
            where=OUTBOX.c.status != "confirmed",
        )
        with self.engine.begin() as connection:
            connection.execute(statement, [msgspec.structs.asdict(row) for row in rows])
            connection.execute(WRITE_RECEIPT, [msgspec.structs.asdict(receipt) for receipt in receipts])

    def receipts(self, rows: Sequence[OutboxRow]) -> list[Receipt]:
        """Receipts of confirmed rows, in order; rows done by another's transaction get an empty one."""
        if not rows:
            return []
        wanted = RECEIPTS.c.signature.in_([row.signature for row in rows])
        with self.engine.connect() as connection:
            found = {
                r.signature: r for r in (Receipt(*row) for row in connection.execute(select(RECEIPTS).where(wanted)))
            }
        return [
            found.get(row.signature) or Receipt(*row.key, row.signature, 0, 0, 0, row.error or "ok", "confirmed")
            for row in rows
        ]

    def unfinalized(self, limit: int = 100_000) -> list[Receipt]:
        """Receipts that are confirmed and not yet stamped finalised, oldest slot first."""
        statement = select(RECEIPTS).where(RECEIPTS.c.commitment == "confirmed").order_by(RECEIPTS.c.slot).limit(limit)
        with self.engine.connect() as connection:
            return [Receipt(*row) for row in connection.execute(statement)]

    def stamp_finalized(self, signatures: Sequence[str]) -> None:
        """Stamp receipts finalised."""
        if signatures:
            statement = update(RECEIPTS).where(RECEIPTS.c.signature.in_(signatures)).values(commitment="finalized")
            with self.engine.begin() as connection:
                connection.execute(statement)


def _is(key: Key) -> ColumnElement[bool]:
    return tuple_(*(OUTBOX.c[name] for name in KEY_COLUMNS)) == key


def _versions(rows: Sequence[OutboxRow]) -> ColumnElement[bool]:
    """Exactly these versions of these rows."""
    return and_(
        OUTBOX.c.epoch.in_({row.epoch for row in rows}), OUTBOX.c.signature.in_([row.signature for row in rows])
    )


def _of_runs(where: TableClause, runs: Sequence[tuple[int, int, int]]) -> ColumnElement[bool]:
    of_run = tuple_(where.c.epoch, where.c.kind, where.c.run)
    return and_(where.c.epoch.in_({epoch for epoch, _, _ in runs}), of_run.in_(runs))


def _plain(row: Sequence[object]) -> list[object]:
    """psycopg2 hands out memoryviews for bytea unless the engine is told otherwise."""
    return [bytes(value) if isinstance(value, memoryview) else value for value in row]

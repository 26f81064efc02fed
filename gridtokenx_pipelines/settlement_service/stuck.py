"""Settlements that stand still: booked runs that don't finish, complete epochs that nobody clears.

Belongs here: what counts as stuck, and bringing it on. Does not belong here: telling people (alerts/), when to look.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import text

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement_service import finality, movements, receipts
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is open for too long; `waits_for` says how far it came, `error` what the outbox last heard."""

    seq: int
    epoch: int
    run: int
    status: str
    open_seconds: int
    waits_for: str
    error: str | None

    @property
    def words(self) -> str:
        """For an operator."""
        refused = f"; last refusal: {self.error}" if self.error else ""
        return (
            f"run {self.run} of {key_of(self.epoch)} (seq {self.seq}) is {self.status} for {self.open_seconds} s, "
            f"waits for {self.waits_for}{refused}"
        )


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """What resuming did: receipts stamped final, runs opened again after a reorganisation, epochs brought to an end."""

    stamped: int
    reopened: int
    epochs: tuple[int, ...]


def find(services: Services, after_seconds: int, now: datetime | None = None) -> list[Stuck]:
    """Open runs that were booked more than `after_seconds` ago, in the order of seq: the first holds all behind it."""
    moment = datetime.now(UTC) if now is None else now
    with services.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT r.seq, r.epoch, r.run, r.status, r.booked_at, o.step, o.idx, o.status AS sent, o.error "
                "FROM runs r LEFT JOIN LATERAL (SELECT step, idx, status, error FROM outbox o WHERE o.epoch = r.epoch "
                "AND o.run = r.run AND o.status <> 'confirmed' ORDER BY o.status, o.step, o.idx LIMIT 1) o ON TRUE "
                "WHERE r.status IN ('booked', 'attested') AND r.booked_at < :before ORDER BY r.seq"
            ),
            {"before": moment - timedelta(seconds=after_seconds)},
        ).all()
    return [
        Stuck(
            seq=row.seq,
            epoch=row.epoch,
            run=row.run,
            status=row.status,
            open_seconds=int((moment - row.booked_at).total_seconds()),
            waits_for=_waits_for(row.status, row.step, row.idx, row.sent),
            error=row.error,
        )
        for row in rows
    ]


def resume(services: Services) -> Resumed:
    """Bring every open run to its end, whatever it was stuck on; doing it again changes nothing.

    Raises what `receipts.settle_open_runs` raises: by name, with what to repair.
    """
    stamped = finality.follow(services)
    movements.follow(services)
    with services.engine.connect() as connection:
        open_runs = ledger.open_runs(connection)
    epochs = receipts.settle_open_runs(services) if open_runs else set()
    return Resumed(stamped=stamped.stamped, reopened=len(stamped.reopened), epochs=tuple(sorted(epochs)))


def _waits_for(status: str, step: str | None, idx: int | None, sent: str | None) -> str:
    if step is None:
        return "its oracles' equal roots" if status == "booked" else "its next transaction"
    return f"transaction {step} {idx} ({sent})"

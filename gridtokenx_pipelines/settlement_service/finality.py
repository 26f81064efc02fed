"""Until a slot is final the chain may still take it back: stamping what is final, opening again what is gone.

Belongs here: what a reorganisation means to runs and epochs. Does not belong here: asking for statuses (chain/outbox).
A run counts as settled when its last transaction is confirmed; if the chain drops the block that held one of them, the
run is open again, and the next settlement sends the same bytes, or signs them anew if they have expired.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection, text

from gridtokenx_pipelines.chain.outbox import Outbox
from gridtokenx_pipelines.chain.outbox_store import Receipt
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit


class Finality(msgspec.Struct, frozen=True, kw_only=True):
    """Receipts stamped final, transactions that a reorganisation took away, and the runs (seq) opened again for it."""

    stamped: int
    gone: int
    reopened: tuple[int, ...]


def follow(services: Services) -> Finality:
    """Stamp what is final since the last look; open again the runs whose transactions are gone."""
    stamped, gone = Outbox(services.engine, services.client).stamp_finalized()
    if not gone:
        return Finality(stamped=stamped, gone=0, reopened=())
    with services.engine.begin() as connection:
        reopened = _reopen(connection, gone)
    return Finality(stamped=stamped, gone=len(gone), reopened=reopened)


def _reopen(connection: Connection, gone: list[Receipt]) -> tuple[int, ...]:
    signatures = [receipt.signature for receipt in gone]
    runs = sorted({(receipt.epoch, receipt.run) for receipt in gone})
    connection.execute(
        text("UPDATE outbox SET status = 'stored', error = NULL WHERE signature = ANY(:gone)"), {"gone": signatures}
    )
    connection.execute(text("DELETE FROM blockchain_transactions WHERE signature = ANY(:gone)"), {"gone": signatures})
    reopened: list[int] = []
    for epoch, run in runs:
        found = connection.execute(
            text(
                "UPDATE runs SET status = 'booked' WHERE epoch = :epoch AND run = :run "
                "AND status IN ('attested', 'finalised') RETURNING seq"
            ),
            {"epoch": epoch, "run": run},
        )
        reopened += [int(seq) for (seq,) in found]
        connection.execute(
            text(
                "UPDATE market_epochs SET status = CASE WHEN halted THEN 'halted' ELSE 'cleared' END, "
                "settled_at = NULL WHERE epoch = :epoch AND status = 'settled'"
            ),
            {"epoch": epoch},
        )
    audit.append(
        connection,
        at=datetime.now(UTC),
        who="settlement",
        what="chain_reorganised",
        detail={"gone": signatures[:20], "count": len(signatures), "reopened_seqs": reopened},
    )
    return tuple(reopened)

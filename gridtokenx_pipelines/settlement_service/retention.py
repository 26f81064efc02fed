"""Retention: what is old is kept small. Chain rent comes back, a day's frames become a file a name.

Belongs here: what is old enough, and both steps. Does not belong here: closing accounts (chain/rent.py), files
(store/parquet.py). Nothing is thrown away: an audit years later reads the same frames.
"""

from __future__ import annotations

import msgspec

from gridtokenx_pipelines.chain import rent
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store.epochs import CLOSED_AFTER_EPOCHS, horizon_begins

EPOCHS_CLOSED_AT_ONCE = 4 * 96
EPOCHS_A_DAY = 96


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Epochs closed on chain, lamports that came back, days compacted, and how many files those days had and have."""

    closed: int
    lamports: int
    days: int
    files_before: int
    files_after: int


def keep_house(services: Services, at_most: int = EPOCHS_CLOSED_AT_ONCE) -> Kept:
    """Close what is due on chain and compact every whole day before the horizon."""
    returned = rent.give_back(services.client, services.relayer, at_most)
    with services.engine.connect() as connection:
        oldest_open = horizon_begins(connection) - (CLOSED_AFTER_EPOCHS - CLOSED_AFTER_EPOCHS // 15 * 14)
    days = before = after = 0
    for day in services.parquet.days_before(oldest_open // EPOCHS_A_DAY * EPOCHS_A_DAY):
        had, has = services.parquet.compact(day)
        if had != has:
            days, before, after = days + 1, before + had, after + has
    return Kept(closed=returned.closed, lamports=returned.lamports, days=days, files_before=before, files_after=after)

"""What waits to be settled: complete epochs in order, and corrections of settled ones.

Belongs here: the questions that sensors, schedule and demo ask. Does not belong here: settling.
"""

from __future__ import annotations

from collections.abc import Iterable

from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import epochs as store
from gridtokenx_pipelines.store.progress import complete_through


def complete_unsettled_epochs(services: Services, limit: int) -> list[int]:
    """The next complete, unsettled epochs in order and without a gap, at most `limit`; empty if none waits."""
    last = complete_through(services.engine)
    if last is None:
        return []
    with services.engine.connect() as connection:
        first = store.first_epoch(connection)
        return [] if first is None else store.unsettled(connection, first, last, limit)


def epochs_with_corrections(services: Services) -> dict[int, int]:
    """Later epoch of each waiting correction whose two epochs are settled → how many wait there."""
    with services.engine.connect() as connection:
        return store.corrections_ready(connection)


def corrections_ever(services: Services, epochs: Iterable[int]) -> dict[int, int]:
    """Later epoch → how many corrections ever came there: it only grows, so it tells new ones from those tried."""
    with services.engine.connect() as connection:
        return store.corrections_ever(connection, list(epochs))


def newest_settled(services: Services) -> int | None:
    """The newest settled epoch; None before one is."""
    with services.engine.connect() as connection:
        return store.newest_settled(connection)

"""Which epochs ran without the upstream grid, and whether everything that tells so agrees.

Belongs here: reading the declarations, and the findings of reading. Does not belong here: declaring
(settlement_service/island.py). Told three times: by the declarations, by the hash-chained audit log, and by the source
of each epoch's limits, which is sealed with the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.settlement_service.island import ISLAND
from gridtokenx_pipelines.store import grid
from gridtokenx_pipelines.store import island as store

WHAT = "island_events"


def islands(connection: Connection, epochs: Sequence[int]) -> tuple[pl.DataFrame, frozenset[int], list[Finding]]:
    """All declarations (store.island.EVENTS), those of the epochs that are an island's, and findings."""
    declared = store.events(connection)
    found = store.islanded(declared, epochs)
    if not epochs:
        return declared, found, []
    findings = [
        Finding(
            epoch=max(epochs[0], min(epoch, epochs[-1])),
            stage="order_book",
            what=WHAT,
            detail=f"declarations from epoch {epoch} on differ from the audit log; restore the table from the backup",
        )
        for epoch in _differing(declared, store.logged(connection))[:1]
        if epoch <= epochs[-1]
    ]
    sources = grid.states_between(connection, epochs[0], epochs[-1]).select("epoch", "source")
    findings += [
        Finding(
            epoch=epoch,
            stage="order_book",
            what=WHAT,
            detail=f"limits came from {source!r}, but it was declared {'an island' if epoch in found else 'none'}",
        )
        for epoch, source in sources.iter_rows()
        if epoch in epochs and source.startswith(ISLAND) != (epoch in found)
    ]
    return declared, found, findings


def _differing(declared: pl.DataFrame, logged: pl.DataFrame) -> list[int]:
    both = zip(_rows(declared), _rows(logged), strict=False)
    first = next((min(one[0], other[0]) for one, other in both if one != other), None)
    if first is not None:
        return [first]
    longer = max(declared, logged, key=len)
    return longer["epoch"].to_list()[min(len(declared), len(logged)) :]


def _rows(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.sort("epoch").rows()

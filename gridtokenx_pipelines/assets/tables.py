"""Contracts as Dagster shows them: column schema, lineage of columns, the words of a check.

Belongs here: quality/ → Dagster's types. Does not belong here: the contracts, or any check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from gridtokenx_pipelines.quality.catalogue import note
from gridtokenx_pipelines.quality.contract import Column, Contract
from gridtokenx_pipelines.quality.contracts import BY_ASSET, DAILY_CONTRACTS

CONTRACTS: dict[str, Sequence[Contract]] = {**BY_ASSET, **{each.asset: (each,) for each in DAILY_CONTRACTS}}


def column_metadata(asset: str, upstream: Sequence[str] = ()) -> dict[str, Any]:
    """Metadata of an asset's definition: its first table's columns, and which upstream column each comes from.

    A column comes from those of the same name in the upstream's tables: names carry their unit and meaning here.
    """
    contract = CONTRACTS[asset][0]
    found: dict[str, Any] = {
        "dagster/column_schema": dg.TableSchema(columns=[_column(each) for each in contract.columns]),
        "key": ", ".join(contract.key),
        "meaning": contract.meaning,
    }
    lineage = {
        column.name: [
            dg.TableColumnDep(asset_key=dg.AssetKey(source), column_name=column.name)
            for source in upstream
            if any(column.name in each.schema for each in CONTRACTS[source])
        ]
        for column in contract.columns
    }
    if upstream:
        found["dagster/column_lineage"] = dg.TableColumnLineage(
            {name: sources for name, sources in lineage.items() if sources}
        )
    return found


def _column(column: Column) -> dg.TableColumn:
    unit = "" if column.unit == "–" else f" [{column.unit}]"
    bounds = [] if column.bounds == "–" else [column.bounds]
    return dg.TableColumn(
        column.name,
        column.kind.__name__,
        description=column.meaning + unit,
        constraints=dg.TableColumnConstraints(nullable=column.nullable, other=bounds),
    )


def check_words(asset: str, check: str) -> dict[str, Any]:
    """Description and metadata (owner, runbook) of a check, for its spec; empty for one without a note."""
    found = note(asset, check)
    if found is None:
        return {}
    return {"description": found.says, "metadata": {"owner": found.owner, "runbook": f"docs/{found.runbook}"}}

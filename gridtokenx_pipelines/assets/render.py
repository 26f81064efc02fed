"""Reports and verdicts as Dagster shows them: metadata per partition, check results, small Markdown tables.

Belongs here: the way from the service's plain values to Dagster's types. Does not belong here: any computing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.partitions import FAILED, PASSED
from gridtokenx_pipelines.settlement_service import provenance
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services

# a table in metadata is read by a person, and stored with every run
MAX_TABLE_ROWS = 30
MAX_EPOCHS_LISTED = 96


def markdown(frame: pl.DataFrame, limit: int = MAX_TABLE_ROWS) -> dg.MarkdownMetadataValue:
    """A frame as a Markdown table; bytes as short hex; says how many rows were left out."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + " --- |" * len(frame.columns)]
    for row in frame.head(limit).iter_rows():
        lines.append("| " + " | ".join(map(_cell, row)) + " |")
    if frame.height > limit:
        lines.append(f"\n… and {frame.height - limit} more")
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()[:16]
    return "–" if value is None else str(value).replace("|", "\\|")


def show_made_from(context: dg.AssetExecutionContext, services: Services, asset: str, epochs: Sequence[int]) -> None:
    """Each partition's provenance: what it was made from, as fingerprints of inputs, code, rules and tariffs."""
    for epoch in epochs:
        made = provenance.facts(services, asset, epoch)
        context.add_asset_metadata(made, asset_key=asset, partition_key=key_of(epoch))


def show(context: dg.AssetExecutionContext, asset: str, reports: Iterable[EpochReport]) -> None:
    """Give each partition of the run its own metadata, so that a range run reads like its epochs one by one."""
    for report in reports:
        metadata: dict[str, Any] = {"unchanged": not report.changed}
        metadata |= {name: "–" if value is None else value for name, value in report.facts.items()}
        metadata |= {name: markdown(table) for name, table in report.tables.items() if not table.is_empty()}
        context.add_asset_metadata(metadata, asset_key=asset, partition_key=key_of(report.epoch))


def check_results(
    asset: str,
    checks: Sequence[str],
    found: Sequence[Verdict],
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> Iterator[dg.AssetCheckResult]:
    """One result per check over all epochs of the run, failing epochs first, failing rows shown.

    A check without any verdict was not reached, which is a failure too: nothing vouches for what follows.
    """
    for check in checks:
        mine = [one for one in found if one.check == check]
        bad = [one for one in mine if not one.passed]
        if bad:
            words = f"{key_of(bad[0].epoch)}: {bad[0].detail}"
        elif mine:
            words = f"passed on {len(mine)} epochs" if len(mine) > 1 else mine[0].detail
        else:
            words = "not reached: an earlier check failed; repair that first"
        metadata: dict[str, Any] = {
            "verdict": words,
            "epochs_checked": len(mine),
            "epochs_failed": len(bad),
            FAILED: dg.MetadataValue.json(_ranges(one.epoch for one in bad)),
            PASSED: dg.MetadataValue.json(_ranges(one.epoch for one in mine if one.passed)),
            "epochs": markdown(_listing(bad + [one for one in mine if one.passed]), MAX_EPOCHS_LISTED),
        }
        shown = [one for one in bad if one.failing is not None and not one.failing.is_empty()]
        if shown:
            metadata["failing_rows"] = markdown(shown[0].failing)
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=check,
            passed=bool(mine) and not bad,
            severity=severity,
            metadata=metadata,
        )


def _ranges(epochs: Iterable[int]) -> list[list[str]]:
    """First and last partition key of each unbroken row of epochs."""
    found: list[list[int]] = []
    for epoch in sorted(set(epochs)):
        if found and found[-1][1] == epoch - 1:
            found[-1][1] = epoch
        else:
            found.append([epoch, epoch])
    return [[key_of(first), key_of(last)] for first, last in found]


def _listing(found: Sequence[Verdict]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "epoch": [key_of(one.epoch) for one in found],
            "result": ["passed" if one.passed else "FAILED" for one in found],
            "detail": [one.detail for one in found],
        },
        schema={"epoch": pl.String, "result": pl.String, "detail": pl.String},
    )

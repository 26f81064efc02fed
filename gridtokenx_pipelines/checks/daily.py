"""Great Expectations on the published daily tables: one Dagster check an expectation, and data docs pages.

Belongs here: the checks as Dagster sees them. Does not belong here: the suites (quality/expectations.py).
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from gridtokenx_pipelines.partitions import DAYS, epochs_of_day
from gridtokenx_pipelines.quality.contract import Contract
from gridtokenx_pipelines.quality.contracts import DAILY_CONTRACTS
from gridtokenx_pipelines.quality.expectations import Outcome, check_names
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import daily

# GE's word for what only deserves a look; everything else is an error
WARNING = "warning"


def _suite(contract: Contract) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(
            name,
            asset=contract.name,
            partitions_def=DAYS,
            description=f"Great Expectations on {contract.name}, from its contract.",
            metadata={"owner": contract.owner, "runbook": "docs/how-to/checks/daily.md"},
        )
        for name in check_names(contract)
    ]

    @dg.multi_asset_check(name=f"{contract.name}_suite", specs=specs)
    def check(context: dg.AssetCheckExecutionContext, settlement: Settlement) -> Iterator[dg.AssetCheckResult]:
        services = settlement.services
        found: dict[str, list[tuple[str, Outcome]]] = {}
        pages: list[Any] = []
        for day in sorted(context.partition_keys):
            outcomes, page = daily.inspect(
                services, contract.name, day, epochs_of_day(day)[0], daily.pages_of(services)
            )
            pages.append(_link(services.pages_url, page, daily.pages_of(services)))
            for outcome in outcomes:
                found.setdefault(outcome.check, []).append((day, outcome))
        for name, outcomes_by_day in found.items():
            yield _result(contract.name, name, outcomes_by_day, pages)

    return check


def _link(pages_url: str, page: Path, root: Path) -> Any:
    """A link where the pages are served, else the file's path."""
    if not pages_url:
        return dg.MetadataValue.path(str(page))
    return dg.MetadataValue.url(f"{pages_url}/{page.relative_to(root).as_posix()}")


def _result(asset: str, name: str, found: list[tuple[str, Outcome]], pages: list[Any]) -> dg.AssetCheckResult:
    """One result over the days of the run: the first failing day's words and rows, every failing day's name."""
    bad = [(day, each) for day, each in found if not each.passed]
    day, shown = (bad or found)[0]
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=not bad,
        severity=dg.AssetCheckSeverity.WARN if shown.severity == WARNING else dg.AssetCheckSeverity.ERROR,
        metadata={
            "verdict": f"{day}: {shown.observed}",
            "severity_in_suite": shown.severity,
            "failing_days": dg.MetadataValue.json([each for each, _ in bad]),
            "failing_rows": dg.MetadataValue.json(shown.failing),
            "data_docs": pages[-1],
        },
    )


CHECKS = tuple(map(_suite, DAILY_CONTRACTS))

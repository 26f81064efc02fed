"""An audit's outcome as stages report: facts and a table per epoch, a verdict for the check.

Belongs here: the way from an outcome to reports. Does not belong here: rendering (assets/render.py).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from gridtokenx_pipelines.audit.findings import DIFFERS
from gridtokenx_pipelines.settlement_service.audits.service import Outcome
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict
from gridtokenx_pipelines.settlement_service.report import EpochReport

FINDINGS = {"stage": pl.String, "what": pl.String, "how": pl.String}


def of_epochs(outcome: Outcome, document: Path, page: Path) -> list[EpochReport]:
    """A report per epoch: verdict, since which stage, how many differences, where the dossier lies."""
    roots = {plan.epoch: plan.root.hex() for plan in outcome.plans.values() if plan.run == 0}
    return [
        EpochReport(
            epoch=each.epoch,
            changed=True,
            facts={
                "verdict": each.verdict,
                "since": each.since,
                "differences": each.differences,
                "detail": each.detail,
                "root": roots.get(each.epoch),
                "dossier": document.as_posix(),
                "page": page.as_posix(),
                "signatures_verified": outcome.gathered.replay.signatures,
                "seconds": round(sum(outcome.seconds.values()), 2),
            },
            tables={
                "findings": pl.DataFrame(
                    [(found.stage, found.what, found.detail) for found in each.findings], schema=FINDINGS, orient="row"
                )
            },
        )
        for each in outcome.verdicts
    ]


def verdicts(outcome: Outcome, check: str) -> list[Verdict]:
    """The check's verdict per epoch: it fails where something differs; an epoch not settled is no fault."""
    return [
        Verdict(check=check, epoch=each.epoch, passed=each.verdict != DIFFERS, detail=f"{each.verdict}: {each.detail}")
        for each in outcome.verdicts
    ]

"""The audit as Dagster sees it: one asset over the epochs, back-filled as a single run over any range.

Belongs here: the asset, its check, a verdict per partition. Does not belong here: auditing
(settlement_service/audits). It reads the market and moves nothing, so it needs no place in the market's queue.
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from gridtokenx_pipelines.assets.render import check_results, show
from gridtokenx_pipelines.assets.settlement import COMMON, OWNERS
from gridtokenx_pipelines.assets.tables import check_words
from gridtokenx_pipelines.partitions import EPOCHS, epochs_of
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service.audits import files, reports
from gridtokenx_pipelines.settlement_service.audits.service import audit_range

ASSET = "audit_report"
CHECK = "equals_its_recomputation"


@dg.asset(
    **COMMON,
    group_name="audit",
    owners=OWNERS,
    kinds={"polars", "solana", "parquet"},
    tags={"gridtokenx/stage": "audit"},
    deps=["settlement_receipts", "epoch_statement"],
    check_specs=[
        dg.AssetCheckSpec(CHECK, asset=ASSET, blocking=False, partitions_def=EPOCHS, **check_words(ASSET, CHECK))
    ],
    description="Verdict per epoch: everything recomputed from the signed archive, compared with database and chain; "
    "a signed dossier per range.",
)
def audit_report(context: dg.AssetExecutionContext, settlement: Settlement) -> Iterator[Any]:
    """Audit the run's epochs; the run succeeds whatever the verdicts are, and the check says if one differs."""
    epochs = epochs_of(context.partition_keys)
    services = settlement.services
    outcome = audit_range(services, epochs[0], epochs[-1], progress=lambda stage: context.log.info("audit: %s", stage))
    document, page = files.write(services, outcome, datetime.now(UTC))
    show(context, ASSET, reports.of_epochs(outcome, document, page))
    yield from check_results(ASSET, [CHECK], reports.verdicts(outcome, CHECK))
    yield dg.MaterializeResult(asset_key=ASSET)


ASSETS = (audit_report,)

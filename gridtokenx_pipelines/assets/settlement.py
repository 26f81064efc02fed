"""The settlement spine, one partition an epoch: net energy, grid limits, book, clearing, instructions to statement.

Belongs here: the assets as Dagster sees them (keys, order, words for people). Does not belong here: any computing or
I/O, which is `settlement_service`, one file per stage; docs/decisions/0004-epoch-ranges.md says why the book and the
clearing share a step.
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from gridtokenx_pipelines.assets.render import check_results, show, show_made_from
from gridtokenx_pipelines.assets.tables import check_words, column_metadata
from gridtokenx_pipelines.partitions import EPOCHS, epochs_of
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import (
    clearing,
    energy,
    instructions,
    mandates,
    movements,
    network,
    provenance,
    rates_in_force,
    receipts,
    statements,
)
from gridtokenx_pipelines.settlement_service.inspections import clearing as clearing_inspection
from gridtokenx_pipelines.settlement_service.inspections import order_book as book_inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed

SPINE = (
    "net_energy",
    "grid_limits",
    "order_book",
    "clearing_results",
    "mint_instructions",
    "settlement_receipts",
    "epoch_statement",
)
GROUP = "settlement"
OWNERS = ["team:settlement"]
COMMON: dict[str, Any] = {
    "partitions_def": EPOCHS,
    # one run for any range: a run per epoch would pay Dagster's second per run 96 times a day of catch-up
    "backfill_policy": dg.BackfillPolicy.single_run(),
    # a backfill started in the UI carries no tag of the market's: the pool keeps it behind the run that goes on
    "pool": "market",
}


def _traits(stage: str, *kinds: str) -> dict[str, Any]:
    return {"group_name": GROUP, "owners": OWNERS, "kinds": set(kinds), "tags": {"gridtokenx/stage": stage}}


def blocking_checks(asset: str, names: Sequence[str]) -> list[dg.AssetCheckSpec]:
    """Specs of an asset's checks, each stopping what follows.

    Partitioned like the asset: for an unpartitioned check Dagster lists every partition since the first, a second a
    step for a network one year old.
    """
    return [
        dg.AssetCheckSpec(name, asset=asset, blocking=True, partitions_def=EPOCHS, **check_words(asset, name))
        for name in names
    ]


@dg.asset(
    **COMMON,
    **_traits("metering", "polars", "postgres", "parquet"),
    metadata=column_metadata("net_energy"),
    description="Wh per meter and epoch, latest revision, as the flow computed them from signed cumulative registers.",
)
def net_energy(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
    """Freeze the epoch's rows as a frame."""
    show(context, "net_energy", energy.collect(settlement.services, epochs_of(context.partition_keys)))


@dg.asset(
    **COMMON,
    **_traits("network", "lightsim2grid", "postgres"),
    deps=["net_energy"],
    description="What each link can carry both ways and loses, by AC power flow on the state of the epoch before.",
)
def grid_limits(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
    """Compute and store the limits that the epochs are cleared under."""
    show(context, "grid_limits", network.compute(settlement.services, epochs_of(context.partition_keys)))


@dg.multi_asset(
    name="clear_in_order",
    specs=[
        dg.AssetSpec(
            "order_book",
            deps=["net_energy", "grid_limits"],
            metadata=column_metadata("order_book", ["net_energy"]),
            description="Admitted orders and mandates in priority order, each cut to what its owner's balance covers.",
            **_traits("market", "polars", "postgres", "parquet"),
        ),
        dg.AssetSpec(
            "clearing_results",
            deps=["order_book"],
            metadata=column_metadata("clearing_results", ["order_book"]),
            description="Fills, matches, zone prices, flows and charges; the ledger is moved here, for good.",
            **_traits("market", "polars", "postgres", "parquet"),
        ),
    ],
    check_specs=[
        *blocking_checks("order_book", book_inspection.CHECKS),
        *blocking_checks("clearing_results", clearing_inspection.CHECKS),
    ],
    **COMMON,
)
def clear_in_order(context: dg.AssetExecutionContext, settlement: Settlement) -> Iterator[Any]:
    """Epoch by epoch in order: book, its checks, clearing, its checks, commit; stops before the first bad epoch."""
    # what was asked back on chain covers nothing, so it must be known before a book is made
    movements.follow(settlement.services)
    # nor may a book be made on a mandate that its household has changed
    mandates.follow(settlement.services)
    epochs = epochs_of(context.partition_keys)
    for stage in ("order_book", "clearing_results"):
        provenance.require_fit(settlement.services, stage, epochs)
    rates_in_force.require_equal(settlement.services, epochs)
    outcome = clearing.clear_epochs(settlement.services, epochs)
    show(context, "order_book", outcome.books)
    yield from check_results("order_book", book_inspection.CHECKS, outcome.book_verdicts)
    show(context, "clearing_results", outcome.results)
    yield from check_results("clearing_results", clearing_inspection.CHECKS, outcome.result_verdicts)
    bad = failed([*outcome.book_verdicts, *outcome.result_verdicts])
    if bad:
        # raising, not returning: Dagster would otherwise mark the whole range as materialised
        raise dg.Failure(description=f"{outcome.stopped_words()}: {bad[0].check}: {bad[0].detail}", allow_retries=False)
    for stage in ("order_book", "clearing_results"):
        show_made_from(context, settlement.services, stage, epochs)
    yield dg.MaterializeResult(asset_key="order_book")
    yield dg.MaterializeResult(asset_key="clearing_results")


@dg.asset(
    **COMMON,
    **_traits("settlement", "polars", "postgres"),
    deps=["net_energy", "clearing_results"],
    description="Entries per meter and wallet in batches that fit a transaction, and the roots the oracles attest.",
)
def mint_instructions(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
    """Plan every booked run of the epochs."""
    epochs = _fitting(context, settlement, "mint_instructions")
    show(context, "mint_instructions", instructions.plan_epochs(settlement.services, epochs))
    show_made_from(context, settlement.services, "mint_instructions", epochs)


@dg.asset(
    **COMMON,
    **_traits("chain", "solana", "postgres"),
    deps=["mint_instructions"],
    description="Attestation, batches and finalisation on the chain, through the outbox; balances proven equal.",
)
def settlement_receipts(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
    """Settle every planned run, in the order of its seq."""
    epochs = _fitting(context, settlement, "settlement_receipts")
    show(context, "settlement_receipts", receipts.settle_epochs(settlement.services, epochs))
    show_made_from(context, settlement.services, "settlement_receipts", epochs)


@dg.asset(
    **COMMON,
    **_traits("reporting", "polars", "parquet"),
    deps=["net_energy", "clearing_results", "settlement_receipts"],
    metadata=column_metadata("epoch_statement", ["net_energy", "clearing_results"]),
    # an epoch settles within two minutes of its end; a whole quarter of an hour without a statement is worth a look
    freshness_policy=dg.FreshnessPolicy.time_window(
        warn_window=timedelta(minutes=20), fail_window=timedelta(minutes=35)
    ),
    description="What each participant and the operator earned, paid and owes for the epoch.",
)
def epoch_statement(context: dg.AssetExecutionContext, settlement: Settlement) -> None:
    """Write the statements."""
    epochs = _fitting(context, settlement, "epoch_statement")
    show(context, "epoch_statement", statements.write(settlement.services, epochs))
    show_made_from(context, settlement.services, "epoch_statement", epochs)


def _fitting(context: dg.AssetExecutionContext, settlement: Settlement, stage: str) -> list[int]:
    """The run's epochs, once their upstream is what the stage was made from, where it was made before."""
    epochs = epochs_of(context.partition_keys)
    provenance.require_fit(settlement.services, stage, epochs)
    return epochs


ASSETS = (net_energy, grid_limits, clear_in_order, mint_instructions, settlement_receipts, epoch_statement)

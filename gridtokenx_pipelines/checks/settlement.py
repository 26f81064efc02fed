"""Blocking checks after the stages that commit nothing by themselves or prove what was committed.

Belongs here: the checks as Dagster sees them, one step per asset. Does not belong here: what they look at
(settlement_service/inspections). Those of order book and clearing run inside their asset's step, before the commit.
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from collections.abc import Iterator

import dagster as dg

from gridtokenx_pipelines.assets.render import check_results
from gridtokenx_pipelines.assets.settlement import blocking_checks
from gridtokenx_pipelines.partitions import epochs_of
from gridtokenx_pipelines.quality.catalogue import CONTRACT
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import energy, instructions, network, quality, receipts
from gridtokenx_pipelines.settlement_service.inspections import grid_limits as limits_inspection
from gridtokenx_pipelines.settlement_service.inspections import instructions as instructions_inspection
from gridtokenx_pipelines.settlement_service.inspections import net_energy as energy_inspection
from gridtokenx_pipelines.settlement_service.inspections import receipts as receipts_inspection


@dg.multi_asset_check(specs=blocking_checks("net_energy", [*energy_inspection.CHECKS, CONTRACT]))
def net_energy_checks(context: dg.AssetCheckExecutionContext, settlement: Settlement) -> Iterator[dg.AssetCheckResult]:
    """Before a book is made: the contract, presence, continuity, zone balance, rating."""
    epochs = epochs_of(context.partition_keys)
    found = [
        *energy.inspect_epochs(settlement.services, epochs),
        *quality.inspect_contracts(settlement.services, "net_energy", epochs),
    ]
    yield from check_results("net_energy", [*energy_inspection.CHECKS, CONTRACT], found)


@dg.multi_asset_check(specs=blocking_checks("grid_limits", limits_inspection.CHECKS))
def grid_limits_checks(context: dg.AssetCheckExecutionContext, settlement: Settlement) -> Iterator[dg.AssetCheckResult]:
    """Before anything is cleared over them: the state has a power flow, no capacity is negative."""
    found = network.inspect_epochs(settlement.services, epochs_of(context.partition_keys))
    yield from check_results("grid_limits", limits_inspection.CHECKS, found)


@dg.multi_asset_check(specs=blocking_checks("mint_instructions", instructions_inspection.CHECKS))
def mint_instructions_checks(
    context: dg.AssetCheckExecutionContext, settlement: Settlement
) -> Iterator[dg.AssetCheckResult]:
    """Before anything is sent: energy closes, every fill is in one batch, batches fit a transaction."""
    found = instructions.inspect_epochs(settlement.services, epochs_of(context.partition_keys))
    yield from check_results("mint_instructions", instructions_inspection.CHECKS, found)


@dg.multi_asset_check(specs=blocking_checks("settlement_receipts", receipts_inspection.CHECKS))
def settlement_receipts_checks(
    context: dg.AssetCheckExecutionContext, settlement: Settlement
) -> Iterator[dg.AssetCheckResult]:
    """Before statements go out: every batch confirmed, chain and ledger equal, sums zero."""
    found = receipts.inspect_epochs(settlement.services, epochs_of(context.partition_keys))
    yield from check_results("settlement_receipts", receipts_inspection.CHECKS, found)


CHECKS = (net_energy_checks, grid_limits_checks, mint_instructions_checks, settlement_receipts_checks)

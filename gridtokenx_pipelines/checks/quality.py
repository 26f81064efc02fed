"""Contracts (blocking) and statistics (warnings) of the epoch tables, one step an asset.

Belongs here: the checks as Dagster sees them. Does not belong here: the rules (quality/). The contract of net energy is
checked with its other blocking checks (settlement.py); statistics run in a job of their own, so that no settlement
waits for them.
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from collections.abc import Iterator, Sequence

import dagster as dg

from gridtokenx_pipelines.assets.render import check_results
from gridtokenx_pipelines.assets.settlement import blocking_checks
from gridtokenx_pipelines.assets.tables import check_words
from gridtokenx_pipelines.partitions import EPOCHS, epochs_of
from gridtokenx_pipelines.quality.catalogue import CONTRACT, MARKET_WARNINGS, METERING_WARNINGS
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settlement_service import quality

WARN = dg.AssetCheckSeverity.WARN


def _warning_specs(asset: str, names: Sequence[str]) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=asset, partitions_def=EPOCHS, **check_words(asset, name)) for name in names]


def _contract_check(asset: str) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(name=f"{asset}_contract", specs=blocking_checks(asset, [CONTRACT]))
    def check(context: dg.AssetCheckExecutionContext, settlement: Settlement) -> Iterator[dg.AssetCheckResult]:
        found = quality.inspect_contracts(settlement.services, asset, epochs_of(context.partition_keys))
        yield from check_results(asset, [CONTRACT], found)

    return check


CONTRACT_CHECKS = tuple(map(_contract_check, ("order_book", "clearing_results", "epoch_statement")))


@dg.multi_asset_check(specs=_warning_specs("net_energy", METERING_WARNINGS))
def metering_warnings(context: dg.AssetCheckExecutionContext, settlement: Settlement) -> Iterator[dg.AssetCheckResult]:
    """What is within every rule and still unlikely: silent, frozen, jumping meters, voltages, estimates, refusals."""
    found = quality.inspect_metering(settlement.services, epochs_of(context.partition_keys))
    yield from check_results("net_energy", METERING_WARNINGS, found, severity=WARN)


@dg.multi_asset_check(specs=_warning_specs("clearing_results", MARKET_WARNINGS))
def market_warnings(context: dg.AssetCheckExecutionContext, settlement: Settlement) -> Iterator[dg.AssetCheckResult]:
    """Prices and volumes far from what is usual at that time of day."""
    found = quality.inspect_market(settlement.services, epochs_of(context.partition_keys))
    yield from check_results("clearing_results", MARKET_WARNINGS, found, severity=WARN)


WARNINGS = (metering_warnings, market_warnings)
CHECKS = (*CONTRACT_CHECKS, *WARNINGS)

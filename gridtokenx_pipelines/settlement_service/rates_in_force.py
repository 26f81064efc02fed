"""The rates that an epoch is cleared under against those that the programs will settle it by.

Belongs here: refusing, by name, to clear where the rule book and the chain differ. Does not belong here: which version
holds (market/rule_book.py), comparing what was settled (audits/against_chain.py).

An opened epoch's account holds its rates for good. For one not opened yet governance's own rule says them: a change
never touches an epoch that has begun, and none is taken while one waits, so current and next tell every such epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.participants import params_of
from gridtokenx_pipelines.chain.state import read_epochs, read_market
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement_service.services import Services

NAMES = (
    "fee_bp", "vat_bp", "wheeling_cap", "tariff_on_peak", "tariff_off_peak", "feed_in", "price_min", "price_max",
    "halt_bound_bp", "schedule_version",
)  # fmt: skip


class RatesDiffer(RuntimeError):
    """The rule book and the chain name different rates for an epoch: says which, both values and the remedy."""


def require_equal(services: Services, epochs: Sequence[int]) -> None:
    """Compare the rates of each epoch with the chain's. Raises RatesDiffer for the first epoch that differs."""
    chain = rates_on_chain(services.client, epochs)
    for epoch in epochs:
        stated = params_of(services.rules.at(epoch))
        for name, value in chain.get(epoch, {}).items():
            if stated[name] != value:
                raise RatesDiffer(
                    f"{name} of {key_of(epoch)} was {stated[name]} in rules.json, must be {value} as on chain; "
                    'nothing was cleared: make "changes" there say what `gridtokenx chain show governance` says'
                )


def rates_on_chain(client: ChainClient, epochs: Sequence[int]) -> dict[int, dict[str, int]]:
    """Rates by epoch and governance's names; epochs whose account was closed after the horizon are left out."""
    last_opened = read_market(client)["last_opened"]
    opened = read_epochs(client, [epoch for epoch in epochs if epoch <= last_opened])
    found = client.account(addresses.governance())
    if found is None:
        raise RatesDiffer("the chain has no governance account, must have one; bring the network up first")
    governance = Program.load("governance").decode("Governance", found.data)
    rates = {}
    for epoch in epochs:
        if epoch in opened:
            rates[epoch] = _rates(opened[epoch])
        elif epoch > last_opened:
            following = governance["has_next"] and governance["next"]["effective_epoch"] <= epoch
            rates[epoch] = _rates(governance["next" if following else "current"])
    return rates


def _rates(account: Mapping[str, int]) -> dict[str, int]:
    return {name: account[name] for name in NAMES}

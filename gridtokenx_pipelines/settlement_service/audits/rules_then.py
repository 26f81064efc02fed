"""The rules in force then: what every epoch was cleared under, kept by fingerprint, read again for an audit.

Belongs here: keeping rules, network and mechanism under their fingerprint, and finding them. Does not belong here: what
the chain says they were (against_chain.py compares).
"""

from __future__ import annotations

import os
import uuid
from hashlib import sha256
from pathlib import Path

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.audit.clearings import Market
from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.settlement_service.network import network_with
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import grid

FOLDER = "rules"
Under = tuple[Rules, Network, str]


def fingerprint_of(rules: Rules, network: Network, mechanism: str) -> str:
    """One short hash of what an epoch is cleared under."""
    return sha256(_bytes((rules, network, mechanism))).hexdigest()[:16]


def keep(services: Services) -> list[Path]:
    """Write every version of the present rules under its fingerprint, where it is not kept yet; their files."""
    return [_keep(services, (each.rules, each.network, each.mechanism)) for each in _present(services)]


def _present(services: Services) -> list[Market]:
    return [
        Market(rules=services.rules.at(epoch), network=services.network_at(epoch), mechanism=services.mechanism)
        for epoch in services.rules.starts()
    ]


def _keep(services: Services, under: Under) -> Path:
    path = services.parquet.root / FOLDER / f"{fingerprint_of(*under)}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        temporary.write_bytes(_bytes(under))
        os.replace(temporary, path)
    return path


def markets(
    services: Services, connection: Connection, epochs: pl.DataFrame
) -> tuple[dict[int, Market], dict[int, str], list[Finding]]:
    """Each cleared epoch's market by its stored fingerprint, the epochs that the power flow halted, and findings.

    The epoch's own network is a kept one's zones under the capacities that table `grid_limits` says it was cleared
    over. A fingerprint that no kept rules give is a finding, and the present rules stand in.
    """
    known = _present(services)
    kept, found = _all_kept(services, epochs)
    known += [each for each in kept if each not in known]
    limits = _limits(connection, epochs)
    chosen: dict[int, Market] = {}
    for epoch, mark in epochs.select("epoch", "fingerprint").iter_rows():
        mine = limits.get((epoch,))
        fitting = [_over(each, mine) for each in known]
        named = [each for each in fitting if fingerprint_of(each.rules, each.network, each.mechanism) == mark]
        chosen[epoch] = (named or fitting)[0]
        if not named:
            detail = f"no kept rules and limits have fingerprint {mark}; the present ones are taken instead"
            found.append(Finding(epoch=epoch, stage="order_book", what="market_epochs fingerprint", detail=detail))
    return chosen, _halted(connection, epochs), found


def _limits(connection: Connection, epochs: pl.DataFrame) -> dict[tuple[object, ...], pl.DataFrame]:
    if epochs.is_empty():
        return {}
    rows = grid.limits_between(connection, epochs["epoch"].min(), epochs["epoch"].max())  # type: ignore[arg-type]
    return rows.partition_by("epoch", as_dict=True)


def _over(market: Market, limits: pl.DataFrame | None) -> Market:
    if limits is None:
        return market
    return msgspec.structs.replace(market, network=network_with(market.network, limits))


def _halted(connection: Connection, epochs: pl.DataFrame) -> dict[int, str]:
    if epochs.is_empty():
        return {}
    states = grid.states_between(connection, epochs["epoch"].min(), epochs["epoch"].max())  # type: ignore[arg-type]
    found = {}
    for epoch, repairs in states.select("epoch", "repairs").iter_rows():
        last = [words for words in msgspec.json.decode(repairs, type=list[str]) if words.startswith("halted: ")]
        if last:
            found[epoch] = "infeasible: " + last[-1].removeprefix("halted: ")
    return found


def _all_kept(services: Services, epochs: pl.DataFrame) -> tuple[list[Market], list[Finding]]:
    folder, kept, found = services.parquet.root / FOLDER, [], []
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            kept.append(_kept(path, path.stem))
        except (OSError, ValueError) as error:
            what, detail = f"rules {path.name}", f"{error}; restore the file"
            found += [
                Finding(epoch=epoch, stage="order_book", what=what, detail=detail) for epoch in epochs["epoch"][-1:]
            ]
    return kept, found


def _kept(path: Path, mark: str) -> Market:
    content = path.read_bytes()
    if sha256(content).hexdigest()[:16] != mark:
        raise ValueError(f"{path.name} has fingerprint {sha256(content).hexdigest()[:16]}: it was changed")
    rules, network, mechanism = msgspec.json.decode(content, type=Under)
    return Market(rules=rules, network=network, mechanism=mechanism)


def _bytes(under: Under) -> bytes:
    return msgspec.json.encode(under, order="deterministic")

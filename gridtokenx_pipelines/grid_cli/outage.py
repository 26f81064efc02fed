"""`gridtokenx grid outage`: the rehearsal of an island on a folder's data, as a table.

Belongs here: gathering what it starts from, showing what it came to. Does not belong here: the island's market and
books (settlement_service/outage.py). Nothing is written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.errors import NetworkError
from gridtokenx_pipelines.grid_cli.folder import GridFolder, words_of_span
from gridtokenx_pipelines.settlement_service import frozen
from gridtokenx_pipelines.settlement_service.grid_day import energy_between
from gridtokenx_pipelines.settlement_service.outage import IslandEpoch, Rehearsal, rehearse, words_of
from gridtokenx_pipelines.store import ledger, participants
from gridtokenx_pipelines.units import kwh, thb

MOST_EPOCHS = 96


def show(data_dir: Path, database_url: str | None, span: tuple[str, str], *, as_json: bool) -> int:
    """Rehearse and print; 1 if the network can't form an island, there is no data, or a law doesn't close."""
    folder = GridFolder(data_dir, database_url)
    (first, _), (end, _) = (folder.span(None, words) for words in span)
    if not first < end <= first + MOST_EPOCHS:
        bound = f"after --from ({key_of(first)}) and at most {MOST_EPOCHS} epochs later"
        raise ConfigError("--to", span[1], bound, "name the epoch in which the upstream grid is back")
    with folder.connection() as connection:
        energy = energy_between(connection, first - 1, end)
        lacking = [epoch for epoch in range(first, end) if epoch not in energy]
        if lacking:
            click.echo(f"grid: no net energy of {key_of(lacking[0])}; rehearse epochs that were metered", err=True)
            return 1
        given = Rehearsal(
            case=folder.case,
            network=folder.market.network,
            rules=folder.market.rules,
            mechanism=folder.market.mechanism,
            net_energy=energy,
            mandates={epoch: participants.mandates_as_of(connection, epoch) for epoch in range(first, end + 1)},
            balances=frozen.book_of(folder.market.parquet, first)[1],
            accounts=ledger.market_accounts(connection),
        )
    try:
        found = rehearse(given, range(first, end))
    except NetworkError as error:
        click.echo(f"grid: {error}", err=True)
        return 1
    closes = not any(each.laws_open for each in found)
    if as_json:
        document = [{**msgspec.to_builtins(each), "epoch": key_of(each.epoch)} for each in found]
        sys.stdout.write(json.dumps({"epochs": document, "laws_close": closes, "words": words_of(found)}, indent=2))
        sys.stdout.write("\n")
    else:
        _table(found, words_of_span(first, end - 1))
        click.echo(words_of(found))
    return 0 if closes else 1


def _table(found: list[IslandEpoch], span: str) -> None:
    table = Table(title=f"Outage rehearsed, {span}: the neighbourhood as an island (kWh)")
    left = ("epoch", "prices THB/kWh", "laws")
    names = ("epoch", "wished", "served", "shed", "PV & other", "curtailed", "charge", "discharge", "stored", "loss")
    for name in (*names, "p.u.", "traded", "residual", "prices THB/kWh", "violations", "laws"):
        table.add_column(name, justify="left" if name in left else "right", no_wrap=name == "epoch")
    for each in found:
        energies = (
            each.wished_wh,
            each.served_wh,
            each.shed_wh,
            each.produced_wh,
            each.curtailed_wh,
            each.charged_wh,
            each.discharged_wh,
            each.stored_wh,
            each.loss_wh,
        )
        prices = [f"{zone}: {'–' if price is None else thb(price)}" for zone, price in each.prices_uthb_per_kwh.items()]
        table.add_row(
            key_of(each.epoch) if each.islanded else f"{key_of(each.epoch)} returned",
            *(kwh(energy) for energy in energies),
            "–" if each.lowest_pu is None else f"{each.lowest_pu:.3f}…{each.highest_pu:.3f}",
            kwh(each.traded_wh),
            kwh(each.residual_wh),
            "halted" if each.halted else ", ".join(prices),
            str(len(each.violations)),
            "open" if each.laws_open else "all 0",
        )
    Console(width=200 if not sys.stdout.isatty() else None).print(table)

"""`gridtokenx market explain`, `plot` and `stats`: looking at what was cleared, changing nothing.

Belongs here: from a command's words to what is printed, exit codes. Does not belong here: reasons, curves, figures.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import msgspec
import polars as pl
from rich.console import Console

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market_cli import explain as reasons
from gridtokenx_pipelines.market_cli.folder import MarketFolder, NotCleared
from gridtokenx_pipelines.market_cli.numbers import epoch_number
from gridtokenx_pipelines.stack import StackError

DONE, NO_ANSWER = 0, 1
ID_CHARACTERS = 32


def run_explain(order_id: str, epoch: str, data_dir: Path, database_url: str | None, *, as_json: bool) -> int:
    """Print why; 1 if the order or the epoch is not known."""
    from gridtokenx_pipelines.market_cli import traces  # noqa: PLC0415 - SQLAlchemy is half a second

    sought, number = _order_id(order_id), _epoch(epoch)
    folder = MarketFolder(data_dir)
    try:
        found = _from_frames(folder, sought, number, database_url)
        if found is None:
            if len(sought) < ID_CHARACTERS:
                raise NotCleared(f"no order of {key_of(number)} begins with {sought}; give all {ID_CHARACTERS} digits")
            with folder.database(database_url) as url:
                found = traces.trace(url, bytes.fromhex(sought), number)
    except NotCleared as error:
        click.echo(str(error), err=True)
        return NO_ANSWER
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"order {found.order_id}, {found.epoch}: {found.verdict.replace('_', ' ')}", style="bold")
        for line in found.words:
            console.print(f"  {line}", markup=False)
    return NO_ANSWER if found.verdict == traces.UNKNOWN else DONE


def _from_frames(
    folder: MarketFolder, sought: str, number: int, database_url: str | None
) -> reasons.Explanation | None:
    if number not in folder.epochs():
        return None
    history = folder.history([number])
    mine = pl.col("order_id").bin.encode("hex").str.starts_with(sought)
    kept, dropped = history.book.filter(mine), history.rejected.filter(mine)
    ids = {*kept["order_id"].to_list(), *dropped["order_id"].to_list()}
    if len(ids) > 1:
        shown = ", ".join(sorted(ident.hex() for ident in ids)[:4])
        raise NotCleared(f"{len(ids)} orders of {key_of(number)} begin with {sought}: {shown}…; give more digits")
    if kept.height:
        halted, mechanism = _status(folder, number, database_url)
        return reasons.explain(
            kept.row(0, named=True),
            history,
            folder.rules.network_at(number, folder.network),
            folder.rules.at(number),
            mechanism=mechanism,
            halted=halted,
        )
    return reasons.explain_refused(dropped.row(0, named=True)) if dropped.height else None


def _status(folder: MarketFolder, number: int, database_url: str | None) -> tuple[bool, str]:
    """Whether it halted, and the mechanism; frozen frames alone don't say, and must do where there's no database."""
    from gridtokenx_pipelines.market_cli import traces  # noqa: PLC0415

    try:
        with folder.database(database_url) as url:
            row = traces.epoch_row(url, number)
    except StackError as error:
        click.echo(f"without the database, from the frozen frames alone: {error}", err=True)
        return False, folder.mechanism
    return (False, folder.mechanism) if row is None else (row.halted, row.mechanism or folder.mechanism)


def run_plot(epoch: str, data_dir: Path, output: Path | None) -> int:
    """Draw an epoch's curves; 1 if nothing is cleared there."""
    from gridtokenx_pipelines.market_cli.plot import SUFFIXES, draw  # noqa: PLC0415 - matplotlib is a second

    number = _epoch(epoch)
    path = output or Path(f"market-{key_of(number).replace(':', '')}.svg")
    if path.suffix not in SUFFIXES:
        raise ConfigError("--output", str(path), f"a file ending in {' or '.join(SUFFIXES)}", "rename it")
    folder = MarketFolder(data_dir)
    try:
        history = folder.history(folder.chosen(epoch))
    except NotCleared as error:
        click.echo(str(error), err=True)
        return NO_ANSWER
    path.parent.mkdir(parents=True, exist_ok=True)
    click.echo(str(draw(history, number, folder.mechanism, path)))
    return DONE


def run_stats(when: str | None, data_dir: Path, *, as_json: bool) -> int:
    """Print statistics; 1 if nothing is cleared there."""
    from gridtokenx_pipelines.market.guidance import guiding_prices  # noqa: PLC0415
    from gridtokenx_pipelines.market_cli.stats import print_statistics, statistics  # noqa: PLC0415

    folder = MarketFolder(data_dir)
    try:
        epochs = folder.chosen(when)
    except NotCleared as error:
        click.echo(str(error), err=True)
        return NO_ANSWER
    except ValueError as error:
        raise ConfigError("WHEN", when, "a key, a number or a day such as 2026-01-27", str(error)) from error
    history = folder.history(epochs)
    found = statistics(history, epochs, folder.network)
    guiding = guiding_prices(history.book, epochs, folder.meters(epochs), folder.rules)
    found["guiding_prices"] = [{"key": key_of(epochs[place])} | row for place, row in enumerate(guiding)]
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        print_statistics(Console(), found)
    return DONE


def _epoch(words: str) -> int:
    try:
        return epoch_number(words)
    except ValueError as error:
        raise ConfigError("EPOCH", words, "a key such as 2026-01-27T12:00Z or a number", str(error)) from error


def _order_id(words: str) -> str:
    digits = words.replace("-", "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{4,{ID_CHARACTERS}}}", digits):
        bound = f"4 to {ID_CHARACTERS} hexadecimal digits"
        raise ConfigError("ORDER_ID", words, bound, "take it from `gridtokenx market stats EPOCH --json`")
    return digits

"""`gridtokenx market resume`: an operator lets a halted market trade again (domain §5, circuit breaker).

Belongs here: from which epoch on, and what is said. Does not belong here: the breaker (market/prices.py), SQL
(store/clearing.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market_cli.folder import MarketFolder, NotCleared
from gridtokenx_pipelines.market_cli.numbers import epoch_number
from gridtokenx_pipelines.store.clearing import resume
from gridtokenx_pipelines.store.epochs import first_epoch, last_cleared_epoch
from gridtokenx_pipelines.store.postgres import engine

DONE, REFUSED = 0, 1


def run_resume(words: str | None, data_dir: Path, database_url: str | None) -> int:
    """Resume from an epoch that isn't cleared yet; 1 and the bound in words otherwise. Twice is once."""
    try:
        asked = None if words is None else epoch_number(words)
        with MarketFolder(data_dir).database(database_url) as url:
            return _resume(url, asked)
    except (ValueError, NotCleared) as error:
        click.echo(str(error), err=True)
        return REFUSED


def _resume(url: str, asked: int | None) -> int:
    made = engine(url, pool_size=1)
    try:
        with made.begin() as connection:
            last = last_cleared_epoch(connection)
            following = last + 1 if last >= 0 else first_epoch(connection) or 0
            epoch = following if asked is None else asked
            if epoch < following:
                click.echo(
                    f"epoch was {key_of(epoch)}, must be {key_of(following)} or later: what is cleared stays; "
                    "name an epoch that is not cleared yet",
                    err=True,
                )
                return REFUSED
            is_new = resume(connection, epoch)
    finally:
        made.dispose()
    click.echo(
        f"{'resumed' if is_new else 'was resumed already'} from {key_of(epoch)} on, without the prices before it"
    )
    return DONE

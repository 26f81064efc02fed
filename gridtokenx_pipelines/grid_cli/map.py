"""`gridtokenx grid map`: the network of one epoch as a page.

Belongs here: choosing the epoch, wording. Does not belong here: drawing (grid/map.py).
"""

from __future__ import annotations

from pathlib import Path

import click

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.map import draw, map_data
from gridtokenx_pipelines.grid_cli.folder import GridFolder, words_of_span
from gridtokenx_pipelines.settlement_service.grid_day import states_between, tightest
from gridtokenx_pipelines.store import island


def show(data_dir: Path, database_url: str | None, epoch: str | None, output: Path) -> int:
    """Write the map; 1 if the epoch was not metered."""
    folder = GridFolder(data_dir, database_url)
    first, last = folder.span(None, epoch)
    with folder.connection() as connection:
        states = states_between(connection, folder.case, first, last)
        islands = island.islanded(island.events(connection), states)
    if not states:
        click.echo(f"grid: no net energy of {words_of_span(first, last)}; name an epoch that was metered", err=True)
        return 1
    at = tightest(folder.case, states)
    title = key_of(at) + ("" if epoch else ", the tightest epoch") + (", an island" if at in islands else "")
    draw(map_data(folder.case.island[0] if at in islands else folder.case, states[at]), title, output)
    click.echo(f"{output}: {key_of(at)}, {len(folder.case.meter_id)} meters on {len(folder.case.bus_name)} buses")
    return 0

"""The grid report of days, gathered from the stores and written: what the daily asset and the command line share.

Belongs here: reading what the report needs, its folder. Does not belong here: computing (grid_report.py) or wording
(grid_pages.py) it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.hosting import Hosting, hosting_capacity
from gridtokenx_pipelines.grid.map import draw, map_data
from gridtokenx_pipelines.grid.states import Bounds as DefaultBounds
from gridtokenx_pipelines.grid.states import State, flow_of, state_of, worst
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.settlement_service.grid_pages import ASSET, write, zone_table
from gridtokenx_pipelines.settlement_service.grid_report import GridReport, grid_report
from gridtokenx_pipelines.settlement_service.inspections.net_energy import latest
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import island as island_store
from gridtokenx_pipelines.store.epochs import net_energy_between
from gridtokenx_pipelines.store.postgres import read_frame
from gridtokenx_pipelines.units import kwh, thb

FLOWS = dict.fromkeys(
    ("epoch", "link_id", "from_zone", "to_zone", "sent_wh", "delivered_wh", "wheeling_uthb"), pl.Int64
)
PRICES = dict.fromkeys(("epoch", "zone_id", "price_uthb_per_kwh"), pl.Int64)


def energy_between(connection: Connection, first: int, last: int) -> dict[int, pl.DataFrame]:
    """Net-energy rows of each epoch that has some, the latest revision of each meter."""
    rows = latest(net_energy_between(connection, first, last)).sort("epoch", "meter_id")
    return {int(key[0]): part for key, part in rows.group_by("epoch", maintain_order=True)}


def report_between(connection: Connection, case: GridCase, network: Network, first: int, last: int) -> GridReport:
    """The report on the epochs from first to last that were metered. Raises LookupError if none was."""
    energy = energy_between(connection, first, last)
    if not energy:
        raise LookupError(f"no net energy from {key_of(first)} to {key_of(last)}; name epochs that were metered")
    span = {"first": first, "last": last}
    flows = read_frame(
        connection,
        f"SELECT {', '.join(FLOWS)} FROM flows WHERE epoch BETWEEN :first AND :last ORDER BY epoch, link_id",  # noqa: S608
        span,
        FLOWS,
    )
    prices = read_frame(
        connection,
        f"SELECT {', '.join(PRICES)} FROM zone_results WHERE epoch BETWEEN :first AND :last ORDER BY epoch, zone_id",  # noqa: S608
        span,
        PRICES,
    )
    islands = island_store.islanded(island_store.events(connection), energy)
    return grid_report(case, energy, flows, prices, network.links, islands)


def states_between(connection: Connection, case: GridCase, first: int, last: int) -> dict[int, State]:
    """The network's state of each metered epoch."""
    return {
        epoch: state_of(
            case,
            {
                meter: (made, used)
                for meter, made, used in rows.select("meter_id", "production_wh", "consumption_wh").iter_rows()
            },
        )
        for epoch, rows in energy_between(connection, first, last).items()
    }


def tightest(case: GridCase, states: dict[int, State]) -> int:
    """The epoch nearest to a bound."""
    return min(states, key=lambda epoch: (float(worst(flow_of(case, states[epoch]), DefaultBounds())[0]), epoch))


def hosting_between(states: dict[int, State], case: GridCase) -> list[Hosting]:
    """Hosting capacity over all the states."""
    return hosting_capacity(case, [states[epoch] for epoch in sorted(states)])


def write_days(services: Services, days: Sequence[tuple[str, Sequence[int]]]) -> list[EpochReport]:
    """Write each day's report and map under `frames/../reports/grid/<day>`; a day without data says so."""
    reports = []
    for day, epochs in days:
        reports.append(_write_day(services, day, epochs))
    return reports


def _write_day(services: Services, day: str, epochs: Sequence[int]) -> EpochReport:
    first, last = epochs[0], epochs[-1]
    if services.grid is None:
        return EpochReport(epoch=first, changed=False, facts={"day": day, "note": "there is no grid case"})
    case = services.grid
    with services.engine.connect() as connection:
        states = states_between(connection, case, first, last)
        if not states:
            return EpochReport(epoch=first, changed=False, facts={"day": day, "note": "nothing was metered"})
        found = report_between(connection, case, services.network, first, last)
        islands = island_store.islanded(island_store.events(connection), states)
    folder = services.parquet.root.parent / "reports" / "grid" / day
    document, page = write(folder, f"Grid report {day}", found, hosting_between(states, case))
    at = tightest(case, states)
    drawn = map_data(case.island[0] if at in islands else case, states[at])
    map_page = draw(drawn, f"{key_of(at)}, the tightest epoch of {day}", folder / "map.html")
    total = found.totals.row(0, named=True)
    return EpochReport(
        epoch=first,
        changed=True,
        facts={
            "day": day,
            "generation_kwh": kwh(total["generation_wh"]),
            "load_kwh": kwh(total["load_wh"]),
            "upstream_kwh": kwh(total["upstream_wh"]),
            "losses_kwh": kwh(total["loss_wh"]),
            "violations": int(found.zone_days["violations"].sum()),
            "epochs_without_power_flow": len(found.unsolved),
            "congestion_rent_thb": thb(int(found.links["rent_uthb"].sum())),
            "tightest_epoch": key_of(at),
            "report_json": Path(document).as_uri(),
            "report_html": Path(page).as_uri(),
            "map": Path(map_page).as_uri(),
        },
        tables={"zones": zone_table(found), "worst_hours": found.worst, "links": found.links},
    )


__all__ = ["ASSET", "hosting_between", "report_between", "states_between", "tightest", "write_days"]

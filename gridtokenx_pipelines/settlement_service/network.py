"""Stage 1b: what the network can carry in each epoch, from the state of the epoch before.

Belongs here: loading the state, computing and storing limits, and the network that an epoch is cleared over. Does not
belong here: power flow (grid/), SQL (store/grid.py), the feasibility of a result (feasible.py).
Without a grid case (no grid.npz) the network file's own capacities hold: source `given`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.limits import EpochLimits, LinkLimit, grid_limits
from gridtokenx_pipelines.grid.states import State, state_of
from gridtokenx_pipelines.market.rules import Network
from gridtokenx_pipelines.observability.stages import stage
from gridtokenx_pipelines.settlement_service.energy import EpochNotReady
from gridtokenx_pipelines.settlement_service.inspections import grid_limits as inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, failed
from gridtokenx_pipelines.settlement_service.island import ISLAND, case_at, source_at
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import grid as store
from gridtokenx_pipelines.store import island as island_store
from gridtokenx_pipelines.store.epochs import net_energy_between, statuses
from gridtokenx_pipelines.units import kwh

ASSET = "grid_limits"
FLOW, GIVEN = "power flow", "given"
CLEARED = ("cleared", "halted", "settled")


@stage("grid_limits")
def compute(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Compute and store the limits of each epoch; one cleared before keeps what it was cleared under."""
    with services.engine.begin() as connection:
        status = statuses(connection, epochs[0], epochs[-1])
        known = set(store.states_between(connection, epochs[0], epochs[-1])["epoch"].to_list())
        fresh = [epoch for epoch in epochs if epoch not in known or status.get(epoch) not in CLEARED]
        _compute(services, connection, fresh)
        states = store.states_between(connection, epochs[0], epochs[-1])
        limits = store.limits_between(connection, epochs[0], epochs[-1])
    return [
        _report(
            states.filter(pl.col("epoch") == epoch).row(0, named=True),
            limits.filter(pl.col("epoch") == epoch),
            changed=epoch in fresh,
        )
        for epoch in epochs
    ]


def _compute(services: Services, connection: Connection, epochs: Sequence[int]) -> None:
    if not epochs:
        return
    before = net_energy_between(connection, epochs[0] - 1, epochs[-1] - 1) if services.grid is not None else None
    islanded = island_store.islanded(island_store.events(connection), epochs)
    for epoch in epochs:
        case = case_at(services.grid, islanded=epoch in islanded)
        found, source = _limits(services, case, before, epoch)
        source = source_at(source, islanded=epoch in islanded)
        store.save(connection, _state_row(case, epoch, found, source), _limit_rows(epoch, found))


def follow_declarations(services: Services, connection: Connection, epochs: Sequence[int]) -> None:
    """Before epochs clear: limits again where the upstream grid was declared lost or back since they were computed.

    Raises EpochNotReady where the new ones fail a check.
    """
    islanded = island_store.islanded(island_store.events(connection), epochs)
    sources = store.states_between(connection, epochs[0], epochs[-1]).select("epoch", "source")
    stale = [
        epoch
        for epoch, source in sources.iter_rows()
        if epoch in epochs and source.startswith(ISLAND) != (epoch in islanded)
    ]
    if not stale:
        return
    _compute(services, connection, stale)
    states = store.states_between(connection, stale[0], stale[-1])
    bad = failed(inspection.inspect(states, store.limits_between(connection, stale[0], stale[-1]), stale))
    if bad:
        raise EpochNotReady(f"limits of {key_of(bad[0].epoch)} after the declaration: {bad[0].check}: {bad[0].detail}")


def inspect_epochs(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The checks on the limits of each epoch."""
    with services.engine.connect() as connection:
        states = store.states_between(connection, epochs[0], epochs[-1])
        limits = store.limits_between(connection, epochs[0], epochs[-1])
    return inspection.inspect(states, limits, epochs)


def network_of(services: Services, connection: Connection, epoch: int) -> Network:
    """The network that an epoch is, or was, cleared over: its own capacities and losses, the wheeling in force.

    Raises EpochNotReady where the limits have not been computed and a grid case says that they must be, and where the
    upstream grid was declared lost or back since they were.
    """
    return networks_of(services, connection, [epoch])[epoch]


def networks_of(services: Services, connection: Connection, epochs: Sequence[int]) -> dict[int, Network]:
    """The network of each of these epochs, as `network_of` gives one."""
    first, last = min(epochs), max(epochs)
    limits = store.limits_between(connection, first, last).partition_by("epoch", as_dict=True, maintain_order=True)
    sources = dict(store.states_between(connection, first, last).select("epoch", "source").iter_rows())
    islands = island_store.islanded(island_store.events(connection), epochs)
    networks = {}
    for epoch in epochs:
        if epoch in sources and sources[epoch].startswith(ISLAND) != (epoch in islands):
            now = "an island" if epoch in islands else "on the upstream grid"
            raise EpochNotReady(
                f"limits of {key_of(epoch)} were computed as {sources[epoch]!r}, but it runs {now} now; "
                "materialise grid_limits for it again"
            )
        network = services.network_at(epoch)
        if (epoch,) in limits:
            networks[epoch] = network_with(network, limits[epoch,])
        elif services.grid is not None and epoch not in sources:
            raise EpochNotReady(
                f"epoch was {key_of(epoch)}, must have its grid limits; materialise grid_limits for it first"
            )
        else:
            networks[epoch] = network
    return networks


def network_with(network: Network, limits: pl.DataFrame) -> Network:
    """The network under the rows of one epoch in `grid_limits`, as they were cleared under."""
    rows = {row["link_id"]: row for row in limits.iter_rows(named=True)}
    return msgspec.structs.replace(
        network,
        links=tuple(
            link
            if link.link_id not in rows
            else msgspec.structs.replace(
                link,
                capacity_forward_wh=rows[link.link_id]["cleared_forward_wh"],
                capacity_backward_wh=rows[link.link_id]["cleared_backward_wh"],
                loss_ppm=rows[link.link_id]["loss_ppm"],
            )
            for link in network.links
        ),
    )


def _limits(
    services: Services, case: GridCase | None, before: pl.DataFrame | None, epoch: int
) -> tuple[EpochLimits, str]:
    if case is None or before is None:
        return _given(services.network), GIVEN
    return grid_limits(case, services.network, state_at(services, before, epoch - 1)), FLOW


def state_at(services: Services, rows: pl.DataFrame, epoch: int) -> State:
    """The network's state of an epoch from its on-time rows (revision 0), missing meters at 0.

    Estimates that arrive later are left out: whether one is there when limits are computed depends on how fast a
    run follows the flows, and the same epoch must get the same limits in every run.
    """
    if services.grid is None:
        raise ValueError("there is no grid case; make one with gridtokenx grid prepare")
    on_time = (pl.col("epoch") == epoch) & (pl.col("revision") == 0) & ~pl.col("missing")
    mine = rows.filter(on_time).select("meter_id", "production_wh", "consumption_wh")
    return state_of(services.grid, {meter: (made, used) for meter, made, used in mine.iter_rows()})


def _given(network: Network) -> EpochLimits:
    words = "the network file's own limit"
    return EpochLimits(
        links=tuple(
            LinkLimit(
                link_id=link.link_id,
                from_zone=link.from_zone,
                to_zone=link.to_zone,
                capacity_forward_wh=link.capacity_forward_wh,
                capacity_backward_wh=link.capacity_backward_wh,
                loss_ppm=link.loss_ppm,
                binding_forward=words,
                binding_backward=words,
            )
            for link in network.links
        ),
        converged=True,
        lowest_pu=math.nan,
        highest_pu=math.nan,
        line_percent=math.nan,
        trafo_percent=math.nan,
        loss_wh=0,
        violations=(),
        unplaced=(),
    )


def _state_row(case: GridCase | None, epoch: int, found: EpochLimits, source: str) -> store.GridState:
    def real(value: float) -> float | None:
        return None if math.isnan(value) else round(value, 6)

    return store.GridState(
        epoch=epoch,
        state_epoch=epoch - 1,
        source=source,
        case_fingerprint="" if case is None else case.fingerprint,
        converged=found.converged,
        lowest_pu=real(found.lowest_pu),
        highest_pu=real(found.highest_pu),
        line_percent=real(found.line_percent),
        trafo_percent=real(found.trafo_percent),
        loss_wh=found.loss_wh,
        violations=msgspec.json.encode(found.violations).decode(),
        unplaced=len(found.unplaced),
    )


def _limit_rows(epoch: int, found: EpochLimits) -> list[store.LimitRow]:
    return [store.LimitRow(epoch=epoch, **msgspec.structs.asdict(limit)) for limit in found.links]


def _report(state: dict[str, object], limits: pl.DataFrame, *, changed: bool) -> EpochReport:
    violations = msgspec.json.decode(str(state["violations"]), type=list[str])
    capacities = [*limits["cleared_forward_wh"].to_list(), *limits["cleared_backward_wh"].to_list()]
    return EpochReport(
        epoch=int(str(state["epoch"])),
        changed=changed,
        facts={
            "source": str(state["source"]),
            "state_of": key_of(int(str(state["state_epoch"]))),
            "converged": bool(state["converged"]),
            **{name: state[name] for name in ("lowest_pu", "highest_pu", "line_percent", "trafo_percent")},  # type: ignore[dict-item]
            "losses_kwh": kwh(int(str(state["loss_wh"]))),
            "least_capacity_kwh": kwh(min(capacities)) if capacities else None,
            "state_violations": len(violations),
            "worst_violation": violations[0] if violations else None,
            "meters_without_a_place": int(str(state["unplaced"])),
            "repairs": len(msgspec.json.decode(str(state["repairs"]), type=list[str])),
            "case_fingerprint": str(state["case_fingerprint"]),
        },
        tables={"links": limits.drop("epoch")},
    )

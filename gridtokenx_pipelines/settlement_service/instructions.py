"""Stage 3: every booked run as what the chain is sent: batches, leaves, roots, proofs.

Belongs here: gathering a run's booking from the ledger, planning it, keeping the plan. Does not belong here: the bytes
(settlement/batches.py), sending (receipts.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain.addresses import program_id
from gridtokenx_pipelines.settlement.batches import RunPlan, plan_run
from gridtokenx_pipelines.settlement.double_entry import ledger_rows
from gridtokenx_pipelines.settlement.frames import CLEARING, Booking, Header
from gridtokenx_pipelines.settlement_service.inspections import instructions as inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import chain_orders, energy, ledger, orders, participants
from gridtokenx_pipelines.store import clearing as store
from gridtokenx_pipelines.units import kwh

KIND_NAMES = {1: "clearing", 2: "late", 3: "resettlement"}
PROGRAMS = ("registry", "trading")


def plan_epochs(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Plan every run booked for the epochs that has no plan yet. Raises LedgerError for entries that don't fit."""
    with services.engine.connect() as connection:
        meter_address = participants.meter_addresses(connection)
        trader_address = participants.trader_addresses(connection)
    network_id = services.rules.network_id
    program_ids = {name: bytes(program_id(name, network_id)) for name in PROGRAMS}
    reports = []
    for epoch in epochs:
        changed, plans = False, []
        with services.engine.begin() as connection:
            for run in ledger.runs_of(connection, epoch):
                plan = ledger.plan_of(connection, epoch, run.run)
                if plan is None:
                    plan = plan_run(
                        booking_of(connection, run),
                        network_id=network_id,
                        meter_address=meter_address,
                        trader_address=trader_address,
                        program_ids=program_ids,
                        orders=orders.signed_orders(connection, epoch) if run.kind == CLEARING else (),
                    )
                    ledger.save_plan(connection, plan)
                    changed = True
                plans.append(plan)
        reports.append(_report(epoch, plans, changed=changed))
    return reports


def booking_of(connection: Connection, run: ledger.Run) -> Booking:
    """A run as it was booked, from its entries. Balances and accounts are those of now: a plan needs neither."""
    mine = pl.col("seq") == run.seq
    wallets = ledger.wallet_entries(connection, run.epoch, run.epoch).filter(mine)
    header = _clearing_header(connection, run.epoch, wallets) if run.kind == CLEARING else Header()
    return Booking(
        seq=run.seq,
        epoch=run.epoch,
        run=run.run,
        kind=run.kind,
        header=header,
        wallet_entries=wallets,
        meter_entries=ledger.meter_entries(connection, run.epoch, run.epoch).filter(mine),
        balances=ledger.balances(connection),
        accounts=ledger.market_accounts(connection),
        ledger_rows=ledger_rows(wallets, header),
    )


def _clearing_header(connection: Connection, epoch: int, entries: pl.DataFrame) -> Header:
    row = store.read_epoch(connection, epoch)
    if row is None:
        raise ValueError(f"epoch {epoch} has run 0 but no row in market_epochs; restore it from the backup")
    zones = store.read_clearing(connection, epoch).zone_results
    return Header(
        halted=row.halted,
        # where nothing was bought back the flag would change nothing on the chain either
        buy_back=bool((entries["bought_back_wh"] > 0).any()),
        lost_wh=row.lost_wh or 0,
        link_wheeling_uthb=row.link_wheeling_uthb or 0,
        rent_uthb=row.rent_uthb or 0,
        zones=tuple(
            (zone, 0 if price is None else price, wheeling)
            for zone, price, wheeling in zones.select(
                "zone_id", "price_uthb_per_kwh", "zone_wheeling_uthb_per_kwh"
            ).iter_rows()
        ),
    )


def inspect_epochs(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The checks on the plans of each epoch."""
    found: list[Verdict] = []
    with services.engine.connect() as connection:
        for epoch in epochs:
            plans = [ledger.plan_of(connection, epoch, run.run) for run in ledger.runs_of(connection, epoch)]
            fills = store.read_clearing(connection, epoch).fills
            found += inspection.inspect(
                epoch,
                [plan for plan in plans if plan is not None],
                net_energy=pl.concat([energy.on_time(connection, epoch), energy.late_rows(connection, epoch)]),
                traded=_traded(fills, ledger.wallet_entries(connection, epoch, epoch)),
                # an order placed on chain is in its slot already: nothing of it has to be recorded
                orders=fills.filter(
                    ~pl.col("is_mandate") & ~pl.col("order_id").is_in(chain_orders.order_ids(connection, epoch))
                ),
            )
    return found


def _traded(fills: pl.DataFrame, entries: pl.DataFrame) -> pl.DataFrame:
    """Wh bought less sold by the fills, of every wallet that has an entry in run 0."""
    signed = pl.when(pl.col("side") == 0).then("filled_wh").otherwise(-pl.col("filled_wh"))
    by_wallet = fills.group_by("wallet").agg(signed.sum().alias("traded_wh"))
    wallets = entries.filter(pl.col("run") == 0).select("wallet")
    return wallets.join(by_wallet, on="wallet", how="full", coalesce=True).with_columns(
        pl.col("traded_wh").fill_null(0)
    )


def _report(epoch: int, plans: Sequence[RunPlan], *, changed: bool) -> EpochReport:
    runs = pl.DataFrame(
        {
            "run": [plan.run for plan in plans],
            "kind": [KIND_NAMES[plan.kind] for plan in plans],
            "seq": [plan.seq for plan in plans],
            "meters": [sum(batch.n for batch in plan.registry) for plan in plans],
            "wallets": [sum(batch.n for batch in plan.trading) for plan in plans],
            "orders": [len(plan.orders) for plan in plans],
            "batches": [len(plan.registry) + len(plan.trading) for plan in plans],
            "root": [plan.root.hex() for plan in plans],
        }
    )
    minted = sum(
        int(entries[:, 0].clip(min=0).sum())
        for plan in plans
        if plan.kind == CLEARING
        for entries in (inspection.entries_of(plan, batch) for batch in plan.trading)
    )
    first = plans[0] if plans else None
    return EpochReport(
        epoch=epoch,
        changed=changed,
        facts={
            "runs": len(plans),
            "batches": int(runs["batches"].sum()) if plans else 0,
            "surplus_kwh": kwh(minted),
            "root": first.root.hex() if first else None,
            "metering_root": first.metering_root.hex() if first and first.metering_root else None,
        },
        tables={"planned_runs": runs},
    )

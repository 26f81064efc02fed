"""Stage 3: every booked run as what the chain is sent: batches, leaves, roots, proofs.

Belongs here: gathering a run's booking from the ledger, planning it, keeping the plan. Does not belong here: the bytes
(settlement/batches.py), sending (receipts.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain.addresses import program_id
from gridtokenx_pipelines.observability.stages import stage
from gridtokenx_pipelines.settlement.batches import RunPlan, plan_run
from gridtokenx_pipelines.settlement.frames import (
    BALANCES,
    CLEARING,
    LEDGER_ROWS,
    Booking,
    Header,
    MarketAccounts,
)
from gridtokenx_pipelines.settlement_service.inspections import instructions as inspection
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict
from gridtokenx_pipelines.settlement_service.report import EpochReport
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import ledger, participants, ranges
from gridtokenx_pipelines.store.clearing import EpochRow
from gridtokenx_pipelines.units import kwh

KIND_NAMES = {1: "clearing", 2: "late", 3: "resettlement"}
PROGRAMS = ("registry", "trading")


@stage("mint_instructions")
def plan_epochs(services: Services, epochs: Sequence[int]) -> list[EpochReport]:
    """Plan every run booked for the epochs that has no plan yet. Raises LedgerError for entries that don't fit."""
    with services.engine.connect() as connection:
        meter_address = participants.meter_addresses(connection)
        trader_address = participants.trader_addresses(connection)
    network_id = services.rules.network_id
    program_ids = {name: bytes(program_id(name, network_id)) for name in PROGRAMS}
    reports = []
    for group in ranges.groups(epochs, len(meter_address)):
        with services.engine.begin() as connection:
            plans = ranges.plans(connection, group)
            planned = {plan.seq for each in plans.values() for plan in each}
            runs = [run for each in ranges.runs(connection, group).values() for run in each if run.seq not in planned]
            bookings = _bookings(connection, runs)
            orders = ranges.signed_orders(connection, group)
            made = [
                plan_run(
                    booking,
                    network_id=network_id,
                    meter_address=meter_address,
                    trader_address=trader_address,
                    program_ids=program_ids,
                    orders=orders[booking.epoch] if booking.kind == CLEARING else (),
                )
                for booking in bookings
            ]
            if made:
                ledger.save_plans(connection, made)
        for plan in made:
            plans[plan.epoch].append(plan)
        changed = {plan.epoch for plan in made}
        reports += [
            _report(epoch, sorted(plans[epoch], key=lambda plan: plan.run), changed=epoch in changed) for epoch in group
        ]
    return reports


def _bookings(connection: Connection, runs: Sequence[ledger.Run]) -> list[Booking]:
    """Runs as they were booked, from their entries, as far as a plan looks at them: no balances, no double entry."""
    seqs = [run.seq for run in runs]
    wallets, meters = ranges.wallet_entries(connection, seqs), ranges.meter_entries(connection, seqs)
    cleared = [run.epoch for run in runs if run.kind == CLEARING]
    rows, zones = ranges.epoch_rows(connection, cleared), ranges.cleared(connection, "zone_results", cleared)
    return [
        Booking(
            seq=run.seq,
            epoch=run.epoch,
            run=run.run,
            kind=run.kind,
            header=(
                _clearing_header(run.epoch, rows.get(run.epoch), zones[run.epoch], wallets[run.seq])
                if run.kind == CLEARING
                else Header()
            ),
            wallet_entries=wallets[run.seq],
            meter_entries=meters[run.seq],
            balances=pl.DataFrame(schema=BALANCES),
            accounts=MarketAccounts(),
            ledger_rows=pl.DataFrame(schema=LEDGER_ROWS),
        )
        for run in runs
    ]


def _clearing_header(epoch: int, row: EpochRow | None, zones: pl.DataFrame, entries: pl.DataFrame) -> Header:
    if row is None:
        raise ValueError(f"epoch {epoch} has run 0 but no row in market_epochs; restore it from the backup")
    return Header(
        halted=row.halted,
        # where nothing was bought back the flag would change nothing on the chain either
        buy_back=bool((entries["bought_back_wh"] > 0).any()),
        lost_wh=row.lost_wh or 0,
        link_wheeling_uthb=row.link_wheeling_uthb or 0,
        rent_uthb=row.rent_uthb or 0,
        zones=tuple(
            (zone, 0 if price is None else price, wheeling)
            for zone, price, wheeling in zip(
                zones["zone_id"].to_list(),
                zones["price_uthb_per_kwh"].to_list(),
                zones["zone_wheeling_uthb_per_kwh"].to_list(),
                strict=True,
            )
        ),
    )


def inspect_epochs(services: Services, epochs: Sequence[int]) -> list[Verdict]:
    """The checks on the plans of each epoch."""
    found: list[Verdict] = []
    with services.engine.connect() as connection:
        for group in ranges.groups(epochs, participants.count(connection)):
            plans, energy = ranges.plans(connection, group), ranges.booked_energy(connection, group)
            fills = ranges.cleared(connection, "fills", group)
            on_chain = ranges.chain_order_ids(connection, group)
            seqs = [run.seq for each in ranges.runs(connection, group).values() for run in each if run.run == 0]
            wallets = {
                int(entries["epoch"][0]): entries["wallet"].to_list()
                for entries in ranges.wallet_entries(connection, seqs).values()
                if not entries.is_empty()
            }
            for epoch in group:
                found += inspection.inspect(
                    epoch,
                    plans[epoch],
                    net_energy=energy[epoch],
                    traded=_traded(fills[epoch], wallets.get(epoch, [])),
                    # an order placed on chain is in its slot already: nothing of it has to be recorded
                    orders=_signed(fills[epoch], on_chain[epoch]),
                )
    return found


def _signed(fills: pl.DataFrame, on_chain: Sequence[bytes]) -> list[bytes]:
    """Ids of the filled orders that a wallet signed, without those of the chain's own slots."""
    ids = zip(fills["order_id"].to_list(), fills["is_mandate"].to_list(), strict=True)
    there = set(on_chain)
    return [order_id for order_id, is_mandate in ids if not is_mandate and order_id not in there]


def _traded(fills: pl.DataFrame, wallets: Sequence[str]) -> dict[str, int]:
    """Wh bought less sold by the fills, of every wallet that has a fill or an entry in run 0."""
    traded = dict.fromkeys(wallets, 0)
    columns = (fills[name].to_list() for name in ("wallet", "side", "filled_wh"))
    for wallet, side, filled in zip(*columns, strict=True):
        traded[wallet] = traded.get(wallet, 0) + (filled if side == 0 else -filled)
    return traded


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

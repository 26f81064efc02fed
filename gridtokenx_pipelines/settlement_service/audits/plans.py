"""Every run's batches, leaves and roots again, from recomputed entries, against the plans that are stored.

Belongs here: planning recomputed bookings, comparing roots, headers and whole plans. Does not belong here: the bytes
(settlement/batches.py), the chain's roots (against_chain.py).
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.audit.recompute import Recomputed
from gridtokenx_pipelines.chain.addresses import address_of_meter, address_of_trader, program_id
from gridtokenx_pipelines.settlement.batches import RunPlan, SignedOrder, plan_run
from gridtokenx_pipelines.settlement.frames import CLEARING, LedgerError
from gridtokenx_pipelines.settlement_service.audits.inputs import Gathered

PROGRAMS = ("registry", "trading")


def plan_all(gathered: Gathered, made: Recomputed, network_id: int) -> tuple[dict[int, RunPlan], list[Finding]]:
    """Plans by seq of every recomputed booking. Addresses are derived, not read: a stored one may be wrong."""
    program_ids = {name: bytes(program_id(name, network_id)) for name in PROGRAMS}
    bookings = made.ledger.bookings
    wallets = {wallet for each in bookings.values() for wallet in each.wallet_entries["wallet"]}
    meters = {meter for each in bookings.values() for meter in each.meter_entries["meter_id"]}
    traders = {wallet: bytes(address_of_trader(wallet)) for wallet in wallets}
    accounts = {meter: bytes(address_of_meter(meter)) for meter in meters}
    signed = _signed(gathered, made)
    plans: dict[int, RunPlan] = {}
    found: list[Finding] = []
    for seq, booking in bookings.items():
        orders = signed.get(booking.epoch, ()) if booking.kind == CLEARING else ()
        try:
            plans[seq] = plan_run(
                booking,
                network_id=network_id,
                meter_address=accounts,
                trader_address=traders,
                program_ids=program_ids,
                orders=orders,
            )
        except (LedgerError, ValueError) as error:
            what, detail = f"run {booking.run}", f"can't be planned again: {error}"
            found.append(Finding(epoch=booking.epoch, stage="instructions", what=what, detail=detail))
    return plans, found + _compare(gathered, plans) + _addresses(gathered)


def _signed(gathered: Gathered, made: Recomputed) -> dict[int, tuple[SignedOrder, ...]]:
    """The signed bytes of filled orders by epoch."""
    filled = made.fills.select("epoch", "wallet", "order_id")
    rows = gathered.stored.orders.filter(
        pl.col("message").is_not_null() & ~pl.col("status").is_in(["cancelled", "rejected"])
    ).join(filled, on=["epoch", "wallet", "order_id"], how="semi")
    orders: dict[int, tuple[SignedOrder, ...]] = {}
    columns = ("epoch", "wallet", "message", "signature")
    for epoch, wallet, message, signature in rows.sort("wallet", "order_id").select(columns).iter_rows():
        made_of = SignedOrder(wallet=wallet, message=message, signature=signature or b"")
        orders[epoch] = (*orders.get(epoch, ()), made_of)
    return orders


def _compare(gathered: Gathered, plans: dict[int, RunPlan]) -> list[Finding]:
    found: list[Finding] = []
    for row in gathered.stored.runs.iter_rows(named=True):
        plan = plans.get(row["seq"])
        if plan is None or row["root"] is None:
            continue
        what = f"runs seq={row['seq']} run={row['run']}"
        for name in ("metering_root", "root", "header"):
            stored, new = row[name], getattr(plan, name)
            if stored != new:
                shown = [each.hex() if each else "none" for each in (stored, new)]
                detail = f"{name} was {shown[0][:24]}…, recomputed {shown[1][:24]}…"
                found.append(
                    Finding(
                        epoch=row["epoch"],
                        stage="instructions",
                        what=what,
                        detail=detail,
                        stored=shown[0],
                        recomputed=shown[1],
                    )
                )
        if row["plan"] != plan.encode():
            detail = f"stored plan of {len(row['plan'] or b'')} bytes is not the one that follows from the entries"
            found.append(Finding(epoch=row["epoch"], stage="instructions", what=f"{what} plan", detail=detail))
    return found


def _addresses(gathered: Gathered) -> list[Finding]:
    """Stored chain addresses against their derivation; they belong to no epoch, so the last one carries them."""
    wrong = [
        (f"users wallet={wallet} trader_address", held)
        for wallet, held in gathered.stored.users.select("wallet", "trader_address").iter_rows()
        if held is not None and held != bytes(address_of_trader(wallet))
    ] + [
        (f"meters meter_id={meter} address", held)
        for meter, held in gathered.stored.meters.select("meter_id", "address").iter_rows()
        if held is not None and held != bytes(address_of_meter(meter))
    ]
    return [
        Finding(
            epoch=gathered.last,
            stage="instructions",
            what=what,
            detail=f"was {held.hex()[:24]}…, not the derived address",
        )
        for what, held in wrong
        if gathered.ran and gathered.last == gathered.ran[-1]
    ]

"""What was recomputed against the chain: final roots, epoch accounts, meters, balances, and every receipt.

Belongs here: reading the chain and subtracting. Does not belong here: sending anything: an audit moves nothing. An
epoch whose accounts were closed after the horizon (rent given back) is proven by its transactions instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.audit.recompute import Recomputed
from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.runs import FLAG_VOID
from gridtokenx_pipelines.chain.state import read_epochs, read_market, read_roots
from gridtokenx_pipelines.settlement.batches import RunPlan
from gridtokenx_pipelines.settlement.frames import CLEARING, LATE, METERING
from gridtokenx_pipelines.settlement_service import chain_proof
from gridtokenx_pipelines.settlement_service.audits.inputs import Gathered
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store.settled import outbox_between, receipts_between

FINALISED = 2
HALTED_FLAG = 1
# the account's sums of its last run ← columns of the entries; resettlements keep other sums
SUMS = {
    "net_wh": "net_wh",
    "cost_uthb": "cost_uthb",
    "zone_wheeling_uthb": "zone_wheeling_uthb",
    "proceeds_uthb": "proceeds_uthb",
    "fee_uthb": "fee_uthb",
    "residual_wh": "residual_wh",
    "billed_uthb": "billed_uthb",
    "paid_uthb": "paid_to_supplier_uthb",
    "debt_repaid_uthb": "debt_repaid_uthb",
    "bought_back_wh": "bought_back_wh",
    "buy_back_uthb": "buy_back_uthb",
}
RATES = {
    "fee_bp": "fee_bp",
    "vat_bp": "vat_bp",
    "tariff_on_peak": "tariff_on_peak_uthb_per_kwh",
    "tariff_off_peak": "tariff_off_peak_uthb_per_kwh",
    "feed_in": "feed_in_uthb_per_kwh",
    "price_min": "price_min_uthb_per_kwh",
    "price_max": "price_max_uthb_per_kwh",
    "halt_bound_bp": "halt_bound_bp",
}
RECEIPT_FIELDS = ("slot", "fee_lamports", "compute_units")
CALLS_AT_ONCE = 2_048


class ChainSide(msgspec.Struct, frozen=True, kw_only=True):
    """What the chain said: final roots by (epoch, kind, run), findings, how much was compared."""

    roots: dict[tuple[int, int, int], bytes]
    closed: tuple[int, ...]
    receipts: pl.DataFrame
    signatures: dict[tuple[int, int], dict[str, list[str]]]  # (epoch, run) → step → signatures
    compared_accounts: int
    findings: tuple[Finding, ...]


def compare_chain(
    services: Services, connection: Connection, gathered: Gathered, made: Recomputed, plans: Mapping[int, RunPlan]
) -> ChainSide:
    """Roots, accounts, balances and receipts of the range. Raises ChainUnavailable if no node answers."""
    epochs = read_epochs(services.client, gathered.ran)
    market = read_market(services.client)
    closed = tuple(epoch for epoch in gathered.ran if epoch <= market["closed_through"])
    finalised = gathered.stored.runs.filter(pl.col("status") == "finalised")
    wanted = []
    for epoch, kind, run in finalised.select("epoch", "kind", "run").iter_rows():
        wanted += [(epoch, kind, run), *([(epoch, METERING, 0)] if kind == CLEARING else [])]
    roots = read_roots(services.client, wanted)
    receipts = receipts_between(connection, gathered.first, gathered.last)
    found = [
        *_roots(gathered, plans, roots, set(closed)),
        *_epochs(gathered, made, epochs, set(closed)),
        *_receipts(services, receipts, outbox_between(connection, gathered.first, gathered.last)),
        *_participants(services, gathered),
    ]
    proof = chain_proof.compare(services, connection)
    found += _balances(gathered, proof)
    return ChainSide(
        roots=roots,
        closed=closed,
        receipts=receipts,
        signatures=_signatures(receipts),
        compared_accounts=len(epochs) + len(roots) + proof.compared_traders + proof.compared_meters,
        findings=tuple(found),
    )


def _signatures(receipts: pl.DataFrame) -> dict[tuple[int, int], dict[str, list[str]]]:
    """The transactions that a third party is shown: who attested, and which ended the run."""
    found: dict[tuple[int, int], dict[str, list[str]]] = {}
    rows = receipts.filter(pl.col("step").is_in(["prepare", "finalize"])).sort("epoch", "run", "step", "idx")
    for epoch, run, step, signature in rows.select("epoch", "run", "step", "signature").iter_rows():
        found.setdefault((epoch, run), {}).setdefault(step, []).append(signature)
    return found


def _roots(
    gathered: Gathered,
    plans: Mapping[int, RunPlan],
    roots: Mapping[tuple[int, int, int], bytes],
    closed: set[int],
) -> list[Finding]:
    found = []
    rows = gathered.stored.runs.filter(pl.col("status") == "finalised")
    for seq, epoch, kind, run in rows.select("seq", "epoch", "kind", "run").iter_rows():
        plan = plans.get(seq)
        if plan is None or epoch in closed:
            continue
        pairs = [(kind, run, plan.root)]
        if plan.metering_root is not None:
            pairs.append((METERING, 0, plan.metering_root))
        for which, number, root in pairs:
            final = roots.get((epoch, which, number))
            if final == root:
                continue
            said = "no final root" if final is None else f"root {final.hex()[:24]}…"
            found.append(
                Finding(
                    epoch=epoch,
                    stage="chain",
                    what=f"attestation kind={which} run={number}",
                    detail=f"the chain has {said}, recomputed {root.hex()[:24]}…",
                    stored="" if final is None else final.hex(),
                    recomputed=root.hex(),
                )
            )
    return found


def _epochs(
    gathered: Gathered, made: Recomputed, accounts: Mapping[int, dict[str, Any]], closed: set[int]
) -> list[Finding]:
    """The trading program's epoch account: rates in force, prices, and the sums of its last run."""
    found = []
    last = {booking.epoch: booking for _, booking in sorted(made.ledger.bookings.items())}
    open_runs = set(gathered.stored.runs.filter(~pl.col("status").is_in(["finalised", "voided"]))["epoch"])
    for epoch in gathered.ran:
        account, booking = accounts.get(epoch), last.get(epoch)
        if account is not None and account["run"] == 0 and account["status"] == FINALISED:
            void = bool(account["flags"] & FLAG_VOID)
            if void != (epoch in gathered.given.voided):
                found.append(_unequal(epoch, "epoch account void", int(void), int(not void)))
        if account is None or booking is None:
            if epoch not in closed and booking is not None and epoch not in open_runs:
                detail = "the chain has no account of the epoch, and says that it is not closed"
                found.append(Finding(epoch=epoch, stage="chain", what="epoch account", detail=detail))
            continue
        rules = gathered.given.market[epoch].rules
        expected = {f"epoch account {name}": (account[name], getattr(rules, of)) for name, of in RATES.items()}
        if epoch not in open_runs:
            expected |= {
                "epoch account seq": (account["seq"], booking.seq),
                "epoch account run": (account["run"], booking.run),
                "epoch account status": (account["status"], FINALISED),
            }
            if booking.kind in (CLEARING, LATE):
                sums = booking.wallet_entries.select(pl.col(list(set(SUMS.values()))).sum()).row(0, named=True)
                names = SUMS if booking.kind == CLEARING else {n: SUMS[n] for n in ("residual_wh", "billed_uthb")}
                expected |= {f"epoch account {name}": (account["sums"][name], sums[of]) for name, of in names.items()}
            if booking.kind == CLEARING:
                header = booking.header
                for name in ("lost_wh", "link_wheeling_uthb", "rent_uthb"):
                    expected[f"epoch account {name}"] = (account[name], getattr(header, name))
                expected["epoch account halted"] = (bool(account["flags"] & HALTED_FLAG), header.halted)
                for zone, price, wheeling in header.zones:
                    held = account["zones"][zone]
                    expected[f"epoch account zone {zone} price"] = (held["price"], price)
                    expected[f"epoch account zone {zone} wheeling"] = (held["wheeling"], wheeling)
        found += [_unequal(epoch, what, chain, new) for what, (chain, new) in expected.items() if chain != new]
    return found


def _unequal(epoch: int, what: str, chain: int, new: int) -> Finding:
    return Finding(
        epoch=epoch,
        stage="chain",
        what=what,
        detail=f"the chain has {chain}, recomputed {new}",
        stored=str(chain),
        recomputed=str(new),
        by=int(new) - int(chain),
    )


def _receipts(services: Services, receipts: pl.DataFrame, outbox: pl.DataFrame) -> list[Finding]:
    """Stored receipts against the transactions themselves, and against what the outbox says it sent."""
    found: list[Finding] = []
    rows = receipts.to_dicts()
    infos = []
    for start in range(0, len(rows), CALLS_AT_ONCE):
        infos += services.client.transactions([row["signature"] for row in rows[start : start + CALLS_AT_ONCE]])
    for row, info in zip(rows, infos, strict=True):
        what = f"blockchain_transactions run={row['run']} step={row['step']} idx={row['idx']}"
        if info is None:
            if row["status"] == "ok":
                detail = f"no transaction of the chain has signature {row['signature']}"
                found.append(Finding(epoch=row["epoch"], stage="receipts", what=what, detail=detail))
            continue  # refused before it landed: somebody else's transaction did the same
        if (info.err is None) != (row["status"] == "ok"):
            detail = f"status was {row['status']}, the chain says {info.err or 'ok'}"
            found.append(Finding(epoch=row["epoch"], stage="receipts", what=what, detail=detail))
        for name in RECEIPT_FIELDS:
            said, is_so = row[name], getattr(info, name)
            if said != is_so:
                detail = f"{name} was {said}, the chain has {is_so}"
                by = is_so - said if isinstance(said, int) else None
                found.append(Finding(epoch=row["epoch"], stage="receipts", what=what, detail=detail, by=by))
    return found + _without_receipt(outbox, receipts)


def _without_receipt(outbox: pl.DataFrame, receipts: pl.DataFrame) -> list[Finding]:
    """What the outbox sent and confirmed has a receipt; a batch that somebody else settled has neither."""
    key = ["epoch", "kind", "run", "step", "idx"]
    lost = outbox.filter(pl.col("status") == "confirmed").join(receipts, on=key, how="anti")
    return [
        Finding(
            epoch=row["epoch"],
            stage="receipts",
            what=f"blockchain_transactions run={row['run']} step={row['step']} idx={row['idx']}",
            detail="the outbox says that it is confirmed, and no receipt is stored",
        )
        for row in lost.iter_rows(named=True)
    ]


def _participants(services: Services, gathered: Gathered) -> list[Finding]:
    """Stored meters against the registry program, where the range reaches to the last epoch that ran."""
    meters = gathered.stored.meters.filter(pl.col("status") != "pending")
    ids = meters["meter_id"].to_list()
    accounts = services.client.accounts([addresses.address_of_meter(meter) for meter in ids])
    program = Program.load("registry")
    found = []
    for row, account in zip(meters.iter_rows(named=True), accounts, strict=True):
        what = f"meters meter_id={row['meter_id']}"
        if account is None:
            found.append(Finding(epoch=gathered.last, stage="chain", what=what, detail="is not on the chain"))
            continue
        held = program.decode("Meter", account.data)
        keys = {bytes(held["device_key"]), bytes(held["next_device_key"])}
        pairs = {
            "wallet": (row["wallet"], str(held["owner"])),
            "zone_id": (row["zone_id"], held["zone"]),
            "rating_w": (row["rating_w"], held["rating_w"]),
            "first_epoch": (row["first_epoch"], held["first_epoch"]),
            "baseline_production_wh": (row["baseline_production_wh"], held["baseline_production_wh"]),
            "baseline_consumption_wh": (row["baseline_consumption_wh"], held["baseline_consumption_wh"]),
            "device_key": (row["device_key"] in keys, True),
        }
        found += [
            Finding(
                epoch=gathered.last,
                stage="chain",
                what=what,
                detail=f"{name} was {stored}, the chain has {chain}",
                stored=str(stored),
                recomputed=str(chain),
            )
            for name, (stored, chain) in pairs.items()
            if stored != chain
        ]
    return found if gathered.ran else []


def _balances(gathered: Gathered, proof: chain_proof.ChainProof) -> list[Finding]:
    """Present balances of ledger and chain; a difference belongs to the wallet's last epoch, or the range's last."""
    found = []
    for row in [*proof.traders.iter_rows(named=True), *proof.others.iter_rows(named=True)]:
        epoch = row.get("last_epoch")
        epoch = gathered.last if epoch is None or epoch > gathered.last else epoch
        if not gathered.first <= epoch <= gathered.last or not gathered.ran:
            continue
        who = row.get("owner") or row.get("of")
        found.append(_unequal(epoch, f"balance of {who} {row['what']}", row["chain"], row["ledger"]))
    return found

"""Checks on receipts before statements go out: every batch confirmed, chain equals ledger, sums zero.

Belongs here: judgements on receipts, entries and a proof already read. Does not belong here: asking the chain.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import polars as pl

from gridtokenx_pipelines.settlement.batches import RunPlan
from gridtokenx_pipelines.settlement_service.chain_proof import ChainProof
from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, verdict

CONFIRMED = "every_batch_confirmed"
EQUAL = "chain_balances_equal_the_ledger"
SUMS = "sums_are_zero"
CHECKS = (CONFIRMED, EQUAL, SUMS)
GONE_WELL = ("confirmed", "finalized")


def inspect(
    epochs: Sequence[int],
    *,
    plans: Mapping[int, Sequence[RunPlan]],
    outbox: pl.DataFrame,
    receipts: pl.DataFrame,
    entries: pl.DataFrame,
    proof: ChainProof,
    void: Collection[int] = (),
) -> list[Verdict]:
    """All three checks on each epoch.

    Balances are compared as they stand: a trader whose last finalised entry lies in an epoch vouches for it and all
    before; what can't be tied to an epoch (meters, market accounts, the chain's laws) is told with the last one.
    """
    found: list[Verdict] = []
    for epoch in epochs:
        last = epoch == epochs[-1]
        mine = {
            "outbox": outbox.filter(pl.col("epoch") == epoch),
            "receipts": receipts.filter(pl.col("epoch") == epoch),
        }
        found += [
            _confirmed(epoch, plans[epoch], void=epoch in void, **mine),
            _equal(epoch, proof, epochs, last=last),
            _sums(epoch, entries.filter(pl.col("epoch") == epoch), plans[epoch], proof, last=last),
        ]
    return found


def _confirmed(
    epoch: int, plans: Sequence[RunPlan], outbox: pl.DataFrame, receipts: pl.DataFrame, *, void: bool
) -> Verdict:
    planned = [
        (plan.kind, plan.run, step, batch.index)
        for plan in plans
        for step, part in (("meter", plan.registry), ("settle", plan.trading), ("record", plan.orders))
        for batch in part
    ]
    planned += [(plan.kind, plan.run, step, 0) for plan in plans for step in ("commit", "finalize")]
    key = {"kind": pl.Int64, "run": pl.Int64, "step": pl.String, "idx": pl.Int64}
    wanted = pl.DataFrame(planned, schema=key, orient="row")
    sent = outbox.select(*key, "signature", pl.col("status").alias("outbox"), "error")
    landed = receipts.select("signature", pl.col("status").alias("receipt"), "commitment")
    failing = (
        wanted.join(sent, on=list(key), how="left")
        .join(landed, on="signature", how="left")
        .filter(
            (pl.col("outbox").fill_null("never sent") != "confirmed")
            # a batch that someone else's transaction settled first has no receipt of ours, and its error says so
            | (pl.col("receipt").is_null() & pl.col("error").is_null())
            | ~pl.col("commitment").fill_null("confirmed").is_in(GONE_WELL)
        )
    )
    held = f"{wanted.height} transactions of {len(plans)} runs confirmed"
    if not plans and not void:
        failing = pl.DataFrame({"epoch": [epoch], "fault": ["no run is planned"]})
    return verdict(CONFIRMED, epoch, failing, held, "a transaction that is not confirmed; settle the epoch again")


def _equal(epoch: int, proof: ChainProof, epochs: Sequence[int], *, last: bool) -> Verdict:
    # a difference shows at the epoch of the wallet's last entry; one outside this range is told with its last epoch
    elsewhere = ~pl.col("last_epoch").is_in(list(epochs)) | pl.col("last_epoch").is_null()
    mine = (pl.col("last_epoch") == epoch).fill_null(False) | (elsewhere if last else pl.lit(False))
    traders = proof.traders.filter(mine).rename({"owner": "of"}).drop("last_epoch")
    failing = pl.concat([traders, proof.others]) if last else traders
    held = (
        f"{proof.compared_traders} traders, {proof.compared_meters} meters and the market's accounts equal to the unit"
        if last
        else "nobody's last entry here differs"
    )
    return verdict(
        EQUAL, epoch, failing, held, "a balance on chain that is not the ledger's; stop, and audit the epoch"
    )


def _sums(epoch: int, entries: pl.DataFrame, plans: Sequence[RunPlan], proof: ChainProof, *, last: bool) -> Verdict:
    # resettlement entries mint and burn the same x, and what they refund is in no epoch's net
    entries = entries.filter(pl.col("kind") != 3)
    total = {
        name: int(entries[name].sum())
        for name in ("net_wh", "minted_wh", "deficit_wh", "burned_wh", "residual_wh", "billed_uthb")
    }
    total |= {
        name: int(entries[name].sum()) for name in ("paid_to_supplier_uthb", "debt_delta_uthb", "debt_repaid_uthb")
    }
    owed = total["billed_uthb"] - total["paid_to_supplier_uthb"] - total["debt_delta_uthb"] - total["debt_repaid_uthb"]
    rows = [
        ("ledger: Σ net − (minted − deficit)", total["net_wh"] - total["minted_wh"] + total["deficit_wh"]),
        ("ledger: burned − (deficit − residual)", total["burned_wh"] - total["deficit_wh"] + total["residual_wh"]),
        ("ledger: billed − paid − repaid − change of debt", owed),
    ]
    if last:
        rows += [(f"chain: {law.law}", law.difference) for law in proof.laws]
    failing = pl.DataFrame(rows, schema={"law": pl.String, "difference": pl.Int64}, orient="row").filter(
        pl.col("difference") != 0
    )
    held = f"{len(rows)} sums of {len(plans)} runs are zero"
    if last and (proof.excess_wh or proof.excess_uthb):
        held += f"; {proof.excess_wh} Wh and {proof.excess_uthb} µTHB in the vaults are nobody's (sent there directly)"
    return verdict(SUMS, epoch, failing, held, "a sum that is not zero; stop settling, and audit the epoch")

"""Statements of a range again, from recomputed entries, against the frames that were written.

Belongs here: that comparison. Does not belong here: what a statement adds up (settlement/statement.py).
"""

from __future__ import annotations

import polars as pl

from gridtokenx_pipelines.audit.compare import differences
from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.audit.recompute import Recomputed
from gridtokenx_pipelines.settlement.statement import operators, participants
from gridtokenx_pipelines.settlement_service.audits.against_store import FrozenFrames
from gridtokenx_pipelines.settlement_service.audits.inputs import Gathered
from gridtokenx_pipelines.settlement_service.services import Services

ASSET = "epoch_statement"


def compare(services: Services, gathered: Gathered, made: Recomputed) -> list[Finding]:
    """Statements of the settled epochs whose every run could be booked again."""
    settled = [epoch for epoch in gathered.ran if gathered.stored.states[epoch].status == "settled"]
    wanted = gathered.stored.runs.filter(pl.col("status") == "finalised").select("epoch", "seq")
    lost = set(wanted.filter(~pl.col("seq").is_in(list(made.ledger.bookings)))["epoch"])
    whole = [epoch for epoch in settled if epoch not in lost]
    if not whole:
        return []
    rules = {epoch: gathered.given.market[epoch].rules for epoch in whole}
    entries = made.ledger.wallet_entries()
    people = participants(entries.filter(pl.col("epoch").is_in(whole)), rules)
    frames = FrozenFrames(services.parquet, whole)
    found: list[Finding] = []
    for name, recomputed, key in (
        ("participants", people, ["epoch", "wallet"]),
        ("operator", operators(people), ["epoch"]),
    ):
        schema = dict(recomputed.schema)
        stored = frames.stacked("statement", ASSET, name, schema)  # type: ignore[arg-type]
        there = pl.col("epoch").is_in(list(frames.read))
        what = f"frame {ASSET}/{name}"
        stored, expected = stored.filter(there), recomputed.filter(there)
        if name == "operator":
            # an epoch without participants has a row of zeros, which sums over nobody don't have
            stored = stored.join(expected.select("epoch"), on="epoch", how="semi")
        found += differences("statement", what, stored, expected, key)
    return found + frames.findings

"""An audit of a range: gather, recompute, compare, judge, and the dossier's parts. It moves nothing and sends nothing.

Belongs here: the order of these steps and what goes into a dossier. Does not belong here: any of the steps; signing
files (files.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import msgspec
from sqlalchemy import text

from gridtokenx_pipelines.audit import dossier, proofs
from gridtokenx_pipelines.audit.findings import Finding, Verdict, counts, judge_range
from gridtokenx_pipelines.audit.recompute import Recomputed, recompute
from gridtokenx_pipelines.chain.addresses import PROGRAM_NAMES, program_id
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement.batches import RunPlan
from gridtokenx_pipelines.settlement_service import provenance
from gridtokenx_pipelines.settlement_service.audits import against_chain, against_store, inputs, plans, rules_then
from gridtokenx_pipelines.settlement_service.audits import seals as sealing
from gridtokenx_pipelines.settlement_service.audits import statements as statement_side
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit as audit_log

MOST_EPOCHS = 35_040  # a year: beyond it a dossier is no file that anybody opens


class AuditRefused(ValueError):
    """A range that can't be audited: names the bound and the remedy."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts of a range, and everything that a dossier is made of."""

    first: int
    last: int
    verdicts: tuple[Verdict, ...]
    gathered: inputs.Gathered
    made: Recomputed
    plans: Mapping[int, RunPlan]
    chain: against_chain.ChainSide
    present: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def counts(self) -> dict[str, int]:
        """Epochs by verdict."""
        return counts(self.verdicts)


def audit_range(services: Services, first: int, last: int, *, progress: Callable[[str], None] | None = None) -> Outcome:
    """Audit the epochs first…last, both ends included. Reads only, in one snapshot of the database.

    Raises AuditRefused for a range that is none, ChainUnavailable if no node answers.
    """
    if last < first:
        raise AuditRefused(f"last epoch was {key_of(last)}, must not lie before the first, {key_of(first)}")
    if last - first >= MOST_EPOCHS:
        raise AuditRefused(f"range was {last - first + 1} epochs, at most {MOST_EPOCHS} (a year) go into one dossier")
    clock = _Clock(progress)
    with services.engine.connect() as connection:
        # what is read belongs together, whatever settles meanwhile; and nothing can be written by mistake
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        gathered = clock("archive and inputs", inputs.gather, services, connection, first, last)
        made = clock("recomputing", recompute, gathered.given)
        found = [*gathered.findings, *made.findings]
        found += clock("database and frames", against_store.compare_store, gathered, made, services.parquet)
        planned, wrong = clock("instructions", plans.plan_all, gathered, made, services.rules.network_id)
        found += wrong
        chain = clock("chain", against_chain.compare_chain, services, connection, gathered, made, planned)
        found += chain.findings
        found += clock("statements", statement_side.compare, services, gathered, made)
        found += clock("seals", sealing.compare, services, connection, gathered)
        present = _present(connection)
    verdicts = judge_range(range(first, last + 1), gathered.stored.states, _logged(found, present, gathered))
    return Outcome(
        first=first,
        last=last,
        verdicts=verdicts,
        gathered=gathered,
        made=made,
        plans=planned,
        chain=chain,
        present=present,
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds by stage; says each stage's name before it begins."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    def __call__(self, name: str, work: Callable[..., Any], *args: Any) -> Any:
        if self._say:
            self._say(name)
        started = time.monotonic()
        result = work(*args)
        self.seconds[name] = round(time.monotonic() - started, 3)
        return result


def _present(connection: Any) -> tuple[str, ...]:
    """Faults that belong to no epoch: the audit log's chain of hashes."""
    broken = audit_log.first_broken(connection)
    return () if broken is None else (f"audit_logs id={broken}: doesn't follow from the entry before it",)


def _logged(found: list[Finding], present: tuple[str, ...], gathered: inputs.Gathered) -> list[Finding]:
    """A broken log vouches for nothing: every epoch that ran says so."""
    named = [
        Finding(epoch=epoch, stage="log", what=each.partition(":")[0], detail=each.partition(": ")[2])
        for each in present
        for epoch in gathered.ran
    ]
    return [*found, *named]


def dossier_parts(services: Services, outcome: Outcome, made_at: datetime) -> dict[str, Any]:
    """The parts of a dossier, unsigned."""
    network_id = services.rules.network_id
    return {
        "format": dossier.FORMAT,
        "network": {"id": network_id, "genesis": services.client.call("getGenesisHash")},
        "range": {"first": key_of(outcome.first), "last": key_of(outcome.last), "epochs": len(outcome.verdicts)},
        "code": {"version": version("gridtokenx-pipelines"), "fingerprint": provenance.code_fingerprint()},
        "programs": {name: str(program_id(name, network_id)) for name in PROGRAM_NAMES},
        "rules": _rules(outcome),
        "inputs": inputs.input_hashes(outcome.gathered),
        "counts": outcome.counts,
        "present": list(outcome.present),
        "made_at": made_at.isoformat(timespec="seconds"),
        "epochs": _epoch_parts(outcome, network_id),
    }


def _rules(outcome: Outcome) -> dict[str, Any]:
    by_mark = {}
    for market in outcome.gathered.given.market.values():
        mark = rules_then.fingerprint_of(market.rules, market.network, market.mechanism)
        if mark not in by_mark:
            by_mark[mark] = msgspec.to_builtins(market)
    return by_mark


def _epoch_parts(outcome: Outcome, network_id: int) -> list[dict[str, Any]]:
    marks = dict(outcome.gathered.stored.epochs.select("epoch", "fingerprint").iter_rows())
    runs: dict[int, list[dict[str, Any]]] = {}
    for _, plan in sorted(outcome.plans.items()):
        signatures = outcome.chain.signatures.get((plan.epoch, plan.run), {})
        runs.setdefault(plan.epoch, []).append(_run_part(plan, network_id, signatures))
    parts = []
    for verdict in outcome.verdicts:
        cleared = outcome.made.cleared.get(verdict.epoch)
        parts.append(
            {
                "epoch": verdict.epoch,
                "key": key_of(verdict.epoch),
                "verdict": verdict.verdict,
                "since": verdict.since,
                "differences": verdict.differences,
                "detail": verdict.detail,
                "findings": [msgspec.to_builtins(each) for each in verdict.findings],
                "rules": marks.get(verdict.epoch),
                "book_root": cleared.book_root.hex() if cleared else None,
                "result_root": cleared.result_root.hex() if cleared else None,
                "closed": verdict.epoch in outcome.chain.closed,
                "runs": runs.get(verdict.epoch, []),
            }
        )
    return parts


def _run_part(plan: RunPlan, network_id: int, signatures: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "run": plan.run,
        "kind": plan.kind,
        "seq": plan.seq,
        "root": plan.root.hex(),
        "metering_root": plan.metering_root.hex() if plan.metering_root else None,
        "header": proofs.header_part(plan, bytes(program_id("trading", network_id))),
        "signatures": signatures,
    }

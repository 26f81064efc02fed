"""What an audit finds: stages in their order, single findings, and the verdict on an epoch.

Belongs here: the words of an audit and how findings make a verdict. Does not belong here: recomputing (the other files
of this room), how a verdict is shown (dossier_html.py) or signed (dossier.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

# in the order in which a fault travels: a verdict names the first
STAGES: Final = (
    "log",
    "seal",
    "archive",
    "net_energy",
    "orders",
    "order_book",
    "clearing",
    "ledger",
    "instructions",
    "chain",
    "receipts",
    "statement",
)
OK, DIFFERS, PARTLY, NOT_SETTLED, NEVER_RAN = "ok", "differs", "partly settled", "not settled", "never ran"
VERDICTS: Final = (OK, DIFFERS, PARTLY, NOT_SETTLED, NEVER_RAN)
MOST_SHOWN = 20  # findings of an epoch in a dossier; their number is always whole


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing that differs: `what` names table or file and row, `by` the amount where there is one.

    `stored` and `recomputed` are as people read them; `by` is recomputed − stored for integers, else null.
    """

    epoch: int
    stage: str
    what: str
    detail: str
    stored: str = ""
    recomputed: str = ""
    by: int | None = None


class EpochState(msgspec.Struct, frozen=True, kw_only=True):
    """How far an epoch has come: its status word (null: no row), runs booked and runs finalised; `void` a void epoch,
    which is settled with no run of its own, or with the late run that settles its energy."""

    status: str | None = None
    runs: int = 0
    finalised: int = 0
    void: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one epoch; `since` is the first stage that differs, `differences` how many there are in all."""

    epoch: int
    verdict: str
    since: str | None
    differences: int
    detail: str
    findings: tuple[Finding, ...]


def standing(state: EpochState) -> str:
    """OK for an epoch settled whole, else the word for how far it is."""
    if state.status is None and not state.runs:
        return NEVER_RAN
    if (state.runs or state.void) and state.finalised == state.runs and state.status == "settled":
        return OK
    return PARTLY if state.finalised else NOT_SETTLED


def judge(epoch: int, state: EpochState, found: Iterable[Finding]) -> Verdict:
    """One epoch's verdict: what differs comes before how far it is, for a fault is a fault in either."""
    ordered = sorted(found, key=lambda each: (STAGES.index(each.stage), each.what, each.detail))
    far = standing(state)
    since = ordered[0].stage if ordered else None
    verdict = DIFFERS if ordered else far
    return Verdict(
        epoch=epoch,
        verdict=verdict,
        since=since,
        differences=len(ordered),
        detail=_words(verdict, state, ordered),
        findings=tuple(ordered[:MOST_SHOWN]),
    )


def _words(verdict: str, state: EpochState, found: list[Finding]) -> str:
    if verdict == OK and state.void:
        return f"void: no trades; {state.runs} runs settle energy late, and equal their recomputation and the chain"
    if verdict == OK:
        return f"{state.runs} runs: everything equals its recomputation, the database and the chain"
    if verdict == NEVER_RAN:
        return "no clearing and no run is stored; nothing to compare"
    if verdict == DIFFERS:
        first = found[0]
        return f"since {first.stage}: {first.what}: {first.detail}"
    return f"status {state.status}, {state.finalised} of {state.runs} runs finalised; settle it, then audit again"


def judge_range(
    epochs: Iterable[int], states: Mapping[int, EpochState], found: Iterable[Finding]
) -> tuple[Verdict, ...]:
    """Verdicts of all epochs, in order."""
    by_epoch: dict[int, list[Finding]] = {}
    for each in found:
        by_epoch.setdefault(each.epoch, []).append(each)
    return tuple(judge(epoch, states.get(epoch, EpochState()), by_epoch.get(epoch, ())) for epoch in epochs)


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many epochs have each verdict; every word is there."""
    totals = dict.fromkeys(VERDICTS, 0)
    for each in verdicts:
        totals[each.verdict] += 1
    return totals

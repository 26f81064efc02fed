"""Dossiers and verdicts: what is signed stays, what is edited is named to the field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from nacl.signing import SigningKey

from gridtokenx_pipelines.audit import dossier
from gridtokenx_pipelines.audit.dossier import DossierError
from gridtokenx_pipelines.audit.findings import (
    DIFFERS,
    NEVER_RAN,
    NOT_SETTLED,
    OK,
    PARTLY,
    EpochState,
    Finding,
    counts,
    judge_range,
)
from gridtokenx_pipelines.market.base58 import encode

KEY = SigningKey(bytes([7]) * 32)
OPERATOR = encode(bytes(KEY.verify_key))


def made() -> dict[str, Any]:
    parts: dict[str, Any] = {name: {"of": name} for name in dossier.HEAD} | {"format": dossier.FORMAT}
    parts["epochs"] = [
        {"key": f"2026-06-15T0{hour}:00Z", "epoch": hour, "verdict": OK, "differences": 0, "runs": []}
        for hour in (1, 2)
    ]
    return dossier.seal(parts, OPERATOR, lambda message: KEY.sign(message).signature)


def test_a_dossier_as_it_was_signed_has_no_edits() -> None:
    document = made()
    assert dossier.edits(dossier.read(dossier.canonical(document))) == []


def set_in(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_in("epochs", 1, "verdict", value=DIFFERS), "epoch 2026-06-15T02:00Z: verdict is not what was signed"),
        (set_in("epochs", 0, "differences", value=3), "epoch 2026-06-15T01:00Z: differences is not what was signed"),
        (set_in("inputs", "of", value="x"), "inputs: is not what was signed"),
        (set_in("made_at", value="yesterday"), "made_at: is not what was signed"),
        (lambda d: d["epochs"].pop(), "epoch 2026-06-15T02:00Z: was taken out"),
        (lambda d: d["epochs"].append(d["epochs"][0] | {"key": "2026-06-15T03:00Z"}), "03:00Z: was added"),
        (lambda d: d["epochs"].reverse(), "epochs: are not in order"),
        (lambda d: d["epochs"][0].pop("runs"), "epoch 2026-06-15T01:00Z: runs was taken out"),
        (set_in("signature", value="00" * 64), "signature: does not stand over these digests"),
        (set_in("operator", value=encode(bytes(32))), "signature: does not stand over these digests"),
        (lambda d: d["digests"].update(rules="00"), "rules: is not what was signed"),
    ],
)
def test_an_edit_is_named(change: Callable[[dict[str, Any]], None], words: str) -> None:
    document = copy.deepcopy(made())
    change(document)
    assert any(words in each for each in dossier.edits(document)), dossier.edits(document)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "no JSON"), (b"[]", "format was 'list'"), (b'{"format": "x"}', "format was 'x'")],
)
def test_what_is_no_dossier_is_refused_with_the_remedy(content: bytes, words: str) -> None:
    with pytest.raises(DossierError, match=words):
        dossier.read(content)


def test_verdicts_name_the_first_stage_and_how_far_an_epoch_is() -> None:
    states = {
        1: EpochState(status="settled", runs=2, finalised=2),
        2: EpochState(status="settled", runs=2, finalised=2),
        3: EpochState(status="cleared", runs=2, finalised=1),
        4: EpochState(status="cleared", runs=1, finalised=0),
    }
    found = [
        Finding(epoch=2, stage="ledger", what="settlements", detail="later"),
        Finding(epoch=2, stage="net_energy", what="net_energy", detail="first"),
    ]
    verdicts = judge_range(range(1, 6), states, found)
    assert [each.verdict for each in verdicts] == [OK, DIFFERS, PARTLY, NOT_SETTLED, NEVER_RAN]
    assert (verdicts[1].since, verdicts[1].differences) == ("net_energy", 2)
    assert counts(verdicts) == dict.fromkeys((OK, DIFFERS, PARTLY, NOT_SETTLED, NEVER_RAN), 1)

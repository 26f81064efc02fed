"""Provenance: what a stage was made from, as fingerprints, and refusing an upstream that doesn't fit.

Belongs here: fingerprints of inputs, code and rules; the record of them per epoch and stage, and their comparison. Does
not belong here: showing them (assets/render.py). A record lies beside the stage's frames, written when the stage is
done; a settled epoch keeps the records it was settled with.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

import gridtokenx_pipelines
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement_service.audits import rules_then
from gridtokenx_pipelines.settlement_service.services import Services

# the frames that each stage reads, by the stage that wrote them
READS = {
    "order_book": (("net_energy", "rows"),),
    "clearing_results": (("order_book", "book"), ("order_book", "balances")),
    "mint_instructions": (("clearing_results", "traded"),),
    "settlement_receipts": (("clearing_results", "traded"),),
    "epoch_statement": (("clearing_results", "traded"),),
}
# rooms whose code decides what a settled epoch is; a change elsewhere changes no result
DECIDING = ("units.py", "epochs.py", "metering", "market", "settlement")


class Unfit(RuntimeError):
    """An upstream that is not what the stage was or would be made from: names it, and the remedy."""


@cache
def code_fingerprint() -> str:
    """Hash over the source of every room that decides a result."""
    root = Path(gridtokenx_pipelines.__file__).parent
    hashed = sha256()
    for name in DECIDING:
        files = sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]
        for path in files:
            hashed.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return hashed.hexdigest()[:16]


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What an epoch's stage was made from: sha256 of each frame it read, code, rules (with tariffs and network)."""

    inputs: dict[str, str]
    code: str
    rules: str


def present(services: Services, stage: str, epoch: int) -> Provenance:
    """What the stage would be made from now. Raises Unfit for an upstream that is not there."""
    inputs = {}
    for asset, name in READS[stage]:
        path = services.parquet.path(asset, epoch, name)
        if not path.is_file():
            if services.parquet.exists(asset, epoch, name):
                continue  # its day was compacted: seals hold its rows
            raise Unfit(
                f"{stage} of {key_of(epoch)}: upstream {asset}/{name} is not there; materialise {asset} for that epoch"
            )
        inputs[f"{asset}/{name}"] = sha256(path.read_bytes()).hexdigest()
    mark = rules_then.fingerprint_of(services.rules.at(epoch), services.network_at(epoch), services.mechanism)
    return Provenance(inputs=inputs, code=code_fingerprint(), rules=mark)


def record(services: Services, stage: str, epoch: int) -> Provenance:
    """Write down what the stage was made from, once; the first record stands."""
    path = _path(services, stage, epoch)
    if path.is_file():
        return _read(path)
    made = present(services, stage, epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(msgspec.json.encode(made))
    temporary.replace(path)
    return made


def recorded(services: Services, stage: str, epoch: int) -> Provenance | None:
    """What the stage was made from, None where it was never recorded."""
    path = _path(services, stage, epoch)
    return _read(path) if path.is_file() else None


def require_fit(services: Services, stage: str, epochs: Sequence[int]) -> None:
    """Raise Unfit, naming upstream and remedy, if what a recorded stage was made from is not what lies there now.

    Other code or rules are no misfit: a settled epoch stays what it was settled as, under the rules in force then.
    """
    for epoch in epochs:
        then = recorded(services, stage, epoch)
        if then is None:
            continue
        now = present(services, stage, epoch)
        for name, held in then.inputs.items():
            if name in now.inputs and now.inputs[name] != held:
                asset = name.partition("/")[0]
                raise Unfit(
                    f"{stage} of {key_of(epoch)}: upstream {name} has fingerprint {now.inputs[name][:16]}, it was made "
                    f"from {held[:16]}; restore that file from the backup, or run audit_epochs for {key_of(epoch)} to "
                    f"see what changed since {asset}"
                )


def facts(services: Services, stage: str, epoch: int) -> dict[str, str]:
    """What a materialisation shows of its provenance: fingerprints of inputs, code, rules and tariffs."""
    made = record(services, stage, epoch)
    inputs = sha256(msgspec.json.encode(made.inputs, order="deterministic")).hexdigest()[:16]
    return {"inputs_fingerprint": inputs, "code_fingerprint": made.code, "rules_fingerprint": made.rules}


def _path(services: Services, stage: str, epoch: int) -> Path:
    # beside the frames, not among them: compacting a day leaves these files alone
    return services.parquet.root / "provenance" / stage / f"{epoch}.json"


def _read(path: Path) -> Provenance:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Provenance)
    except msgspec.DecodeError as error:
        raise Unfit(f"{path.name} can't be read ({error}); restore it from the backup") from error

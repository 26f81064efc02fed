"""Dossiers on disk: signed by the operator, JSON for machines and a page for people, written whole or not at all.

Belongs here: signing and writing. Does not belong here: a dossier's form (audit/dossier.py), the page
(dossier_page.py).
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gridtokenx_pipelines.audit import dossier
from gridtokenx_pipelines.audit.dossier_page import page
from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.settlement_service.audits.service import Outcome, dossier_parts
from gridtokenx_pipelines.settlement_service.services import Services

FOLDER = "dossiers"


def name_of(first: int, last: int) -> str:
    """File name of a range's dossier, without its ending."""
    ends = [datetime.fromtimestamp(each * EPOCH_SECONDS, UTC).strftime("%Y%m%dT%H%MZ") for each in (first, last)]
    return f"audit-{ends[0]}-{ends[1]}"


def folder_of(services: Services) -> Path:
    """Where dossiers lie unless a command says otherwise."""
    return services.parquet.root.parent / FOLDER


def write(services: Services, outcome: Outcome, made_at: datetime, target: Path | None = None) -> tuple[Path, Path]:
    """Sign and write a dossier; the paths of its JSON and its page. `target`: the JSON's path."""
    json_path = target or folder_of(services) / f"{name_of(outcome.first, outcome.last)}.json"
    document = signed(services, outcome, made_at)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    page_path = json_path.with_suffix(".html")
    _replace(json_path, msgspec.json.encode(document))
    _replace(page_path, page(document).encode())
    return json_path, page_path


def signed(services: Services, outcome: Outcome, made_at: datetime) -> dict[str, Any]:
    """The dossier under the operator's key, which is the authority that the chain names."""
    signer = services.authority
    return dossier.seal(
        dossier_parts(services, outcome, made_at),
        str(signer.pubkey),
        lambda message: bytes(signer.sign(message)),
    )


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

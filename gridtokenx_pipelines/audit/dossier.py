"""The dossier of an audit: one JSON document, every part with its digest, signed as a whole.

Belongs here: its form, canonical bytes, digests, the signed message, and naming what was edited. Does not belong here:
what is in the parts (settlement_service/audits/service.py), files, keys, the chain. Format: docs/reference/dossier.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from gridtokenx_pipelines.market.base58 import decode_wallet

FORMAT: Final = "gridtokenx/dossier/v1"
TAG: Final = b"gridtokenx/dossier/v1\0"
HEAD: Final = ("format", "network", "range", "code", "programs", "rules", "inputs", "counts", "present", "made_at")
SIGNED_LAST: Final = ("operator", "digests", "signature")
SHORT_HEX = 16  # a field's digest only names what was edited; the epoch's own digest is whole


class DossierError(ValueError):
    """A document that is no dossier, or not the one that was signed; names the part and the remedy."""


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the same value gives the same bytes everywhere."""
    return msgspec.json.encode(value, order="deterministic")


def digest(value: Any) -> str:
    """sha256 of the canonical bytes, hex."""
    return sha256(canonical(value)).hexdigest()


def with_field_digests(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch's part with a short digest of each field, so that an edit can be named to the field."""
    return {**epoch, "fields": {name: digest(value)[:SHORT_HEX] for name, value in epoch.items()}}


def digests_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Digest of every part: those of the head by name, epochs as `epoch KEY`."""
    parts = {name: digest(document[name]) for name in HEAD}
    return parts | {f"epoch {each['key']}": digest(each) for each in document["epochs"]}


def message_of(operator: str, digests: Mapping[str, str]) -> bytes:
    """The bytes that the operator signs: tag ‖ operator's key ‖ sha256 of the digests."""
    return TAG + decode_wallet(operator) + sha256(canonical(dict(digests))).digest()


def seal(parts: Mapping[str, Any], operator: str, sign: Callable[[bytes], bytes]) -> dict[str, Any]:
    """A whole dossier: `parts` has HEAD and `epochs`. Raises DossierError for a part that lacks."""
    lacking = [name for name in (*HEAD, "epochs") if name not in parts]
    if lacking:
        raise DossierError(f"dossier lacks {', '.join(lacking)}; give every part")
    document = {**parts, "epochs": [with_field_digests(each) for each in parts["epochs"]], "operator": operator}
    document["digests"] = digests_of(document)
    document["signature"] = sign(message_of(operator, document["digests"])).hex()
    return document


def read(content: bytes) -> dict[str, Any]:
    """A dossier of its bytes, its form checked, not its truth. Raises DossierError."""
    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise DossierError(f"no JSON ({error}); the file was cut or edited: ask for the original") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        said = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise DossierError(f"format was {said!r}, must be {FORMAT!r}; give a dossier of `gridtokenx audit run`")
    lacking = [name for name in (*HEAD, "epochs", *SIGNED_LAST) if name not in document]
    if lacking:
        raise DossierError(f"{', '.join(lacking)} was taken out; ask for the original")
    return document


def edits(document: Mapping[str, Any]) -> list[str]:
    """What was changed since it was signed, each part by name; empty if the signature stands over everything.

    A part that differs from its digest is named, an epoch's down to the field. If all parts fit their digests and the
    signature fails, then digests, operator or signature were changed.
    """
    signed = document["digests"]
    if not isinstance(signed, dict):
        return ["digests: are no list of parts"]
    try:
        now = digests_of(document)
    except (KeyError, TypeError) as error:
        return [f"epochs: a part has no {error}"]
    found = [_named(document, part) for part in now if signed.get(part) != now[part] and part in signed]
    found += [f"{part}: was added" for part in now if part not in signed]
    found += [f"{part}: was taken out" for part in signed if part not in now]
    keys = [each["key"] for each in document["epochs"]]
    if keys != sorted(set(keys)):
        found.append("epochs: are not in order, or one is there twice")
    if not _is_signed(document):
        found.append("signature: does not stand over these digests by this operator's key")
    return found


def _named(document: Mapping[str, Any], part: str) -> str:
    kind, _, key = part.partition(" ")
    if kind != "epoch":
        return f"{part}: is not what was signed"
    epoch = next(each for each in document["epochs"] if each["key"] == key)
    fields = epoch.get("fields")
    if not isinstance(fields, dict):
        return f"{part}: its fields' digests were changed"
    wrong = sorted(name for name, value in epoch.items() if name != "fields" and fields.get(name) != digest(value)[:16])
    gone = sorted(fields.keys() - epoch.keys())
    if not wrong and not gone:
        return f"{part}: its fields' digests were changed"
    return f"{part}: " + ", ".join(
        [*(f"{name} is not what was signed" for name in wrong), *(f"{n} was taken out" for n in gone)]
    )


def _is_signed(document: Mapping[str, Any]) -> bool:
    try:
        key = decode_wallet(document["operator"])
        VerifyKey(key).verify(
            message_of(document["operator"], document["digests"]), bytes.fromhex(document["signature"])
        )
    except (BadSignatureError, ValueError, TypeError, AttributeError):
        return False
    return True

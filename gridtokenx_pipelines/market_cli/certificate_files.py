"""Certificates from a file, locked with a book's sells, and what of them passes to whom, for `market clear`.

Belongs here: the file's fields, and the document's key `certificates`. Does not belong here: locking and passing on
(market/certificates.py). Ids are texts here and their UTF-8 bytes in the frames.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import Meta

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import end_us
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.certificates import CERTIFICATES, lock, pass_on, unclaimed_after
from gridtokenx_pipelines.market.clearing import ClearingResult
from gridtokenx_pipelines.market_cli.numbers import instants
from gridtokenx_pipelines.units import I64_MAX

VALID = "validated"
STATUSES = ("issued", VALID, "retired", "revoked")


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One certificate of the file: its holder, its Wh that nobody claimed yet, its end (µs or ISO 8601)."""

    certificate_id: Annotated[str, Meta(min_length=1)]
    wallet: str
    unclaimed_wh: Annotated[int, Meta(ge=0, le=I64_MAX)]
    expires_at: int | str
    status: str = VALID


def read_certificates(path: Path) -> pl.DataFrame:
    """Frame CERTIFICATES of a JSON list. Raises ConfigError for what can't be read, and for an id given twice."""
    name = "--certificates"
    try:
        given = msgspec.json.decode(path.read_bytes(), type=list[Certificate])
    except OSError as error:
        raise ConfigError(name, str(path), "a readable JSON file", f"write one ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(name, str(path), "a list of certificates in JSON", f"correct it: {error}") from error
    twice = [ident for ident, count in Counter(each.certificate_id for each in given).items() if count > 1]
    if twice:
        raise ConfigError(f"certificate_id of {path}", twice[0], "used once", "drop one of them")
    for each in given:
        if each.status not in STATUSES:
            raise ConfigError(f"status of {path}", each.status, f"one of {', '.join(STATUSES)}", "correct it")
    return frames.frame(
        CERTIFICATES,
        [
            {
                "certificate_id": each.certificate_id.encode(),
                "wallet": each.wallet,
                "unclaimed_wh": each.unclaimed_wh,
                "expires_us": _instant(path, each.expires_at),
                "is_valid": each.status == VALID,
            }
            for each in given
        ],
    )


def _instant(path: Path, given: int | str) -> int:
    parsed = instants(pl.Series([given]), "expires_at") if isinstance(given, str) or abs(given) <= I64_MAX else None
    found = None if parsed is None else parsed.values[0]
    if found is None:
        bound = "µs since 1970 or an ISO 8601 time such as 2027-01-27T12:00:00Z"
        raise ConfigError(f"expires_at of {path}", given, bound, "correct it")
    return int(found)


def certificates_of(
    certificates: pl.DataFrame, book: pl.DataFrame, ids: pl.DataFrame, result: ClearingResult, epoch: int | None
) -> dict[str, list[dict[str, Any]]]:
    """`locked`, `unbacked`, `passed` and `unclaimed` of one cleared book; valid is what lasts beyond its epoch's end.

    Without an epoch it must last beyond the order's own time. `ids` gives each key its order_id.
    """
    locks = lock(book, certificates, None if epoch is None else end_us(epoch))
    passed = pass_on(locks.locked, result.matches)
    left = unclaimed_after(certificates, passed)
    named = dict(ids.select("key", "order_id").iter_rows())
    return {
        "locked": _rows(locks.locked, named),
        "unbacked": _rows(locks.unbacked, named),
        "passed": _rows(passed, named),
        "unclaimed": [{"certificate_id": name.decode(), "unclaimed_wh": wh} for name, wh in left.items()],
    }


def _rows(frame: pl.DataFrame, named: dict[bytes, Any]) -> list[dict[str, Any]]:
    return [
        {
            name: named[value] if name.endswith("order_id") else value.decode() if name == "certificate_id" else value
            for name, value in row.items()
        }
        for row in frame.iter_rows(named=True)
    ]

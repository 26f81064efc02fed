"""The transformers' own meters: signed cumulative registers at the start of epochs, and what they counted in between.

Belongs here: SQL on `transformers` and `transformer_registers`, and the door that lets only a registered key in. Does
not belong here: judging losses (quality/), or settlement: a transformer's meter owns no energy and settles none.

A document is a reading (domain §3, same tag, same fields) whose `production_wh` is what came from upstream into the
network and whose `consumption_wh` is what left it, taken at an epoch's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import polars as pl
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from sqlalchemy import Connection, text

from gridtokenx_pipelines.epochs import EPOCH_US, key_of
from gridtokenx_pipelines.metering.readings import Raw, Reading, decode, reading_message
from gridtokenx_pipelines.store.postgres import read_frame

EXCHANGE: Final = dict.fromkeys(("epoch", "import_wh", "export_wh"), pl.Int64)


class TransformerRefused(ValueError):
    """A document that isn't a register of a registered transformer at an epoch's start: value, bound, remedy."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A signed reading of a transformer's meter, as it was sent."""

    value: bytes
    signature: bytes


def register(connection: Connection, transformer_id: str, device_key: bytes) -> None:
    """Admit a transformer's meter; the same again changes nothing. Raises TransformerRefused for another key."""
    connection.execute(
        text("INSERT INTO transformers (transformer_id, device_key) VALUES (:id, :key) ON CONFLICT DO NOTHING"),
        {"id": transformer_id, "key": device_key},
    )
    known = _keys(connection)[transformer_id]
    if known != device_key:
        raise TransformerRefused(
            f"transformer {transformer_id} was given key {device_key.hex()}, has {known.hex()}; "
            "a replaced device gets a new id"
        )


def take(connection: Connection, documents: Iterable[Document], network_id: int) -> int:
    """Store registers; returns how many are new. Raises TransformerRefused and stores none after the bad one.

    The same document again changes nothing; other registers for the same instant, or ones that ran back, are refused.
    """
    keys, new = _keys(connection), 0
    for document in documents:
        reading = _checked(document, keys, network_id)
        new += _store(connection, reading, document)
    return new


def _keys(connection: Connection) -> dict[str, bytes]:
    rows = connection.execute(text("SELECT transformer_id, device_key FROM transformers"))
    return {name: bytes(key) for name, key in rows}


def _checked(document: Document, keys: dict[str, bytes], network_id: int) -> Reading:
    reading = decode(Raw(offset=0, broker_us=0, value=document.value))
    if not isinstance(reading, Reading):
        raise TransformerRefused(f"a transformer's document was {reading}, must be one reading; send it alone")
    key = keys.get(reading.meter_id)
    if key is None:
        raise TransformerRefused(
            f"transformer was {reading.meter_id}, must be a registered one; register its key first"
        )
    try:
        VerifyKey(key).verify(reading_message(network_id, document.value), document.signature)
    except (BadSignatureError, ValueError) as error:
        raise TransformerRefused(
            f"signature of transformer {reading.meter_id}'s register did not verify ({error}); sign with its own key"
        ) from error
    if reading.timestamp_us % EPOCH_US:
        raise TransformerRefused(
            f"timestamp of transformer {reading.meter_id} was {reading.timestamp_us} µs, must be an epoch's start; "
            "send the register at the quarter hour"
        )
    return reading


def _store(connection: Connection, reading: Reading, document: Document) -> int:
    row = {
        "id": reading.meter_id,
        "epoch": reading.timestamp_us // EPOCH_US,
        "import": reading.production_wh,
        "export": reading.consumption_wh,
    }
    around = connection.execute(
        text(
            "(SELECT epoch, import_wh, export_wh FROM transformer_registers WHERE transformer_id = :id "
            "AND epoch <= :epoch ORDER BY epoch DESC LIMIT 1) UNION ALL "
            "(SELECT epoch, import_wh, export_wh FROM transformer_registers WHERE transformer_id = :id "
            "AND epoch > :epoch ORDER BY epoch LIMIT 1)"
        ),
        {"id": row["id"], "epoch": row["epoch"]},
    )
    now = (reading.production_wh, reading.consumption_wh)
    for epoch, import_wh, export_wh in around:
        if epoch == row["epoch"] and (import_wh, export_wh) == now:
            return 0
        former, latter = ((import_wh, export_wh), now) if epoch <= int(row["epoch"]) else (now, (import_wh, export_wh))
        if epoch == row["epoch"] or former[0] > latter[0] or former[1] > latter[1]:
            raise TransformerRefused(
                f"registers of transformer {row['id']} at {key_of(int(row['epoch']))} were {now} Wh, stand at "
                f"{(import_wh, export_wh)} Wh at {key_of(epoch)}; must be one pair an instant and never run back"
            )
    connection.execute(
        text(
            "INSERT INTO transformer_registers (transformer_id, epoch, import_wh, export_wh, document, signature) "
            "VALUES (:id, :epoch, :import, :export, :document, :signature)"
        ),
        row | {"document": document.value, "signature": document.signature},
    )
    return 1


def exchange_between(connection: Connection, first: int, last: int) -> pl.DataFrame:
    """EXCHANGE of the epochs first…last: Wh from upstream and Wh to it, over all transformers.

    Only epochs at both of whose ends every registered transformer has a register; ascending.
    """
    return read_frame(
        connection,
        """
        SELECT s.epoch, sum(e.import_wh - s.import_wh)::bigint AS import_wh,
            sum(e.export_wh - s.export_wh)::bigint AS export_wh
        FROM transformer_registers s
        JOIN transformer_registers e ON e.transformer_id = s.transformer_id AND e.epoch = s.epoch + 1
        WHERE s.epoch BETWEEN :first AND :last GROUP BY s.epoch
        HAVING count(*) = (SELECT count(*) FROM transformers) ORDER BY s.epoch
        """,
        {"first": first, "last": last},
        EXCHANGE,
    )

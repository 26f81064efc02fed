"""The proof of one trade: its row under the clearing's root, its parties' entries under the chain's.

Belongs here: finding the trade and gathering leaf, siblings and roots, signed by the operator. Does not belong here:
the form of the parts (audit/proofs.py), checking them (audit_cli/verify.py).
"""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.audit import proofs
from gridtokenx_pipelines.audit.proofs import FORMAT, ProofError
from gridtokenx_pipelines.chain.addresses import program_id
from gridtokenx_pipelines.epochs import epoch_of_key, key_of
from gridtokenx_pipelines.market.roots import MerkleTree, leaf_hash, result_rows
from gridtokenx_pipelines.settlement_service import frozen
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import clearing, ledger, participants
from gridtokenx_pipelines.store.clearing import ClearingFrames


def trade_of(name: str) -> tuple[int, int]:
    """(epoch, match id) of `2026-06-15T02:00Z/12`. Raises ProofError with the form."""
    key, _, number = name.rpartition("/")
    try:
        epoch = int(key) if key.isdigit() else epoch_of_key(key)
        return epoch, int(number)
    except ValueError as error:
        raise ProofError(f"trade was {name!r}, must be EPOCH/MATCH such as 2026-06-15T02:00Z/12 ({error})") from error


def prove(services: Services, name: str) -> dict[str, Any]:
    """The signed proof of a trade. Raises ProofError for a trade that isn't there or an epoch that isn't planned."""
    epoch, match_id = trade_of(name)
    with services.engine.connect() as connection:
        row = clearing.read_epoch(connection, epoch)
        if row is None or row.result_root is None:
            raise ProofError(f"epoch {key_of(epoch)} was never cleared; name an epoch that was")
        frames = clearing.read_clearing(connection, epoch)
        found = frames.order_matches.filter(pl.col("match_id") == match_id)
        if found.is_empty():
            raise ProofError(
                f"epoch {key_of(epoch)} has {frames.order_matches.height} trades, none is {match_id}; name one of "
                "1…" + str(frames.order_matches["match_id"].max() or 0)
            )
        plan = ledger.plan_of(connection, epoch, 0)
        if plan is None:
            raise ProofError(f"run 0 of {key_of(epoch)} has no plan yet; settle the epoch, then prove it")
        frames = _in_order_of_the_root(services, epoch, frames)
        result = frozen.result_of(services.parquet, epoch, row, frames)
        address = _addresses(connection)
    network_id = services.rules.network_id
    rows = result_rows(result, network_id, epoch)
    index = 1 + result.zones.height + result.flows.height + result.fills.height + match_id - 1
    tree = MerkleTree([leaf_hash(each) for each in rows])
    if tree.root != row.result_root:
        raise ProofError(f"stored clearing of {key_of(epoch)} no longer has its root; run `gridtokenx audit run` on it")
    trade = found.row(0, named=True)
    trading = bytes(program_id("trading", network_id))
    zone = result.fills.filter(pl.col("order_id") == trade["buy_order_id"])["zone_id"].item()
    document = {
        "format": FORMAT,
        "network_id": network_id,
        "epoch": epoch,
        "key": key_of(epoch),
        "trade": {
            "match_id": match_id,
            "buyer": trade["buyer"],
            "seller": trade["seller"],
            "buy_order_id": trade["buy_order_id"].hex(),
            "sell_order_id": trade["sell_order_id"].hex(),
            "energy_wh": trade["energy_wh"],
            "price_uthb_per_kwh": trade["price_uthb_per_kwh"],
            "buyer_zone": zone,
        },
        "result": {
            "root": row.result_root.hex(),
            "index": index,
            "leaf": leaf_hash(rows[index]).hex(),
            "leaf_bytes": rows[index].hex(),
            "siblings": [each.hex() for each in tree.proof(index)],
        },
        "settled": {
            "root": plan.root.hex(),
            "header": proofs.header_part(plan, trading),
            "buyer": proofs.side_part(plan, trading, trade["buyer"], address),
            "seller": proofs.side_part(plan, trading, trade["seller"], address),
        },
        "operator": str(services.authority.pubkey),
    }
    document["signature"] = bytes(services.authority.sign(proofs.message_of(document))).hex()
    return document


def _in_order_of_the_root(services: Services, epoch: int, frames: ClearingFrames) -> ClearingFrames:
    """Fills as they were cleared (by side, then id), which is the order of their leaves; the table has them by id."""
    names = frames.fills.columns
    return msgspec.structs.replace(frames, fills=frames.fills.sort("side", "order_id").select(names))


def _addresses(connection: Connection) -> dict[str, bytes]:
    return participants.trader_addresses(connection)

"""The local chain's JSON-RPC methods about what has landed: statuses, history, transactions.

Belongs here: reading the ledger back in agave's shapes. Does not belong here: landing anything.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain.bank import Bank, Landed
from gridtokenx_pipelines.chain.ledger_file import Executed
from gridtokenx_pipelines.chain.localnet_params import Params, b58encode, in_context, option, pubkey, signature, text
from gridtokenx_pipelines.chain.rpc_errors import RpcError, invalid_params

MAX_STATUSES = 256
MAX_SIGNATURES = 1_000


class HistoryMethods:
    """Methods over what one bank has landed."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.methods: dict[str, Callable[[Params], Any]] = {
            "getSignatureStatuses": self.get_signature_statuses,
            "getSignaturesForAddress": self.get_signatures_for_address,
            "getTransaction": self.get_transaction,
            "getTransactionCount": lambda params: bank.transactions,
        }

    def _context(self, value: Any) -> dict[str, Any]:
        return in_context(self.bank.slot, value)

    def get_signature_statuses(self, params: Params) -> dict[str, Any]:
        """Status of up to 256 signatures, null for those that never landed."""
        texts = params[0] if params and isinstance(params[0], list) else []
        if len(texts) > MAX_STATUSES:
            raise RpcError(-32602, f"Too many inputs provided; max {MAX_STATUSES}")
        return self._context([self._status(self.bank.landed.get(signature(text))) for text in texts])

    def _status(self, landed: Landed | None) -> dict[str, Any] | None:
        if landed is None:
            return None
        err = msgspec.json.decode(landed.err) if landed.err else None
        final = landed.slot <= self.bank.finalized_slot()
        return {
            "slot": landed.slot,
            "confirmations": None if final else self.bank.slot - landed.slot,
            "err": err,
            "status": {"Err": err} if err is not None else {"Ok": None},
            "confirmationStatus": "finalized" if final else "confirmed",
        }

    def get_signatures_for_address(self, params: Params) -> list[dict[str, Any]]:
        """Transactions that name an account, newest first."""
        config = option(params, 1)
        positions = self.bank.by_address.get(bytes(pubkey(params, 0)), ())
        limit = min(int(config.get("limit", MAX_SIGNATURES)), MAX_SIGNATURES)
        skipping, before, until = "before" in config, config.get("before"), config.get("until")
        rows: list[dict[str, Any]] = []
        for position in reversed(positions):
            record = self.bank.file.read(position)
            signature = str(VersionedTransaction.from_bytes(record.raw).signatures[0])
            if signature == until or len(rows) == limit:
                break
            if not skipping:
                status = self._status(Landed(record.slot, record.err, position)) or {}
                rows.append(
                    {
                        "signature": signature,
                        "slot": record.slot,
                        "err": status["err"],
                        "memo": None,
                        "blockTime": self.bank.unix_time(record.slot),
                        "confirmationStatus": status["confirmationStatus"],
                    }
                )
            skipping = skipping and signature != before
        return rows

    def get_transaction(self, params: Params) -> dict[str, Any] | None:
        """A landed transaction with its meta, null if it never landed (balances before and after are not kept)."""
        landed = self.bank.landed.get(signature(text(params, 0, "signature")))
        if landed is None:
            return None
        record = self.bank.file.read(landed.position)
        encoding = params[1] if len(params) > 1 and isinstance(params[1], str) else option(params, 1).get("encoding")
        transaction = VersionedTransaction.from_bytes(record.raw)
        return {
            "slot": record.slot,
            "blockTime": self.bank.unix_time(record.slot),
            "meta": _meta(record),
            "transaction": _encoded(record, transaction, encoding or "json"),
            "version": 0 if record.raw[1 + 64 * len(transaction.signatures)] & 0x80 else "legacy",
        }


def _meta(record: Executed) -> dict[str, Any]:
    err = msgspec.json.decode(record.err) if record.err else None
    return {
        "err": err,
        "status": {"Err": err} if err is not None else {"Ok": None},
        "fee": record.fee,
        "computeUnitsConsumed": record.compute_units,
        "logMessages": list(record.logs),
        "innerInstructions": [],
        "preBalances": [],
        "postBalances": [],
        "preTokenBalances": [],
        "postTokenBalances": [],
        "rewards": [],
        "loadedAddresses": {
            "writable": [str(Pubkey(key)) for key in record.loaded_writable],
            "readonly": [str(Pubkey(key)) for key in record.loaded_readonly],
        },
    }


def _encoded(record: Executed, transaction: VersionedTransaction, encoding: str) -> Any:
    if encoding == "base64":
        return [base64.b64encode(record.raw).decode(), "base64"]
    if encoding == "base58":
        return [b58encode(record.raw), "base58"]
    if encoding not in ("json", "jsonParsed"):
        raise invalid_params(f"encoding was {encoding}, must be json, base58 or base64")
    message = transaction.message
    header = message.header
    return {
        "signatures": [str(signature) for signature in transaction.signatures],
        "message": {
            "accountKeys": [str(key) for key in message.account_keys],
            "header": {
                "numRequiredSignatures": header.num_required_signatures,
                "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
                "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
            },
            "recentBlockhash": str(message.recent_blockhash),
            "instructions": [
                {
                    "programIdIndex": compiled.program_id_index,
                    "accounts": list(compiled.accounts),
                    "data": b58encode(bytes(compiled.data)),
                    "stackHeight": 1,
                }
                for compiled in message.instructions
            ],
            "addressTableLookups": [
                {
                    "accountKey": str(lookup.account_key),
                    "writableIndexes": list(bytes(lookup.writable_indexes)),
                    "readonlyIndexes": list(bytes(lookup.readonly_indexes)),
                }
                for lookup in getattr(message, "address_table_lookups", ())
            ],
        },
    }

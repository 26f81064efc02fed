"""The local chain's JSON-RPC methods that run transactions: send, simulate, airdrop, fee.

Belongs here: a validator's checks in its order, its errors. Does not belong here: executing (`bank`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import msgspec
from solders.compute_budget import set_compute_unit_limit
from solders.message import MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain.bank import BLOCKHASH_SLOTS, LAMPORTS_PER_SIGNATURE, MAX_LOCKS, Bank, Outcome
from gridtokenx_pipelines.chain.localnet_params import (
    Params,
    in_context,
    integer,
    option,
    pubkey,
    text,
    wire_transaction,
)
from gridtokenx_pipelines.chain.rpc_errors import (
    INVALID_PARAMS,
    SANITIZE_ERRORS,
    RpcError,
    error_text,
    invalid_params,
    preflight_failure,
)


class TransactionMethods:
    """Methods that run transactions on one bank."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._airdrops = 0
        self.methods: dict[str, Callable[[Params], Any]] = {
            "getFeeForMessage": self.get_fee_for_message,
            "getLatestBlockhash": self.get_latest_blockhash,
            "requestAirdrop": self.request_airdrop,
            "sendTransaction": self.send_transaction,
            "simulateTransaction": self.simulate_transaction,
        }

    def _context(self, value: Any) -> dict[str, Any]:
        return in_context(self.bank.slot, value)

    def get_latest_blockhash(self, params: Params) -> dict[str, Any]:
        """Blockhash of the newest slot and the last block height it is good for."""
        slot = self.bank.slot
        return self._context(
            {"blockhash": str(self.bank.blockhash(slot)), "lastValidBlockHeight": slot + BLOCKHASH_SLOTS}
        )

    def request_airdrop(self, params: Params) -> str:
        """Lamports from the faucet, by an ordinary transfer."""
        to, lamports = pubkey(params, 0), integer(params, 1, "lamports")
        self._airdrops += 1
        faucet = self.bank.faucet
        # the limit makes two equal airdrops in one slot two transactions
        unique = set_compute_unit_limit(200_000 + self._airdrops % 1_000_000)
        move = transfer(TransferParams(from_pubkey=faucet.pubkey(), to_pubkey=to, lamports=lamports))
        blockhash = self.bank.blockhash(self.bank.slot)
        transaction = VersionedTransaction(
            MessageV0.try_compile(faucet.pubkey(), [unique, move], [], blockhash), [faucet]
        )
        outcome = self.bank.execute(bytes(transaction), transaction, keep_failed=False)
        if outcome.err:
            raise preflight_failure(msgspec.json.decode(outcome.err), outcome.logs, outcome.compute_units)
        return str(transaction.signatures[0])

    def send_transaction(self, params: Params) -> str:
        """Check, simulate and land a transaction; its signature. Checks come in agave's order."""
        config = option(params, 1)
        raw, transaction = wire_transaction(params, config.get("encoding", "base58"))
        signature = str(transaction.signatures[0])
        skip_preflight = bool(config.get("skipPreflight"))
        if not all(transaction.verify_with_results()):
            if skip_preflight:
                return signature
            raise preflight_failure("SignatureFailure")
        err = self._refusal(transaction)
        outcome = Outcome(err) if err else self.bank.execute(raw, transaction, keep_failed=skip_preflight)
        if outcome.err and not skip_preflight:
            raise self._preflight_error(outcome)
        return signature

    def _refusal(self, transaction: VersionedTransaction) -> str:
        """JSON text of the error a validator refuses the transaction with before executing it, else empty."""
        if self.bank.lock_count(transaction) > MAX_LOCKS:
            return '"TooManyAccountLocks"'
        if bytes(transaction.signatures[0]) in self.bank.landed:
            return '"AlreadyProcessed"'
        return "" if self.bank.is_recent(transaction.message.recent_blockhash) else '"BlockhashNotFound"'

    @staticmethod
    def _preflight_error(outcome: Outcome) -> RpcError:
        err = msgspec.json.decode(outcome.err)
        if isinstance(err, str) and err in SANITIZE_ERRORS:
            return RpcError(INVALID_PARAMS, f"invalid transaction: {error_text(err)}")
        return preflight_failure(err, outcome.logs, outcome.compute_units, outcome.fee or None)

    def simulate_transaction(self, params: Params) -> dict[str, Any]:
        """What executing would give; errors are part of the result."""
        config = option(params, 1)
        _, transaction = wire_transaction(params, config.get("encoding", "base58"))
        if config.get("sigVerify") and not all(transaction.verify_with_results()):
            raise preflight_failure("SignatureFailure")
        err = self._refusal(transaction)
        replaced = None
        if config.get("replaceRecentBlockhash") and err == '"BlockhashNotFound"':
            err = ""
            replaced = self.get_latest_blockhash([])["value"]
        outcome = Outcome(err) if err else self.bank.simulate(transaction)
        decoded = msgspec.json.decode(outcome.err) if outcome.err else None
        if isinstance(decoded, str) and decoded in SANITIZE_ERRORS:
            raise self._preflight_error(outcome)
        returned = outcome.return_data
        return self._context(
            {
                "accounts": None,
                "err": decoded,
                "fee": outcome.fee,
                "innerInstructions": None,
                "loadedAccountsDataSize": 0,
                "logs": list(outcome.logs),
                "replacementBlockhash": replaced,
                "returnData": returned
                and {
                    "programId": str(Pubkey(returned[0])),
                    "data": [base64.b64encode(returned[1]).decode(), "base64"],
                },
                "unitsConsumed": outcome.compute_units,
            }
        )

    def get_fee_for_message(self, params: Params) -> dict[str, Any]:
        """Base fee of a message; null where its blockhash is too old."""
        try:
            message = from_bytes_versioned(base64.b64decode(text(params, 0, "message"), validate=True))
        except (binascii.Error, ValueError) as error:
            raise invalid_params(f"message is no base64 transaction message: {error}") from error
        known = self.bank.is_recent(message.recent_blockhash)
        return self._context(message.header.num_required_signatures * LAMPORTS_PER_SIGNATURE if known else None)

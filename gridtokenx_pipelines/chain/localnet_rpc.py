"""The JSON-RPC methods of the local chain, answered as agave answers them.

Belongs here: the table of all methods, and those about slots and the node. Accounts, transactions and history have
their modules. Does not belong here: sockets, batches, durability (`localnet`), executing (`bank`).
State is one: every commitment sees what is confirmed; `finalized` differs in slots and statuses only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gridtokenx_pipelines.chain.bank import SLOTS_PER_EPOCH, Bank
from gridtokenx_pipelines.chain.localnet_accounts import AccountMethods
from gridtokenx_pipelines.chain.localnet_history import HistoryMethods
from gridtokenx_pipelines.chain.localnet_params import API_VERSION, Params, blockhash, in_context, integer, option, text
from gridtokenx_pipelines.chain.localnet_transactions import TransactionMethods
from gridtokenx_pipelines.chain.rpc_errors import METHOD_NOT_FOUND, RpcError

CORE_VERSION = {"solana-core": f"{API_VERSION}-localnet", "feature-set": 0}


class LocalnetRpc:
    """All methods over one bank."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.methods: dict[str, Callable[[Params], Any]] = {
            **AccountMethods(bank).methods,
            **HistoryMethods(bank).methods,
            **TransactionMethods(bank).methods,
            "getBlockHeight": self.get_slot,
            "getBlockTime": lambda params: bank.unix_time(integer(params, 0, "slot")),
            "getEpochInfo": self.get_epoch_info,
            "getGenesisHash": lambda params: str(bank.genesis_hash),
            "getHealth": lambda params: "ok",
            "getIdentity": lambda params: {"identity": str(bank.faucet.pubkey())},
            "getRecentPrioritizationFees": lambda params: [],
            "getSlot": self.get_slot,
            "getVersion": lambda params: CORE_VERSION,
            "isBlockhashValid": self.is_blockhash_valid,
            "minimumLedgerSlot": lambda params: 0,
        }

    def call(self, method: str, params: Params) -> Any:
        """Result of a method; RpcError as agave would answer, −32601 for a method that is not there."""
        handler = self.methods.get(method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        self.bank.advance()
        return handler(params)

    def get_slot(self, params: Params) -> int:
        """Slot (and block height: no slot is skipped) at the commitment asked for, finalized by default."""
        commitment = option(params, 0).get("commitment", "finalized")
        return self.bank.finalized_slot() if commitment == "finalized" else self.bank.slot

    def get_epoch_info(self, params: Params) -> dict[str, int]:
        """The Solana epoch, which has nothing to do with settlement epochs."""
        slot = self.get_slot(params)
        return {
            "absoluteSlot": slot,
            "blockHeight": slot,
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": self.bank.transactions,
        }

    def is_blockhash_valid(self, params: Params) -> dict[str, Any]:
        """Whether a transaction with the blockhash could still land."""
        return in_context(self.bank.slot, self.bank.is_recent(blockhash(text(params, 0, "blockhash"))))

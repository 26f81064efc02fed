"""JSON-RPC errors in the shapes agave gives them, and the texts of transaction errors.

Belongs here: codes, messages and data of errors that the local chain answers with.
Does not belong here: the client's reading of them (`errors`).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
PREFLIGHT_FAILURE = -32002

_TEXTS = {
    "AccountInUse": "Account in use",
    "AccountLoadedTwice": "Account loaded twice",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidAddressLookupTableData": "Transaction loads an address table account with invalid data",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidAddressLookupTableOwner": "Transaction loads an address table account with an invalid owner",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "SignatureFailure": "Transaction did not pass signature verification",
    "TooManyAccountLocks": "Transaction locked too many accounts",
}
# a transaction that can't even be loaded is refused as an invalid parameter, before any simulation
SANITIZE_ERRORS = frozenset(
    {
        "AddressLookupTableNotFound",
        "InvalidAddressLookupTableData",
        "InvalidAddressLookupTableIndex",
        "InvalidAddressLookupTableOwner",
        "SanitizeFailure",
    }
)


class RpcError(Exception):
    """An answer that is a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def body(self) -> dict[str, Any]:
        """The `error` member of the response."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


def invalid_params(message: str) -> RpcError:
    """A parameter has the wrong type or a value no method takes."""
    return RpcError(INVALID_PARAMS, f"Invalid params: {message}.")


def _words(camel: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", camel).lower()


def error_text(err: Any, logs: tuple[str, ...] = ()) -> str:
    """What agave's Display gives for a transaction error (`err` decoded from its JSON)."""
    if isinstance(err, str):
        return _TEXTS.get(err, _words(err))
    if "InstructionError" in err:
        index, cause = err["InstructionError"]
        if isinstance(cause, dict) and "Custom" in cause:
            return f"Error processing Instruction {index}: custom program error: {cause['Custom']:#x}"
        failed = [log.split(" failed: ", 1)[1] for log in logs if " failed: " in log]
        text = failed[-1] if failed else _words(cause if isinstance(cause, str) else next(iter(cause)))
        return f"Error processing Instruction {index}: {text}"
    return msgspec.json.encode(err).decode()


def preflight_failure(err: Any, logs: tuple[str, ...] = (), units: int = 0, fee: int | None = None) -> RpcError:
    """What sendTransaction answers when the simulation before it fails."""
    data = {
        "accounts": None,
        "err": err,
        "fee": fee,
        "innerInstructions": None,
        "loadedAccountsDataSize": 0,
        "loadedAddresses": None,
        "logs": list(logs),
        "postBalances": None,
        "postTokenBalances": None,
        "preBalances": None,
        "preTokenBalances": None,
        "replacementBlockhash": None,
        "returnData": None,
        "unitsConsumed": units,
    }
    return RpcError(PREFLIGHT_FAILURE, f"Transaction simulation failed: {error_text(err, logs)}", data)

"""What can go wrong on the chain, by name.

Belongs here: RPC errors and transaction errors turned into exceptions that carry the program's error name and logs.
Does not belong here: deciding what to do about them (outbox, runs).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.layout import IdlError

_FAILED = re.compile(r"^Program (\w+) failed: custom program error: 0x([0-9a-fA-F]+)")
LOG_LINES_SHOWN = 12


class ChainError(Exception):
    """A request or transaction the chain refused.

    `name` is the program's error name (`AlreadySettled`), else the chain's (`BlockhashNotFound`, `InstructionError`),
    `program` the failing program's name or address, `code` the custom error code or the JSON-RPC code.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        program: str = "",
        code: int | None = None,
        logs: Sequence[str] = (),
        signature: str = "",
    ) -> None:
        shown = "\n  ".join(logs[-LOG_LINES_SHOWN:])
        super().__init__(message + (f"\n  {shown}" if shown else ""))
        self.name, self.program, self.code = name, program, code
        self.logs, self.signature = tuple(logs), signature


class ChainUnavailable(ChainError):
    """The RPC node does not answer; nothing is known about what was sent."""


def describe(err: Any, logs: Sequence[str], program_ids: Sequence[Pubkey] = ()) -> tuple[str, str, int | None]:
    """Name, program and code of a transaction error as JSON-RPC gives it (`err` of a status or a preflight).

    The innermost program that failed is taken from the logs; without logs, the top-level program of the instruction.
    """
    for line in logs:
        match = _FAILED.match(line)
        if match:
            return _custom(match[1], int(match[2], 16))
    if isinstance(err, str):
        return err, "", None
    if isinstance(err, dict) and "InstructionError" in err:
        index, cause = err["InstructionError"]
        program = str(program_ids[index]) if index < len(program_ids) else ""
        if isinstance(cause, dict) and "Custom" in cause:
            return _custom(program, cause["Custom"])
        name = cause if isinstance(cause, str) else next(iter(cause))
        return name, _program_name(program), None
    return next(iter(err)) if isinstance(err, dict) and err else str(err), "", None


def _program_name(program: str) -> str:
    for name in addresses.PROGRAM_NAMES:
        if str(addresses.program_id(name)) == program:
            return name
    return program


def _custom(program: str, code: int) -> tuple[str, str, int | None]:
    name = _program_name(program)
    if name in addresses.PROGRAM_NAMES:
        try:
            known = Program.load(name).error_name(code)
        except IdlError:
            known = None
        if known:
            return known, name, code
    return f"Custom({code})", name, code


def transaction_error(
    err: Any, logs: Sequence[str], signature: str = "", program_ids: Sequence[Pubkey] = ()
) -> ChainError:
    """ChainError of a transaction that failed on the chain or in simulation."""
    name, program, code = describe(err, logs, program_ids)
    where = f"{program}: " if program else ""
    return ChainError(
        f"transaction {signature or '(unsent)'} failed with {where}{name} ({msgspec.json.encode(err).decode()})",
        name=name,
        program=program,
        code=code,
        logs=logs,
        signature=signature,
    )


def rpc_error(
    error: dict[str, Any], method: str, signature: str = "", program_ids: Sequence[Pubkey] = ()
) -> ChainError:
    """ChainError of a JSON-RPC `error` member."""
    data = error.get("data")
    if isinstance(data, dict) and data.get("err") is not None:
        return transaction_error(data["err"], data.get("logs") or (), signature, program_ids)
    message = error.get("message", "")
    return ChainError(
        f"{method} was refused: {message} ({error.get('code')})",
        name="RpcError",
        code=error.get("code"),
        signature=signature,
    )

"""Programs by their IDL: instructions built and accounts decoded by name.

Belongs here: the IDL file of a program as an object with the doors `instruction`, `decode` and `error_name`.
Does not belong here: which instruction when (setup, runs), sending, byte layouts (`layout`).
The IDL (`programs/idl/<program>.json`) is the authority for layouts; Anchor's older spelling is read as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.layout import (
    Encoder,
    IdlError,
    account_dtype,
    check_alignment,
    encoder,
    is_padding,
    reader,
)

DISCRIMINATOR_BYTES = 8
PROGRAMS_DIR = Path(__file__).resolve().parents[2] / "programs"


def discriminator(space: str, name: str) -> bytes:
    """First 8 bytes of sha256("<space>:<name>"), e.g. space `global` for instructions."""
    return sha256(f"{space}:{name}".encode()).digest()[:DISCRIMINATOR_BYTES]


class _AccountSlot(msgspec.Struct, frozen=True):
    name: str
    signer: bool
    writable: bool
    address: Pubkey | None


class _InstructionSpec(msgspec.Struct, frozen=True):
    prefix: bytes
    accounts: tuple[_AccountSlot, ...]
    arguments: tuple[tuple[str, Encoder], ...]


class AccountLayout:
    """Decoder of one account type: `dtype` for many at once, `read` for plain values."""

    def __init__(self, name: str, prefix: bytes, types: Mapping[str, Any]) -> None:
        check_alignment(name, types)
        self.name = name
        self.prefix = prefix
        self.dtype = account_dtype({"defined": name}, types)
        self.size = DISCRIMINATOR_BYTES + self.dtype.itemsize
        self._read: Callable[[Any], dict[str, Any]] = reader({"defined": name}, types)
        self._keys = {key.split(":", 1)[1]: key for key in self.dtype.names or ()}

    def rows(self, datas: Sequence[bytes]) -> np.ndarray[Any, Any]:
        """Structured array, a row per account; IdlError naming the first that is too short or of another type."""
        for index, data in enumerate(datas):
            if len(data) < self.size or data[:DISCRIMINATOR_BYTES] != self.prefix:
                raise IdlError(
                    f"account {index} is no {self.name}: {len(data)} bytes (needs {self.size}), "
                    f"discriminator {bytes(data[:DISCRIMINATOR_BYTES]).hex()} (must be {self.prefix.hex()})"
                )
        joined = b"".join([data[DISCRIMINATOR_BYTES : self.size] for data in datas])
        return np.frombuffer(joined, dtype=self.dtype)

    def column(self, rows: np.ndarray[Any, Any], field: str) -> np.ndarray[Any, Any]:
        """One field of every row."""
        return rows[self._keys[field]]

    def key(self, field: str) -> str:
        """The name that a field has in `dtype`."""
        return self._keys[field]

    def columns(self, rows: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Every field but padding, by name."""
        return {name: rows[key] for name, key in self._keys.items() if not is_padding(name)}

    def read(self, data: bytes) -> dict[str, Any]:
        """One account as plain Python values: int, bytes, Pubkey, list, dict."""
        return self._read(self.rows([data])[0])


class Program:
    """A program as its IDL describes it."""

    def __init__(self, name: str, idl: Mapping[str, Any], program_id: Pubkey) -> None:
        self.name = name
        self.program_id = program_id
        self._types = _types_of(idl)
        self._instructions = {spec["name"]: self._compile(spec) for spec in idl.get("instructions", ())}
        self._account_prefixes = {
            spec["name"]: bytes(spec.get("discriminator") or discriminator("account", spec["name"]))
            for spec in idl.get("accounts", ())
        }
        self._layouts: dict[str, AccountLayout] = {}
        self._errors = {error["code"]: error["name"] for error in idl.get("errors", ())}

    @staticmethod
    def load(name: str, directory: Path | None = None) -> Program:
        """Program from `<directory>/<name>.json` (default: the repository's programs/idl); IdlError if missing."""
        return _load(name, directory or PROGRAMS_DIR / "idl")

    def _compile(self, spec: Mapping[str, Any]) -> _InstructionSpec:
        return _InstructionSpec(
            prefix=bytes(spec.get("discriminator") or discriminator("global", spec["name"])),
            accounts=tuple(_slot(account) for account in spec.get("accounts", ())),
            arguments=tuple((arg["name"], encoder(arg["type"], self._types)) for arg in spec.get("args", ())),
        )

    def instruction(
        self,
        name: str,
        /,
        accounts: Mapping[str, Pubkey] | None = None,
        remaining: Sequence[AccountMeta] = (),
        **args: Any,
    ) -> Instruction:
        """Instruction with its accounts in IDL order; well-known accounts are filled in.

        Raises IdlError for an unknown instruction, a missing or unknown account or argument, or a value out of range.
        """
        spec = self._instructions.get(name)
        if spec is None:
            raise IdlError(f"{self.name} has no instruction {name!r}; it has {', '.join(sorted(self._instructions))}")
        given = accounts or {}
        known = addresses.well_known()
        metas: list[AccountMeta] = []
        for slot in spec.accounts:
            address = given.get(slot.name) or slot.address or known.get(slot.name)
            if address is None:
                raise IdlError(f"{self.name}.{name} needs account {slot.name!r}; give its address")
            metas.append(AccountMeta(address, slot.signer, slot.writable))
        unknown = given.keys() - {slot.name for slot in spec.accounts}
        unknown |= args.keys() - {argument for argument, _ in spec.arguments}
        if unknown:
            raise IdlError(f"{self.name}.{name} does not take {', '.join(sorted(unknown))}")
        try:
            data = spec.prefix + b"".join([encode(args[argument]) for argument, encode in spec.arguments])
        except KeyError as error:
            raise IdlError(f"{self.name}.{name} needs argument {error.args[0]!r}") from error
        return Instruction(self.program_id, data, [*metas, *remaining])

    @property
    def account_names(self) -> tuple[str, ...]:
        """Names of all account types."""
        return tuple(self._account_prefixes)

    def layout(self, account_name: str) -> AccountLayout:
        """Layout of an account type, compiled at first use."""
        if account_name not in self._layouts:
            prefix = self._account_prefixes.get(account_name)
            if prefix is None:
                raise IdlError(f"{self.name} has no account {account_name!r}; it has {sorted(self._account_prefixes)}")
            self._layouts[account_name] = AccountLayout(account_name, prefix, self._types)
        return self._layouts[account_name]

    def decode(self, account_name: str, data: bytes) -> dict[str, Any]:
        """Account data as plain values; IdlError if it is of another type or too short."""
        return self.layout(account_name).read(data)

    def error_name(self, code: int) -> str | None:
        """Name of a custom error code, None if the IDL has no such error."""
        return self._errors.get(code)

    def error_code(self, name: str) -> int:
        """Code of a named error; IdlError if there is none."""
        for code, known in self._errors.items():
            if known == name:
                return code
        raise IdlError(f"{self.name} has no error {name!r}")


def _types_of(idl: Mapping[str, Any]) -> dict[str, Any]:
    types = {spec["name"]: spec["type"] for spec in idl.get("types", ())}
    types.update({spec["name"]: spec["type"] for spec in idl.get("accounts", ()) if "type" in spec})
    return types


def _slot(account: Mapping[str, Any]) -> _AccountSlot:
    address = account.get("address")
    return _AccountSlot(
        name=account["name"],
        signer=bool(account.get("signer", account.get("isSigner", False))),
        writable=bool(account.get("writable", account.get("isMut", False))),
        address=Pubkey.from_string(address) if address else None,
    )


@cache
def _load(name: str, directory: Path) -> Program:
    path = directory / f"{name}.json"
    try:
        idl = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise IdlError(f"no IDL for {name!r} at {path}; build the programs or name one of those there") from error
    except msgspec.DecodeError as error:
        raise IdlError(f"IDL {path} is no JSON: {error}") from error
    expected = addresses.program_id(name)
    if idl.get("address") not in (None, "", str(expected)):
        raise IdlError(f"IDL {path} is for {idl['address']}, must be {expected}: rebuild it for this network")
    return Program(name, idl, expected)

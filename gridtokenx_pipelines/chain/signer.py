"""Who signs: the `Signer` protocol and signers whose key is in memory or in a file.

Belongs here: anything that turns a message into a signature; hardware modules and browser wallets fit behind the
same protocol. Does not belong here: what is signed. A key never appears in a repr, a log line or an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

KEYPAIR_BYTES = 64


class SignerError(ValueError):
    """A key file can't be used; the message gives the path and the remedy, never its content."""


@runtime_checkable
class Signer(Protocol):
    """Signs message bytes with one Ed25519 key."""

    @property
    def pubkey(self) -> Pubkey:
        """Public key of the signer, which is also its wallet address."""
        ...

    def sign(self, message: bytes) -> Signature:
        """Ed25519 signature over exactly these bytes."""
        ...


class KeypairSigner:
    """Signer over a key in memory."""

    __slots__ = ("_keypair", "pubkey")

    def __init__(self, keypair: Keypair) -> None:
        self._keypair = keypair
        self.pubkey: Pubkey = keypair.pubkey()

    @classmethod
    def from_seed(cls, seed: bytes) -> KeypairSigner:
        """Signer of a 32-byte Ed25519 seed."""
        return cls(Keypair.from_seed(seed))

    def sign(self, message: bytes) -> Signature:
        """Ed25519 signature over exactly these bytes."""
        return self._keypair.sign_message(message)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pubkey})"

    def __reduce__(self) -> str:
        raise TypeError("a signer is not picklable: its key would leave the process")


class FileSigner(KeypairSigner):
    """Signer over a key file as `solana-keygen` writes it: a JSON array of 64 numbers."""

    __slots__ = ("path",)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        super().__init__(_read_keypair(self.path))


def _read_keypair(path: Path) -> Keypair:
    """Raises SignerError from None, because the cause's text could quote the file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SignerError(f"key file {path} can't be read ({error.strerror}); check the path and its rights") from None
    try:
        values = msgspec.json.decode(raw, type=list[int])
        keypair_bytes = bytes(values)
    except (msgspec.DecodeError, ValueError):
        raise SignerError(f"key file {path} is no JSON array of byte values; write it with solana-keygen") from None
    if len(keypair_bytes) != KEYPAIR_BYTES:
        raise SignerError(f"key file {path} holds {len(keypair_bytes)} bytes, must hold {KEYPAIR_BYTES}")
    try:
        return Keypair.from_bytes(keypair_bytes)
    except ValueError:
        raise SignerError(f"key file {path}: public half does not belong to the secret half; restore it") from None


def write_keypair_file(path: str | Path, seed: bytes) -> None:
    """Write the key of a 32-byte seed in the format of `FileSigner`, readable by its owner only."""
    target = Path(path)
    target.touch(mode=0o600)
    target.chmod(0o600)
    target.write_bytes(msgspec.json.encode(list(bytes(Keypair.from_seed(seed)))))

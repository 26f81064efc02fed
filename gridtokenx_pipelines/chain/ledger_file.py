"""The local chain's disk: an append-only ledger of executed transactions and one snapshot of all accounts.

Belongs here: bytes on disk, their checksums, what a torn end means. Does not belong here: executing, RPC.
A record is `length u32 ‖ crc32 u32 ‖ payload`. A record that is cut off or fails its checksum at the end of the file
was never acknowledged, because answers wait for the sync; it is cut away. One in the middle is a damaged disk.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

_HEADER = struct.Struct("<II")


class LocalnetError(RuntimeError):
    """The local chain can't start or go on; the message says what to do."""


class Executed(msgspec.Struct, frozen=True, array_like=True):
    """One landed transaction: wire bytes, where it landed and what came of it (`err` as JSON text, empty = success)."""

    slot: int
    raw: bytes
    err: str
    fee: int
    compute_units: int
    logs: tuple[str, ...]
    loaded_writable: tuple[bytes, ...] = ()
    loaded_readonly: tuple[bytes, ...] = ()


class StoredAccount(msgspec.Struct, frozen=True, array_like=True):
    """An account as a snapshot keeps it."""

    address: bytes
    lamports: int
    owner: bytes
    data: bytes
    executable: bool


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """All accounts as they were when the ledger ended at `position`."""

    position: int
    programs: dict[str, str]
    accounts: tuple[StoredAccount, ...]


class Genesis(msgspec.Struct, frozen=True):
    """What a local chain is born with; slots are counted from its time."""

    seed: str
    time_ms: int
    slot_ms: int


_encoder = msgspec.msgpack.Encoder()
_executed = msgspec.msgpack.Decoder(Executed)
_snapshot = msgspec.msgpack.Decoder(Snapshot)


class LedgerFile:
    """Ledger and snapshot of one data directory, locked against a second local chain."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise LocalnetError(
                f"{directory} is in use by another local chain; stop it or take another folder"
            ) from error
        self._file = os.open(directory / "ledger.bin", os.O_RDWR | os.O_CREAT, 0o600)
        self.position = os.fstat(self._file).st_size

    def genesis(self, fresh: Genesis) -> Genesis:
        """Genesis on disk; `fresh` is written where there is none yet."""
        path = self.directory / "genesis.json"
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=Genesis)
        _replace(path, msgspec.json.encode(fresh))
        return fresh

    def records(self) -> Iterator[tuple[int, Executed]]:
        """Every record with its position, in order; cuts a torn end; LocalnetError for damage before the end."""
        size, position = self.position, 0
        while position < size:
            header = os.pread(self._file, _HEADER.size, position)
            length, checksum = _HEADER.unpack(header) if len(header) == _HEADER.size else (0, 0)
            payload = os.pread(self._file, length, position + _HEADER.size)
            end = position + _HEADER.size + length
            if len(header) < _HEADER.size or len(payload) < length or zlib.crc32(payload) != checksum:
                if len(header) == _HEADER.size and end < size and length < size:
                    raise LocalnetError(f"ledger of {self.directory} is damaged at byte {position}; start with --fresh")
                os.ftruncate(self._file, position)
                self.position = position
                return
            yield position, _executed.decode(payload)
            position = end

    def append(self, record: Executed) -> int:
        """Write a record and return its position; it is durable after the next `sync`."""
        payload = _encoder.encode(record)
        position = self.position
        os.pwrite(self._file, _HEADER.pack(len(payload), zlib.crc32(payload)) + payload, position)
        self.position = position + _HEADER.size + len(payload)
        return position

    def read(self, position: int) -> Executed:
        """The record at a position that `append` or `records` gave."""
        length, _ = _HEADER.unpack(os.pread(self._file, _HEADER.size, position))
        return _executed.decode(os.pread(self._file, length, position + _HEADER.size))

    def sync(self) -> None:
        """Make everything appended so far durable; may run on another thread."""
        os.fdatasync(self._file)

    def snapshot(self) -> Snapshot | None:
        """The last snapshot, None before the first."""
        path = self.directory / "snapshot.bin"
        return _snapshot.decode(path.read_bytes()) if path.exists() else None

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the snapshot at once; the ledger is synced first so that it never lags its snapshot."""
        self.sync()
        _replace(self.directory / "snapshot.bin", _encoder.encode(snapshot))

    def close(self) -> None:
        """Release the folder."""
        os.close(self._file)
        os.close(self._lock)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

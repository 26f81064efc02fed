"""Keys: packed and sealed to a public key whose private half lies elsewhere, so that a backup gives nobody a wallet.

Belongs here: pairs, sealing (libsodium's sealed box: X25519, XSalsa20-Poly1305), opening. Does not belong here: which
keys there are (docs/how-to/keys.md). The machine that backs up can't open what it sealed.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import tarfile
from datetime import datetime
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from gridtokenx_pipelines.backups import catalogue
from gridtokenx_pipelines.backups.catalogue import BASE, BackupError, Record

PART, SEALED = "keys", "keys.tar.sealed"
KEY_BYTES = 32


def new_pair(private_path: Path) -> str:
    """Write a private key (base64, readable by its owner only); returns the public one for the configuration."""
    key = PrivateKey.generate()
    try:
        handle = os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BackupError(f"{private_path} is there already; a lost key loses every backup, so none is replaced") from (
            error
        )
    with os.fdopen(handle, "w") as file:
        file.write(base64.b64encode(bytes(key)).decode() + "\n")
    return base64.b64encode(bytes(key.public_key)).decode()


def recipient_of(words: str) -> PublicKey:
    """The public key of a setting. Raises BackupError."""
    return PublicKey(_bytes(words, "GRIDTOKENX_BACKUP_RECIPIENT"))


def _bytes(words: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(words, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise BackupError(f"{what} was {len(words)} characters, must be 32 bytes in base64; see gridtokenx backup key")
    return raw


def back_up(root: Path, folder: Path, recipient: PublicKey, at: datetime) -> Record:
    """Seal every file of the keys folder. Raises BackupError if there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise BackupError(f"{folder} holds no keys; set GRIDTOKENX_KEYS_DIR")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        for path in paths:
            file.add(path, arcname=str(path.relative_to(folder)))
    name = catalogue.name_of(at, BASE)
    target = catalogue.new_folder(root, PART, name)
    (target / SEALED).write_bytes(SealedBox(recipient).encrypt(packed.getvalue()))
    facts = {"keys": str(len(paths)), "recipient": base64.b64encode(bytes(recipient)).decode()}
    return catalogue.seal(target, Record(part=PART, name=name, kind=BASE, at=at, bytes=0, files={}, facts=facts))


def restore(root: Path, name: str | None, private_path: Path, target: Path) -> tuple[Record, int]:
    """Open a backup into an empty folder; files are readable by their owner only. Raises BackupError."""
    record = catalogue.newest(catalogue.records(root, PART), PART, name)
    if target.exists() and any(target.iterdir()):
        raise BackupError(f"{target} is not empty; give an empty folder: keys in use are never written over")
    private = PrivateKey(_bytes(private_path.read_text().strip(), str(private_path)))
    try:
        packed = SealedBox(private).decrypt((root / PART / record.name / SEALED).read_bytes())
    except CryptoError as error:
        wanted = record.facts.get("recipient", "another key")
        raise BackupError(
            f"{private_path} opens not {record.name}, which was sealed to {wanted}, or it was changed"
        ) from (error)
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tarfile.open(fileobj=io.BytesIO(packed)) as file:
        members = file.getmembers()
        file.extractall(target, filter="data")
    for path in target.rglob("*"):
        os.chmod(path, 0o700 if path.is_dir() else 0o600)
    return record, len(members)

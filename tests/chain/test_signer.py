"""Keys sign, and never show."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from solders.keypair import Keypair

from gridtokenx_pipelines.chain.signer import FileSigner, KeypairSigner, Signer, SignerError, write_keypair_file

SEED = bytes(range(32))


def test_a_file_signer_signs_as_the_key_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_keypair_file(path, SEED)
    signer = FileSigner(path)
    assert isinstance(signer, Signer)
    assert signer.pubkey == Keypair.from_seed(SEED).pubkey()
    assert signer.sign(b"message").verify(signer.pubkey, b"message")
    assert path.stat().st_mode & 0o077 == 0


def test_a_key_never_shows_in_repr_or_pickle() -> None:
    signer = KeypairSigner.from_seed(SEED)
    secret = str(Keypair.from_seed(SEED))
    assert repr(signer) == f"KeypairSigner({signer.pubkey})"
    assert secret not in f"{signer!r}{signer}{vars(type(signer))}"
    with pytest.raises(TypeError, match="not picklable"):
        pickle.dumps(signer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read"),
        (b"no json", "is no JSON array"),
        (b"[1, 2, 300]", "is no JSON array"),
        (b"[1, 2, 3]", "holds 3 bytes, must hold 64"),
        (b"[" + b",".join([b"7"] * 64) + b"]", "does not belong to the secret half"),
    ],
)
def test_a_bad_key_file_is_named_and_never_quoted(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SignerError, match=message) as caught:
        FileSigner(path)
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None
    assert "7, 7" not in str(caught.value)

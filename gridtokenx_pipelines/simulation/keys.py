"""Demo keys: every role's Ed25519 key from the seed of the demo.

Belongs here: the derivation, and nothing else. These keys are public knowledge by construction: anyone can derive
them from the seed, so they hold nothing of value and belong on a local chain only. Real wallets, devices, oracles
and the guardian keep theirs in hardware or files behind the signer interface.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256

from nacl.signing import SigningKey

from gridtokenx_pipelines.market import base58

ORACLES = 3
ORACLE_THRESHOLD = 2
BRIDGE_ATTESTORS = 3
BRIDGE_THRESHOLD = 2


@cache
def demo_key(seed: int, role: str, name: str) -> SigningKey:
    """The key of `sha256("gridtokenx/demo/{seed}/{role}/{name}")`."""
    return SigningKey(sha256(f"gridtokenx/demo/{seed}/{role}/{name}".encode()).digest())


class DemoKeys:
    """Keys of one demo by role. `SigningKey.encode()` is the 32-byte seed, `.verify_key.encode()` the public key."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def wallet(self, household: str) -> SigningKey:
        """Wallet of a household, by its name."""
        return demo_key(self.seed, "wallet", household)

    def meter(self, meter_id: str) -> SigningKey:
        """Device key of a meter."""
        return demo_key(self.seed, "meter", meter_id)

    def oracles(self) -> tuple[SigningKey, ...]:
        """The metering authorities; any `ORACLE_THRESHOLD` of them make a root final."""
        return tuple(demo_key(self.seed, "oracle", str(number)) for number in range(1, ORACLES + 1))

    def bridge(self) -> tuple[SigningKey, ...]:
        """Attestors of deposits into THBC; `BRIDGE_THRESHOLD` of them sign each."""
        return tuple(demo_key(self.seed, "bridge", str(number)) for number in range(1, BRIDGE_ATTESTORS + 1))

    def guardian(self) -> SigningKey:
        """Who may pause a program."""
        return demo_key(self.seed, "guardian", "guardian")

    def gateway(self) -> SigningKey:
        """Who signs the ticks that move time."""
        return demo_key(self.seed, "gateway", "gateway")

    def payer(self) -> SigningKey:
        """Relayer and fee payer: no rights."""
        return demo_key(self.seed, "payer", "payer")

    def stranger(self, name: str) -> SigningKey:
        """Nobody's key: what forged messages are signed with."""
        return demo_key(self.seed, "stranger", name)


def public_bytes(key: SigningKey) -> bytes:
    """The 32 bytes of the public key."""
    return key.verify_key.encode()


def address(key: SigningKey) -> str:
    """Base58 address of the public key."""
    return base58.encode(public_bytes(key))

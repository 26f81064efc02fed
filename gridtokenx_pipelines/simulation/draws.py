"""Seeded draws: one hash per named question, so that no draw depends on how many came before it.

Belongs here: uniform integers from sha256. Does not belong here: what is drawn. There is no global random anywhere:
the same seed gives the same neighbourhood and the same bytes on any machine, whatever is generated first.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

Choice = TypeVar("Choice")


class Draws:
    """Uniform integers of a seed, each named by the parts of its question."""

    def __init__(self, seed: int) -> None:
        self._start = sha256(f"gridtokenx/draw/{seed}".encode())

    def raw(self, *question: str | int) -> bytes:
        """32 bytes for a question."""
        digest = self._start.copy()
        digest.update("/".join(map(str, ("", *question))).encode())
        return digest.digest()

    def below(self, bound: int, *question: str | int) -> int:
        """0 … bound − 1; the bias of a 64-bit remainder is beyond notice. Raises ValueError for a bound below 1."""
        if bound < 1:
            raise ValueError(f"bound was {bound}, must be at least 1")
        return int.from_bytes(self.raw(*question)[:8], "little") % bound

    def between(self, low: int, high: int, *question: str | int) -> int:
        """low … high, both included. Raises ValueError if high < low."""
        return low + self.below(high - low + 1, *question)

    def choose(self, options: Sequence[Choice], *question: str | int) -> Choice:
        """One of the options. Raises ValueError if there is none."""
        return options[self.below(len(options), *question)]
